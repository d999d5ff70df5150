"""Files as rows: each format, and what people and attackers make of them. One bad row is one
reject, with its place; the rest goes on."""

import bz2
import gzip
import json
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.payload.data.files import lines as of_file
from remote.payload.data.files.readers import Reading, Unreadable, rows_of
from remote.payload.data.units import Given

GOOD = {"instruction": "q", "output": "a"}


def read(path, content, **reading):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    results = list(rows_of(path, path.name, Reading(**reading)))
    rows = [each.row for each in results if isinstance(each, Given)]
    rejects = [(str(each.origin), each.reason) for each in results if not isinstance(each, Given)]
    return rows, rejects


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON: Expecting property name enclosed in double quotes"),
        (b'{"instruction": "q", "output": "a"', "not JSON: Expecting ',' delimiter"),
        (b"\x00" * 5, "not JSON: Expecting value"),
        (b'{"instruction": "q\x00", "output": "a"}', "not JSON: Invalid control character at"),
        (b'{"instruction": "\xff", "output": "a"}', "invalid UTF-8 at byte 17"),
        (b'{"instruction": "\\ud83d", "output": "a"}', "half a character"),
        (b'{"instruction": 3, "output": "a"}', "`instruction` is a number, not text"),
        (b'{"instruction": NaN, "output": "a"}', "`instruction` is a number, not text"),
        (b'{"output": "a", "output": "b", "instruction": "q"}', "names something twice"),
        (b'["q", "a"]', "not an object but a list"),
        (b'{"text": "a document"}', "is no `instruction` row; what would fit: `text`"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_one_bad_line_is_one_reject_and_the_rest_goes_on(tmp_path, line, reason):
    good = json.dumps(GOOD).encode()
    rows, rejects = read(tmp_path / "a.jsonl", b"\n".join([good, good, line, good]))
    assert len(rows) == 3
    ((where, said),) = rejects
    assert where == "a.jsonl:3" and reason in said


def test_marks_line_ends_and_blank_lines_are_fine(tmp_path):
    line = json.dumps(GOOD)
    rows, rejects = read(tmp_path / "a.jsonl", f"\ufeff{line}\r\n\r\n  \n{line}\r\n{line}")
    assert (len(rows), rejects) == (3, [])


def test_a_line_without_end_is_one_reject_and_never_held_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("remote.payload.data.files.readers.LINE_BYTES", 1000)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 300_000 + b"\n" + b'{"text": "b"}\n')
    with of_file.opened(path) as file:
        found = list(of_file.lines(file, 1000))
    assert [(number, offset, len(line)) for number, offset, line in found] == [
        (1, 0, 1001),
        (2, 300_001, 13),
    ]


@given(st.binary(max_size=400), st.integers(1, 50))
def test_lines_have_their_numbers_and_offsets(content, limit):
    from io import BytesIO

    for number, offset, line in of_file.lines(BytesIO(content), limit):
        assert content[offset:].startswith(line[:limit])
        assert content[:offset].count(b"\n") == number - 1
        assert b"\n" not in line and len(line) <= limit + 1


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"]
)
def test_packed_files_are_read_whatever_they_are_called(tmp_path, pack):
    content = pack((json.dumps(GOOD) + "\n").encode() * 3)
    rows, rejects = read(tmp_path / "a.jsonl", content)
    assert (len(rows), rejects) == (3, [])


def test_a_packed_file_that_is_cut_off_is_an_error_of_the_file(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(GOOD) + "\n").encode() * 3)[:-12])
    with pytest.raises((EOFError, OSError)):
        list(rows_of(path, path.name, Reading()))


def test_an_array_and_one_object(tmp_path):
    rows, rejects = read(tmp_path / "a.json", json.dumps([GOOD, {"x": 1}, GOOD], indent=1))
    assert len(rows) == 2 and rejects[0][0] == "a.json[1]"
    assert len(read(tmp_path / "b.json", json.dumps(GOOD, indent=1))[0]) == 1
    assert len(read(tmp_path / "c.json", (json.dumps(GOOD) + "\n") * 2)[0]) == 2
    with pytest.raises(Unreadable, match="not JSON"):
        read(tmp_path / "d.json", "[{]")


def test_csv_with_quotes_over_lines_and_other_delimiters(tmp_path):
    rows, rejects = read(tmp_path / "a.csv", 'instruction,output\n"two\nlines, one field",a\nq,b\n')
    assert [row.asked for row in rows] == ["two\nlines, one field", "q"] and rejects == []
    rows, rejects = read(tmp_path / "b.csv", "instruction;output\nq;a\n")
    assert rows[0].answer == "a"
    rows, rejects = read(tmp_path / "c.csv", "instruction,output\nq,a,b\nq,c\n,\n")
    assert [row.answer for row in rows] == ["c"]
    assert rejects[0] == ("c.csv:2", "3 fields, and 2 columns: a quote or a delimiter is wrong")
    with pytest.raises(Unreadable, match="names a column twice"):
        read(tmp_path / "d.csv", "a,a\n1,2\n")
    with pytest.raises(Unreadable, match="NUL"):
        read(tmp_path / "e.csv", "a,b\n1,\0\n")


def test_columns_under_other_names(tmp_path):
    named = {"instruction": "question", "output": "answer"}
    rows, rejects = read(tmp_path / "a.csv", "question,answer\nq,a\n", columns=named)
    assert (rows[0].asked, rows[0].answer, rejects) == ("q", "a", [])
    rows, rejects = read(tmp_path / "b.csv", "question,answer\nq,a\n")
    assert rows == [] and "--columns instruction=question,output=answer" in rejects[0][1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.7\n", "is a PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"PK\x03\x04" + b"\0" * 40, "is a ZIP archive"),
        (b"<!DOCTYPE html><html>", "is an HTML page"),
    ],
)
def test_a_file_that_lies_about_what_it_is(tmp_path, content, said):
    with pytest.raises(Unreadable, match=said):
        read(tmp_path / "a.jsonl", content)


def test_a_text_is_one_document(tmp_path):
    rows, rejects = read(tmp_path / "page.md", "# A title\n\nWords.")
    assert rows[0].text.startswith("# A title") and rows[0].group == "page.md" and rejects == []
    assert read(tmp_path / "empty.txt", " \n") == ([], [("empty.txt", "is empty")])
    assert "invalid UTF-8" in read(tmp_path / "latin.txt", b"caf\xe9")[1][0][1]
    assert "NUL" in read(tmp_path / "nul.txt", b"a\0b")[1][0][1]
