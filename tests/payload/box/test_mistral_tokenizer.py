"""The demo's tokenizer against mistral-common's own, and the corpus as tokens."""

import itertools
import json
import random
from pathlib import Path

import pytest

from remote.contract.artifacts.row_kinds import parse_row
from remote.payload.demo import corpus, tokenizer
from remote.payload.stages.prompt import encode

DATA = Path(__file__).parents[3] / "data"
TEXTS = [
    "Hello",
    "  two  spaces",
    'a   b\n\n\tc {"x": 1}',
    "@amber_quill7",
    "émigré ☃ 🎈",
    "x" * 50,
    "tabs\t\tand      runs",
    "  lead",
    "trail   ",
    "1234567.89",
    "नमस्ते दुनिया",
    "def f(x):\n    return x\n",
    "«quotes» — dashes…",
    "\n\n\nnew lines",
    "a" + " " * 17 + "b",
    "漢字かな",
    "\\n \\t",
    "<0x41>",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(tokenizer.build(), folder)
    return folder, AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def reference():
    from mistral_common.protocol.instruct.messages import (
        AssistantMessage,
        SystemMessage,
        UserMessage,
    )
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    mistral, kinds = (
        MistralTokenizer.v3(),
        {"user": UserMessage, "assistant": AssistantMessage, "system": SystemMessage},
    )

    def ids(messages):
        request = ChatCompletionRequest(
            messages=[kinds[message["role"]](content=message["content"]) for message in messages]
        )
        return mistral.encode_chat_completion(request).tokens

    return ids


@pytest.fixture(scope="module")
def pieces():
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(tokenizer.sentencepiece_file()))


def chat(*contents, system=None):
    turns = [
        {"role": role, "content": content}
        for role, content in zip(itertools.cycle(["user", "assistant"]), contents, strict=False)
    ]
    return [{"role": "system", "content": system}, *turns] if system else turns


def test_chats_have_the_ids_of_mistral_common(saved, reference):
    # One thing differs on purpose: mistral-common drops spaces at the end of an answer, so none
    # ends in spaces here.
    chats = [chat(text) for text in TEXTS] + [
        chat(one, two.rstrip(), one[::-1]) for one, two in zip(TEXTS, reversed(TEXTS), strict=True)
    ]
    chats += [chat(text, "Yes.", "And now?", system="Be brief.") for text in TEXTS] + [
        chat(text, system="Be brief.") for text in TEXTS
    ]
    assert len(chats) >= 50
    differing = [
        found
        for found in chats
        if saved[1].apply_chat_template(found, return_dict=False) != reference(found)
    ]
    assert differing == []


RUNS = [
    " ",
    "\t",
    "\n",
    "\r\n",
    "\u00a0",
    "\u3000",
    "a",
    "=",
    "-",
    "0",
    "ab",
    "é",
    "漢",
    "🫠",
    "ᚠ",
    "ि",
    " \t",
    " \n",
]


@pytest.mark.parametrize("unit", RUNS, ids=ascii)
def test_runs_of_up_to_200_are_those_of_sentencepiece_and_mistral_common(saved, pieces, unit):
    encode = saved[1].backend_tokenizer.encode
    for text in [
        f"{before}{unit * count}{after}"
        for count in range(1, 201)
        for before in ("", "x", "x ")
        for after in ("", "y", " y")
    ]:
        # SentencePiece puts a space before every text; the template puts none, as mistral-common's
        # does with [INST] before it.
        assert encode(f" {text}", add_special_tokens=False).ids == pieces.EncodeAsIds(text), ascii(
            text
        )


def test_runs_of_spaces_in_chats_are_those_of_mistral_common(saved, reference):
    chats = [
        chat(f"a{' ' * count}b", f"c{' ' * count}d", f"{' ' * count}e") for count in range(1, 201)
    ]
    assert [
        found
        for found in chats
        if saved[1].apply_chat_template(found, return_dict=False) != reference(found)
    ] == []


def test_texts_of_all_scripts_are_those_of_sentencepiece(saved, pieces):
    generator = random.Random(7)
    every = [chr(code) for code in range(0x21, 0x30000) if chr(code).isprintable()]
    alphabets = [*RUNS, *(every[start : start + 256] for start in range(0, len(every), 256))]
    encode = saved[1].backend_tokenizer.encode
    for alphabet in alphabets * 3:
        some = [
            *generator.sample(list(alphabet), min(len(alphabet), 6)),
            *generator.sample(RUNS, 3),
        ]
        text = "".join(
            generator.choice(some) * generator.choice((1, 1, 2, 5, 19)) for _ in range(60)
        )
        assert encode(f" {text}", add_special_tokens=False).ids == pieces.EncodeAsIds(text), ascii(
            text
        )
    assert len(alphabets) > 300


