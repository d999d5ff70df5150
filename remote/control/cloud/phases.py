"""How long each step to a box takes: shown while it happens, and kept in the history."""

import contextlib
import time
from collections.abc import Iterator

from remote.control.cloud.provider import Progress
from remote.control.project import history

_WORTH_TELLING_SECONDS = 0.5


class Phases:
    """The phases of one launch or start: request, running, ssh, host key, arm. A phase entered
    twice adds up."""

    def __init__(self, box_name: str, on_progress: Progress) -> None:
        self._box_name = box_name
        self._say = on_progress
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block; says its name and its seconds when it ends well, and took any."""
        begun = time.monotonic()
        try:
            yield
            if (seconds := time.monotonic() - begun) >= _WORTH_TELLING_SECONDS:
                self._say(f"{self._box_name}: {name} {seconds:.1f} s")
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun

    def keep(self, action: str, instance_id: str) -> None:
        """Remember the phases of this launch or start."""
        history.append(
            self._box_name,
            "phases",
            action=action,
            id=instance_id,
            seconds={k: round(v, 3) for k, v in self.seconds.items()},
        )
