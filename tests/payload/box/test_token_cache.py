"""Tokens on the disk: the same as out of the file, made once, and never used torn."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote.contract.artifacts.rows import Row
from remote.contract.files import digest
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.stages.prompt import encode
from remote.payload.training import batches, model, token_cache
from remote.payload.training.token_cache import Cache

PROJECT = Path(__file__).resolve().parents[3]
ROWS = [Row.of("Add.", str(number) * (1 + number % 40)) for number in range(50)] + [
    Row(text="a document to be learnt whole")
]


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return model.load_tokenizer(tiny_base)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "caches")


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(row.to_line() for row in ROWS))
    return path


def load(dataset, tokenizer, settings, cache, **more):
    return batches.load(dataset, digest.of_file(dataset), tokenizer, settings, cache, **more)


def files(cache):
    return sorted(cache.folder.glob("*.arrow"))


def test_the_rows_are_those_of_the_file(dataset, tokenizer, recipe, cache):
    lessons = load(dataset, tokenizer, recipe(), cache)
    expected = [each for row in ROWS for each in encode(tokenizer, row, recipe().max_length)]
    assert list(lessons.rows) == expected
    assert list(lessons.rows.lengths) == [len(row.ids) for row in expected]
    assert list(lessons.rows.supervised) == [row.supervised for row in expected]
    assert lessons.rows[-1] == expected[-1] and lessons.rows[3:9:2] == expected[3:9:2]


def test_a_dataset_is_tokenised_once(dataset, tokenizer, recipe, cache, monkeypatch):
    first = list(load(dataset, tokenizer, recipe(), cache).rows)
    monkeypatch.setattr(batches, "encode", None)
    assert list(load(dataset, tokenizer, recipe(), cache).rows) == first
    dropped = load(dataset, tokenizer, recipe(overlong="drop"), cache)
    assert list(dropped.rows) == [row for row in first if not row.truncated]


def test_what_decides_the_tokens_decides_the_file(dataset, tokenizer, tiny_base, recipe, cache):
    load(dataset, tokenizer, recipe(), cache)
    load(dataset, tokenizer, recipe(max_length=32), cache)
    other = model.load_tokenizer(tiny_base, tokenizer.chat_template.replace("[INST] ", "[INST]  "))
    load(dataset, other, recipe(), cache)
    dataset.write_text(dataset.read_text() + Row.of("one", "more").to_line())
    load(dataset, tokenizer, recipe(), cache)
    assert len(files(cache)) == 4


def test_the_same_dataset_gives_the_same_bytes(dataset, tokenizer, recipe, tmp_path):
    for name in ("one", "two"):
        load(dataset, tokenizer, recipe(), Cache(tmp_path / name))
    (one,), (two,) = (sorted((tmp_path / name).glob("*.arrow")) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes() and one.name == two.name


def test_datasets_opens_it_under_our_fingerprint(dataset, tokenizer, recipe, cache):
    from datasets import Dataset

    lessons = load(dataset, tokenizer, recipe(), cache)
    (path,) = files(cache)
    opened = Dataset.from_file(str(path))
    assert opened._fingerprint == path.stem
    assert opened["input_ids"][0] == lessons.rows[0].ids


def shorten(path):
    os.truncate(path, path.stat().st_size - 100)


def change(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_record(path):
    path.with_suffix(".json").unlink()


def garble_record(path):
    path.with_suffix(".json").write_text("{")


@pytest.mark.parametrize("damage", [shorten, change, lose_record, garble_record, Path.unlink])
def test_a_torn_file_is_made_anew(dataset, tokenizer, recipe, cache, damage):
    first = list(load(dataset, tokenizer, recipe(), cache).rows)
    (path,) = files(cache)
    damage(path)
    assert list(load(dataset, tokenizer, recipe(), cache).rows) == first


def test_a_line_that_is_no_row_leaves_nothing(dataset, tokenizer, recipe, cache):
    dataset.write_text(dataset.read_text() + "{\n")
    with pytest.raises(StageFailed, match=r"train\.jsonl:52: not JSON"):
        load(dataset, tokenizer, recipe(), cache)
    assert not list(cache.folder.iterdir())


def test_a_file_that_changes_while_it_is_read_is_refused(dataset, tokenizer, recipe, cache):
    with pytest.raises(StageFailed, match="changed while") as caught:
        batches.load(dataset, "0" * 64, tokenizer, recipe(), cache)
    assert caught.value.cause is Cause.DATA and not list(cache.folder.iterdir())


ENDLESS = """
import sys
from pathlib import Path
from remote.payload.stages.prompt import Encoded
from remote.payload.training.token_cache import Cache

def rows():
    print("writes", flush=True)
    while True:
        yield Encoded([1] * 1000, ((1, 1000),))

Cache(Path(sys.argv[1])).tokens("key", rows, print)
"""


def test_what_a_killed_writer_left_is_never_used(cache):
    words = [sys.executable, "-c", ENDLESS, str(cache.folder)]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        while not any(path.stat().st_size for path in cache.folder.glob(".*.partial")):
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    row = encode_one()
    assert list(cache.tokens("key", lambda: iter([row]), print)) == [row]
    assert {path.name for path in cache.folder.iterdir()} == {"key.arrow", "key.json"}


def encode_one():
    return token_cache.Encoded([1, 5, 2], ((1, 2), (2, 3)), truncated=True)


def test_those_used_last_stay(cache, monkeypatch):
    monkeypatch.setattr(token_cache, "KEPT", 2)
    for at, key in enumerate(("a", "b", "a", "c")):
        cache.tokens(key, lambda: iter([encode_one()]), print)
        os.utime(cache.folder / f"{key}.json", (at, at))
    assert {path.stem for path in cache.folder.iterdir()} == {"a", "c"}


MEMORY = """
import json, random, sys
from pathlib import Path
from remote.payload.stages.prompt import Encoded
from remote.payload.training.batches import Plan
from remote.payload.training.token_cache import Cache

def own():
    told = Path("/proc/self/status").read_text()
    return int(told.split("RssAnon:")[1].split()[0])

def rows():
    for number in range(int(sys.argv[2])):
        yield Encoded([number % 30000] * 500, ((1, 500),))

Cache(Path(sys.argv[1]) / "warm").tokens("key", lambda: iter([Encoded([1, 2], ((1, 2),))]), print)
before = own()
tokens = Cache(Path(sys.argv[1])).tokens("key", rows, print)
plan = Plan(tokens.lengths, 16, 7, 200)
most = max(own() for step in range(1, 201) for row in plan.rows(step) if tokens[row].ids)
print(json.dumps({"kb": most - before, "tokens": sum(tokens.lengths)}))
"""


def test_memory_does_not_grow_with_the_tokens(tmp_path):
    """4,000 and 40,000 rows: 2 and 20 million tokens, which as lists would be 160 MB and more."""
    grown = []
    for count in (4_000, 40_000):
        words = [sys.executable, "-c", MEMORY, str(tmp_path / str(count)), str(count)]
        told = subprocess.run(words, cwd=PROJECT, check=True, stdout=subprocess.PIPE).stdout
        grown.append(json.loads(told))
    assert grown[1]["tokens"] == 20_000_000
    assert grown[1]["kb"] - grown[0]["kb"] < 30_000, grown
