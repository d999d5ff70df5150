"""Long operations that outlive their connection: tried again, ever more seldom, for as long as something may still come of it."""

import time
from collections.abc import Callable
from typing import TypeVar

from remote.control.errors import BoxUnreachable, LoginRefused

PATIENCE_SECONDS = 600.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 15.0
TELL_EVERY_SECONDS = 60.0
ATTEMPT_SECONDS = 60.0
"""An attempt that fails after less than this was no connection that had lasted, whatever the patience."""

Done = TypeVar("Done")


def persistently(
    attempt: Callable[[], Done], *, progress: Callable[[], object], notice: Callable[[str], None],
    patience_seconds: float = PATIENCE_SECONDS, what: str = "", kept: str = "", remedy: str = "",
) -> Done:  # fmt: skip
    """What `attempt` returns; each time it raises BoxUnreachable it is called again: it must go on where it was, and do nothing twice.

    - `progress` gives any value that differs once something has arrived: bytes, an offset, a count of heartbeats. Then the pauses start
      anew at 0.2 s (doubling to 15 s), and so does `patience_seconds`, the time without progress after which the last error is raised,
      with `what`, `kept` and `remedy` in place of its own where they are given.
    - `notice` gets one line when the connection is lost, another when the reason changes, else one a minute.
    - A pause ends early where the error knows how to look for the box (`BoxUnreachable.until_back`): at once when the link is back.
    - LoginRefused, HostKeyMismatch and every other error end it: they come out as they are.
    """
    loss: _Loss | None = None
    while True:
        had, began = progress(), time.monotonic()
        try:
            return attempt()
        except LoginRefused:
            raise
        except BoxUnreachable as error:
            now = time.monotonic()
            # An attempt that lasted longer than the patience was connected all the while, and is no failure to get through.
            if progress() != had or now - began > max(patience_seconds, ATTEMPT_SECONDS):
                loss = _Loss(now)
            elif loss is None:
                loss = _Loss(began)
            if now - loss.since > patience_seconds:
                raise _given_up(error, now - loss.since, what, kept, remedy) from None
            loss.tell(error, notice, patience_seconds)
            loss.wait(error)


class _Loss:
    """A connection that is lost since `since` (monotonic seconds)."""

    def __init__(self, since: float) -> None:
        self.since = since
        self._pause = FIRST_PAUSE_SECONDS
        self._told, self._told_at = "", 0.0

    def tell(self, error: BoxUnreachable, notice: Callable[[str], None], patience_seconds: float) -> None:
        why, now = error.why or error.what, time.monotonic()
        if why == self._told and now - self._told_at < TELL_EVERY_SECONDS:
            return
        self._told, self._told_at = why, now
        notice(f"connection lost ({why}): trying again for {patience_seconds - (now - self.since):.0f} s; nothing that arrived is lost")

    def wait(self, error: BoxUnreachable) -> None:
        if error.until_back is not None:
            error.until_back(self._pause)
        else:
            time.sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)


def _given_up(error: BoxUnreachable, seconds: float, what: str, kept: str, remedy: str) -> BoxUnreachable:
    why = f"{error.why or error.what}; nothing came through for {seconds:.0f} s"
    return BoxUnreachable(what or error.what, where=error.where, why=why, kept=kept or error.kept, remedy=remedy or error.remedy)
