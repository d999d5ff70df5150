"""The watchdog's own folder, and where Windlass's folder is on this box."""

import contextlib
import math
import pwd
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from remote.contract.files import atomic
from remote.contract.job.clocks import Limits, Reading
from remote.payload.watchdog import record
from remote.payload.watchdog.counters import Counters

CLOCKS = ("lifetime", "idle", "dollars", "stuck")
"""What `box.extend` can move."""


@dataclass(frozen=True)
class Settings:
    """Which box this is, whose folder Windlass's is (empty: of whoever runs this), and whether
    rough means may power it off."""

    box: str
    root: str
    user: str = ""
    forced: bool = False

    @property
    def home(self) -> Path:
        """The home of the box's user. On a first boot there may be no such user yet: then a path
        that does not exist."""
        try:
            return Path(pwd.getpwnam(self.user).pw_dir) if self.user else Path.home()
        except KeyError:
            return Path("/nonexistent")

    @property
    def windlass(self) -> Path:
        """Windlass's folder."""
        return self.home / self.root


class Place:
    """The folder of one watchdog."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settings(self) -> Settings:
        """Raises OSError, ValueError or TypeError when they cannot be read."""
        return Settings(**record.of_file(self.folder / "config.json"))

    def limits(self, session: str) -> Limits:
        """The clocks in force in that start of the box. Raises OSError, ValueError or TypeError
        when they cannot be read."""
        limits = Limits(**record.of_file(self.folder / "limits.json"))
        extra = self._extra(session)
        given = {
            clock: extra[clock] for clock in CLOCKS if isinstance(extra.get(clock), int | float)
        }
        return replace(
            limits, **{clock: getattr(limits, clock) + more for clock, more in given.items()}
        )

    def extend(self, clock: str, amount: float, session: str) -> None:
        """Add to a clock, for this start of the box alone."""
        extra = self._extra(session)
        atomic.write_json(
            self.folder / "extra.json",
            {**extra, "session": session, clock: extra.get(clock, 0.0) + amount},
        )

    def counters(self) -> Counters | None:
        """What an earlier watchdog counted, or None."""
        try:
            found = Counters(**record.of_file(self.folder / "clock.json"))
            math.fsum(
                [
                    found.at,
                    found.elapsed,
                    found.idle_for,
                    *(float(seconds) for _, seconds in found.quiet.values()),
                ]
            )  # all numbers
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return found

    def keep(self, counters: Counters, reading: Reading) -> None:
        """Keep both. A full disk is none of the watchdog's business: it goes on with what it has in
        memory."""
        with contextlib.suppress(OSError):
            atomic.write_json(self.folder / "clock.json", asdict(counters))
            atomic.write_text(self.folder / "reading.json", reading.to_json() + "\n")

    def reading(self) -> Reading | None:
        """The newest reading, or None."""
        try:
            told = record.of_file(self.folder / "reading.json")
            return Reading(**{**told, "limits": Limits(**told["limits"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def ssh_server(self) -> tuple[str, int]:
        """Address and port of the SSH server as the last login saw them; any address and the usual
        port before the first."""
        try:
            host, port = (self.folder / "ssh").read_text().split()
            return host, int(port)
        except (OSError, ValueError):
            return "", 22

    def code_mark(self) -> tuple[int, int]:
        """What changes when the watchdog itself is replaced; zeros while it is not there."""
        try:
            found = (self.folder / "watchdog.pyz").stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def _extra(self, session: str) -> dict[str, Any]:
        try:
            extra = record.of_file(self.folder / "extra.json")
        except (OSError, ValueError):
            return {}
        return extra if extra.get("session") == session else {}
