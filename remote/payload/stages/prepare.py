"""Makes train and validation files by a data recipe.  python -m remote.payload.stages.prepare
JOB_FOLDER

Without a recipe the simplest one: the input `dataset`, a file or folder in any format that
`data.files.readers` knows, without its duplicates; `held_out`, where given, becomes the validation
set as it stands. Options: `validation_share` (0.1), `max_reject_share` (0.02), `seed`
(42), `kind`, `columns`. Standard library only, but for formats that need more. The same input gives
the same output.
"""

import fcntl
import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from remote.contract.artifacts import row_formats, row_kinds
from remote.contract.artifacts.dataset_file import READABLE, first_refusal
from remote.contract.artifacts.upload import dataset_names
from remote.contract.files import atomic, untrusted_json
from remote.contract.job.jobs import Cause
from remote.payload.data import inputs
from remote.payload.data import split as splits
from remote.payload.data.engine import Context, Engine, Prepared
from remote.payload.data.files import look
from remote.payload.data.files.readers import Reading, Unreadable, rows_of
from remote.payload.data.outputs import manifest as manifests
from remote.payload.data.outputs import module_files
from remote.payload.data.reporting import examine, report
from remote.payload.data.reporting.dropped import Dropped
from remote.payload.data.sources.corpus import files_of
from remote.payload.data.units import Given, Origin, Reject
from remote.payload.job import Job, StageFailed, run_stage
from remote.payload.transfer import bucket, datasets

_SHOWN = 5


def main(job: Job) -> None:
    """Read, take the steps, split, write."""
    recipe = recipe_of(job)
    context = Context(job.root, work_folder(job, recipe), recipe)
    with _alone(context.folder):
        for folder in (job.paths.artifacts, context.folder / "parts"):
            if folder.is_dir():
                atomic.remove_abandoned(folder)  # what a kill left half-written
        inputs.link_all(job, context.folder)
        engine = Engine(context, lambda line: _tell(job, line))
        prepared = engine.prepared()
        outcome = written(job, engine, prepared)
        engine.store.keep_only(part.key for _, parts in prepared.passes for part in parts)
    if not job.spec.recipe:
        _say_what_it_took(job, recipe)
    for name, value in outcome.values().items():
        job.output(name, value)
    if outcome.bad:
        note = (
            f"set aside: {outcome.reasons()}. `./inv pull {job.spec.run_id} --only prepare` brings"
            " them all, in rejects.jsonl"
        )
        job.metric(outcome.rows, outcome.rows, note=note)
        print(note, flush=True)
    print(outcome.sentence(), flush=True)


def recipe_of(job: Job) -> dict[str, Any]:
    """The job's data recipe, else the simplest. Raises StageFailed for options that cannot be."""
    if job.spec.recipe:
        return inputs.placed(job.spec.recipe, job, work_folder(job, job.spec.recipe))
    for name in ("dataset", "held_out") if "held_out" in job.spec.inputs else ("dataset",):
        _refuse_other_kinds(job.input(name), name)
    return {
        "name": "",
        "sources": [
            {
                "type": "corpus",
                "path": str(job.input("dataset")),
                "kind": job.option("kind", ""),
                "columns": _columns(job.option("columns", "")),
            }
        ],
        "steps": [{"type": "deduplicate"}],
        "seed": job.option("seed", 42),
        "split": {
            "validation": _share(job, "validation_share", 0.1),
            "held_out": str(job.input("held_out")) if "held_out" in job.spec.inputs else "",
        },
        "limits": {"max_reject_share": _share(job, "max_reject_share", 0.02, all_allowed=True)},
    }


def _refuse_other_kinds(source: Path, name: str) -> None:
    """Raise StageFailed, before a row is read, for a file that can hold none."""
    if found := first_refusal(source, readable=READABLE):
        remedy = f"{found.remedy}; then `./inv run` it anew"
        raise StageFailed(Cause.DATA, f"{name}: {found}", "expected rows", remedy)


