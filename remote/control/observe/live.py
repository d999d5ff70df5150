"""Boxes as they stand, kept up to date: one connection a box, over which the box itself tells every
few seconds.

A box on which no job runs is asked anew each time instead: an SSH session that stays would keep it
from stopping itself when idle.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from remote.contract.files import untrusted_json
from remote.contract.telemetry.samples import Gpu
from remote.control.errors import WindlassError
from remote.control.faults import as_error
from remote.control.observe.snapshot import Told, read
from remote.control.secrets import masked_value

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.transport.base import Transport

Connect = Callable[["Box"], "Transport"]

EVERY_SECONDS = 2.0
IDLE_SECONDS = 15.0
"""How often a box without a job is asked: each time for a moment alone, for its watchdog counts a
session that two of its looks see."""

AGAIN_SECONDS = 5.0
LIST_SECONDS = 60.0
KEPT = 60
LONGEST_BYTES = 4 << 20
"""What a box tells at once: of a thousand jobs no more than that."""

_SILENCE_SECONDS = 15.0


@dataclass(frozen=True)
class View:
    """One box: `told` is what it told last, at the monotonic second `at`; `past` its GPU's (else
    its processors') busy share over the last minutes; `why` says why it does not tell."""

    box: "Box"
    told: Told | None = None
    at: float = 0.0
    why: str = ""
    past: tuple[float, ...] = field(default=())

    @property
    def has_job(self) -> bool:
        """Whether a job is under way there."""
        return any(not job.is_over for job in (self.told.jobs if self.told else ()))

    @property
    def age(self) -> float:
        """Seconds since it told."""
        return time.monotonic() - self.at


class Watcher:
    """Keeps the views of some boxes up to date, in threads that end with the process or with
    `close`."""

    def __init__(
        self, boxes: "Sequence[Box]", connect: Connect, every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._connect, self._every = connect, every_seconds
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._views: dict[str, View] = {}
        self._past: dict[str, deque[float]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self.changed = threading.Event()
        self.renew(boxes)

    def views(self) -> list[View]:
        """Every box as it stands, in the order of the listing."""
        with self._lock:
            return list(self._views.values())

    def renew(self, boxes: "Sequence[Box]") -> None:
        """Another listing: boxes may have come, gone, or been stopped and started."""
        with self._lock:
            before = self._views
            self._views = {
                box.name: replace(before[box.name], box=box) if box.name in before else View(box)
                for box in boxes
            }
        for box in boxes:
            if box.state == "running" and not (
                box.name in self._threads and self._threads[box.name].is_alive()
            ):
                self._threads[box.name] = threading.Thread(
                    target=self._watch, args=(box.name,), daemon=True, name=f"top {box.name}"
                )
                self._threads[box.name].start()

    def is_whole(self) -> bool:
        """Whether every box that runs has told something, or why not."""
        return all(view.told or view.why or view.box.state != "running" for view in self.views())

    def close(self) -> None:
        """End the threads; connections close with them."""
        self._ended.set()

    # ---- one box ----

    def _watch(self, name: str) -> None:
        while not self._ended.is_set():
            box = self._box(name)
            if box is None:
                return
            pause = IDLE_SECONDS
            try:
                self._listen(box)
            except Exception as error:
                pause = AGAIN_SECONDS
                self._put(name, why=_words(as_error(error)))
            self._ended.wait(pause)

    def _listen(self, box: "Box") -> None:
        """Take what the box tells, for as long as a job is under way there."""
        from remote.control.transport.payload import failure, lines_of, payload_command

        with self._connect(box) as transport:
            for every in (0.0, self._every):
                with transport.open(
                    payload_command(box.root, "telemetry.top", f"{every:g}"),
                    silence=_SILENCE_SECONDS,
                ) as stream:
                    for line in lines_of(stream, transport.where, LONGEST_BYTES):
                        view = self._take(box.name, line)
                        if self._ended.is_set() or view is None or (every and not view.has_job):
                            return
                if stream.exit_code:
                    raise failure(transport.where, stream.exit_code, stream.stderr)
                if not self._has_job(box.name):
                    return

    def _take(self, name: str, line: bytes) -> View | None:
        try:
            told = read(masked_value(untrusted_json.loads(line)))
        except ValueError:
            told = read(None)
        past = self._past.setdefault(name, deque(maxlen=KEPT))
        if told.sample:
            past.append(busy(told.sample.gpus) if told.sample.gpus else told.sample.cpu)
        return self._put(name, told=told, at=time.monotonic(), why="", past=tuple(past))

    def _put(self, name: str, **facts: Any) -> View | None:
        with self._lock:
            if name in self._views:
                self._views[name] = replace(self._views[name], **facts)
            view = self._views.get(name)
        self.changed.set()
        return view

    def _box(self, name: str) -> "Box | None":
        with self._lock:
            view = self._views.get(name)
        return view.box if view and view.box.state == "running" else None

    def _has_job(self, name: str) -> bool:
        with self._lock:
            return name in self._views and self._views[name].has_job


def busy(gpus: Sequence[Gpu]) -> float:
    """The mean busy share of those that tell."""
    told = [gpu.busy for gpu in gpus if gpu.busy is not None]
    return sum(told) / len(told) if told else 0.0


def snapshot(boxes: "Sequence[Box]", connect: Connect, seconds: float) -> list[View]:
    """Every box as it stands now; those that do not tell within so many seconds say so."""
    watcher = Watcher(boxes, connect)
    deadline = time.monotonic() + seconds
    while not watcher.is_whole() and time.monotonic() < deadline:
        watcher.changed.wait(max(0.0, deadline - time.monotonic()))
        watcher.changed.clear()
    watcher.close()
    late = f"no answer within {seconds:.0f} s"
    return [
        view if view.told or view.why or view.box.state != "running" else replace(view, why=late)
        for view in watcher.views()
    ]


def _words(error: WindlassError) -> str:
    return "; ".join(filter(None, (error.what, error.why or error.remedy)))
