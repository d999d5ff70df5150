"""Why a job ended, or stands still, in a few lines: out of its evidence alone, so that it is the
same wherever that comes from."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from remote.contract.job.jobs import Cause, Status
from remote.contract.telemetry.evidence import Evidence
from remote.contract.telemetry.samples import Gpu, Sample
from remote.contract.telemetry.timeline import Event
from remote.control.observe.curves import sparkline
from remote.control.observe.find import RECORD, Found
from remote.control.output import timefmt
from remote.control.output.timefmt import length

QUIET_SECONDS = 120.0
"""A job that goes on and has said and measured nothing for so long is told to stand still."""

_WIDTH = 40
_LOG_LINES = 12
_EVENTS = 14
_LAST_SECONDS = 60.0
_FULL = 0.95
_BUSY = 0.2
_FLOWING = 2e6
_FLOWS = {
    "the network brings": "received",
    "the network takes": "sent",
    "the disk is read at": "disk_read",
    "the disk is written at": "disk_written",
}

_ADVICE = {
    Cause.OUT_OF_MEMORY: (
        "halve `batch` and double `accumulation` in the recipe, or write `recompute: true`, or take"
        " a larger box"
    ),
    Cause.DISK_FULL: (
        "free space on the box (`./inv ssh BOX`, `df -h`), or raise `disk_gb` in inventory.yaml"
    ),
    Cause.GPU_FAULT: (
        "stop and start the box, which moves it to other hardware: `./inv stop BOX`, `./inv start"
        " BOX`"
    ),
    Cause.NOT_A_NUMBER: "lower the learning rate in the recipe",
}


@dataclass(frozen=True)
class Account:
    """What is told: a headline, labelled facts, hints drawn from what was measured, the log's last
    lines, curves as (name, curve, words), events, and the command to go on."""

    headline: str
    facts: list[tuple[str, str]]
    hints: list[str]
    log: list[str]
    curves: list[tuple[str, str, str]]
    events: list[Event]
    go_on: str
    record: dict[str, Any] = field(default_factory=dict)


def account(found: Found) -> Account:
    """The account of a job."""
    evidence, state = found.evidence, found.evidence.state
    facts = [
        ("what", state.what),
        ("why", state.why),
        ("kept", state.kept),
        ("when", _when(evidence)),
        ("told by", evidence.source),
    ]
    hints = [*_quiet(evidence), *_measured(evidence)]
    told = {
        "run_id": evidence.run_id,
        "box": found.box,
        "stage": found.label,
        "hints": hints,
        "go_on": go_on(found),
        **evidence.to_json(),
    }
    return Account(
        _headline(found),
        [(name, words) for name, words in facts if words],
        hints,
        evidence.log[-_LOG_LINES:],
        curves(evidence),
        _nearest(evidence),
        go_on(found),
        told,
    )


def _headline(found: Found) -> str:
    evidence, state = found.evidence, found.evidence.state
    ended = {
        Status.SUCCEEDED: "went well",
        Status.RUNNING: "goes on",
        Status.PENDING: f"waits for its turn, {state.place} before it",
    }
    words = ended.get(
        state.status, f"{state.status.value}{f' ({state.cause.value})' if state.cause else ''}"
    )
    if found.is_open:
        words = (
            "was under way when this laptop heard of it last"
            if state.started_at
            else "has not begun"
        )
    took = (
        f" after {length(max(0.0, evidence.moment - state.started_at))}" if state.started_at else ""
    )
    where = f" on box {found.box}" if found.box else ""
    return f"{found.label} of {evidence.run_id or state.job_id} {words}{took}{where}"


def _when(evidence: Evidence) -> str:
    age = evidence.now - evidence.moment
    return (
        f"{timefmt.day(evidence.moment)} UTC, {length(max(0.0, age))} ago"
        if evidence.moment and age > 1
        else ""
    )


# ---- hints ----


def _quiet(evidence: Evidence) -> list[str]:
    """Of a job that goes on: whether it still shows signs of life, and what it seems to do
    otherwise."""
    signs = [evidence.log_at, *(metric.time for metric in evidence.metrics[-1:])]
    quiet = evidence.now - (max(signs) or evidence.state.started_at)
    if (
        evidence.state.status is not Status.RUNNING
        or evidence.source == RECORD
        or quiet < QUIET_SECONDS
    ):
        return []
    return [f"no word and no measurement for {length(quiet)}: {_doing(_last(evidence))}"]


def _doing(last: Sequence[Sample]) -> str:
    if not last:
        return "what the box does was not sampled"
    busy = [gpu.busy for sample in last for gpu in sample.gpus if gpu.busy is not None]
    if busy and _mean(busy) > _BUSY:
        return f"the GPU works ({100 * _mean(busy):.0f} %), so a step may just take long"
    rates = {
        words: _mean([getattr(sample, name) for sample in last]) for words, name in _FLOWS.items()
    }
    if moving := [
        f"{words} {rate / 1e6:.0f} MB/s" for words, rate in rates.items() if rate > _FLOWING
    ]:
        return ", ".join(moving)
    cpu = _mean([sample.cpu for sample in last])
    if cpu > _BUSY:
        return f"the processors work ({100 * cpu:.0f} %)"
    return "neither GPU nor processors, disk or network do anything: it waits, or hangs"


def _measured(evidence: Evidence) -> list[str]:
    """What stands out of the samples just before the moment."""
    last = _last(evidence)
    hints = []
    if (
        last
        and (share := max(sample.memory_gb / (sample.memory_total_gb or 1.0) for sample in last))
        >= _FULL
    ):
        hints.append(f"the box's memory was {100 * share:.0f} % full")
    if last and (free := min(sample.disk_free_gb for sample in last)) < 1.0:
        hints.append(f"the disk had {free:.2f} GB left")
    for index, gpus in _by_gpu(last).items():
        hints += _of_gpu(index, gpus)
    return hints


def _of_gpu(index: int, gpus: list[Gpu]) -> list[str]:
    hints = []
    shares = [
        gpu.memory_gb / gpu.memory_total_gb
        for gpu in gpus
        if gpu.memory_gb is not None and gpu.memory_total_gb
    ]
    if shares and max(shares) >= _FULL:
        hints.append(f"the memory of GPU {index} was {100 * max(shares):.0f} % full")
    if slowed := [gpu.slowed for gpu in gpus if gpu.slowed]:
        hints.append(f"GPU {index} was slowed down: {slowed[-1]}")
    return hints


def _last(evidence: Evidence) -> list[Sample]:
    return [
        sample
        for sample in evidence.samples
        if evidence.moment - _LAST_SECONDS <= sample.time <= evidence.moment + 5.0
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _by_gpu(samples: Sequence[Sample]) -> dict[int, list[Gpu]]:
    found: dict[int, list[Gpu]] = {}
    for sample in samples:
        for gpu in sample.gpus:
            found.setdefault(gpu.index, []).append(gpu)
    return found


# ---- curves ----


def curves(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Name, curve and words for each thing that was measured; the words are of the moment
    itself."""
    samples = [sample for sample in evidence.samples if sample.time <= evidence.moment + 5.0]
    rows = [row for gpus in _by_gpu(samples).items() for row in _curves_of_gpu(*gpus)]
    if samples:
        last = samples[-1]
        disk = _curve(
            samples, lambda each: each.disk_total_gb - each.disk_free_gb, last.disk_total_gb
        )
        memory = _curve(samples, lambda each: each.memory_gb, last.memory_total_gb)
        rows += [
            ("CPU", _curve(samples, lambda each: each.cpu, 1.0), f"{100 * last.cpu:.0f} %"),
            ("memory", memory, _of(last.memory_gb, last.memory_total_gb)),
            ("disk", disk, f"{last.disk_free_gb:.1f} GB free"),
        ]
        rows += [
            (
                name,
                sparkline([getattr(each, key) for each in samples], _WIDTH, 0.0),
                f"{getattr(last, key) / 1e6:.1f} MB/s",
            )
            for name, key in (("net in", "received"), ("net out", "sent"))
            if max(getattr(each, key) for each in samples) > 1e5
        ]
    losses = [metric.loss for metric in evidence.metrics if metric.loss is not None]
    return [
        *rows,
        *(
            [("loss", sparkline(losses, _WIDTH), f"{losses[0]:.3f} → {losses[-1]:.3f}")]
            if len(losses) > 1
            else []
        ),
    ]


