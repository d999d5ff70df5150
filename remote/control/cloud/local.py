"""This machine in place of a box: it always runs, and nothing is asked of it."""

import getpass
from dataclasses import dataclass

from remote.control.cloud.box import Box
from remote.control.cloud.provider import Progress, Wanted
from remote.control.cloud.static import Static
from remote.control.config.inventory import LOCAL
from remote.control.errors import CloudError
from remote.control.project import state_folder


@dataclass(frozen=True)
class Local(Static):
    """This machine, as `LocalEntry` describes it; never stopped, restarted or terminated."""

    def find(self) -> Box:
        """This machine."""
        return Box(
            name=self.entry.name,
            provider="local",
            id="",
            state="running",
            host="",
            port=0,
            user=getpass.getuser(),
            key=None,
            host_key_alias="",
            instance_type="",
            region="",
            root=self.entry.root,
            shared=None,
            launched_at=None,
            hourly_usd=0.0,
            note="this machine, without SSH",
        )

    def ready(self, on_progress: Progress, wanted: Wanted) -> Box:
        """This machine."""
        self._check_mode(wanted.mode)
        return self.find()

    def stop(self, on_progress: Progress) -> Box:
        """Leaves it running and says so."""
        on_progress("this machine is never stopped by Windlass: left running")
        return self.find()

    def reboot(self, on_progress: Progress) -> Box:
        """Raises CloudError."""
        raise _untouched("restarted")

    def terminate(
        self, on_progress: Progress, instance_id: str | None = None, is_agreed: bool = False
    ) -> Box:
        """Raises CloudError."""
        raise _untouched("terminated")


def _untouched(done: str) -> CloudError:
    remedy = f"`rm -r {state_folder() / LOCAL}` deletes all jobs and models that Windlass keeps"
    return CloudError(f"this machine is never {done} by Windlass", remedy=f"{remedy} here")
