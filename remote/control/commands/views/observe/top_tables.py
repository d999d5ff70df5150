"""Boxes and their jobs as tables for a terminal."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from remote.contract.telemetry.events import Metric
from remote.contract.telemetry.samples import Gpu, Sample
from remote.control.commands.views.runs.job_progress import clock
from remote.control.observe.curves import bar, sparkline
from remote.control.observe.live import View, busy
from remote.control.observe.records import (
    STALE_SECONDS,
    cost_usd,
    spent_usd,
    took_seconds,
    why_silent,
)
from remote.control.observe.snapshot import JobTold, Told
from remote.control.output.timefmt import length

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

BOXES = (
    "box",
    "GPU",
    "lately",
    "GPU memory",
    "heat",
    "CPU",
    "memory",
    "disk free",
    "MB/s in/out",
    "cost",
    "stops",
    "note",
)
JOBS = ("box", "run", "stage", "status", "step", "loss", "tok/s", "to go", "took", "cost", "log")

_LESS_OF_BOXES = ("MB/s in/out", "lately", "disk free", "CPU", "heat", "memory", "stops")
_LESS_OF_JOBS = ("tok/s", "took", "cost", "stage", "box", "log", "to go")
"""What goes first where the terminal is narrow. (A run is on one box mostly, and its name says more
than the box's.)"""

_LAST_WIDTH = 16

_BAR = 6
_LATELY = 15
_HOT_CELSIUS = 85.0
_FULL = 0.95


def tables(views: Sequence[View], width: int) -> "Group":
    """Both tables, for a terminal of so many characters: the less important columns are left out
    where there is no room."""
    from rich.console import Group

    boxes = _table("boxes", BOXES, _LESS_OF_BOXES, [_box_row(view) for view in views], width)
    jobs = [(view, job) for view in views for job in (view.told.jobs if view.told else ())]
    rows = [_job_row(view, job) for view, job in jobs]
    return Group(
        boxes, _table("jobs", JOBS, _LESS_OF_JOBS, rows, width) if rows else _no_job(views)
    )


def _no_job(views: Sequence[View]) -> str:
    if not any(not view.told and (view.why or view.box.state == "unknown") for view in views):
        return "no job is under way"
    is_told = any(view.told for view in views)
    return "of the boxes that tell: no job is under way" if is_told else "no box tells of its jobs"


def _table(
    title: str, columns: Sequence[str], less: Sequence[str], rows: list[list[Any]], width: int
) -> "Table":
    """A table without the columns that no row fills, and without those that there is no room
    for."""
    from rich.table import Table

    kept = _fitting(columns, less, rows, width)
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 1))
    for number in kept:
        # Where there is still no room, it is the last column's words that are cut.
        table.add_column(columns[number], no_wrap=number < len(columns) - 1, overflow="ellipsis")
    for row in rows:
        table.add_row(*(row[number] for number in kept))
    return table


def _fitting(
    columns: Sequence[str], less: Sequence[str], rows: list[list[Any]], width: int
) -> list[int]:
    last = len(columns) - 1
    needs = {
        number: (
            max(
                len(columns[number]),
                min(
                    max(len(str(row[number])) for row in rows),
                    _LAST_WIDTH if number == last else width,
                ),
            )
            + 2
        )
        for number in range(len(columns))
        if any(str(row[number]) for row in rows)
    }
    for name in less:
        if sum(needs.values()) > width:
            needs.pop(columns.index(name), None)
    return list(needs)


# ---- a box ----


def _box_row(view: View) -> list[Any]:
    from rich.text import Text

    sample = view.told.sample if view.told else None
    if view.box.state != "running" or sample is None:
        state = "absent" if view.box.state == "terminated" else view.box.state
        note = why_silent(view) or ("asking" if view.box.state == "running" else state)
        words = Text(note, style="yellow" if why_silent(view) else "dim", no_wrap=True)
        return [Text(view.box.name, style="dim"), *[""] * (len(BOXES) - 2), words]
    now = time.time()
    cost = spent_usd(view, now)
    cells = [
        view.box.name,
        *_gpu_cells(sample),
        *_machine_cells(sample),
        "" if cost is None else f"${cost:.2f}",
        _stops(view, now),
        _note(view),
    ]
    cells.insert(2, sparkline(view.past, _LATELY, 0.0, 1.0))
    style = "dim" if view.age > STALE_SECONDS else ""
    return [cell if isinstance(cell, Text) else Text(cell, style=style) for cell in cells]