def _curves_of_gpu(index: int, gpus: list[Gpu]) -> list[tuple[str, str, str]]:
    last = gpus[-1]
    heat = ", ".join(
        f"{value:.0f} {unit}"
        for value, unit in ((last.celsius, "°C"), (last.watts, "W"))
        if value is not None
    )
    busy = "" if last.busy is None else f"{100 * last.busy:.0f} %"
    rows = [
        (
            f"GPU {index}",
            sparkline([gpu.busy for gpu in gpus], _WIDTH, 0.0, 1.0),
            ", ".join(filter(None, (busy, heat))),
        )
    ]
    if last.memory_gb is not None and last.memory_total_gb:
        shares = sparkline([gpu.memory_gb for gpu in gpus], _WIDTH, 0.0, last.memory_total_gb)
        rows.append(("  memory", shares, _of(last.memory_gb, last.memory_total_gb)))
    return rows


def _curve(samples: Sequence[Sample], value: Callable[[Sample], float], high: float) -> str:
    return sparkline([value(sample) for sample in samples], _WIDTH, 0.0, high)


def _of(used: float, total: float) -> str:
    return f"{used:.1f} of {total:.1f} GB"


def span(evidence: Evidence) -> str:
    """How much time the curves show, in words."""
    times = [sample.time for sample in evidence.samples if sample.time <= evidence.moment + 5.0]
    return length(times[-1] - times[0]) if len(times) > 1 else ""


