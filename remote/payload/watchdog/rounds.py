"""The watchdog's rounds: look, count, tell, and plan the shutdown anew; or, when a clock has run
out, stop the box."""

import os
import signal
import sys
import time
import traceback
from dataclasses import replace

from remote.contract.job import notices
from remote.contract.job.clocks import Reading
from remote.payload import process
from remote.payload.watchdog import activity, counters, ending, power
from remote.payload.watchdog.alerts import Alerts
from remote.payload.watchdog.metadata import Metadata
from remote.payload.watchdog.place import Place

WAKE = signal.SIGUSR1
"""Asks for a round at once."""

SIGNALS = {WAKE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
"""What it waits for, and must never be ended by unawares."""

_NOTICE_SECONDS = 5.0
_SHORTEST_WAIT = 0.05
_PLANS_IN_AHEAD = 10
_METADATA_SECONDS = 3.0
_ALERT_SECONDS = 10.0

_WHY = {
    "idle": "no job, SSH session or GPU use for {idle}",
    "lifetime": "it has run for {lifetime} since its last start",
    "dollars": "this start has cost ${dollars:.2f}",
    "stuck": "job {job} has shown no sign of life for {stuck}",
}


class Watchdog:
    """One watchdog in its folder, in a process that has blocked `SIGNALS`. `run` ends with SIGTERM,
    or with the box."""

    def __init__(self, place: Place) -> None:
        self._place, self._alerts, self._metadata = place, Alerts(place.folder), Metadata()
        self._settings = place.settings()
        self._session = self._metadata.session(_METADATA_SECONDS)
        self._boot, self._code = process.boot_id(), place.code_mark()
        self._counters = counters.resumed(
            place.counters(),
            self._session or place.limits("").session,
            self._boot,
            time.monotonic(),
        )
        self._limits = place.limits(self._counters.session)
        self._planned_at = -float("inf")
        self._heeded: set[str] = set()
        self._notice = ""
        self._sessions: set[str] = set()
        self._newcomers: set[str] = set()

    def run(self) -> None:
        """Make rounds for good."""
        (self._settings.windlass / "notice.json").unlink(
            missing_ok=True
        )  # of an earlier life of the box
        self._alerts.log(
            f"watching: start {self._counters.session or 'unknown'}, {self._counters.elapsed:.0f} s"
            " so far"
        )
        while True:
            wait = self._round_or_nothing()
            if not self._waited(wait):
                self._alerts.log("told to end")
                return
            if self._place.code_mark() not in ((0, 0), self._code):
                self._alerts.log("replaced: the new watchdog takes over")
                os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the pid stays

    def _round_or_nothing(self) -> float:
        """One round; returns the seconds until the next. A failed one plans no shutdown: when all
        fail, the last plan comes true."""
        try:
            reading = self._look()
            self._heed()
            is_due = reading.stops_in <= 0
            if is_due and not (reading.stops_by == "idle" and self._newcomers):
                self._stop(reading)
            self._plan()
            if is_due:
                return (
                    self._limits.tick
                )  # somebody is just coming in, or only asking: the next round tells
            return max(_SHORTEST_WAIT, min(self._limits.tick, reading.stops_in))
        except Exception:
            self._alerts.log("a round failed:\n" + traceback.format_exc())
            return self._limits.tick

    def _look(self) -> Reading:
        """Look around, count, and write down how the clocks stand."""
        self._settings = self._place.settings()
        self._renew_session()
        self._limits = self._place.limits(self._counters.session)
        running = activity.jobs(self._settings.windlass)
        host, port = self._place.ssh_server()
        sessions = activity.ssh_sessions(port, host)
        # Who merely asks how the clocks stand must not keep the box up: a session counts from the
        # second look on.
        lasting, self._newcomers, self._sessions = (
            sessions & self._sessions,
            sessions - self._sessions,
            sessions,
        )
        doing = activity.describe(running, len(lasting), activity.gpu_percent())
        counters.count(
            self._counters,
            time.monotonic(),
            {job.id: job.sign for job in running},
            bool(doing),
            self._limits.tick,
        )
        reading = self._reading(doing)
        self._place.keep(self._counters, reading)
        return reading

    def _reading(self, doing: list[str]) -> Reading:
        left = counters.left(self._counters, self._limits, bool(doing))
        clock = min(left, key=lambda name: left[name])
        job, quiet = counters.most_quiet(self._counters)
        is_stuck = quiet >= self._limits.stuck
        return Reading(
            time.time(),
            "stuck" if is_stuck else "busy" if doing else "idle",
            self._limits,
            self._counters.elapsed,
            counters.spent_usd(self._counters, self._limits),
            self._counters.idle_for,
            max(0.0, left[clock]),
            clock,
            doing,
            job if is_stuck else "",
            quiet if is_stuck else 0.0,
            self._notice,
        )

    # ---- what calls for more than counting ----

    def _heed(self) -> None:
        """Alert once for each job that is stuck."""
        quiet = {
            job: float(seconds)
            for job, (_, seconds) in self._counters.quiet.items()
            if float(seconds) >= self._limits.stuck
        }
        until = counters.left(self._counters, self._limits, is_busy=True).get("stuck")
        then = (
            "the box stays up for its other jobs"
            if until is None
            else f"the box stops in {_words(max(0.0, until))}"
        )
        for job in sorted(quiet.keys() - set(self._counters.alerted)):
            text = f"job {job} runs, but has shown no sign of life for {_words(quiet[job])}; {then}"
            self._alerts.tell(f"box {self._settings.box} is stuck", text)
        self._counters.alerted = sorted(quiet)

    def _heed_cloud(self) -> None:
        """Heed each notice of the cloud once."""
        if (told := self._metadata.interruption()) and "interruption" not in self._heeded:
            self._heeded.add("interruption")
            action, seconds = told
            self._notice = f"the cloud will {action} this spot instance"
            self._alerts.tell(
                f"box {self._settings.box} is taken back", f"{self._notice} in {seconds:.0f} s"
            )
            self._wind_down(notices.SPOT, "notice", self._notice, seconds)
        elif not told:
            self._heeded.discard("interruption")
            self._notice = ""
        if (time_of := self._metadata.rebalance()) and time_of not in self._heeded:
            self._heeded.add(time_of)
            ending.ask_for_checkpoints(self._settings, self._alerts.log)

    def _stop(self, reading: Reading) -> None:
        """Stop the box. Never returns but by the end of the process."""
        job, _ = counters.most_quiet(self._counters)
        limits = self._limits
        words = {
            "idle": _words(limits.idle),
            "lifetime": _words(limits.lifetime),
            "stuck": _words(limits.stuck + limits.stuck_grace),
        }
        why = _WHY[reading.stops_by].format(**words, dollars=reading.spent_usd, job=job)
        self._alerts.tell(f"box {self._settings.box} stops", f"{reading.stops_by} clock: {why}")
        # Not yet `ended_by`: were the power to come back before the end, this must not pass for a
        # start of its own.
        self._wind_down(
            notices.DEADMAN, reading.stops_by, f"{reading.stops_by} clock: {why}", limits.grace
        )
        self._counters.ended_by = reading.stops_by
        self._place.keep(self._counters, self._stopping(reading.stops_by, 0.0))
        self._alerts.finish(_ALERT_SECONDS)
        attempt = 0
        while True:
            complaint = power.off(attempt, self._settings.forced)
            self._alerts.log(complaint or "power off")
            attempt += 1
            if not self._slept(10.0 if complaint else 60.0):
                sys.exit(0)

    def _wind_down(self, kind: str, clock: str, why: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds

        def pulse() -> None:
            self._plan()
            self._place.keep(self._counters, self._stopping(clock, deadline - time.monotonic()))

        pulse()
        ending.wind_down(self._settings, kind, why, seconds, pulse, self._alerts.log)

    def _stopping(self, clock: str, seconds: float) -> Reading:
        return replace(
            self._reading([]), state="stopping", stops_by=clock, stops_in=max(0.0, seconds)
        )

    # ---- time ----

    def _plan(self) -> None:
        """Push the planned shutdown forward, unless that was done a moment ago."""
        if time.monotonic() - self._planned_at < self._limits.ahead / _PLANS_IN_AHEAD:
            return
        if complaint := power.plan(self._limits.ahead):
            self._alerts.log(complaint)
        else:
            self._planned_at = time.monotonic()

    def _waited(self, seconds: float) -> bool:
        """Wait, with an eye on the cloud's notices where they matter; False when told to end."""
        deadline = time.monotonic() + seconds
        while True:
            if self._metadata.is_spot():
                try:
                    self._heed_cloud()
                except Exception:
                    self._alerts.log("a notice could not be heeded:\n" + traceback.format_exc())
            left = max(0.0, deadline - time.monotonic())
            step = min(_NOTICE_SECONDS, left) if self._metadata.is_spot() else left
            arrived = signal.sigtimedwait(SIGNALS, step)
            if arrived is not None and arrived.si_signo == WAKE:
                return True
            if arrived is not None and arrived.si_signo in (signal.SIGTERM, signal.SIGINT):
                return False
            if time.monotonic() >= deadline:
                return True

    def _slept(self, seconds: float) -> bool:
        arrived = signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, seconds)
        return arrived is None

    def _renew_session(self) -> None:
        """Another start, told late: by the laptop, where the box has no metadata service or it was
        slow to answer."""
        if self._session:
            return
        self._session = self._metadata.session()
        told = self._session or self._place.limits("").session
        if counters.is_another(self._counters.session, told):
            self._counters = counters.resumed(None, told, self._boot, time.monotonic())
        self._counters.session = self._counters.session or told


def _words(seconds: float) -> str:
    for length, name in ((3600.0, "h"), (60.0, "min")):
        if seconds >= length:
            return f"{seconds / length:.3g} {name}"
    return f"{seconds:.0f} s"