def _say_what_it_took(job: Job, recipe: dict[str, Any]) -> None:
    """Which kind the rows were taken for, and one of them. Whoever sits at the laptop has seen that
    already, but for formats that can only be read here."""
    source = recipe["sources"][0]
    told = look.asked({**source, "rows": 1})
    if "error" in told:
        return
    print(look.sentence(told), flush=True)
    if row_formats.first_with_library(Path(source["path"])):
        _tell(job, look.sentence(told))


def work_folder(job: Job, recipe: dict[str, Any]) -> Path:
    """Where a recipe's work is kept between jobs, by its name; a nameless one's belongs to the
    job."""
    named = job.root / "shared" / "datasets" / recipe["name"] if recipe["name"] else None
    folder = named or job.paths.checkpoints / "prepare"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass
class Outcome:
    """What came of it. `bad` rows count against `max_reject_share`; `needless` ones (repeated, held
    out) are harmless."""

    train_rows: int = 0
    val_rows: int = 0
    bad: int = 0
    needless: int = 0
    first: list[str] = field(default_factory=list)
    dropped: Dropped = field(default_factory=Dropped)

    @property
    def rows(self) -> int:
        """All rows that were read."""
        return self.train_rows + self.val_rows + self.bad + self.needless

    def reasons(self) -> str:
        """The first bad rows by where they stand, and how many more there are."""
        more = f"; and {self.bad - len(self.first)} more" if self.bad > len(self.first) else ""
        return "; ".join(self.first) + more

    def note(self, reject: Reject) -> None:
        """Count what was set aside."""
        self.dropped.note(reject)
        if not reject.is_bad:
            self.needless += 1
            return
        self.bad += 1
        if len(self.first) < _SHOWN:
            self.first.append(f"{reject.origin}: {reject.reason}")

    def values(self) -> dict[str, int]:
        """What gates look at."""
        return {
            "rows": self.rows,
            "rejected": self.bad + self.needless,
            "train_rows": self.train_rows,
            "val_rows": self.val_rows,
        }

    def sentence(self) -> str:
        """In words."""
        return (
            f"{self.rows} rows: {self.train_rows} to train, {self.val_rows} to validate, {self.bad}"
            f" unusable, {self.needless} not needed"
        )


def written(job: Job, engine: Engine, prepared: Prepared) -> Outcome:
    """Write train, val, rejects, statistics, report and manifest. Raises StageFailed where too much
    is unusable, or nothing is left."""
    outcome, recipe = Outcome(), engine.context.recipe
    train, val, rejects = (job.artifact(f"{name}.jsonl") for name in ("train", "val", "rejects"))
    with atomic.writing(rejects) as aside:
        _set_aside(engine, prepared, outcome, aside)
        held = _held_out(engine, recipe["split"].get("held_out") or "", outcome, aside)
        sizes = _sizes(engine, prepared, held, outcome, aside)
    _refuse_too_many(
        engine, outcome, sizes.total() + sum(map(len, held.values())), rejects, bool(sizes)
    )
    split = _split(engine, sizes, bool(held))
    with ExitStack() as stack:
        to_train = stack.enter_context(atomic.writing(train))
        to_val = stack.enter_context(atomic.writing(val))
        for line in (line for lines in held.values() for line in lines):
            to_val.write(line)
            outcome.val_rows += 1
        for given in _rows(engine, prepared):
            if given.row.group in held:
                continue
            is_val = split.validates(given.row.group)
            (to_val if is_val else to_train).write(given.row.to_line().encode())
            outcome.val_rows += is_val
            outcome.train_rows += not is_val
    told = _described(job, engine, prepared, outcome, train, val)
    statistics, page = job.artifact("statistics.json"), job.artifact("report.html")
    atomic.write_json(statistics, told)
    atomic.write_text(page, report.page(told))
    files = {"train": train, "val": val, "rejects": rejects}
    files |= {"statistics": statistics, "report": page}
    made = manifests.manifest_of(engine, prepared, split, outcome.values(), files, told)
    made |= _written_by_module(job, engine, prepared, split)
    manifest = job.artifact("manifest.json")
    atomic.write_json(manifest, made)
    files["manifest"] = manifest
    for name, path in files.items():
        job.output(name, path)
    _publish(job, recipe, files.values())
    return outcome


