"""The script that an instance runs at every boot before SSH answers, with the watchdog inside; and
its twin that comes over SSH."""

import ast
import base64
import hashlib
import io
import json
import lzma
import math
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote.contract.job.clocks import Limits
from remote.control import text
from remote.control.project import CODE

if TYPE_CHECKING:
    from remote.control.config.inventory import CloudEntry

LARGEST_BYTES = 16 * 1024
"""What EC2 takes, before it is encoded for the wire."""

_PARTS = (
    "contract/__init__.py",
    "contract/files/__init__.py",
    "contract/files/atomic.py",
    "contract/job/__init__.py",
    "contract/job/clocks.py",
    "contract/job/notices.py",
    "contract/job/paths.py",
    "contract/files/regular_files.py",
    "payload/__init__.py",
    "payload/process.py",
    "payload/watchdog",
)
_LINE, _END = 160, 1000
_MAIN = "from remote.payload.watchdog.__main__ import main\nmain()\n"


def render(entry: "CloudEntry", limits: Limits) -> str:
    """`templates/user-data.sh.j2` for a box of the inventory: a boothook of cloud-init, which arms
    the watchdog with `limits`."""
    user = getattr(entry, "user", "")
    return _script(
        limits,
        is_boot=True,
        sets_place=False,
        box=entry.name,
        root=entry.root,
        user=user,
        notify="",
    )


def arming(limits: Limits, notify: str | None, box: str, root: str | None) -> str:
    """The script that sets a box's clocks over SSH; it ends with the watchdog's reading on standard
    output.

    `notify` may be a secret: the script goes over standard input alone. Without `root` the box's
    own settings stay.
    """
    place = {"box": box, "root": root or "windlass", "sets_place": root is not None}
    return _script(limits, is_boot=False, user="", notify=notify or "", **place)


def watchdog() -> str:
    """The watchdog's modules as JSON, by their paths in its zip file: the same text each time, less
    what only readers need."""
    return json.dumps({"__main__.py": _MAIN, "remote/__init__.py": "", **_sources()})


def stripped(source: str) -> str:
    """Python source without docstrings, comments and the types of functions, each statement on one
    line."""
    lines = source.splitlines()
    for row, begin, end, instead in sorted(_ornaments(source), reverse=True):
        lines[row - 1] = (lines[row - 1][:begin] + instead + lines[row - 1][end:]).rstrip()
    return _on_one_line_each("\n".join(lines) + "\n")


def _on_one_line_each(source: str) -> str:
    """The source without blank lines, and without line breaks in brackets."""
    depth, lines = 0, source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
        row = token.start[0] - 1
        if token.type == tokenize.NL and depth:
            lines[row] = lines[row].rstrip()
            lines[row + 1] = (
                " " * (not lines[row].endswith(("(", "[", "{"))) + lines[row + 1].lstrip()
            )
        elif token.type == tokenize.NL:
            lines[row] = ""
    return "".join(lines)


def _ornaments(source: str) -> Iterator[tuple[int, int, int, str]]:
    """What `stripped` takes away: line, first and last column, and what stands there instead."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.start[1], token.end[1], ""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.col_offset, _END, "pass"
            yield from (
                (row, 0, _END, "")
                for row in range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)
            )
        elif (
            isinstance(node, ast.arg)
            and node.annotation
            and node.annotation.end_lineno == node.lineno
        ):
            yield (
                node.lineno,
                node.col_offset + len(node.arg),
                node.annotation.end_col_offset or _END,
                "",
            )
        elif (
            isinstance(node, ast.FunctionDef)
            and node.returns
            and node.returns.end_lineno == node.returns.lineno
        ):
            arrow = lines[node.returns.lineno - 1].rindex(" ->", 0, node.returns.col_offset)
            yield node.returns.lineno, arrow, node.returns.end_col_offset or _END, ""


def _script(limits: Limits, **facts: Any) -> str:
    packed, version = _packed()
    minutes = _minutes(limits.ahead)
    unit = text.render("windlass-watchdog.service.j2", minutes=minutes).rstrip("\n")
    script = text.render(
        "user-data.sh.j2",
        code=packed,
        version=version,
        limits=limits.to_json(),
        minutes=minutes,
        unit=unit,
        **facts,
    )
    # The template's own comments stay at home: EC2 counts each byte.
    return "".join(
        line for line in script.splitlines(keepends=True) if not line.lstrip().startswith("# ")
    )


def _minutes(seconds: float) -> str:
    """As shutdown(8) takes them: whole ones. The embedded cloud's takes less than one too."""
    return f"{seconds / 60:.4f}" if seconds < 60 else str(math.ceil(seconds / 60))


@cache
def _packed() -> tuple[str, str]:
    """The watchdog as text, and what tells one version of it from another."""
    code = watchdog().encode()
    small = lzma.compress(code, format=lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME)
    encoded = base64.b85encode(small).decode()
    lines = (encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE))
    return "\n".join(lines), hashlib.sha256(code).hexdigest()[:16]


def _sources() -> dict[str, str]:
    files = [file for part in _PARTS for file in _files(CODE / "remote" / part)]
    return _without_unused(
        {file.relative_to(CODE).as_posix(): stripped(file.read_text()) for file in files}
    )


def _without_unused(sources: dict[str, str]) -> dict[str, str]:
    """The sources less the functions and methods that none of them names."""
    while True:
        code = "\n".join(sources.values())
        used = Counter(re.findall(r"\w+", code)) - Counter(re.findall(r"\bdef (\w+)", code))
        less = {path: _without(source, used) for path, source in sources.items()}
        if less == sources:
            return sources
        sources = less  # what only those had named is not needed either


def _without(source: str, used: Counter[str]) -> str:
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.FunctionDef)
            and not used[node.name]
            and not node.name.startswith("__")
        ):
            begin, end = (
                min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1,
                node.end_lineno or node.lineno,
            )
            lines[begin:end] = [""] * (end - begin)
    return "\n".join(lines)


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.py")) if path.is_dir() else [path]
