"""Records of the multi-kind set: `instruction`, `reasoning`, `conversation` (trees flattened to
turns) and `retrieval` (`text_1`, `text_2`), under a licence, within a quota.

Entry: `path`, and `name` (the file's) for the `source` of its rows; `kind`, where records are not
to be told by their fields; `columns`, our names for theirs; `license`, else that of the dataset
card (README.md) beside it; `licenses` allowed (`licenses.ALLOWED`); `languages`: a record that says
it is in another one is left out, whichever says nothing is for the step `language`; `steps` of
single rows taken before the quota counts; `quota`: at most so many rows, drawn by seed and content;
`paths` of a tree: `best` or `all`; `prompt`: words before the question of a retrieval record;
`keep_prefix`: leave `[MOD=NAME]` where it stands.
"""

import hashlib
import heapq
import importlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remote.contract.artifacts import row_kinds
from remote.contract.artifacts.rows import NotARow, Row, checked, label_in, text_in
from remote.contract.files import digest
from remote.contract.job.jobs import Cause
from remote.payload.data import licenses
from remote.payload.data.engine import Context, step_of, stepped
from remote.payload.data.files.readers import Object, objects_in, rejected, suffix_of
from remote.payload.data.kinds import trees
from remote.payload.data.kinds.modules import routed
from remote.payload.data.sources.corpus import files_of
from remote.payload.data.units import Given, Reject, Result, Unit
from remote.payload.job import StageFailed

KINDS = ("instruction", "reasoning", "conversation", "retrieval")
_REASONING = ("reasoning", "rationale", "chain_of_thought")


