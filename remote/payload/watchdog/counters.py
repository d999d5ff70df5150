"""What the clocks have counted. Monotonic time alone: a box's wall clock may jump, and nothing here
moves."""

from dataclasses import dataclass, field, replace

from remote.contract.job.clocks import Limits

_SLACK_SECONDS = 5.0


@dataclass
class Counters:
    """What must outlive the watchdog's process, in seconds. `at` is the monotonic time of the last
    count, within the boot `boot`.

    `elapsed` counts from the start named `session`; `quiet` holds, for each running job, the last
    sign of life and the seconds since; `ended_by` is the clock that stopped the box, so that the
    next boot is known to be another start.
    """

    session: str = ""
    boot: str = ""
    at: float = 0.0
    elapsed: float = 0.0
    idle_for: float = 0.0
    quiet: dict[str, list[str | float]] = field(default_factory=dict)
    ended_by: str = ""
    alerted: list[str] = field(default_factory=list)


def resumed(last: Counters | None, session: str, boot: str, now: float) -> Counters:
    """The counters of a watchdog that begins: those of the same start go on, over a reboot too;
    another start counts from nothing."""
    if last is None or last.ended_by or is_another(last.session, session):
        return Counters(session, boot, now)
    if last.boot == boot:
        return replace(
            last,
            session=session or last.session,
            elapsed=last.elapsed + max(0.0, now - last.at),
            at=now,
        )
    return replace(
        last,
        session=session or last.session,
        boot=boot,
        at=now,
        elapsed=last.elapsed + now,
        quiet={},
        alerted=[],
    )


def is_another(known: str, told: str) -> bool:
    """Whether two names of a start are of different ones. An unknown one is taken for the same: the
    clocks then stop early, not late."""
    return bool(known and told and known != told)


def count(
    counters: Counters, now: float, signs: dict[str, str], is_busy: bool, tick: float
) -> None:
    """Count up to `now`. `signs` maps each running job to its newest sign of life, in words that
    change with it."""
    passed = max(0.0, now - counters.at)
    # A box that was held up (a paused virtual machine) says nothing about whether it was idle or
    # stuck meanwhile.
    seen = min(passed, 2 * tick + _SLACK_SECONDS)
    counters.at = now
    counters.elapsed += passed
    counters.idle_for = 0.0 if is_busy else counters.idle_for + seen
    counters.quiet = {
        job: _quiet(counters.quiet.get(job), sign, seen) for job, sign in signs.items()
    }


def most_quiet(counters: Counters) -> tuple[str, float]:
    """The job that has been silent longest and for how long; empty where there is none."""
    return max(
        ((job, float(seconds)) for job, (_, seconds) in counters.quiet.items()),
        key=lambda pair: pair[1],
        default=("", 0.0),
    )


def least_quiet(counters: Counters) -> float:
    """How long even the liveliest job has been silent."""
    return min((float(seconds) for _, seconds in counters.quiet.values()), default=0.0)


def spent_usd(counters: Counters, limits: Limits) -> float:
    """What this start has cost so far, in US dollars."""
    return counters.elapsed * limits.hourly_usd / 3600


def left(counters: Counters, limits: Limits, is_busy: bool) -> dict[str, float]:
    """Seconds that each running clock has left. The idle clock runs while nothing goes on, the
    stuck one when every job is stuck."""
    found = {"lifetime": limits.lifetime - counters.elapsed}
    if limits.hourly_usd > 0:
        found["dollars"] = limits.dollars / limits.hourly_usd * 3600 - counters.elapsed
    if not is_busy:
        found["idle"] = limits.idle - counters.idle_for
    if counters.quiet and least_quiet(counters) >= limits.stuck:
        found["stuck"] = limits.stuck + limits.stuck_grace - least_quiet(counters)
    return found


def _quiet(before: list[str | float] | None, sign: str, seen: float) -> list[str | float]:
    if before is None or before[0] != sign:
        return [sign, 0.0]
    return [sign, float(before[1]) + seen]
