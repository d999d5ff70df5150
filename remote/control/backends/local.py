"""This machine: the same release, supervisor and stages as on a box, under `.windlass/local`, with
subprocesses in place of SSH."""

from collections.abc import Callable

from remote.control.backends.ssh import SshBackend
from remote.control.errors import WindlassError
from remote.control.progress import warning


class LocalBackend(SshBackend):
    """This machine. It never goes away under a run, has no bucket and no clocks, and nothing stops
    it."""

    @property
    def bucket(self) -> None:
        """None: what is on this machine stays on it."""

    def ended_by(self, seconds: float = 0.0) -> str:
        """Never."""
        return ""

    def taken_back(self, error: WindlassError) -> str:
        """Never."""
        return ""

    def is_another(self, box_id: str) -> bool:
        """Never."""
        return False

    def more_time(self) -> str:
        """No clock ends a job here."""
        return ""

    def finish(self, action: str, other_run: Callable[[], str | None], is_done: bool) -> None:
        """Only says so: this machine is its user's."""
        self.say(warning(f"finally: {action} does not apply to this machine"))
