"""Bounded waits with a progress line, and what is waited for most: an SSH server."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

from remote.control.cloud.provider import Progress

Found = TypeVar("Found")

_REPEAT_SECONDS = 15


def until(
    look: Callable[[], Found | None],
    what: str,
    on_progress: Progress,
    patience_seconds: float,
    poll_seconds: float,
) -> Found | None:
    """Call `look` until it finds something; None when patience runs out.

    Says `what` when the first look finds nothing, and again with the seconds that passed every now
    and then.
    """
    begun = time.monotonic()
    said = None
    while (found := look()) is None:
        passed = time.monotonic() - begun
        if passed >= patience_seconds:
            return None
        if said is None or passed - said >= _REPEAT_SECONDS:
            on_progress(what if said is None else f"{what} ({passed:.0f} s)")
            said = passed
        time.sleep(poll_seconds)
    return found


def speaks_ssh(host: str, port: int) -> bool:
    """Whether an SSH server greets there."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
