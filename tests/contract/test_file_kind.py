"""A file's kind by its first bytes: real files of each kind, and nothing said of what is as it
should be."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.files.file_kind import FIRST_BYTES, kind_of, kind_of_file

ROW = '{"messages": [{"role": "user", "content": "[hello] <html>"}]}\n'
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 14483498016\n"


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, ROW)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("train.jsonl")
        member.size = len(ROW)
        archive.addfile(member, io.BytesIO(ROW.encode()))
    return buffer.getvalue()


KINDS = {
    "a Git LFS pointer": POINTER,
    "gzip": gzip.compress(ROW.encode()),
    "bzip2": bz2.compress(ROW.encode()),
    "xz": lzma.compress(ROW.encode()),
    "zstd": b"\x28\xb5\x2f\xfd\x04\x00",
    "a ZIP archive": zipped("train.jsonl"),
    "a PyTorch checkpoint (a pickle in a ZIP archive)": zipped("adapter_model/data.pkl"),
    "an Excel workbook": zipped("xl/workbook.xml"),
    "a tar archive": tarred(),
    "Parquet": b"PAR1\x15\x04\x15",
    "a PDF": b"%PDF-1.7\n",
    "a GGUF model": b"GGUF\x03\x00\x00\x00",
    "a safetensors file": (16).to_bytes(8, "little") + b'{"a":{}}        ',
    "an HTML page": b"\n<!doctype HTML>\n<html>",
    "XML": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "UTF-32 text": ROW.encode("utf-32"),
    "a JSON array": b'[\n  {"messages": []}]',
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_has_its_name(name: str) -> None:
    assert kind_of(KINDS[name][:FIRST_BYTES]) == name


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_any_protocol_that_shows(protocol: int) -> None:
    assert kind_of(pickle.dumps({"lora_A": [1, 2, 3]}, protocol)) == "a pickle"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_with_and_without_its_mark(encoding: str) -> None:
    assert kind_of(ROW.encode(encoding)) == "UTF-16 text"


def test_a_database_on_disk(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute("create table rows (text)")
    database.close()
    assert kind_of_file(tmp_path / "rows.db") == "SQLite"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        ROW.encode(),
        b"\xef\xbb\xbf" + ROW.encode(),
        b"question,answer\n",
        b"[2024-01-01] a line\n",
        b"text\n",
        b"\x0a\x0e\x0a\x05<unk>",
    ],
)
def test_nothing_is_said_of_plain_text_rows_and_a_sentencepiece_model(content: bytes) -> None:
    assert kind_of(content) is None


@given(st.lists(st.fixed_dictionaries({"text": st.text()}), min_size=1))
def test_json_lines_are_never_taken_for_something_else(rows: list[dict[str, str]]) -> None:
    assert (
        kind_of(
            "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode(
                "utf-8", "replace"
            )[:FIRST_BYTES]
        )
        is None
    )


@given(st.binary(max_size=600))
def test_any_bytes_get_an_answer(content: bytes) -> None:
    assert kind_of(content) is None or kind_of(content)
