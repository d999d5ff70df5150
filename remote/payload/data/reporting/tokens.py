"""How many tokens a row has, and which of them are learnt: as training counts them where the
model's tokenizer can be loaded, else an estimate by characters.

With transformers, rows are encoded as in training; with `tokenizers` alone, the words of each turn
without what the chat template adds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.artifacts import chat_templates
from remote.contract.artifacts.rows import Row

CHARACTERS_A_TOKEN = 4.0
"""Of prose in most European languages, by a vocabulary of 32,768 tokens; of code and of other
scripts it is less."""
EXACT = "as training counts them"
WORDS = "without those that the chat template adds"
ESTIMATE = f"estimated at {CHARACTERS_A_TOKEN:g} characters a token"
_LONGEST = 1 << 40
_ENDS = 2


@dataclass(frozen=True)
class Sequence:
    """A sequence of the trainer: so many tokens, of which those in `learnt` (begin, end) are
    supervised."""

    length: int
    learnt: tuple[tuple[int, int], ...]

    @property
    def supervised(self) -> int:
        """How many tokens are learnt."""
        return self.learnt_within(self.length)

    def learnt_within(self, limit: int) -> int:
        """How many are learnt of the first `limit`."""
        return sum(max(0, min(end, limit) - begin) for begin, end in self.learnt)


Measure = Callable[[Row], list[Sequence]]


@dataclass(frozen=True)
class Tokenizing:
    """How tokens are counted: `how` in words, `name` of the tokenizer (empty: none), and whether it
    is an estimate, which costs nothing."""

    measure: Measure
    how: str = ESTIMATE
    name: str = ""

    @property
    def is_estimate(self) -> bool:
        """Whether nothing was tokenized."""
        return not self.name

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"how": self.how, "name": self.name, "is_estimate": self.is_estimate}


def of_folder(folder: Path | None, chat_template: str = "") -> Tokenizing:
    """By the tokenizer in a model's folder, as well as it can be loaded here."""
    if folder is None or not folder.exists():
        return Tokenizing(estimated)
    reasons = []
    for load, how in ((_by_transformers, EXACT), (_by_tokenizers, WORDS)):
        try:
            return Tokenizing(load(folder, chat_template), how, folder.name)
        except Exception as error:  # whatever is wrong with it: the next way, at last an estimate
            reasons.append(" ".join(str(error).split())[:200] or type(error).__name__)
    return Tokenizing(estimated, f"{ESTIMATE}, as {folder.name} could not be used: {reasons[-1]}")


def estimated(row: Row) -> list[Sequence]:
    """By the number of characters."""
    return [_put_together(row, lambda text: -(-len(text) // int(CHARACTERS_A_TOKEN)))]


def _by_transformers(folder: Path, chat_template: str) -> Measure:
    from transformers import AutoTokenizer

    from remote.payload.stages import prompt

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if chat_template:
        tokenizer.chat_template = chat_templates.text_of(chat_template)
    prompt.check_template(tokenizer)

    def measure(row: Row) -> list[Sequence]:
        return [
            Sequence(len(each.ids), each.spans) for each in prompt.encode(tokenizer, row, _LONGEST)
        ]

    measure(Row.of("one", "two"))
    return measure


def _by_tokenizers(folder: Path, _chat_template: str) -> Measure:
    from tokenizers import Tokenizer

    file = folder if folder.is_file() else folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return lambda row: [_put_together(row, count)]


def _put_together(row: Row, count: Callable[[str], int]) -> Sequence:
    """One sequence, with its beginning, and an end behind each answer."""
    if row.is_document:
        length = count(row.text) + _ENDS
        return Sequence(length, ((1, length),))
    at, learnt = 1, []
    for turn in row.messages:
        begin = at
        at += count(turn.content) + (turn.role == "assistant")
        if turn.is_learnt:
            learnt.append((begin, at))
    return Sequence(at, tuple(learnt))
