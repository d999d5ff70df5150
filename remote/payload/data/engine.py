"""The whole of `prepare`: units read, steps taken, duplicates out, train and val parted.

What a unit gave is kept under the digest of all that made it, so a run that was cut off goes on
where it was, an input that did not change is not worked twice, and a changed step works anew only
what comes after it. Units and the steps of single rows run in worker processes; steps that look at
all rows run in this one, over the parts in order. The same input gives the same bytes.
"""

import contextlib
import importlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from remote.contract.job.jobs import Cause
from remote.payload.data.parts import Part, Store, key_of
from remote.payload.data.pool import Failure, Pool
from remote.payload.data.units import Given, Origin, Reject, Result, Source, Unit
from remote.payload.job import StageFailed

VERSION = 1
"""Of what sources and steps do: a higher one works everything anew."""

_BEAT_SECONDS = 60.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Context:
    """What sources and steps are made with. `root` is Windlass's folder on the box, `folder` where
    this recipe's work is kept, `recipe` the whole recipe as plain JSON."""

    root: Path
    folder: Path
    recipe: Mapping[str, Any]

    @property
    def seed(self) -> str:
        """What every choice at random is drawn with."""
        return str(self.recipe.get("seed", 42))

    @property
    def limits(self) -> Mapping[str, Any]:
        """`workers`, `unit_seconds`, `document_seconds`, `memory_mb`, `max_reject_share`."""
        return self.recipe.get("limits") or {}

    def plain(self) -> dict[str, Any]:
        """As plain JSON, for a worker."""
        return {"root": str(self.root), "folder": str(self.folder), "recipe": dict(self.recipe)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Context":
        """Out of plain JSON."""
        return cls(Path(plain["root"]), Path(plain["folder"]), plain["recipe"])

    def pool(self, seconds: float | None = None, workers: int | None = None) -> Pool:
        """Worker processes as the recipe's limits say."""
        return Pool(
            workers or int(self.limits.get("workers") or os.cpu_count() or 1),
            seconds or float(self.limits.get("unit_seconds") or 3600),
            int(self.limits.get("memory_mb") or 4096),
        )


def source_of(entry: Mapping[str, Any], context: Context) -> Source:
    """The source of an entry of the recipe: `open_source` of the module that its `type` names."""
    module = importlib.import_module(f"remote.payload.data.sources.{entry['type']}")
    source: Source = module.open_source(entry, context)
    return source


def step_of(entry: Mapping[str, Any], context: Context) -> Any:
    """The step of an entry: `make_step` of the module that its `type` names.

    A step is called with each row. One whose module says `WHOLE = True` sees all rows of all parts
    in order, in one process; where it has `look`, that is called with each of them first.
    """
    return _step_module(entry).make_step(entry, context)


def _step_module(entry: Mapping[str, Any]) -> Any:
    return importlib.import_module(f"remote.payload.data.steps.{entry['type']}")


@dataclass
class Prepared:
    """What came of the sources and steps: the parts in order, those of each step on the way, and
    what could not be listed or read at all."""

    parts: list[Part]
    passes: list[tuple[str, list[Part]]] = field(default_factory=list)
    lost: list[Reject] = field(default_factory=list)


@dataclass
class Engine:
    """One run of a recipe. `tell` takes a line of progress and is a sign of life."""

    context: Context
    tell: Tell
    listed: dict[str, Unit] = field(default_factory=dict)
    """The units of all sources, as parts name them, once they were read."""

    @cached_property
    def store(self) -> Store:
        """Where the parts are kept."""
        return Store(self.context.folder / "parts")

    def prepared(self) -> Prepared:
        """Read and take all steps."""
        found = Prepared([])
        for entry in self.context.recipe.get("steps") or ():
            step_of(entry, self.context)  # a wrong option is told once, before any work
        with self.context.pool() as pool, beating(self.tell):
            found.parts = self._read(pool, found.lost)
            found.passes.append(("read", found.parts))
            for steps in segments(self.context.recipe.get("steps") or ()):
                if _is_whole(steps[0]):
                    found.parts = self._taken_whole(steps[0], found.parts)
                else:
                    found.parts = self._taken(pool, steps, found.parts)
                names = ", ".join(str(step["type"]) for step in steps)
                found.passes.append((names, found.parts))
        return found

    def _read(self, pool: Pool, lost: list[Reject]) -> list[Part]:
        sources = list(self.context.recipe.get("sources") or ())
        asked = [
            self._task(number, entry, unit)
            for number, entry in enumerate(sources)
            for unit in sorted(source_of(entry, self.context).units(), key=lambda unit: unit.id)
        ]
        return self._done(pool, "remote.payload.data.engine:read_unit", asked, "read", lost)

    def _task(self, number: int, entry: Mapping[str, Any], unit: Unit) -> dict[str, Any]:
        self.listed[f"{number}/{unit.id}"] = unit
        return {
            "key": key_of(VERSION, "read", entry, unit.digest, unit.id, self.context.seed),
            "unit": f"{number}/{unit.id}",
            "entry": dict(entry),
            "what": [unit.id, unit.digest, unit.size, unit.what],
            "context": self.context.plain(),
        }

    def _taken(self, pool: Pool, steps: list[Mapping[str, Any]], parts: list[Part]) -> list[Part]:
        entries = [dict(step) for step in steps]
        asked = [
            {
                "key": key_of(VERSION, part.key, entries, self.context.seed),
                "unit": part.unit,
                "from": part.key,
                "steps": entries,
                "context": self.context.plain(),
            }
            for part in parts
        ]
        names = ", ".join(step["type"] for step in entries)
        failed: list[Reject] = []
        done = self._done(pool, "remote.payload.data.engine:take_steps", asked, names, failed)
        if failed:
            raise StageFailed(
                Cause.DATA,
                f"{names} failed on {failed[0].origin}",
                failed[0].reason,
                "raise `memory_mb` or `unit_seconds` under `limits:` where it ran out of those,"
                " then `./inv resume`",
                "the parts that are done",
            )
        return done

    def _done(
        self, pool: Pool, function: str, asked: list[dict[str, Any]], what: str, lost: list[Reject]
    ) -> list[Part]:
        """The part of each task, those that are there already not worked again."""
        there = {task["key"]: part for task in asked if (part := self.store.find(task["key"]))}
        todo = [task for task in asked if task["key"] not in there]
        if todo:
            self.tell(f"{what}: {len(todo)} of {len(asked)} units to work")
        for number, (task, answer) in enumerate(pool.map(function, todo), 1):
            if isinstance(answer, Failure):
                lost.append(Reject(answer.why, Origin(task["unit"]), what))
            elif part := self.store.find(task["key"]):
                there[task["key"]] = part
            self.tell(f"{what}: {number} of {len(todo)} units, {task['unit']}")
        return [there[task["key"]] for task in asked if task["key"] in there]

    def _taken_whole(self, entry: Mapping[str, Any], parts: list[Part]) -> list[Part]:
        """A step that looks at all rows: each part again, under a key of all of them."""
        everything = key_of(VERSION, [part.key for part in parts], dict(entry), self.context.seed)
        keys = [key_of(everything, part.key, number) for number, part in enumerate(parts)]
        there = [self.store.find(key) for key in keys]
        if all(there):
            return [part for part in there if part]
        step = step_of(entry, self.context)
        if hasattr(step, "look"):
            for part in parts:
                for given in self.store.rows(part):
                    step.look(given)
                self.tell(f"{entry['type']}: looked at {part.unit}")
        done = []
        for key, part in zip(keys, parts, strict=True):
            done.append(self.store.write(key, part.unit, self._results(part, [step])))
            self.tell(f"{entry['type']}: {part.unit}")
        return done

    def _results(self, part: Part, steps: list[Any]) -> Iterator[Result]:
        return stepped(self.store.rows(part), steps)


@contextlib.contextmanager
def beating(tell: Tell) -> Iterator[None]:
    """Tell that work goes on, every minute: a long download, or one long unit, is not stuck."""
    ended, began = threading.Event(), time.monotonic()

    def beat() -> None:
        while not ended.wait(_BEAT_SECONDS):
            tell(f"still at work, {(time.monotonic() - began) / 60:.0f} minutes")

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def segments(steps: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The steps in order, those of single rows that follow one another together."""
    found: list[list[Mapping[str, Any]]] = []
    for step in steps:
        if found and not _is_whole(step) and not _is_whole(found[-1][0]):
            found[-1].append(step)
        else:
            found.append([step])
    return found


def stepped(given: Iterable[Result], steps: list[Any]) -> Iterator[Result]:
    """Rows through steps, one after the other; what a step sets aside goes no further."""
    for result in given:
        if not steps or isinstance(result, Reject):
            yield result
        else:
            yield from stepped(steps[0](result), steps[1:])


def read_unit(task: Mapping[str, Any]) -> bool:
    """In a worker: read one unit into its part."""
    context = Context.of(task["context"])
    unit = Unit(*task["what"])
    results = source_of(task["entry"], context).read(unit)
    Store(context.folder / "parts").write(task["key"], task["unit"], results)
    return True


def take_steps(task: Mapping[str, Any]) -> bool:
    """In a worker: take a part through steps of single rows."""
    context = Context.of(task["context"])
    store = Store(context.folder / "parts")
    part = store.find(task["from"])
    if part is None:
        raise ValueError(f"the part {task['from']} is gone")
    steps = [step_of(entry, context) for entry in task["steps"]]
    store.write(task["key"], task["unit"], stepped(store.rows(part), steps), steps)
    return True


def _is_whole(entry: Mapping[str, Any]) -> bool:
    return bool(getattr(_step_module(entry), "WHOLE", False))


__all__ = ["Context", "Engine", "Given", "Prepared"]
