"""Questions and answers about a code base in Python: which language models its modules ask, and how
modules use one another. Read by `ast`, never run; the same without a model and without a network.

Entry: `path`, a folder; `kinds`, of `calls` (of language models: where, which model, with which
prompt and parameters) and `interactions` (who imports and calls whom, and what for), both by
default; `modules`, patterns such as `app.*`, all by default.

A module is a unit, and a group: the dotted name stands in `Row.group`, and each row's source is the
`file:line` that it is about, relative to `path`. What is known of a name is what its text tells: an
attribute of an object, or an import made while it runs, is not followed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from remote.contract.artifacts.rows import NotARow, Row, checked
from remote.contract.files import digest
from remote.contract.job.jobs import Cause
from remote.payload.data.code import tree
from remote.payload.data.code.answers import Answer, call_answers, interaction_answers
from remote.payload.data.code.facts import Facts, NotPython, facts_of
from remote.payload.data.code.tree import Module
from remote.payload.data.engine import Context
from remote.payload.data.readers import rejected
from remote.payload.data.units import Given, Origin, Result, Unit
from remote.payload.job import StageFailed

KINDS = ("calls", "interactions")


@dataclass(frozen=True)
class Code:
    """The modules below a folder."""

    path: Path
    kinds: tuple[str, ...]
    patterns: tuple[str, ...]

    def units(self) -> Iterator[Unit]:
        """A unit a module. It changes with its own text, that of whoever may import it, that of
        what it may import (whose docstrings say what for), and the names of all."""
        try:
            modules = tree.modules_of(self.path) if self.path.is_dir() else []
        except OSError as error:
            raise _unread(self.path, f"{error.strerror}: {error.filename}") from None
        wanted = [module for module in modules if self._is_wanted(module)]
        if not wanted:
            raise _unread(self.path, "no module of Python is in it that `modules` wants")
        names = [[module.name, module.file] for module in modules]
        for module in wanted:
            near = [
                other
                for other in modules
                if tree.may_import(module, other) or tree.may_import(other, module)
            ]
            mark = digest.of_value([names, module.digest, [each.digest for each in near]])
            what = {
                "modules": {name: file for name, file in names},
                "near": [each.file for each in near],
                "name": module.name,
            }
            yield Unit(module.file, mark, module.path.stat().st_size, what)

    def read(self, unit: Unit) -> Iterator[Result]:
        """What there is to say about a module. Others that are not Python are passed over: they are
        units of their own."""
        known = unit.what["modules"]
        try:
            facts = facts_of(self._module(unit.what["name"], unit.id), known)
        except NotPython as error:
            yield rejected(str(error), Origin(unit.id, error.line))
            return
        answers: list[Answer] = []
        if "calls" in self.kinds:
            answers += call_answers(facts)
        if "interactions" in self.kinds:
            answers += interaction_answers(facts, self._near(unit))
        for answer in answers:
            yield _given(answer, facts)

    def _near(self, unit: Unit) -> list[Facts]:
        names = {file: name for name, file in unit.what["modules"].items()}
        found = []
        for file in unit.what["near"]:
            if file in names:
                try:
                    found.append(facts_of(self._module(names[file], file), unit.what["modules"]))
                except (NotPython, OSError):
                    continue
        return found

    def _module(self, name: str, file: str) -> Module:
        path = self.path / file
        return Module(name, file, path, path.name == "__init__.py")

    def _is_wanted(self, module: Module) -> bool:
        return not self.patterns or any(fnmatchcase(module.name, each) for each in self.patterns)


def open_source(entry: Mapping[str, Any], context: Context) -> Code:
    """The code base of an entry. Raises StageFailed for kinds that there are not."""
    kinds = tuple(entry.get("kinds") or KINDS)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise StageFailed(
            Cause.CONFIG,
            f"code: no kind {', '.join(unknown)}",
            f"there is {' and '.join(KINDS)}",
            "correct `kinds`, and `./inv run` it anew",
        )
    path = context.root / Path(entry["path"]).expanduser()
    return Code(path, kinds, tuple(entry.get("modules") or ()))


def _given(answer: Answer, facts: Facts) -> Result:
    """A row. Its origin tells its number too: several are about the same line."""
    file = facts.module.file
    origin = Origin(file, answer.line)
    row = Row.of(
        answer.asked,
        answer.answer,
        group=facts.module.name,
        source=f"{file}:{answer.line}" if answer.line else file,
    )
    try:
        return Given(checked(row), origin)
    except NotARow as error:
        return rejected(str(error), origin, answer.asked)


def _unread(path: Path, why: str) -> StageFailed:
    return StageFailed(
        Cause.DATA,
        f"no code is read from {path}",
        why,
        "name the folder of a package as `path` of the source `code`",
    )
