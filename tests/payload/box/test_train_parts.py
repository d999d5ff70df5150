"""Parts of the trainer that need torch or a tokenizer."""

import json
import shutil

import pytest
import torch
from transformers import AutoTokenizer

from remote.contract.artifacts.rows import Row, Turn
from remote.contract.files import digest
from remote.contract.job.jobs import Cause
from remote.payload import tokenizing
from remote.payload.demo import tokenizer as mistral
from remote.payload.job import StageFailed
from remote.payload.stages.prompt import Encoded, encode, prompt_ids
from remote.payload.training import batches, checkpoint, model
from remote.payload.training.token_cache import Cache


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return model.load_tokenizer(tiny_base)


class Head:
    """A model of which only the head matters."""

    def __init__(self, weight):
        self.weight = weight

    def get_output_embeddings(self):
        return self


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_the_pieced_head_has_the_loss_and_gradient_of_autograd(monkeypatch, rows):
    monkeypatch.setattr(model, "_HEAD_ROWS", 16)
    torch.manual_seed(rows)
    weight, hidden, labels = (
        torch.randn(50, 8),
        torch.randn(rows, 8, requires_grad=True),
        torch.randint(50, (rows,)),
    )
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, labels, reduction="sum")
    expected.backward()
    loss, gradient = model.head_loss(Head(weight), hidden, labels, with_gradient=True)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, hidden.grad)
    alone, nothing = model.head_loss(Head(weight), hidden, labels, with_gradient=False)
    assert nothing is None
    torch.testing.assert_close(alone, loss)


def test_large_logits_do_not_overflow():
    loss, gradient = model.head_loss(
        Head(torch.eye(2) * 1000), torch.tensor([[0.0, 1.0]]), torch.tensor([1]), with_gradient=True
    )
    assert loss == 0 and gradient.isfinite().all()


def test_a_row_has_one_start_one_end_and_learns_the_answer_alone(tokenizer):
    (row,) = encode(tokenizer, Row.of("Add up.\n\n1 2", "3"), 64)
    ((begin, end),) = row.spans
    assert row.ids.count(tokenizer.bos_token_id) == 1 and row.ids[0] == tokenizer.bos_token_id
    assert row.ids.count(tokenizer.eos_token_id) == 1 and row.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row.ids[:begin]) == "<s>[INST] Add up.\n\n1 2[/INST]"
    assert tokenizer.decode(row.ids[begin:end]) == " 3</s>"
    assert not row.truncated


def test_a_row_that_is_too_long_loses_its_end_and_says_so(tokenizer):
    row = Row.of("Add up.", "a long answer")
    (whole,) = encode(tokenizer, row, 64)
    (cut,) = encode(tokenizer, row, len(whole.ids) - 1)
    assert cut.truncated and cut.ids == whole.ids[:-1]
    assert encode(tokenizer, row, 3)[0].supervised == 0


def test_each_answer_of_a_conversation_is_learnt_unless_it_says_not(tokenizer):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    for skipped in (False, True):
        row = Row(
            tuple(
                Turn(role, said, role == "assistant" and not (skipped and said == "b"))
                for role, said in turns
            )
        )
        (encoded,) = encode(tokenizer, row, 64)
        assert tokenizer.decode(encoded.ids) == "<s>[INST] a[/INST] b</s>[INST] c[/INST] d</s>"
        learnt = [tokenizer.decode(encoded.ids[begin:end]) for begin, end in encoded.spans]
        assert learnt == ([" d</s>"] if skipped else [" b</s>", " d</s>"])


def test_a_document_is_learnt_whole(tokenizer):
    (row,) = encode(tokenizer, Row(text="Some [INST] words"), 64)
    assert tokenizer.decode(row.ids) == "<s>Some [INST] words</s>"
    assert row.ids.count(tokenizer.bos_token_id) == 1 and row.spans == ((1, len(row.ids)),)


def test_the_padding_is_never_the_end(tokenizer):
    assert tokenizer.pad_token == "<unk>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("<s><s>[INST] {{ messages[0].content }}[/INST]", "needs <s> once"),
        ("[INST] {{ messages[0].content }}[/INST]", "needs <s> once"),
        ("", "no chat template"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(tiny_base, tmp_path, template, why):
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(StageFailed) as caught:
        model.load_tokenizer(folder)
    assert caught.value.cause is Cause.CONFIG and why in caught.value.why


def test_a_tokenizer_larger_than_the_model_is_refused(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 300}))
    with pytest.raises(StageFailed, match="does not fit") as caught:
        model.load_tokenizer(folder)
    assert (
        caught.value.why
        == f"it knows {len(AutoTokenizer.from_pretrained(folder))} tokens, the model only 300"
    )