def _gpu_cells(sample: Sample) -> list[Any]:
    """How busy, how full, how hot: of all the box's GPUs."""
    from rich.text import Text

    gpus = sample.gpus
    if not gpus:
        return ["none", "", ""]
    name = f"{len(gpus)}x " if len(gpus) > 1 else ""
    full = [
        gpu.memory_gb / gpu.memory_total_gb
        for gpu in gpus
        if gpu.memory_gb is not None and gpu.memory_total_gb
    ]
    taken, total = (
        sum(getattr(gpu, key) or 0.0 for gpu in gpus) for key in ("memory_gb", "memory_total_gb")
    )
    memory = (
        Text(f"{taken:.1f}/{total:.0f} GB", style="red" if full and max(full) >= _FULL else "")
        if full
        else ""
    )
    return [f"{name}{bar(busy(gpus), _BAR)} {100 * busy(gpus):3.0f} %", memory, _heat(gpus)]


def _heat(gpus: Sequence[Gpu]) -> Any:
    from rich.text import Text

    celsius = [gpu.celsius for gpu in gpus if gpu.celsius is not None]
    watts = sum(gpu.watts or 0.0 for gpu in gpus)
    words = " ".join(
        ([f"{max(celsius):.0f}°C"] if celsius else []) + ([f"{watts:.0f} W"] if watts else [])
    )
    hot = any(gpu.slowed for gpu in gpus) or max(celsius, default=0.0) >= _HOT_CELSIUS
    return Text(words, style="red" if hot else "")


def _machine_cells(sample: Sample) -> list[Any]:
    from rich.text import Text

    share = sample.memory_gb / (sample.memory_total_gb or 1.0)
    memory = Text(
        f"{sample.memory_gb:.1f}/{sample.memory_total_gb:.0f} GB",
        style="red" if share >= _FULL else "",
    )
    disk = Text(
        f"{sample.disk_free_gb:.0f} GB",
        style="red" if sample.disk_free_gb < 0.05 * sample.disk_total_gb else "",
    )
    return [
        f"{100 * sample.cpu:3.0f} %",
        memory,
        disk,
        f"{sample.received / 1e6:.1f}/{sample.sent / 1e6:.1f}",
    ]


def _note(view: View) -> Any:
    from rich.text import Text

    told = view.told or Told()
    reading, slowed = (
        told.clocks,
        (sorted({gpu.slowed for gpu in told.sample.gpus if gpu.slowed}) if told.sample else []),
    )
    notes = [
        why_silent(view),
        f"{length(view.age)} old" if view.age > STALE_SECONDS else "",
        "the GPU's driver does not answer" if told.gpu_silent else "",
        *(f"slowed: {words}" for words in slowed),
        reading.notice if reading else "",
        f"stuck: {reading.stuck_job}" if reading and reading.stuck_job else "",
    ]
    return Text("; ".join(filter(None, notes)), style="yellow", no_wrap=True)


def _stops(view: View, now: float) -> str:
    reading = view.told.clocks if view.told else None
    return (
        f"{length(max(0.0, reading.at + reading.stops_in - now))} {reading.stops_by}"
        if reading and reading.stops_by
        else ""
    )


# ---- a job ----


def _job_row(view: View, job: JobTold) -> list[Any]:
    from rich.text import Text

    metric, cost = job.metric or Metric(0, 0, 0.0), cost_usd(view, job)
    eta = None if job.is_over else metric.eta_seconds
    cells = [
        view.box.name,
        job.run_id or job.job_id,
        job.stage,
        _status(job),
        _step(metric),
        _number(metric.loss, "{:.3f}"),
        _number(metric.tokens_per_second, "{:,.0f}"),
        "" if eta is None else clock(eta),
        length(took_seconds(view, job)),
        "" if cost is None else f"${cost:.2f}",
        job.what if job.is_over and job.what else job.line,
    ]
    failed = job.is_over and job.status != "SUCCEEDED"
    return [
        Text(cell, style="red" if failed else "dim" if job.is_over else "", no_wrap=True)
        for cell in cells
    ]


def _status(job: JobTold) -> str:
    return f"in line, {job.place} before" if job.status == "PENDING" and job.place else job.status


def _step(metric: Metric) -> str:
    if not metric.total_steps:
        return f"{metric.step:,}" if metric.step else ""
    return f"{metric.step:,}/{metric.total_steps:,} {100 * metric.step // metric.total_steps} %"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