def _written_by_module(
    job: Job, engine: Engine, prepared: Prepared, split: splits.Split
) -> dict[str, Any]:
    """What the manifest tells of the files of each module, where the recipe asks for them."""
    recipe = engine.context.recipe
    by = (recipe.get("outputs") or {}).get("modules") or ""
    if not by:
        return {}
    folder = job.artifact("modules")
    share = float(recipe["split"].get("validation", 0.2))
    told = module_files.write(
        folder, lambda: (given.row for given in _rows(engine, prepared)), by, share, split
    )
    job.output("modules", folder)
    return {"modules": told}


def _set_aside(engine: Engine, prepared: Prepared, outcome: Outcome, aside: IO[bytes]) -> None:
    told: set[str] = set()
    for _, parts in prepared.passes:
        for part in parts:
            if part.key not in told:
                told.add(part.key)
                for reject in engine.store.rejects(part):
                    outcome.note(reject)
                    aside.write(_reject_line(reject))
    for reject in prepared.lost:
        outcome.note(reject)
        aside.write(_reject_line(reject))


def _held_out(
    engine: Engine, path: str, outcome: Outcome, aside: IO[bytes]
) -> dict[str, list[bytes]]:
    """The lines of the held-out rows by their group."""
    found: dict[str, list[bytes]] = {}
    for file in files_of(engine.context.root / path) if path else ():
        for result in _results(file):
            if isinstance(result, Reject):
                outcome.note(result)
                aside.write(_reject_line(result))
                continue
            row = splits.grouped(result.row)
            lines = found.setdefault(row.group, [])
            if (line := row.to_line().encode()) in lines:
                outcome.needless += 1
            else:
                lines.append(line)
    return found


def _sizes(
    engine: Engine, prepared: Prepared, held: Container[str], outcome: Outcome, aside: IO[bytes]
) -> "Counter[str]":
    """How many rows each group has; those of held-out groups are set aside."""
    sizes: Counter[str] = Counter()
    for given in _rows(engine, prepared):
        if given.row.group in held:
            reject = Reject("its group is held out", given.origin, "split", is_bad=False)
            outcome.note(reject)
            aside.write(_reject_line(reject))
        else:
            sizes[given.row.group] += 1
    return sizes


def _results(file: Path) -> Iterator[Given | Reject]:
    try:
        yield from rows_of(file, file.name, Reading())
    except (Unreadable, OSError) as error:
        raise StageFailed(
            Cause.DATA, f"held_out: {file.name} {error}", remedy="name a file of rows"
        ) from None


def _rows(engine: Engine, prepared: Prepared) -> Iterator[Given]:
    """The rows that are left, each with a group."""
    for part in prepared.parts:
        for given in engine.store.rows(part):
            yield Given(splits.grouped(given.row), given.origin)


def _split(engine: Engine, sizes: "Counter[str]", is_given: bool) -> splits.Split:
    recipe = engine.context.recipe
    if is_given:
        return splits.Split(engine.context.seed, 0.0)
    kept = engine.context.folder / "split.json" if recipe["name"] else None
    share = float(recipe["split"].get("validation", 0.2))
    return splits.kept_or_chosen(kept, sizes, share, engine.context.seed)


def _refuse_too_many(
    engine: Engine, outcome: Outcome, good: int, rejects: Path, is_any_left: bool
) -> None:
    max_share = float(engine.context.limits.get("max_reject_share", 0.02))
    rows = good + outcome.bad + outcome.needless
    if is_any_left and outcome.bad <= max_share * rows:
        return
    if not rows:
        raise StageFailed(
            Cause.DATA,
            f"{_named(engine.context.recipe['sources'])} no rows",
            "every line is blank, or there is none",
            "put rows into them, then `./inv resume`; or name others, and `./inv run` it anew",
        )
    what = (
        f"{outcome.bad} of {rows} rows are unusable; at most {max_share:.1%} may be"
        if outcome.bad
        else f"none of {rows} rows is left to train on: all are repeated, held out or not wanted"
    )
    raise StageFailed(
        Cause.DATA,
        what,
        outcome.reasons(),
        "fix those rows, then `./inv resume`; or raise `max_reject_share` and `./inv run` it anew",
        f"on the box, every row set aside, with its reason: {rejects}",
    )