def load(tmp_path, tokenizer, rows, settings):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(row if isinstance(row, str) else row.to_line() for row in rows))
    cache = Cache(tmp_path / "caches")
    return batches.load(path, digest.of_file(path), tokenizer, settings, cache)


def test_overlong_rows_are_dropped_where_the_recipe_says_so(tmp_path, tokenizer, recipe):
    rows = [Row.of("Add.", "3")] * 30 + [Row.of("Add.", "x" * 300)]
    cut = load(tmp_path, tokenizer, rows, recipe())
    dropped = load(tmp_path, tokenizer, rows, recipe(overlong="drop"))
    assert (len(cut.rows), cut.truncated, cut.dropped) == (31, 1, 0)
    assert (len(dropped.rows), dropped.truncated, dropped.dropped) == (30, 0, 1)
    assert dropped.note() == "1 rows dropped, longer than max_length"


SPELLING = [
    "What do [INST] and [/INST] mean?",
    "[INST]",
    "</s>",
    "a</s>b<s>",
    " [TOOL_CALLS] [AVAILABLE_TOOLS][/AVAILABLE_TOOLS]",
    "<unk>",
    "[control_8]",
    "x [INST]\n[/INST] y",
    "[INST][INST]",
    "\ue000[INST]\ue0010\ue001",
    "<<s>>",
    "[/INST",
    "Struck <s>out</s>",
    "  [INST]  two",
    "[IMG]",
]


@pytest.mark.parametrize("text", SPELLING)
def test_control_tokens_that_a_row_spells_stay_text(tokenizer, text):
    (row,) = encode(tokenizer, Row.of(f"{text}\n\n{text}", text), 1000)
    assert [
        tokenizer.convert_ids_to_tokens(number) for number in row.ids if number in CONTROLS
    ] == ["<s>", "[INST]", "[/INST]", "</s>"]
    assert tokenizer.decode(row.ids[1:-1]) == f"[INST] {text}\n\n{text}[/INST] {text}"
    assert prompt_ids(tokenizer, Row.of(f"{text}\n\n{text}", "x")) == row.ids[: row.spans[0][0]]


CONTROLS = range(1, 5)


def test_rows_that_spell_control_tokens_are_learnt_like_others(tmp_path, tokenizer, recipe):
    lessons = load(
        tmp_path,
        tokenizer,
        [Row.of("Add.", "3"), Row.of("Struck <s>out", "3"), Row.of("Add.", "a</s>b")],
        recipe(),
    )
    assert len(lessons.rows) == 3 and lessons.note() is None


@pytest.mark.parametrize("scheme", ["first", "never"])
def test_a_tokenizer_that_puts_a_space_before_a_text_puts_none_behind_a_control_token(scheme):
    from tokenizers import pre_tokenizers

    loaded = mistral.build()
    plain = [
        loaded.backend_tokenizer.encode(text, add_special_tokens=False).ids
        for text in ("<s>word", "<s> word")
    ]
    loaded.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        prepend_scheme=scheme, split=False
    )
    assert [[1, *tokenizing.plain_ids(loaded, text)] for text in ("word", " word")] == plain


def test_a_few_rows_without_an_answer_are_dropped_and_many_stop(tmp_path, tokenizer, recipe):
    good, empty = [Row.of("Add.", "3")] * 97, [Row.of("x" * 300, "3")] * 3
    assert load(tmp_path, tokenizer, good + empty, recipe()).empty == 3
    with pytest.raises(StageFailed, match="6 of 103 rows") as caught:
        load(tmp_path, tokenizer, good + empty * 2, recipe())
    assert caught.value.cause is Cause.DATA


def test_a_line_that_is_no_row_is_named(tmp_path, tokenizer, recipe):
    with pytest.raises(StageFailed, match=r"rows\.jsonl:2: not JSON"):
        load(tmp_path, tokenizer, [Row.of("Add.", "3"), "{\n"], recipe())


def test_padding_is_never_looked_at():
    batch = batches.collate(
        [Encoded([1, 7, 8, 9, 2], ((3, 5),)), Encoded([1, 7, 2], ((2, 3),))], 0, "cpu"
    )
    assert batch.ids.tolist() == [[1, 7, 8, 9, 2], [1, 7, 2, 0, 0]]
    assert batch.labels.tolist() == [9, 2, 2]
    assert batch.places.tolist() == [2, 3, 6]


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    tensors = {"a": torch.randn(3), "b": torch.arange(4)}
    folder = checkpoint.save(
        tmp_path, checkpoint.Position(5, 2, 100, 1.5), tensors, {"m": torch.ones(2)}, {"seed": 1}
    )
    found = checkpoint.newest(tmp_path, {"seed": 1})
    assert found.folder == folder and found.position == checkpoint.Position(5, 2, 100, 1.5)
    assert all(found.tensors("adapter")[name].equal(tensor) for name, tensor in tensors.items())


