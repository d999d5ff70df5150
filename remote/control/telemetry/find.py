"""The evidence of a run or a job: told by its box, else out of the bucket, else out of this laptop's own record."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote.contract import evidence
from remote.contract.evidence import Evidence, Places
from remote.contract.jobs import Cause, JobState, Status
from remote.contract.paths import BoxPaths, JobPaths
from remote.control.errors import BoxStopped, BoxUnreachable, CloudError, ConfigError, JobFailed, NotFound

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import Inventory
    from remote.control.jobs.state import BoxJob
    from remote.control.runs.ledger import Ledger
    from remote.control.runs.state import StageState

Say = Callable[[str], None]

_RECORDS = ("spec.json", "state.json", "metrics.jsonl", "telemetry.jsonl", "timeline.jsonl")


@dataclass(frozen=True)
class Found:
    """What was found: the evidence, the box's name, the stage's label in its run (or the stage itself), and the run's ledger, if this
    laptop has it."""

    evidence: Evidence
    box: str
    label: str
    ledger: "Ledger | None" = None


def find(name: str, stage: str, minutes: float, say: Say) -> Found:
    """What is known of the run, job or box of that name; of the newest run when it is empty. `stage` picks one by its label.

    `minutes` before the moment that matters are told. `say` hears where it was looked in vain. Raises NotFound.
    """
    from remote.control.config.inventory import load_inventory
    from remote.control.runs.ledger import all_runs, find_run

    if not name and all_runs():
        return _of_ledger(find_run(None), stage, minutes, say)
    with suppress(NotFound):
        if name:
            return _of_ledger(find_run(name), stage, minutes, say)
    inventory = load_inventory()
    return _of_boxes(inventory, name, stage, minutes, say) or _of_bucket_alone(inventory, name, stage, minutes) or _nothing(name)


# ---- by this laptop's ledger -----------------------------------------------------------------------------------------


def _of_ledger(ledger: "Ledger", label: str, minutes: float, say: Say) -> Found:
    from remote.control.config.inventory import load_inventory
    from remote.control.runs.state import state_of

    run = state_of(ledger)
    if label and label not in run.stages:
        raise NotFound(f"run {ledger.run_id} has no stage `{label}`", why=f"there is {', '.join(run.stages)}", remedy="name one of those")
    current = run.current()
    begun = current if current and current.started_at else None
    stage = run.stages[label] if label else begun or run.latest_job() or next(iter(run.stages.values()), None)
    if stage is None:
        raise NotFound(f"the ledger of run {ledger.run_id} has lost its plan", where=str(ledger.path), remedy="`./inv runs`")
    if not stage.job_id:
        return Found(_recorded(ledger, stage, minutes), stage.box, stage.label, ledger)
    try:
        found = _of_job(load_inventory(), stage.box, stage.job_id, minutes, say)
    except ConfigError as error:  # an inventory that no longer names the box, or none at all
        say(f"not asked: box {stage.box}: {error.lines()[0]}")
        found = None
    return Found(found or _recorded(ledger, stage, minutes), stage.box, stage.label, ledger)


def _recorded(ledger: "Ledger", stage: "StageState", minutes: float) -> Evidence:
    """What this laptop itself has of a stage."""
    from remote.contract.events import Metric

    log, metrics = ledger.folder / "logs" / f"{stage.label}.log", ledger.folder / "metrics" / f"{stage.label}.jsonl"
    state = _state_of(stage)
    with tempfile.TemporaryDirectory() as folder:
        paths = JobPaths(Path(folder))
        for source, place in ((log, paths.log), (metrics, paths.metrics)):
            if source.exists():
                place.symlink_to(source.resolve())
        found = evidence.gather(Places(paths, paths.folder / "none", paths.folder / "none"), state, time.time(), minutes)
    told: list[Metric] = found.metrics
    return Evidence(state, ledger.run_id, found.moment, found.now, found.log, found.log_at, told, source="this laptop's record alone")


def _state_of(stage: "StageState") -> JobState:
    failure = stage.failure
    what, why, remedy, kept = (str(failure.get(name, "")) for name in ("what", "why", "remedy", "kept"))
    cause = Cause.of_exit(int(failure.get("exit_code", 0))) if failure and stage.job_id else None
    return JobState(
        stage.job_id, stage.label, stage.status, started_at=stage.started_at, ended_at=stage.ended_at, cause=cause, values=stage.values,
        what=what, why=why, remedy=remedy, kept=kept,
    )  # fmt: skip


# ---- by its box, or the bucket ---------------------------------------------------------------------------------------


def _of_job(inventory: "Inventory", box_name: str, job_id: str, minutes: float, say: Say) -> Evidence | None:
    """What the box tells of its job, or the bucket when the box does not; None where neither knows it."""
    from remote.control.cloud import boxes

    entry = inventory.box(box_name)
    try:
        return of_box(boxes.running(entry), job_id, minutes)
    except (BoxStopped, BoxUnreachable, CloudError) as error:
        say(f"not asked: {error.what}")
    except JobFailed as error:
        say(f"box {box_name}: {error.what}")
    try:
        return of_bucket(inventory, box_name, job_id, minutes)
    except CloudError as error:
        say(f"not asked: the bucket: {error.what}")
        return None


def of_box(box: "Box", job_id: str, minutes: float) -> Evidence:
    """What the box tells. Raises JobFailed where it has no such job."""
    from remote.control.transport.connect import connect
    from remote.control.transport.payload import call, payload_command

    with connect(box) as transport:
        return Evidence.from_json(call(transport, payload_command(box.root, "why", job_id, f"{minutes:g}")))


def of_bucket(inventory: "Inventory", box_name: str, job_id: str, minutes: float) -> Evidence | None:
    """What the box has put into the bucket of a job before it went; None where there is nothing. Raises CloudError."""
    from remote.control.cloud import bucket

    entry = inventory.box(box_name)
    found = bucket.of_entry(inventory.storage.bucket, entry)
    manifest = found.manifest(job_id) if found else None
    if found is None or manifest is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="windlass-"))
    try:
        paths = BoxPaths(folder).job(job_id)
        for name in _RECORDS:
            if (path := f"jobs/{job_id}/{name}") in manifest.files:
                found.download(manifest, path, folder / path)
        _bring_log(inventory, box_name, job_id, paths.log)
        state = _as_gone(JobState.read(paths.state), found.place(job_id))
        places = Places(paths, evidence.telemetry_of(paths), evidence.timeline_of(paths))
        return evidence.gather(places, state, time.time(), minutes, source=found.place(job_id))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bring_log(inventory: "Inventory", box_name: str, job_id: str, log: Path) -> None:
    from remote.control.jobs import kept_log

    kept_log.bring(inventory, box_name, job_id, log)


def _as_gone(state: JobState, place: str) -> JobState:
    """The state of a job whose box has gone while it went on."""
    if not state.status.is_final:
        state.status, state.cause, state.what = Status.LOST, Cause.LOST, "its box is gone"
        state.kept = state.kept or f"what it had put into {place}"
        state.remedy = "`./inv resume` goes on on another box"
    return state


# ---- without a ledger ------------------------------------------------------------------------------------------------


def _of_boxes(inventory: "Inventory", name: str, stage: str, minutes: float, say: Say) -> Found | None:
    """The newest job of that run or box, or the job itself, as the boxes tell them."""
    from remote.control.cloud import boxes
    from remote.control.jobs import table

    entries = inventory.resolve([name]) if name in (*inventory.boxes, *inventory.groups) else list(inventory.boxes.values())
    listing = [box for box in boxes.listing(inventory) if box.name in {entry.name for entry in entries}]
    jobs, silent = table.look(listing, ended=True)
    for line in silent:
        say(f"not asked: {line}")
    of_stage = [job for job in jobs if stage in ("", job.state.stage)]
    wanted = [job for job in of_stage if name in ("", job.box, *_groups_of(inventory, job)) or _is(job, name)]
    if not wanted:
        return None
    job = max(wanted, key=lambda job: job.state.started_at or float("inf"))
    box = next(box for box in listing if box.name == job.box)
    return Found(of_box(box, job.state.job_id, minutes), job.box, job.state.stage)


def _groups_of(inventory: "Inventory", job: "BoxJob") -> Iterator[str]:
    return (group for group, members in inventory.groups.items() if job.box in members)


def _is(job: "BoxJob", name: str) -> bool:
    return bool(name) and any(each.startswith(name) or each.endswith(name) for each in (job.run_id, job.state.job_id) if each)


def _of_bucket_alone(inventory: "Inventory", name: str, stage: str, minutes: float) -> Found | None:
    """The newest job of that run that lies in the bucket."""
    from remote.control.cloud import bucket

    for entry in inventory.boxes.values():
        found: Any = None
        with suppress(CloudError):
            found = bucket.of_entry(inventory.storage.bucket, entry)
        spilled = [each for each in found.spilled() if name and name in each.job_id and stage in each.job_id] if found else []
        for each in sorted(spilled, key=lambda each: each.at, reverse=True):
            if told := of_bucket(inventory, entry.name, each.job_id, minutes):
                return Found(told, entry.name, told.state.stage)
    return None


def _nothing(name: str) -> Found:
    what = f"nothing is known of `{name}`" if name else "there are no runs yet, and no box that runs keeps a job"
    raise NotFound(
        what, why="asked were the runs of this project, the boxes that run, and the bucket of inventory.yaml",
        remedy="`./inv ps --all` and `./inv runs` list what there is",
    )  # fmt: skip


