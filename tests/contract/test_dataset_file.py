"""What a dataset's file is by its first bytes, and that the command offered makes rows of it."""

import bz2
import gzip
import json
import lzma
import re
import shutil
import subprocess

import pytest

from remote.contract.artifacts.dataset_file import first_refusal, refusal
from remote.contract.artifacts.row_kinds import parse_row

ROWS = [
    {"instruction": f"wie heißt {number}?", "output": f'ein, "zwei"; {number}'}
    for number in range(3)
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def table(delimiter):
    quoted = [[value.replace('"', '""') for value in row.values()] for row in ROWS]
    body = "".join(f'"{asked}"{delimiter}"{said}"\n' for asked, said in quoted)
    return f"instruction{delimiter}output\n{body}"


KINDS = {
    "rows.jsonl": (gzip.compress(LINES.encode()), "gzip"),
    "rows.jsonl.gz": (gzip.compress(LINES.encode()), "gzip"),
    "rows.bz2": (bz2.compress(LINES.encode()), "bzip2"),
    "rows.xz": (lzma.compress(LINES.encode()), "xz"),
    "utf16.jsonl": (LINES.encode("utf-16"), "UTF-16 text"),
    "utf16be.jsonl": (b"\xfe\xff" + LINES.encode("utf-16-be"), "UTF-16 text"),
    "unmarked le.jsonl": (LINES.encode("utf-16-le"), "UTF-16 text"),
    "unmarked be.jsonl": (LINES.encode("utf-16-be"), "UTF-16 text"),
    "utf32.jsonl": (LINES.encode("utf-32"), "UTF-32 text"),
    "array.json": (json.dumps(ROWS, indent=2).encode(), "a JSON array"),
    "it's one line.json": (b"\xef\xbb\xbf" + json.dumps(ROWS).encode(), "a JSON array"),
    "rows.csv": (table(",").encode(), "CSV"),
    "marked.csv": (b"\xef\xbb\xbf" + table(",").replace("\n", "\r\n").encode(), "CSV"),
    "semicolons.csv": (table(";").encode(), "CSV with semicolons"),
    "rows.tsv": (table("\t").encode(), "tab-separated values"),
    "pretty.json": (
        "".join(json.dumps(row, indent=1) for row in ROWS).encode(),
        "a JSON object over many lines",
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_command_offered_makes_rows_of_it(tmp_path, name):
    content, kind = KINDS[name]
    path = tmp_path / name
    path.write_bytes(content)
    found = refusal(path)
    assert (found.kind, found.path) == (kind, path)
    command = re.match(r"`(.+)`, and name that file$", found.remedy)[1]
    if not shutil.which(command.split()[0]):
        pytest.skip(f"{command.split()[0]} is not installed")
    subprocess.run(["bash", "-c", command], check=True)
    assert path.read_bytes() == content
    (made,) = [each for each in tmp_path.iterdir() if each != path]
    assert made.suffix == ".jsonl" and refusal(made) is None
    rows = [
        parse_row(line, "made", number)
        for number, line in enumerate(made.read_bytes().splitlines(), 1)
    ]
    assert [{"instruction": row.asked, "output": row.answer} for row in rows] == ROWS


@pytest.mark.parametrize(
    ("content", "kind", "remedy"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "a Git LFS pointer",
            "lfs pull --include rows.jsonl",
        ),
        (b"<!DOCTYPE html>\n<html>", "an HTML page", "download it again"),
        (b"PK\x03\x04" + b"\0" * 60, "a ZIP archive", "python3 -m zipfile -e"),
        (b"PAR1" + b"\0" * 20, "Parquet", "pandas.read_parquet"),
        (b"\x00\x01\x02\x03" * 8, "binary data", "export it as JSON Lines"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, kind, remedy):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    found = refusal(path)
    assert found.kind == kind and remedy in found.remedy


@pytest.mark.parametrize(
    "content",
    [
        LINES.encode(),
        b"",
        b"\n\n",
        b"\xef\xbb\xbf" + LINES.encode(),
        b"not json at all\n" + LINES.encode(),
        b"# a, b\n" + LINES.encode(),
        b"instruction,output\n" + LINES.encode(),
        b'{"instruction": "a, b",\n',
        b'{"instruction": {\n',
    ],
)
def test_rows_and_damaged_rows_are_left_to_their_reader(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert refusal(path) is None


def test_a_folder_is_looked_through(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "good.jsonl").write_text(LINES)
    assert first_refusal(tmp_path) is None
    (tmp_path / "a" / "packed.jsonl").write_bytes(gzip.compress(LINES.encode()))
    assert first_refusal(tmp_path).path.name == "packed.jsonl"
