"""Whether a file can hold rows at all, asked of its first bytes before any work: what else it is,
and the command that makes rows of it."""

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from remote.contract.files.file_kind import FIRST_BYTES, kind_of_file

EXPECTED = "JSON Lines in UTF-8: a conversation or a document a line"

READABLE = frozenset(
    {
        "gzip",
        "bzip2",
        "xz",
        "zstd",
        "a JSON array",
        "a JSON object over many lines",
        "Parquet",
        "an Arrow file",
        "an Excel workbook",
        "CSV",
        "tab-separated values",
        "CSV with semicolons",
    }
)
"""What `prepare` reads besides JSON Lines."""

_UNPACKERS = {
    "gzip": "gzip -dc",
    "bzip2": "bzip2 -dc",
    "xz": "xz -dc",
    "zstd": "zstd -dc",
    "LZ4": "lz4 -dc",
}
_ARCHIVES = {
    "a tar archive": "tar -xf",
    "a ZIP archive": "python3 -m zipfile -e",
    "a 7-Zip archive": "7z x",
    "a RAR archive": "unrar x",
}
_PRINT = "print(json.dumps(row))"
_FROM_ARRAY = (
    f'import json, sys; [{_PRINT} for row in json.load(open(sys.argv[1], encoding="utf-8-sig"))]'
)
_FROM_CSV = (
    'import csv, json, sys; file = open(sys.argv[1], newline="", encoding="utf-8-sig"); '
    f'[{_PRINT} for row in csv.DictReader(file, delimiter="%s")]'
)
_FROM_PANDAS = (
    'import pandas, sys; pandas.read_%s(sys.argv[1]).to_json(sys.argv[2], orient="records",'
    " lines=True)"
)
_TABLES = {
    "Parquet": "parquet",
    "ORC": "orc",
    "an Arrow file": "feather",
    "an Excel workbook": "excel",
}
_DELIMITERS = {"CSV": ",", "tab-separated values": "\t", "CSV with semicolons": ";"}
_NAME = re.compile(r"[^\W\d][\w .-]{0,60}")


@dataclass(frozen=True)
class Refusal:
    """A file that holds no rows as they are: what it is, and what to type."""

    path: Path
    kind: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path.name} is {self.kind}"


def refusal(path: Path, readable: Collection[str] = ()) -> Refusal | None:
    """Why that file can be no dataset; None for one that may be, or is one of the `readable` kinds.
    Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        head = file.read(FIRST_BYTES)
    kind = kind_of_file(path) or _kind_of_rows(head)
    return Refusal(path, kind, _remedy(path, kind, head)) if kind and kind not in readable else None


def first_refusal(
    source: Path, pattern: str = "*.jsonl", readable: Collection[str] = ()
) -> Refusal | None:
    """The same for a file, or for those below a folder that `pattern` fits: the first that is
    refused."""
    files = sorted(source.rglob(pattern)) if source.is_dir() else [source]
    return next(
        (found for file in files if file.is_file() and (found := refusal(file, readable))), None
    )


def _kind_of_rows(head: bytes) -> str | None:
    """What shows no signature: a table with a line of names, an object over many lines, bytes that
    are no text."""
    if b"\0" in head:
        return "binary data"
    lines = [line for line in head.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    if not lines:
        return None
    if re.fullmatch(r"\{\s*(\"[^\"]*\"\s*:\s*[\[{]?\s*)?", lines[0].strip()) and len(lines) > 1:
        return "a JSON object over many lines"
    return next((name for name, mark in _DELIMITERS.items() if _is_table(lines, mark)), None)


def _is_table(lines: list[str], delimiter: str) -> bool:
    """Whether the first line holds two names or more, and no JSON follows."""
    names = [name.strip().strip('"') for name in lines[0].split(delimiter)]
    follows = lines[1].lstrip() if len(lines) > 1 else ""
    return (
        len(names) > 1
        and all(_NAME.fullmatch(name) for name in names)
        and not follows.startswith("{")
    )


def _remedy(path: Path, kind: str, head: bytes) -> str:
    source, target = shlex.quote(str(path)), shlex.quote(str(_target(path)))
    if kind == "a Git LFS pointer":
        return (
            f"`git -C {shlex.quote(str(path.parent))} lfs pull --include {shlex.quote(path.name)}`"
            " fetches the file itself"
        )
    if kind == "an HTML page":
        return "download it again: an error page or a login was saved in its place"
    if kind in _ARCHIVES:
        return (
            f"unpack it: `{_ARCHIVES[kind]}"
            f" {source}{' .' if 'zipfile' in _ARCHIVES[kind] else ''}`, and name what was in it"
        )
    command = _command(kind, head, source, target)
    return f"`{command}`, and name that file" if command else f"export it as {EXPECTED}"


def _command(kind: str, head: bytes, source: str, target: str) -> str:
    """What turns the file into rows, or nothing."""
    if kind in _UNPACKERS:
        return f"{_UNPACKERS[kind]} {source} > {target}"
    if kind in ("UTF-16 text", "UTF-32 text"):
        return f"iconv -f {_encoding(kind, head)} -t UTF-8 {source} > {target}"
    if kind == "a JSON array":
        return f"python3 -c '{_FROM_ARRAY}' {source} > {target}"
    if kind == "a JSON object over many lines":
        return f"jq -c . {source} > {target}"
    if kind in _DELIMITERS:
        mark = _DELIMITERS[kind].replace("\t", r"\t")
        return f"python3 -c '{_FROM_CSV % mark}' {source} > {target}"
    return (
        f"python3 -c '{_FROM_PANDAS % _TABLES[kind]}' {source} {target}" if kind in _TABLES else ""
    )


def _encoding(kind: str, head: bytes) -> str:
    """What iconv calls it. Without a byte order mark iconv would take its own machine's order."""
    if kind == "UTF-32 text" or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return kind.removesuffix(" text")
    return "UTF-16BE" if head.startswith(b"\0") else "UTF-16LE"


def _target(path: Path) -> Path:
    """Where the rows go: beside the file, under a name that is none of it."""
    name = re.sub(
        r"\.(gz|bz2|xz|zst|lz4|jsonl|json|csv|tsv|txt|parquet|orc|arrow|feather|xlsx)$",
        "",
        path.name,
    )
    name = f"{name.removesuffix('.jsonl')}.jsonl"
    return path.with_name(name if name != path.name else f"{path.stem}.rows.jsonl")
