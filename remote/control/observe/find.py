"""The evidence of a run or a job: told by its box, else out of the bucket, else out of this
laptop's own record."""

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from remote.contract.job.jobs import Cause, JobState, Status
from remote.contract.job.paths import JobPaths
from remote.contract.logs import job_log
from remote.contract.logs.query import label_of
from remote.contract.telemetry import evidence
from remote.contract.telemetry.evidence import Evidence, Places
from remote.control.errors import (
    BoxStopped,
    BoxUnreachable,
    CloudError,
    ConfigError,
    JobFailed,
    NotFound,
    PreflightFailed,
)
from remote.control.progress import Say, warning
from remote.control.targets import ALL_JOBS, Choose, InBucket, JobTarget, newest_of, nobody

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.cloud.bucket import Bucket
    from remote.control.config.inventory import Inventory
    from remote.control.runs.ledger import Ledger
    from remote.control.runs.state import StageState

RECORD = "this laptop's record alone"
"""The source of evidence that nobody but the ledger here gives."""

_RECORDS = ("spec.json", "state.json", "metrics.jsonl", "telemetry.jsonl", "timeline.jsonl")


@dataclass(frozen=True)
class Found:
    """What was found: the evidence, the box's name, the stage's label in its run (or the stage
    itself), and the run's ledger, if this laptop has it."""

    evidence: Evidence
    box: str
    label: str
    ledger: "Ledger | None" = None

    @property
    def is_open(self) -> bool:
        """Whether how the job stands now is not known: it was under way when this laptop heard of
        it last."""
        return self.evidence.source == RECORD and not self.evidence.state.status.is_final


def find(
    name: str,
    stage: str,
    minutes: float,
    inventory: "Callable[[], Inventory]",
    say: Say,
    choose: Choose = nobody,
) -> Found:
    """What is known of the run, box or job of that name; when it is empty of the run that is alive,
    else the newest. `stage` picks one by its label.

    `minutes` before the moment that matters are told. `inventory` reads the inventory: of a run of
    this laptop something is known without one. `say` hears where it was looked in vain; `choose`
    says which run is meant where several are alive. Raises NotFound, ConfigError.
    """
    meant = newest_of(name, stage, inventory, say, choose)
    if isinstance(meant, JobTarget):
        return Found(of_box(meant.box, meant.job_id, minutes, say), meant.box.name, meant.label)
    if isinstance(meant, InBucket):
        if not (found := of_bucket(meant.bucket, meant.job_id, minutes)):
            raise NotFound(f"nothing whole lies in the bucket of {meant.job_id}", remedy=ALL_JOBS)
        return Found(found, "", label_of(meant.job_id, found.run_id, found.state.stage))
    return _of_ledger(meant, stage, minutes, inventory, say)


# ---- by this laptop's ledger ----


def _of_ledger(
    ledger: "Ledger", label: str, minutes: float, inventory: "Callable[[], Inventory]", say: Say
) -> Found:
    from remote.control.runs.state import state_of

    run = state_of(ledger)
    if label and label not in run.stages:
        raise NotFound(
            f"run {ledger.run_id} has no stage `{label}`",
            why=f"there is {', '.join(run.stages)}",
            remedy="name one of those",
        )
    current = run.current()
    begun = current if current and current.started_at else None
    stage = (
        run.stages[label]
        if label
        else begun or run.latest_job() or next(iter(run.stages.values()), None)
    )
    if stage is None:
        raise NotFound(
            f"the ledger of run {ledger.run_id} has lost its plan",
            where=str(ledger.path),
            remedy="`./inv runs`",
        )
    if not stage.job_id or stage.was_refused:
        return Found(_recorded(ledger, stage, minutes), stage.box, stage.label, ledger)
    try:
        found = _of_job(inventory(), stage.box, stage.job_id, minutes, say)
    except ConfigError as error:  # an inventory that no longer names the box, or none at all
        say(warning(f"not asked: box {stage.box}: {error.lines()[0]}"))
        found = None
    return Found(found or _recorded(ledger, stage, minutes), stage.box, stage.label, ledger)