# ---- events and the way on ----


def _nearest(evidence: Evidence) -> list[Event]:
    """The errors and warnings first, then what is nearest to the moment; in the order of their
    times."""
    rank = {"error": 0, "warning": 1}
    ranked = sorted(
        evidence.events,
        key=lambda event: (rank.get(event.level, 2), abs(event.time - evidence.moment)),
    )
    return sorted(ranked[:_EVENTS], key=lambda event: event.time)


def line_of(event: Event) -> str:
    """An event as a line: its time in UTC, its source, its words."""
    return f"{timefmt.clock(event.time)} {event.source:<8} {event.text}"


def go_on(found: Found) -> str:
    """The exact commands to go on."""
    state, run = found.evidence.state, found.evidence.run_id
    if state.status is Status.SUCCEEDED:
        return f"`./inv pull {run}` brings its artifacts home" if run else "nothing is to be done"
    if found.is_open:
        return f"`./inv resume {run}` finds out how it stands, and goes on"
    if state.status is Status.PENDING:
        return "it starts by itself; `./inv ps` shows what is before it"
    if state.status is Status.RUNNING:
        return f"`./inv logs {run} -f` follows it; `./inv cancel {run}` ends it after a checkpoint"
    remedy = _exact(state.remedy, found)
    advice = _exact(_ADVICE.get(state.cause, ""), found) if state.cause else ""
    resume = f"`./inv resume {run}` goes on" if run else ""
    parts = [
        advice if advice and not state.remedy else "",
        remedy,
        "" if "resume" in remedy or "inv run" in remedy else resume,
    ]
    return "; then ".join(part for part in parts if part)


def _exact(remedy: str, found: Found) -> str:
    """With the run and the box named: a stage knows neither."""
    run = found.evidence.run_id
    for verb in ("resume", "logs"):
        remedy = re.sub(rf"`\./inv {verb}(?=`| --)", lambda command: f"{command[0]} {run}", remedy)
    return re.sub(
        r"\bBOX\b", lambda _: found.box or "BOX", re.sub(r"\bRUN\b", lambda _: run or "RUN", remedy)
    )
