"""A box's clocks, seen and set from the laptop: each of these is one round trip, and needs nothing
deployed on the box."""

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remote.contract.job.clocks import Limits, Reading
from remote.control.cloud import limits as limits_of_box
from remote.control.cloud.box import Box
from remote.control.cloud.ec2 import user_data
from remote.control.config.inventory import HostEntry
from remote.control.errors import BoxStopped, BoxUnreachable, CloudError, WindlassError
from remote.control.output.sanitize import last_lines
from remote.control.transport.base import Result, Transport
from remote.control.transport.connect import connect

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry

CLOCKS = ("lifetime", "idle", "dollars", "stuck")
"""What `extend` can move: seconds, but of `dollars`."""

_ANSWER_SECONDS = 90.0
_SILENT_TICKS = 4
_SLACK_SECONDS = 15.0
_NO_WATCHDOG = 78
# Where no systemd runs the watchdog is the user's own.
_FOLDER = 'f="$HOME/.windlass-box"; [ -d "$f" ] || f=/var/lib/windlass'
_AS_ROOT = 'r=; [ "$(id -u)" -eq 0 ] || r="sudo -n"'


@dataclass(frozen=True)
class Clock:
    """One clock, in seconds or dollars (`unit`). `left` is None while it does not run."""

    name: str
    limit: float
    used: float
    left: float | None
    unit: str = "s"


def set_deadlines(entry: "BoxEntry", box: Box) -> None:
    """Set the clocks of a box of `entry` for this start. A host that stands has none: it is only
    entered. Raises like `set_limits`."""
    if isinstance(entry, HostEntry):
        with connect(box) as transport:
            transport.exec("true")
        return
    with connect(box) as transport:
        limits = limits_of_box.of_start(entry, box)
        set_limits(transport, limits, entry.clocks.notify, entry.name, entry.root)


def set_limits(
    transport: Transport,
    limits: Limits,
    notify: str | None = None,
    name: str = "",
    root: str | None = None,
) -> Reading:
    """Set a box's clocks, install or renew its watchdog, and start it where it does not run.
    Returns how the clocks stand.

    Raises BoxStopped for a box that is just stopping itself, BoxUnreachable where the clocks cannot
    be set. `name` and `root` (Windlass's folder there) are for a box whose user-data was not ours.
    """
    script = user_data.arming(limits, notify, name or box_name(transport), root)
    surroundings = 'WINDLASS_LOGIN="$(id -un)" WINDLASS_SSH="$(set -- $SSH_CONNECTION; echo $3 $4)"'
    answer = transport.exec(
        f"{_AS_ROOT}; exec $r env {surroundings} sh -s", script.encode(), _ANSWER_SECONDS
    )
    return _reading(transport, answer, "the clocks of the box could not be set")


def extend(transport: Transport, clock: str, amount: float) -> Reading:
    """Add `amount` (seconds, or dollars) to one of `CLOCKS`, for this start of the box alone.
    Returns how the clocks then stand; raises like `set_deadlines`."""
    look = (
        f'{_FOLDER}; [ -e "$f/watchdog.pyz" ] || exit {_NO_WATCHDOG}; {_AS_ROOT}; [ -w "$f" ] && r='
    )
    command = f'{look}; exec $r python3 -I "$f/watchdog.pyz" extend {clock} {amount:g}'
    answer = transport.exec(command, timeout=_ANSWER_SECONDS)
    return _reading(transport, answer, f"the {clock} clock could not be moved")


def read(transport: Transport) -> Reading | None:
    """How the clocks stand; None where no watchdog ever was. One that has failed is told by the
    state `silent`."""
    began = time.monotonic()
    answer = transport.exec(
        f'{_FOLDER}; date +%s; cat "$f/reading.json" 2>/dev/null', timeout=_ANSWER_SECONDS
    )
    now, _, told = answer.text.partition("\n")
    try:
        reading = Reading.from_json(told)
        return _judged(reading, float(now) - reading.at - (time.monotonic() - began))
    except (ValueError, KeyError, TypeError):
        return None


def require_some(entry: "BoxEntry") -> None:
    """Raise CloudError for a host that stands: it has no clocks, and nothing gives it any."""
    if isinstance(entry, HostEntry):
        raise CloudError(
            "a host that stands has no clocks: nothing stops it",
            where=f"box {entry.name}",
            remedy=f"`./inv ps {entry.name}` shows what runs there",
        )


def required(transport: Transport) -> Reading:
    """How the clocks stand; raises BoxUnreachable where none were ever set."""
    reading = read(transport)
    if reading is None:
        raise BoxUnreachable(
            "the box has no clocks",
            where=transport.where,
            remedy=f"`./inv start {box_name(transport)}` sets them",
        )
    return reading


def all_of(reading: Reading, stopped_for: float = 0.0) -> list[Clock]:
    """The four clocks, in the order in which people ask for them."""
    limits, runs = reading.limits, reading.state != "stopping"
    idle_left = limits.idle - reading.idle_for if runs and not reading.activity else None
    dollars_left = limits.dollars - reading.spent_usd if limits.hourly_usd else None
    return [
        Clock("idle", limits.idle, reading.idle_for, idle_left),
        Clock("lifetime", limits.lifetime, reading.elapsed, limits.lifetime - reading.elapsed),
        Clock("dollars", limits.dollars, reading.spent_usd, dollars_left, "$"),
        Clock("stopped", limits.stopped, stopped_for, None),
    ]


def box_name(transport: Transport) -> str:
    """The name of the box that a transport leads to, out of `box demo (i-0abc at
    127.0.0.1:40123)`."""
    return transport.where.removeprefix("box ").partition(" (")[0]


def _judged(reading: Reading, age: float) -> Reading:
    """A reading so old that its watchdog must have failed: then the box goes as the last plan has
    it."""
    limits = reading.limits
    if (
        age <= max(_SILENT_TICKS * limits.tick, _SLACK_SECONDS) + _SLACK_SECONDS
        or reading.state == "stopping"
    ):
        return reading
    return replace(
        reading, state="silent", stops_by="watchdog", stops_in=max(0.0, limits.ahead - age)
    )


def _reading(transport: Transport, answer: Result, what: str) -> Reading:
    """The reading at the end of the output."""
    for line in reversed(answer.text.splitlines()):
        try:
            reading = Reading.from_json(line)
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
        if reading.state == "stopping":
            raise _stopping(transport, reading)
        return reading
    raise _failed(transport, answer, what)


def _stopping(transport: Transport, reading: Reading) -> BoxStopped:
    why = f"its {reading.stops_by} clock ran out; jobs get {reading.stops_in:.0f} s more at most"
    remedy = f"then `./inv start {box_name(transport)}`"
    return BoxStopped(
        "the box is just stopping itself",
        where=transport.where,
        why=why,
        kept="its disk",
        remedy=remedy,
    )


def _failed(transport: Transport, answer: Result, what: str) -> WindlassError:
    why = last_lines(answer.stderr) or last_lines(answer.stdout) or f"exit code {answer.exit_code}"
    if answer.exit_code == _NO_WATCHDOG:
        why = "no watchdog was ever set up there"
    remedy = (
        f"`./inv start {box_name(transport)}` sets the clocks anew; the box's user must be allowed"
        " `sudo`, and the box needs python3"
    )
    kept = "the box is as it was; without a watchdog it stops by itself within 15 minutes"
    return BoxUnreachable(what, where=transport.where, why=why, kept=kept, remedy=remedy)