def _recorded(ledger: "Ledger", stage: "StageState", minutes: float) -> Evidence:
    """What this laptop itself has of a stage."""
    log, metrics = (
        ledger.folder / "logs" / f"{stage.label}.log",
        ledger.folder / "metrics" / f"{stage.label}.jsonl",
    )
    state = _state_of(stage)
    with tempfile.TemporaryDirectory() as folder:
        paths = JobPaths(Path(folder))
        for source, place in ((log, paths.log), (metrics, paths.metrics)):
            if source.exists():
                place.symlink_to(source.resolve())
        found = evidence.gather(
            Places(paths, paths.folder / "none", paths.folder / "none"), state, time.time(), minutes
        )
    heard_at = (
        max([found.log_at, *(metric.time for metric in found.metrics[-1:])]) or state.started_at
    )
    moment = found.moment if state.status.is_final else heard_at
    return Evidence(
        state,
        ledger.run_id,
        moment,
        found.now,
        found.log,
        found.log_at,
        found.metrics,
        source=RECORD,
    )


def _state_of(stage: "StageState") -> JobState:
    failure = stage.failure
    what, why, remedy, kept = (
        str(failure.get(name, "")) for name in ("what", "why", "remedy", "kept")
    )
    cause = (
        Cause.of_exit(int(failure.get("exit_code", 0)))
        if failure and stage.job_id and not stage.was_refused
        else None
    )
    return JobState(
        stage.job_id,
        stage.label,
        stage.status,
        started_at=stage.started_at,
        ended_at=stage.ended_at,
        cause=cause,
        values=stage.values,
        what=what,
        why=why,
        remedy=remedy,
        kept=kept,
    )


# ---- by its box, or the bucket ----


def _of_job(
    inventory: "Inventory", box_name: str, job_id: str, minutes: float, say: Say
) -> Evidence | None:
    """What the box tells of its job, or the bucket when the box does not; None where neither knows
    it."""
    from remote.control.cloud import boxes, bucket

    entry = inventory.box(box_name)
    try:
        return of_box(boxes.running(entry), job_id, minutes, say)
    except (BoxStopped, BoxUnreachable, CloudError, JobFailed, PreflightFailed) as error:
        why = "; ".join(filter(None, (error.what, error.why)))
        say(warning(f"box {box_name} does not tell: {why}"))
    try:
        found = bucket.of_entry(inventory.storage.bucket, entry)
        return of_bucket(found, job_id, minutes) if found else None
    except CloudError as error:
        say(warning(f"not asked: the bucket: {error.what}"))
        return None


def of_box(box: "Box", job_id: str, minutes: float, say: Say) -> Evidence:
    """What the box tells; `say` hears how it is reached. Raises JobFailed where it has no such
    job."""
    from remote.control.transport.connect import connect
    from remote.control.transport.payload import QUERY_SECONDS, call, payload_command, untold

    with connect(box, say) as transport:
        told = call(
            transport,
            payload_command(box.root, "telemetry.why", job_id, f"{minutes:g}"),
            seconds=QUERY_SECONDS,
        )
        try:
            return Evidence.from_json(told)
        except (KeyError, TypeError, ValueError) as error:
            raise untold(transport.where, error) from None


def of_bucket(found: "Bucket", job_id: str, minutes: float) -> Evidence | None:
    """What a box has put there of a job before it went; None where that is nothing. Raises
    CloudError, ArtifactCorrupt."""
    from remote.control.logs.archive import BucketLog

    manifest = found.manifest(job_id)
    if manifest is None:
        return None
    with closing(BucketLog(found, manifest)) as log:
        brought = {name: log.record(name) for name in (*_RECORDS, job_log.NAME, job_log.TIMES)}
        log.read(
            max(log.bounds()[0], log.bounds()[1] - evidence.TAIL_BYTES), 1
        )  # the newest part may be a short one
        state, state_file = log.state(), brought["state.json"]
        if state is None or state_file is None:
            return None
        paths = JobPaths(state_file.parent)
        places = Places(paths, evidence.telemetry_of(paths), evidence.timeline_of(paths))
        return evidence.gather(
            places,
            _as_gone(state, found.place(job_id)),
            time.time(),
            minutes,
            source=found.place(job_id),
        )


def _as_gone(state: JobState, place: str) -> JobState:
    """The state of a job whose box has gone while it went on."""
    if not state.status.is_final:
        state.status, state.cause, state.what = Status.LOST, Cause.LOST, "its box is gone"
        state.kept = state.kept or f"what it had put into {place}"
        state.remedy = "`./inv resume` goes on on another box"
    return state
