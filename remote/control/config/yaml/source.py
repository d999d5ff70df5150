"""A YAML file as plain values, each with the line it stands on.

Scalars follow YAML 1.2: `no` and `on` are text, `2e-4` is a number, dates are text. Keys are always
text.

Whatever a file holds, reading it takes bounded time and memory: it may be so large, so deep, and
with its aliases written out have so many values.
"""

import errno
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.control import project
from remote.control.errors import Finding

MAX_BYTES = 128 << 10
_SMALL = 16 << 10
MAX_DEPTH = 50
MAX_VALUES = 10_000
"""With every alias written out: ten lines of ten aliases each are else ten thousand million
values."""

_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""What no value of ours holds, and escapes such as "\\0" can spell: no path, shell or terminal
takes it well."""

Keys = tuple[str | int, ...]
"""The way to a value: `("stages", "train", "uses")`."""


@dataclass
class Source:
    """What a file says. `value` is None when the file could not be read at all; then `findings`
    says why.

    `lines` maps the way to each value to `file:line`; a value taken over from an extended file
    keeps that file's.
    """

    path: Path
    value: Any = None
    lines: dict[Keys, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def where(self, *keys: str | int) -> str:
        """`file:line` of a value, or of the closest one around it that is there. Values without a
        file are named by their keys."""
        if not self.lines and keys:
            return ".".join(str(key) for key in keys)
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, f"{shown(self.path)}:1")


def shown(path: Path) -> str:
    """A path as a person wants to read it: relative to the project where it lies in it."""
    for folder in (project.root(), project.SHIPPED):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)


def read(path: Path, content: bytes | None = None) -> Source:
    """Read one file, or the `content` that it had; never raises for what may stand in it."""
    source = Source(path)
    text = _text(source, content)
    node = _compose(text, source) if text is not None else None
    if node is not None:
        source.value = _Reader(source).whole(node)
    if source.value is None and not source.findings:
        source.findings.append(
            Finding(
                f"{shown(path)}:1",
                "the file is empty",
                "keys and values",
                "compare docs/configuration.md",
            )
        )
    return source


def content_of(path: Path) -> bytes:
    """The file's bytes, one more than `MAX_BYTES` at most. Raises OSError; also for what is no
    file, such as a pipe that never ends."""
    if project.is_there(path) and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file", str(path))
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _text(source: Source, content: bytes | None) -> str | None:
    where = shown(source.path)
    try:
        content = content_of(source.path) if content is None else content
        if len(content) > MAX_BYTES:
            what, remedy = (
                f"the file is larger than {MAX_BYTES >> 10} kB",
                "name the right file, or leave out what nothing uses",
            )
            source.findings.append(Finding(f"{where}:1", what, "a configuration file", remedy))
            return None
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        remedy = "correct the path, or create the file"
        if source.path.name == project.INVENTORY:
            remedy = "`./inv init` writes one"
        source.findings.append(Finding(where, "there is no such file", "a YAML file", remedy))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        source.findings.append(
            Finding(
                f"{where}:{line}",
                "a byte that is not UTF-8",
                "text in UTF-8",
                "save the file as UTF-8",
            )
        )
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        why = getattr(error, "strerror", None) or str(error)
        source.findings.append(
            Finding(where, f"cannot be read: {why}", "a readable YAML file", f"ls -l {source.path}")
        )
    return None


def _compose(text: str, source: Source) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    try:
        if len(text) > _SMALL and _nodes_exceed(yaml.parse(text), 2 * MAX_VALUES):
            what = f"the file holds more than {MAX_VALUES:,} keys and values"
            source.findings.append(
                Finding(
                    f"{shown(source.path)}:1",
                    what,
                    "a configuration that a person wrote",
                    "name the right file",
                )
            )
            return None
        return yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = " ".join(part for part in (error.problem, error.context) if part)
        source.findings.append(
            Finding(
                f"{shown(source.path)}:{line}",
                f"not YAML: {problem}",
                "valid YAML",
                _hint(text, line),
            )
        )
    except (
        Exception
    ) as error:  # what the parser raises for bytes that nobody writes is its own affair
        what = f"not YAML: {' '.join(str(error).split()) or type(error).__name__}"
        source.findings.append(
            Finding(f"{shown(source.path)}:1", what, "valid YAML", "remove control characters")
        )
    return None


def _nodes_exceed(events: Iterable[Any], most: int) -> bool:
    """Whether there are more keys and values; False for a file that is nested too deeply, which
    composing it tells at once."""
    from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, NodeEvent

    count = depth = 0
    for event in events:
        count += isinstance(event, NodeEvent)
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if count > most or depth > MAX_DEPTH:
            return count > most
    return False


def _hint(text: str, line: int) -> str:
    lines = text.splitlines()
    found = lines[min(line, len(lines)) - 1] if lines else ""
    if "\t" in found:
        return "indent with spaces, not tabs"
    if ">" in found:
        return 'put gates in quotes: ">0.75"'
    return "check quotes, brackets and indentation there"


class _Full(Exception):
    """The values are too many, or too deep."""


class _Reader:
    """Turns ruamel's nodes into plain values and notes the line of each."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: set[int] = set()
        self._values = 0

    def whole(self, root: Any) -> Any:
        """The value of the whole file; None, and a finding, where there is too much of it."""
        try:
            return self._value(root, ())
        except _Full:
            return None

    def _value(self, node: Any, keys: Keys) -> Any:
        self._count(node, keys)
        self._source.lines.setdefault(keys, self._where(node))
        if node.id == "scalar":
            return self._scalar(node)
        if id(node) in self._open:
            self._find(
                node, "an alias inside its own anchor", "a value that ends", "write the value out"
            )
            return None
        if node.tag not in _COLLECTIONS:
            self._find(node, f"a tag: {node.tag}", "plain values", "remove the tag")
        self._open.add(id(node))
        items = (
            self._mapping(node, keys)
            if node.id == "mapping"
            else [self._value(item, (*keys, i)) for i, item in enumerate(node.value)]
        )
        self._open.discard(id(node))
        return items

    def _count(self, node: Any, keys: Keys) -> None:
        self._values += 1
        if self._values > MAX_VALUES or len(keys) > MAX_DEPTH:
            too_much = (
                "is nested too deeply"
                if len(keys) > MAX_DEPTH
                else f"holds more than {MAX_VALUES:,} values"
            )
            what = f"the file {too_much}, with its aliases (`*name`) written out"
            self._find(
                node,
                what,
                "a configuration that a person wrote",
                "write out what is meant, without aliases of aliases",
            )
            raise _Full

    def _mapping(self, node: Any, keys: Keys) -> dict[str, Any]:
        items: dict[str, Any] = {}
        seen: dict[str, str] = {}
        for key_node, value_node in node.value:
            if not self._is_word(key_node):
                self._find(
                    key_node,
                    "a key that is no plain word",
                    "plain keys",
                    "use `extends:` to build on another recipe",
                )
                continue
            key = str(key_node.value)
            if key in seen:
                self._find(
                    key_node,
                    f"`{key}` stands twice (first at {seen[key]})",
                    "each key once",
                    "remove one of the two",
                )
                continue
            seen[key] = self._where(key_node)
            self._source.lines[(*keys, key)] = seen[key]
            items[key] = self._value(value_node, (*keys, key))
        return items

    def _scalar(self, node: Any) -> Any:
        if node.tag.removeprefix(_YAML_TAG) not in _SCALARS:
            self._find(node, f"a tag: {node.tag}", "plain values", "remove the tag")
            return None
        if not self._is_plain(node):
            self._find(
                node,
                "a control character",
                "plain text",
                "remove the escape, such as \\0 or \\e, from the text",
            )
            return None
        try:
            kind = node.tag.removeprefix(_YAML_TAG)
            return _PLAIN.get(kind, str)(node.value) if node.style is None else str(node.value)
        except ValueError:
            return str(node.value)

    def _is_word(self, key: Any) -> bool:
        return (
            key.id == "scalar"
            and key.value != "<<"
            and key.tag.removeprefix(_YAML_TAG) in _SCALARS
            and self._is_plain(key)
        )

    @staticmethod
    def _is_plain(node: Any) -> bool:
        return not _TEXT.search(str(node.value))

    def _where(self, node: Any) -> str:
        return f"{shown(self._source.path)}:{node.start_mark.line + 1}"

    def _find(self, node: Any, what: str, expected: str, remedy: str) -> None:
        self._source.findings.append(Finding(self._where(node), what, expected, remedy))


_YAML_TAG = "tag:yaml.org,2002:"
_COLLECTIONS = (f"{_YAML_TAG}map", f"{_YAML_TAG}seq")
_SCALARS = ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
"""What a scalar may be, the last three by its looks alone: they are text."""


def _integer(text: str) -> int:
    return int(text, 0) if text[:2].lower() in ("0x", "0o", "0b") else int(text)


def _number(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_PLAIN: Mapping[str, Any] = {
    "int": _integer,
    "float": _number,
    "bool": lambda text: text.lower() == "true",
    "null": lambda text: None,
}