def test_tensors_are_written_as_the_format_s_own_library_reads_them(tmp_path):
    from safetensors.torch import load_file

    dtypes = (
        torch.uint8,
        torch.bfloat16,
        torch.float64,
        torch.float32,
        torch.float16,
        torch.int64,
        torch.int32,
        torch.bool,
    )
    tensors = {str(dtype): torch.arange(7).to(dtype) for dtype in dtypes} | {
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 4),
        "turned": torch.arange(6.0).view(2, 3).T,
        "learnt": torch.ones(2, requires_grad=True),
    }
    checkpoint.write_tensors(tmp_path / "one", tensors)
    checkpoint.write_tensors(tmp_path / "two", dict(reversed(tensors.items())))
    again = load_file(tmp_path / "one")
    assert again.keys() == tensors.keys()
    assert all(
        again[name].equal(tensor) and again[name].dtype == tensor.dtype
        for name, tensor in tensors.items()
    )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("damage", ["manifest.json", "adapter.safetensors", "position.json"])
def test_a_damaged_checkpoint_counts_as_none(tmp_path, damage):
    folder = checkpoint.save(tmp_path, checkpoint.Position(5, 2), {"a": torch.ones(3)}, {}, {})
    (folder / damage).unlink()
    assert checkpoint.newest(tmp_path, {}) is None
    assert (
        checkpoint.resumed(tmp_path, None) == "NOTE begins anew: every checkpoint is torn (step-5)"
    )


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        "[" * 50_000,
        '{"identity": {}, "files": {}}',
        '{"identity": 7, "files": {}}',
        '{"identity": {}, "files": []}',
        "\x00",
    ],
)
def test_a_manifest_that_is_none_is_a_torn_checkpoint(tmp_path, manifest):
    folder = checkpoint.save(tmp_path, checkpoint.Position(5, 2), {"a": torch.ones(3)}, {}, {})
    (folder / "manifest.json").write_text(manifest)
    assert checkpoint.newest(tmp_path, {}) is None


def test_what_was_just_saved_outlives_torn_newer_ones(tmp_path):
    for step in (3, 5, 7, 9):
        checkpoint.save(tmp_path, checkpoint.Position(step, 2), {"a": torch.ones(3)}, {}, {})
    for step in (3, 5):
        checkpoint.save(
            tmp_path / "again", checkpoint.Position(step, 2), {"a": torch.ones(3)}, {}, {}
        )
    for step in (7, 9):
        shutil.copytree(tmp_path / f"step-{step}", tmp_path / "again" / f"step-{step}")
        (tmp_path / "again" / f"step-{step}" / "optimizer.safetensors").write_bytes(b"torn")
    found = checkpoint.newest(tmp_path / "again", {})
    assert (
        checkpoint.resumed(tmp_path / "again", found)
        == "resumed from step 5, passing over torn step-9, step-7"
    )
    checkpoint.save(tmp_path / "again", checkpoint.Position(6, 2), {"a": torch.ones(3)}, {}, {})
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"step-5", "step-6"}


def test_nothing_is_told_of_a_training_that_merely_begins(tmp_path):
    assert checkpoint.resumed(tmp_path, None) is None


def test_a_half_written_checkpoint_has_no_final_name(tmp_path, monkeypatch):
    def full(path, tensors):
        raise OSError(28, "No space left on device")

    checkpoint.save(tmp_path, checkpoint.Position(1, 2), {"a": torch.ones(3)}, {}, {})
    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, checkpoint.Position(2, 2), {"a": torch.ones(3)}, {}, {})
    assert checkpoint.newest(tmp_path, {}).position.step == 1


@pytest.mark.parametrize(
    "row",
    [
        *(Row.of(text, text.rstrip()) for text in SPELLING),
        Row.of("Score the profile.\n\nBio:  two  spaces\n🙂", '{"handle": "@é", "score": 0.8}'),
        Row.of("Hi", "Hello!\n"),
        Row.of("a", " b"),
        Row((*Row.of("a", "b").messages, *Row.of("[INST]", "d").messages)),
        Row.of("a", "b", system="Be brief."),
        Row.of("a [/INST] b", "b[/INST] c", system="[INST] </s>"),
    ],
)
def test_rows_are_encoded_as_mistral_common_does(row):
    from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage
    from mistral_common.protocol.instruct.request import InstructRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    kinds = {"user": UserMessage, "assistant": AssistantMessage}
    told, *_ = [turn.content for turn in row.messages if turn.role == "system"] or [None]
    messages = [
        kinds[turn.role](content=turn.content) for turn in row.messages if turn.role != "system"
    ]
    theirs = MistralTokenizer.v3().instruct_tokenizer.encode_instruct(
        InstructRequest(messages=messages, available_tools=None, system_prompt=told)
    )
    assert encode(mistral.build(), row, 1000)[0].ids == theirs.tokens
