"""Questions and answers about a code base in Python: which language models its modules ask, and how
modules use one another. Read by `ast`, never run; the same without a model and without a network.

Entry: `path`, a folder; `kinds`, of `calls` (of language models: where, which model, with which
prompt and parameters) and `interactions` (who imports and calls whom, and what for), both by
default; `modules`, patterns such as `app.*`, all by default.

A module is a unit, and a group: the dotted name stands in `Row.group`, and each row's source is the
`file:line` that it is about, relative to `path`. What is known of a name is what its text tells: an
attribute of an object, or an import made while it runs, is not followed.

The split by group keeps a module on one side. `outputs: {modules: group}` writes a train and a val
file for each module as well, split within it by what is asked.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from remote.contract.artifacts.rows import NotARow, Row, checked
from remote.contract.files import digest
from remote.contract.job.jobs import Cause
from remote.payload.data.code import tree
from remote.payload.data.code.answers import Answer, Around, call_answers, interaction_answers
from remote.payload.data.code.facts import Facts, NotPython, facts_in, facts_of, owner_of, parsed
from remote.payload.data.code.llm_calls import calls_in
from remote.payload.data.code.tree import Module
from remote.payload.data.engine import Context
from remote.payload.data.files.readers import rejected
from remote.payload.data.units import Given, Origin, Result, Unit
from remote.payload.job import StageFailed

KINDS = ("calls", "interactions")
VERSION = 1
"""Of what is asked and answered: a higher one reads everything anew."""
_PARSE_SECONDS = 60.0


@dataclass(frozen=True)
class Code:
    """The modules below a folder."""

    path: Path
    kinds: tuple[str, ...]
    patterns: tuple[str, ...]
    context: Context

    def units(self) -> Iterator[Unit]:
        """A unit a module. It changes with its own text, and with that of those that it imports,
        or that import it."""
        try:
            modules = tree.modules_of(self.path) if self.path.is_dir() else []
        except OSError as error:
            raise _unread(self.path, f"{error.strerror}: {error.filename}") from None
        if not any(map(self._is_wanted, modules)):
            raise _unread(self.path, "no module of Python is in it that `modules` wants")
        by_name = {module.name: module for module in modules}
        imports = self._imports(modules, by_name)
        importers: dict[str, set[str]] = {}
        for name, names in imports.items():
            for each in names:
                importers.setdefault(each, set()).add(name)
        for module in filter(self._is_wanted, modules):
            near = sorted({*imports[module.name], *importers.get(module.name, ())} - {module.name})
            known = {module.name, *near}.union(*(imports[each] for each in (module.name, *near)))
            what = {
                "name": module.name,
                "digest": module.digest,
                "near": [[each, by_name[each].file, by_name[each].digest] for each in near],
                "known": sorted(known),
            }
            size = module.path.stat().st_size
            yield Unit(module.file, digest.of_value([VERSION, what]), size, what)

    def read(self, unit: Unit) -> Iterator[Result]:
        """What there is to say about a module. Others that are not Python are passed over: they are
        units of their own."""
        module = self._module(unit.what["name"], unit.id, unit.what["digest"])
        try:
            syntax = parsed(module)
        except NotPython as error:
            yield rejected(str(error), Origin(unit.id, error.line))
            return
        facts = facts_in(module, syntax)
        answers: list[Answer] = []
        if "calls" in self.kinds:
            answers += call_answers(facts, calls_in(facts, syntax))
        if "interactions" in self.kinds:
            near = [self._facts(*each) for each in unit.what["near"]]
            known = frozenset(unit.what["known"])
            answers += interaction_answers(Around(facts, [each for each in near if each], known))
        for answer in answers:
            yield _given(answer, facts)

    def _imports(self, modules: list[Module], known: Collection[str]) -> dict[str, set[str]]:
        """Which modules of ours each one imports. Text of others is parsed in a worker: it may
        crash the one that does."""
        asked = [
            {
                "name": module.name,
                "file": module.file,
                "path": str(module.path),
                "is_package": module.is_package,
            }
            for module in modules
        ]
        found: dict[str, set[str]] = {}
        with self.context.pool(seconds=_PARSE_SECONDS) as pool:
            for task, answer in pool.map("remote.payload.data.code.facts:imports_in", asked):
                names = answer if isinstance(answer, list) else []  # what is not Python has none
                owners = {owner_of(name, known)[0] for name in names}
                found[task["name"]] = owners - {"", task["name"]}
        return found

    def _facts(self, name: str, file: str, mark: str) -> Facts | None:
        try:
            return _kept_facts(self._module(name, file, mark))
        except (NotPython, OSError):
            return None

    def _module(self, name: str, file: str, mark: str) -> Module:
        path = self.path / file
        return Module(name, file, path, path.name == "__init__.py", mark)

    def _is_wanted(self, module: Module) -> bool:
        return not self.patterns or any(fnmatchcase(module.name, each) for each in self.patterns)


@lru_cache(maxsize=4096)
def _kept_facts(module: Module) -> Facts:
    """A worker reads many units, and a module stands near many others."""
    return facts_of(module)


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
    return Code(path, kinds, tuple(entry.get("modules") or ()), context)


def _given(answer: Answer, facts: Facts) -> Result:
    """A row, whose source is the line that it is about."""
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