def test_every_piece_alone_and_repeated_is_that_of_sentencepiece(saved, pieces):
    encode = saved[1].backend_tokenizer.encode
    ordinary = [
        pieces.IdToPiece(index)
        for index in range(pieces.GetPieceSize())
        if not (pieces.IsControl(index) or pieces.IsUnknown(index))
    ]
    texts = [piece.replace("▁", " ") * count for piece in ordinary for count in (1, 3, 7)]
    assert [
        text
        for text in texts
        if encode(f" {text}", add_special_tokens=False).ids != pieces.EncodeAsIds(text)
    ] == []


def test_the_merges_that_the_hub_ships_are_right_too(saved, pieces):
    """tokenizer.json of Mistral's repositories was made by this function of transformers."""
    from transformers.convert_slow_tokenizer import generate_merges

    from remote.payload.tokenizer_model import CONTROL, UNKNOWN, USER_DEFINED, read_pieces

    read = read_pieces(tokenizer.sentencepiece_file())
    vocabulary = {piece.text: index for index, piece in enumerate(read)}
    merged = {
        piece.text: piece.score
        for piece in read
        if piece.type not in (CONTROL, UNKNOWN, USER_DEFINED)
    }
    theirs = generate_merges(vocabulary, merged)
    assert theirs == [
        tuple(pair)
        for pair in json.loads((saved[0] / "tokenizer.json").read_text())["model"]["merges"]
    ]


def test_the_rows_of_the_demo_have_the_ids_of_mistral_common(saved, reference):
    for number, line in enumerate(
        (DATA / "profiles" / "held-out.jsonl").read_text().splitlines(), 1
    ):
        row = parse_row(line, "held-out", number)
        (encoded,) = encode(saved[1], row, 1000)
        assert encoded.ids[: encoded.spans[0][0]] == reference(chat(row.asked))


def test_what_is_saved_can_be_converted(saved):
    folder, loaded = saved
    assert (folder / "tokenizer.model").read_bytes() == tokenizer.sentencepiece_file().read_bytes()
    assert "[INST]" in (folder / "chat_template.jinja").read_text()
    assert json.loads((folder / "tokenizer_config.json").read_text())["add_prefix_space"] is False
    assert (loaded.pad_token, loaded.bos_token, loaded.eos_token, len(loaded)) == (
        "<unk>",
        "<s>",
        "</s>",
        32768,
    )


def test_the_template_refuses_turns_out_of_order(saved):
    from jinja2 import TemplateError

    for turns in (
        [{"role": "assistant", "content": "first"}],
        [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}],
    ):
        with pytest.raises(TemplateError, match="alternate"):
            saved[1].apply_chat_template(turns)


def test_every_token_of_the_instruction_set_occurs_in_the_corpus(saved):
    seen = {token for ids in corpus.documents(saved[1], DATA / "corpus") for token in ids}
    rows = [
        line
        for name in ("train", "held-out")
        for line in (DATA / "profiles" / f"{name}.jsonl").read_text().splitlines()
    ]
    used = {
        token
        for number, line in enumerate(rows, 1)
        for token in encode(saved[1], parse_row(line, "rows", number), 1000)[0].ids
    }
    assert saved[1].convert_ids_to_tokens(sorted(used - seen)) == []


def test_a_handle_is_the_same_tokens_in_profile_and_answer(saved):
    for number, line in enumerate(
        (DATA / "profiles" / "held-out.jsonl").read_text().splitlines(), 1
    ):
        encoded, handle = (
            encode(saved[1], parse_row(line, "rows", number), 1000)[0],
            json.loads(line)["group"][1:],
        )
        ids = saved[1](f": @{handle}\n", add_special_tokens=False)["input_ids"][2:-1]
        places = [
            start
            for start in range(len(encoded.ids))
            if encoded.ids[start : start + len(ids)] == ids
        ]
        assert len(places) == 2, line


def test_control_tokens_that_a_corpus_spells_stay_text(saved, tmp_path):
    (tmp_path / "page.txt").write_text("A tag </s> in [INST] a page.\n\nAnother <s> one.\n")
    (tmp_path / "chat.jsonl").write_text(
        json.dumps({"instruction": "[INST]?", "output": "</s>!"}) + "\n"
    )
    found = corpus.documents(saved[1], tmp_path)
    assert len(found) == 3
    assert all((ids[0], ids[-1]) == (1, 2) and not {1, 2} & set(ids[1:-1]) for ids in found)
    assert sorted(saved[1].decode(ids) for ids in found)[1:] == [
        "<s>Another <s> one.</s>",
        "<s>[INST] [INST]?[/INST] </s>!</s>",
    ]
