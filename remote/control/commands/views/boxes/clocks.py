"""A box's clocks as people read them."""

from typing import TYPE_CHECKING

from remote.control.backends import clocks
from remote.control.backends.clocks import Clock
from remote.control.output import console
from remote.control.output.timefmt import length, soon

if TYPE_CHECKING:
    from remote.contract.job.clocks import Reading

COLUMNS = ("clock", "counted", "limit", "left")


def sentence(name: str, reading: "Reading") -> str:
    """`gpu is busy (job train-1); it stops at 14:05:00 UTC, in 2h05, by its lifetime clock`."""
    doing = f" ({', '.join(reading.activity)})" if reading.activity else ""
    notice = f"; {reading.notice}" if reading.notice else ""
    when = f"{soon(reading.at + reading.stops_in)} UTC, in {length(reading.stops_in)}"
    if reading.state == "silent":
        return (
            f"{name}: its watchdog is silent{notice}; it stops by itself at {when} at the latest;"
            f" `./inv start {name}` revives it"
        )
    if reading.state == "stopping":
        return (
            f"{name} is stopping, by its {reading.stops_by} clock{notice}: off in"
            f" {length(reading.stops_in)} at the latest"
        )
    return (
        f"{name} is {reading.state}{doing}{notice}; it stops at {when}, by its {reading.stops_by}"
        " clock"
    )


def rows(reading: "Reading") -> list[tuple[str, str, str, str]]:
    """A row for each clock, with the heads `COLUMNS`."""
    shown = [
        (clock.name, _amount(clock.used, clock), _amount(clock.limit, clock), _left(clock))
        for clock in clocks.all_of(reading)
    ]
    if reading.stuck_job:
        limit = reading.limits.stuck + reading.limits.stuck_grace
        left = length(max(0.0, limit - reading.stuck_for))
        shown.append(
            (f"stuck: {reading.stuck_job}", length(reading.stuck_for), length(limit), left)
        )
    return shown


def show(name: str, reading: "Reading") -> None:
    """A table of the clocks of one box."""
    console.print_table(name, COLUMNS, rows(reading))


def _amount(amount: float, clock: Clock) -> str:
    return f"${amount:.2f}" if clock.unit == "$" else length(amount)


def _left(clock: Clock) -> str:
    return "does not run" if clock.left is None else _amount(max(0.0, clock.left), clock)
