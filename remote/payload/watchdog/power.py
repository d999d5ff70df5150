"""The power switch: a shutdown planned ahead, pushed forward, and at the end asked for until it
comes."""

import math
import subprocess

_SECONDS = 30
_FORCED = (["systemctl", "poweroff", "--force"], ["poweroff", "-f"])


def plan(seconds: float) -> str:
    """Plan the shutdown so many seconds ahead, in place of an earlier plan. Returns nothing, or why
    that failed."""
    # shutdown(8) takes whole minutes; only the embedded cloud's takes less than one.
    minutes = f"{seconds / 60:.4f}" if seconds < 60 else str(math.ceil(seconds / 60))
    return _complaint(["shutdown", "--no-wall", f"+{minutes}"])


def off(attempt: int, forced: bool) -> str:
    """Power off now. From the third attempt on, where `forced`, by rougher means. Returns nothing,
    or why it failed."""
    if forced and attempt >= 3:
        return _complaint(_FORCED[attempt % 2])
    return _complaint(["shutdown", "now"])


def _complaint(words: list[str]) -> str:
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(words)}: {error}"
    return f"{' '.join(words)}: {done.stderr.strip() or done.returncode}" if done.returncode else ""
