"""What a file is by its first bytes: asked before any work, so that a file of another kind is named
as what it is and not called damaged.

A clone without Git LFS leaves pointers, a download that failed leaves an error page, an archive was
never unpacked: each looks like a broken dataset or model to the parser that gets it.
"""

import os
import re
import zipfile
from pathlib import Path

FIRST_BYTES = 512
"""As many as `kind_of` looks at."""

_SIGNATURES = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer"),
    (b"version https://hawser.github.com/spec/", "a Git LFS pointer"),
    (b"# xet version ", "a Git Xet pointer"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"PAR1", "Parquet"),
    (b"ARROW1\x00\x00", "an Arrow file"),
    (b"ORC", "ORC"),
    (b"Obj\x01", "Avro"),
    (b"SQLite format 3\x00", "SQLite"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"%PDF-", "a PDF"),
    (b"{\\rtf", "an RTF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office file"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x7fELF", "a program (ELF)"),
    (b"#!/", "a script"),
    (b"GGUF", "a GGUF model"),
    (b"\xff\xfe\x00\x00", "UTF-32 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)
_OFFICE = {
    b"word/": "a Word document",
    b"xl/": "an Excel workbook",
    b"[Content_Types].xml": "a Microsoft Office file",
}
_MAYBE_WORKBOOKS = ("a ZIP archive", "a Microsoft Office file")
_UTF8_MARK = b"\xef\xbb\xbf"
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|title)[\s>]", re.IGNORECASE)
_JSON_ARRAY = re.compile(rb"\[\s*[{\[\"\]]")


def kind_of(first_bytes: bytes) -> str | None:
    """A name such as `a Git LFS pointer`, `gzip`, `an HTML page`, `a pickle`; None for what shows
    no such sign, as JSON Lines.

    `first_bytes` are the first FIRST_BYTES of the file, or all of it where it has fewer.
    """
    for signature, name in _SIGNATURES:
        if first_bytes.startswith(signature):
            return name
    return _archive(first_bytes) or _serialised(first_bytes) or _text(first_bytes)


def kind_of_file(path: str | os.PathLike[str]) -> str | None:
    """The same for the file at `path`; an Excel workbook is one whatever comes first in it. Raises
    OSError where it cannot be read."""
    with Path(path).open("rb") as file:
        kind = kind_of(file.read(FIRST_BYTES))
        if kind not in _MAYBE_WORKBOOKS:
            return kind
        try:
            with zipfile.ZipFile(file) as archive:
                archive.getinfo("xl/workbook.xml")
        except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError):
            return kind  # damaged, or another kind of ZIP archive
        return "an Excel workbook"


def _archive(head: bytes) -> str | None:
    if head[257:262] == b"ustar":
        return "a tar archive"
    if not head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return None
    # A local file header: the length of the first entry's name at 26, the name at 30.
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith(b"/data.pkl"):
        return "a PyTorch checkpoint (a pickle in a ZIP archive)"
    return next(
        (office for start, office in _OFFICE.items() if name.startswith(start)), "a ZIP archive"
    )


def _serialised(head: bytes) -> str | None:
    """Pickles of protocol 2 and later begin with the opcode PROTO and its number; earlier ones have
    no sign."""
    if len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return "a pickle"
    if len(head) > 9 and 2 <= int.from_bytes(head[:8], "little") <= 100 << 20 and head[8:9] == b"{":
        return "a safetensors file"
    return None


def _text(head: bytes) -> str | None:
    if head[:1] in (b"{", b"[", b'"') and head[1:2] == b"\x00":
        return "UTF-16 text"
    if head[:1] == b"\x00" and head[1:2] in (b"{", b"[", b'"'):
        return "UTF-16 text"
    start = head.removeprefix(_UTF8_MARK).lstrip()
    if _HTML.match(start):
        return "an HTML page"
    if start.startswith(b"<?xml"):
        return "XML"
    return "a JSON array" if _JSON_ARRAY.match(start) else None
