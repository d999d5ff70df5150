"""Deploy to a box of the inventory, see what releases it keeps, and go back to one of them."""

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from remote.control.cloud import boxes
from remote.control.errors import NotFound
from remote.control.output.sanitize import counted
from remote.control.progress import Bytes, Say, details, no_bytes, silent
from remote.control.transport.connect import connect
from remote.control.transport.push import release as releases
from remote.control.transport.push.push import Deployed, Place, push_command
from remote.control.transport.push.release import Release
from remote.control.transport.push.rollback import KeptRelease, chosen, go_back, kept_releases
from remote.control.transport.push.selection import Push, Selection, select

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry, Inventory


@dataclass(frozen=True)
class Sent:
    """What came of the deploy to a box, and how long it took."""

    box: str
    deployed: Deployed
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {"box": self.box, **asdict(self.deployed), "seconds": self.seconds}


@dataclass(frozen=True)
class Rehearsal:
    """What a deploy would do: `bytes` are those of the whole release, `would_run` says it in
    lines."""

    box: str
    release: str
    bytes: int
    would_run: list[str]


@dataclass(frozen=True)
class RolledBack:
    """Which release is current now, or would be, and which `was`; `jobs` run from it or wait to.
    `environment` is the box's Python for it; None where nothing was changed."""

    box: str
    release: str
    was: str
    jobs: list[str]
    environment: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON; `dry_run` where nothing was changed."""
        told = {"box": self.box, "release": self.release, "was": self.was, "jobs": self.jobs}
        if self.environment is None:
            return {**told, "dry_run": True}
        return {**told, "environment": self.environment}


def selected(inventory: "Inventory", playbook: str = "") -> Selection:
    """What goes to a box beside Windlass's code: what the inventory includes, and the files that
    this playbook names. Raises ConfigError, LaptopError."""
    if not playbook:
        return select(push=Push.of(inventory))
    from remote.control.config.playbook import load_playbook
    from remote.control.runs.plan import plan_of
    from remote.control.runs.state import RunState
    from remote.control.runs.wiring import files_to_send

    run = RunState("", plan_of(load_playbook(playbook)))
    return select(files_to_send(run), Push.of(inventory))


def deploy(
    entry: "BoxEntry", release: Release, say: Say = silent, progress: Bytes = no_bytes
) -> Sent:
    """Make `release` current on a running box, with its environment. Raises BoxStopped, and what
    the deploy of a release raises."""
    started = time.monotonic()
    with connect(boxes.running(entry), say) as transport:
        done = releases.deploy(
            transport, entry.root, release, say, shared=entry.shared, progress=progress
        )
    return Sent(entry.name, done, round(time.monotonic() - started, 2))


def rehearse(entry: "BoxEntry", release: Release) -> Rehearsal:
    """What `deploy` would do; asks no box."""
    size = sum(member.size for member in release.members)
    files = f"{counted(len(release.members), 'file')}, {counted(size, 'byte')}"
    command = push_command(Place(entry.root, entry.shared or ""), release.digest)
    lines = [
        f"would run on box {entry.name}: {command}",
        f"then would send what the box lacks of {files}, and make the environment",
    ]
    return Rehearsal(entry.name, release.digest, size, lines)


def releases_of(entry: "BoxEntry", say: Say = silent) -> list[KeptRelease]:
    """The releases that a running box keeps, the one deployed last first."""
    with connect(boxes.running(entry), say) as transport:
        return kept_releases(transport, entry.root)


def roll_back(
    entry: "BoxEntry", to: str = "", dry_run: bool = False, say: Say = silent
) -> RolledBack:
    """Make an older release of a running box current: the one whose digest begins with `to`, else
    the one deployed before. Raises NotFound where there is none."""
    with connect(boxes.running(entry), say) as transport:
        kept = kept_releases(transport, entry.root)
        if not kept:
            raise NotFound(
                f"nothing is deployed on box {entry.name} yet",
                where=f"box {entry.name}",
                remedy=f"`./inv deploy {entry.name}`",
            )
        release = chosen(kept, to, entry.name)
        was = next((each.digest for each in kept if each.is_current), "")
        place = Place(entry.root, entry.shared or "")
        environment = None if dry_run else go_back(transport, place, release, details(say))
        return RolledBack(entry.name, release.digest, was, release.jobs, environment)
