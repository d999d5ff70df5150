"""The report's tokens are those that training counts."""

from remote.contract.artifacts.rows import Row, Turn
from remote.payload.data.reporting import tokens
from remote.payload.stages.prompt import encode
from remote.payload.training.model import load_tokenizer

ROWS = [
    Row.of("What is it?", "A small dog."),
    Row(text="A document, learnt whole.\n" * 20),
    Row(
        (
            Turn("user", "one"),
            Turn("assistant", "two"),
            Turn("user", "three </s> [INST]"),
            Turn("assistant", "four", is_learnt=True),
        )
    ),
]


def test_tokens_are_counted_as_training_counts_them(tiny_base):
    found = tokens.of_folder(tiny_base)
    assert found.how == tokens.EXACT
    tokenizer = load_tokenizer(tiny_base)
    for row in ROWS:
        expected = [(len(each.ids), each.supervised) for each in encode(tokenizer, row, 1 << 30)]
        assert [(each.length, each.supervised) for each in found.measure(row)] == expected


def test_without_transformers_words_are_counted(tiny_base, monkeypatch):
    def missing(*_given):
        raise ImportError("no transformers")

    monkeypatch.setattr(tokens, "_by_transformers", missing)
    found = tokens.of_folder(tiny_base)
    assert found.how == tokens.WORDS
    tokenizer = load_tokenizer(tiny_base)
    for row in ROWS:
        (exact,) = encode(tokenizer, row, 1 << 30)
        (counted,) = found.measure(row)
        assert 0.5 * len(exact.ids) <= counted.length <= len(exact.ids) + 2
