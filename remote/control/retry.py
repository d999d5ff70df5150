"""Trying again: the only place that does, and only for what may be done twice.

Nobody can know whether a command ran whose connection was lost after it was sent, so a caller may
hand over an attempt only if a second one does no harm:

- what goes on where it was: logs by their offset, pulls and pushes by what has arrived;
- questions: which jobs a box has, how one stands;
- RunInstances with the client token of its launch, for which AWS gives the same instance again.

Starting and cancelling a job is asked once: after a lost connection it is for the user to look,
and to type the command again. What polls for a state (`cloud.waiting.until`) is no retry.
"""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from remote.control.errors import BoxUnreachable, CapacityError, CloudError, LoginRefused

PATIENCE_SECONDS = 600.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 15.0
NOTICE_SECONDS = 60.0
ATTEMPT_SECONDS = 60.0
"""An attempt that fails after more than this, and its patience, was connected all the while."""

Done = TypeVar("Done")


def retry_while_unreachable(
    attempt: Callable[[], Done],
    *,
    progress: Callable[[], object] = lambda: None,
    notice: Callable[[str], None] = lambda line: None,
    patience_seconds: float = PATIENCE_SECONDS,
    what: str = "",
    kept: str = "",
    remedy: str = "",
) -> Done:
    """What `attempt` returns; it is called again each time it raises BoxUnreachable.

    - `progress` gives a value that differs once something has arrived, such as an offset. Then the
      pauses start anew at 0.2 s (doubling to 15 s), and so does `patience_seconds`: the time
      without progress after which the last error is raised, with `what`, `kept` and `remedy` in
      place of its own where they are given.
    - `notice` gets a line when the connection is lost, when the reason changes, and once a minute.
    - A pause ends early where the error can tell that the box is back (`until_back`).
    - LoginRefused, HostKeyMismatch and every other error come out at once.
    """
    lost_at: float | None = None
    noticed, noticed_at = "", 0.0
    while True:
        before, began = progress(), time.monotonic()
        try:
            return attempt()
        except LoginRefused:
            raise
        except BoxUnreachable as error:
            now = time.monotonic()
            was_connected = now - began > max(patience_seconds, ATTEMPT_SECONDS)
            if lost_at is None or was_connected or progress() != before:
                lost_at = now if was_connected or progress() != before else began
                pauses, noticed = _pauses(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS), ""
            why, lost = error.why or error.what, now - lost_at
            if lost > patience_seconds:
                why = f"{why}; nothing came through for {lost:.0f} s"
                raise BoxUnreachable(
                    what or error.what,
                    where=error.where,
                    why=why,
                    kept=kept or error.kept,
                    remedy=remedy or error.remedy,
                ) from None
            if why != noticed or now - noticed_at >= NOTICE_SECONDS:
                left = f"trying again for {patience_seconds - lost:.0f} s"
                notice(f"connection lost ({why}): {left}; nothing that arrived is lost")
                noticed, noticed_at = why, now
            (error.until_back or time.sleep)(next(pauses))


class CapacityWait:
    """The pauses between attempts to get a box, for `wait_seconds` in all: from 5 to 100 of the
    cloud's polls, 15 seconds to 5 minutes on AWS."""

    def __init__(
        self, what: str, on_progress: Callable[[str], None], wait_seconds: float, poll: float
    ) -> None:
        self._what, self._say = what, on_progress
        self._ends = time.monotonic() + wait_seconds
        self._pauses = _pauses(5 * poll, 100 * poll)

    def pause_or_raise(self, error: CloudError) -> None:
        """Wait until the next attempt is due; raises the error where another would not help, or
        time is up."""
        left = self._ends - time.monotonic()
        if left <= 0 or not isinstance(error, CapacityError):
            raise error from None
        pause = min(next(self._pauses), left)
        self._say(f"{self._what}; next try in {pause:.0f} s, giving up in {left / 60:.1f} min")
        time.sleep(pause)


def _pauses(first: float, longest: float) -> Iterator[float]:
    while True:
        yield first
        first = min(2 * first, longest)