@dataclass(frozen=True)
class Kinds:
    """One set of records. `entry` is the recipe's."""

    entry: Mapping[str, Any]
    path: Path
    name: str
    steps: tuple[Any, ...]
    seed: str

    def units(self) -> Iterator[Unit]:
        """A unit a file; all files as one where there is a quota. Raises StageFailed for a licence
        that is not allowed."""
        licenses.check(self.name, self.entry.get("license") or "", self._allowed, self.path)
        if not self.path.exists():
            raise StageFailed(
                Cause.DATA,
                f"the source `{self.name}` is not there: {self.path}",
                remedy="put it there, then `./inv resume`; or correct its `path`",
            )
        found = [(self._label(path), path) for path in files_of(self.path)]
        digests = [digest.of_file(path) for _, path in found]
        sizes = [path.stat().st_size for _, path in found]
        whats = [[label, str(path)] for label, path in found]
        if self.entry.get("quota"):
            labels = [label for label, _ in found]
            key = digest.of_value([labels, digests])
            yield Unit(self.name, key, sum(sizes), {"files": whats})
            return
        for what, key, size in zip(whats, digests, sizes, strict=True):
            yield Unit(what[0], key, size, {"files": [what]})

    def read(self, unit: Unit) -> Iterator[Result]:
        """The rows of its files, within the quota."""
        files = [(str(name), Path(path)) for name, path in unit.what["files"]]
        if quota := self.entry.get("quota"):
            return within(int(quota), self.seed, lambda: self._rows(files))
        return self._rows(files)

    @property
    def _allowed(self) -> tuple[str, ...]:
        return tuple(self.entry.get("licenses") or licenses.ALLOWED)

    def _label(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix() if path != self.path else path.name

    def _rows(self, files: list[tuple[str, Path]]) -> Iterator[Result]:
        for name, path in files:
            yield from stepped(self._of_file(path, name), list(self.steps))

    def _of_file(self, path: Path, name: str) -> Iterator[Result]:
        for tree, objects in itertools.groupby(objects_in(path, name), self._tree_of):
            if tree:
                yield from self._of_tree(tree, list(itertools.islice(objects, _ONE_TREE)))
                continue
            for each in objects:
                yield from [each] if isinstance(each, Reject) else self._of_record(each)

    def _tree_of(self, each: Object | Reject) -> str:
        """The tree that a single message belongs to; empty for what is none. Those of one tree
        stand together."""
        if isinstance(each, Reject) or self.entry.get("kind") not in (None, "", "conversation"):
            return ""
        tree = each.value.get("message_tree_id")
        is_one = isinstance(tree, str) and "message_id" in each.value and "text" in each.value
        return tree if is_one and isinstance(tree, str) else ""

    def _of_tree(self, tree: str, objects: list[Object | Reject]) -> Iterator[Result]:
        messages = [each for each in objects if isinstance(each, Object)]
        first = messages[0]
        if aside := self._gate(first):
            yield aside
            return
        try:
            root, lost = trees.linked(each.value for each in messages)
        except NotARow as error:
            yield rejected(f"the tree {tree}: {error}", first.origin)
            return
        for each in messages:
            if each.value["message_id"] in lost:
                parent = each.value.get("parent_id")
                reason = (
                    f"its parent {parent!r} is not in its tree: messages of a tree stand together"
                )
                yield rejected(reason, each.origin, json.dumps(each.value))
        yield from self._ways(first, root, tree)

    def _of_record(self, each: Object) -> Iterator[Result]:
        columns = self.entry.get("columns") or {}
        taken = {
            ours: each.value[theirs] for ours, theirs in columns.items() if theirs in each.value
        }
        each = Object({**each.value, **taken}, each.origin)
        if aside := self._gate(each):
            yield aside
            return
        raw, kind = each.value, self.entry.get("kind") or kind_of(each.value)
        try:
            if kind == "conversation" and isinstance(raw.get("prompt"), dict):
                root = trees.nested(raw["prompt"])
                yield from self._ways(each, root, label_in(raw, "message_tree_id"))
                return
            row = row_of(raw, kind, self.entry.get("prompt") or "")
            yield Given(self._finished(row, raw), each.origin)
        except NotARow as error:
            yield rejected(str(error), each.origin, json.dumps(raw, default=str))

    def _ways(self, first: Object, root: trees.Node, tree: str) -> Iterator[Result]:
        """The conversations of a tree: one group, as they share turns."""
        group = f"{self.name}/{tree}" if tree else digest.of_value(root.text)[:32]
        try:
            ways = list(trees.conversations(root, self.entry.get("paths") or "best"))
        except NotARow as error:
            yield rejected(str(error), first.origin, root.text)
            return
        for turns in ways:
            try:
                row = self._finished(checked(Row(turns, group=group)), first.value)
                yield Given(row, first.origin)
            except NotARow as error:
                yield rejected(str(error), first.origin, turns[-1].content)

    def _finished(self, row: Row, raw: Mapping[str, Any]) -> Row:
        """The row with its source, and its module if it has one."""
        named = replace(row, source=self.name)
        told = text_in(dict(raw), "module", "")
        return checked(routed(named, told, bool(self.entry.get("keep_prefix"))))

    def _gate(self, each: Object) -> Reject | None:
        """Why a record is not wanted: it says that it is in another language, or under another
        licence."""
        told = each.value.get("license")
        if isinstance(told, str) and told and not licenses.is_allowed(told, self._allowed):
            return _unwanted(f"its licence {told[:80]!r} is not allowed", each)
        language = each.value.get("language", each.value.get("lang"))
        wanted = self.entry.get("languages")
        if wanted and isinstance(language, str) and language:
            code = language.lower().replace("_", "-").partition("-")[0]
            if code not in {each.lower() for each in wanted}:
                return _unwanted(f"in {language[:40]!r}, not in {' or '.join(wanted)}", each)
        return None


_ONE_TREE = trees.MAX_MESSAGES + 1


def open_source(entry: Mapping[str, Any], context: Context) -> Kinds:
    """The set of an entry. Raises StageFailed for settings that cannot be."""
    path = context.root / Path(entry["path"]).expanduser()
    name = entry.get("name") or path.name.removesuffix(suffix_of(path.name))
    _check(entry, name)
    steps = tuple(step_of(each, context) for each in entry.get("steps") or ())
    return Kinds(entry, path, name, steps, context.seed)


def _check(entry: Mapping[str, Any], name: str) -> None:
    quota = entry.get("quota") or 0
    whole = [each["type"] for each in entry.get("steps") or () if _is_whole(each["type"])]
    wrong = {
        f"kind: {entry.get('kind')!r}": entry.get("kind") not in (None, "", *KINDS),
        f"paths: {entry.get('paths')!r}": entry.get("paths") not in (None, *trees.PATHS),
        f"quota: {quota!r}": type(quota) is not int or quota < 0,
        f"steps: {', '.join(whole)}": bool(whole),
    }
    if told := next((each for each, is_wrong in wrong.items() if is_wrong), ""):
        raise StageFailed(
            Cause.CONFIG,
            f"the source `{name}`: {told}",
            f"`kind` is one of {', '.join(KINDS)}; `paths` {' or '.join(trees.PATHS)}; `quota` a"
            " number of rows; `steps` are of single rows, others stand at the recipe's end",
            "correct the recipe, then `./inv run` it anew",
        )


def _is_whole(step: str) -> bool:
    module = importlib.import_module(f"remote.payload.data.steps.{step}")
    return bool(getattr(module, "WHOLE", False))


def kind_of(raw: Mapping[str, Any]) -> str:
    """Which of the kinds a record is; empty where it is none."""
    if "text_1" in raw and "text_2" in raw:
        return "retrieval"
    if raw.get("messages") or raw.get("conversations") or isinstance(raw.get("prompt"), dict):
        return "conversation"
    if "instruction" in raw:
        return "reasoning" if any(raw.get(name) for name in _REASONING) else "instruction"
    return ""


def row_of(raw: Mapping[str, Any], kind: str, prompt: str = "") -> Row:
    """The row of a record, which is no tree. Raises NotARow."""
    if kind == "retrieval":
        return _retrieval(dict(raw), prompt)
    if kind == "reasoning":
        return row_kinds.row_of(_reasoned(dict(raw)), "instruction")
    if kind == "instruction":
        return row_kinds.row_of(raw, "instruction")
    return row_kinds.row_of(raw)


def _reasoned(raw: dict[str, Any]) -> dict[str, Any]:
    """The reasoning is said before what it leads to; where it has no field of its own it stands in
    `output` already."""
    thought = next((text_in(raw, name) for name in _REASONING if raw.get(name)), "").strip()
    return {**raw, "output": f"{thought}\n\n{text_in(raw, 'output')}"} if thought else raw


def _retrieval(raw: dict[str, Any], prompt: str) -> Row:
    """Which text answers which: asked for the one, the other is said."""
    asked, found = text_in(raw, "text_1").strip(), text_in(raw, "text_2").strip()
    if not asked or not found:
        raise NotARow(f"`{'text_2' if asked else 'text_1'}` is empty")
    if asked == found:
        raise NotARow("`text_1` and `text_2` are the same")
    row = Row.of(f"{prompt}\n\n{asked}" if prompt else asked, found, group=label_in(raw, "group"))
    return checked(row)


def within(quota: int, seed: str, read: Callable[[], Iterator[Result]]) -> Iterator[Result]:
    """At most `quota` different rows of what `read` gives, which is asked twice: those of the
    lowest hash, so that a set that grows changes few of them."""
    marks: set[int] = set()
    for result in read():
        if isinstance(result, Given):
            marks.add(_mark(seed, result.row))
        else:
            yield result
    chosen = set(heapq.nsmallest(quota, marks))
    left = set(chosen)
    for result in read():
        if isinstance(result, Reject):
            continue
        mark = _mark(seed, result.row)
        if mark in left:
            left.remove(mark)
            yield result
        elif mark in chosen:
            yield Reject("repeats a row of its set", result.origin, "quota", is_bad=False)
        else:
            reason = f"beyond the quota of {quota:,} rows"
            yield Reject(reason, result.origin, "quota", is_bad=False)


def _mark(seed: str, row: Row) -> int:
    said = [[turn.role, turn.content] for turn in row.messages] or row.text
    content = json.dumps([seed, said, row.source]).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _unwanted(reason: str, each: Object) -> Reject:
    return replace(rejected(reason, each.origin, json.dumps(each.value, default=str)), is_bad=False)