def _named(sources: list[Mapping[str, Any]]) -> str:
    """The sources as what holds something."""
    only = Path(str(sources[0].get("path", ""))).name if len(sources) == 1 else ""
    return f"{only} holds" if only else "the sources hold"


def _publish(job: Job, recipe: Mapping[str, Any], files: Iterable[Path]) -> None:
    """Put the files into the bucket, where the recipe says so. Raises StageFailed."""
    for name in dataset_names(recipe):
        try:
            by_name = {path.name: path for path in files}
            place = datasets.published(job.root, job.spec.run_id, name, by_name)
        except (bucket.Unreachable, OSError, ValueError) as error:
            raise StageFailed(
                Cause.ARTIFACT,
                f"the dataset {name} could not be put into the bucket",
                str(error),
                "see to the bucket, or remove `outputs` from the recipe; then `./inv resume`",
                "the rows are on the box, and are not made again",
            ) from None
        _say_where(job, place)
    outputs = recipe.get("outputs") or {}
    if outputs.get("hub"):
        _say_where(job, _on_the_hub(job, outputs))


def _on_the_hub(job: Job, outputs: Mapping[str, Any]) -> str:
    """Make the dataset on the hub what was written; returns its address, pinned. Raises
    StageFailed."""
    from remote.payload.data.outputs import hub as hub_out

    told = untrusted_json.read_object(job.artifact("manifest.json"))
    about = hub_out.About.of_manifest(told, outputs.get("license") or "")
    val = job.artifact("val.jsonl")
    folder = hub_out.write(
        job.paths.checkpoints / "hub",
        job.artifact("train.jsonl"),
        val if val.stat().st_size else None,
        about,
    )
    is_private = not outputs.get("public", False)
    return hub_out.push_to_hub(folder, outputs["hub"], is_private=is_private)


def _say_where(job: Job, place: str) -> None:
    note = f"the dataset is in {place}"
    job.metric(0, 0, note=note)
    print(note, flush=True)


def _described(
    job: Job, engine: Engine, prepared: Prepared, outcome: Outcome, train: Path, val: Path
) -> dict[str, Any]:
    """What the report is made of."""
    figures = examine.Figures.of_recipe(engine.context)
    kept = engine.context.folder / "statistics.json"
    rows = outcome.train_rows + outcome.val_rows
    told = examine.counted_once(kept, train, val, rows, figures, lambda line: _tell(job, line))
    told |= {
        "title": engine.context.recipe["name"] or "A dataset",
        "about": outcome.sentence(),
        "recipe_sources": manifests.sources_of(engine, prepared),
        "steps": manifests.steps_of(prepared),
        "dropped": outcome.dropped.to_json(),
        "files": manifests.files_of({"train.jsonl": train, "val.jsonl": val}),
    }
    return examine.concluded(told, figures.training)


def _reject_line(reject: Reject) -> bytes:
    origin: Origin = reject.origin
    told = {
        "where": str(origin),
        "offset": origin.offset,
        "step": reject.step,
        "reason": reject.reason,
        "line": reject.sample,
    }
    return json.dumps(told).encode() + b"\n"


class _alone:
    """One job at a time works in a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"

    def __enter__(self) -> None:
        self._file = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise StageFailed(
                Cause.DATA,
                "another job prepares the same dataset",
                remedy="`./inv ps` shows it; wait for its end, then `./inv resume`",
            ) from None

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _tell(job: Job, line: str) -> None:
    job.metric(0, 0, note=line)


def _columns(text: str) -> dict[str, str]:
    try:
        return row_kinds.columns_of(text)
    except ValueError as error:
        raise StageFailed(
            Cause.CONFIG, f"columns: {text}", f"expected {error}", "edit `columns` under `with:`"
        ) from None


def _share(job: Job, name: str, default: float, all_allowed: bool = False) -> float:
    value = job.option(name, default)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not (0 <= value < 1 or (all_allowed and value == 1)):
        raise StageFailed(
            Cause.CONFIG,
            f"{name}: {value!r}",
            "expected a share from 0 to below 1",
            f"edit `{name}` under `with:`",
        )
    return float(value)


if __name__ == "__main__":
    run_stage(main)
