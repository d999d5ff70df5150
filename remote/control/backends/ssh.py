"""A box reached over SSH, while a command works with it: made ready, connected and deployed to only
when a job first needs it."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from functools import cached_property
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from remote.contract.artifacts.upload import ON_ITS_WAY, dataset_names
from remote.contract.files import digest
from remote.contract.job.jobs import Artifact, Cause, JobSpec, JobState, Status
from remote.control.backends import ending
from remote.control.backends.base import Backend, JobRequest, Record
from remote.control.backends.display import Display
from remote.control.backends.preflight import Report, preflight
from remote.control.backends.resolved import LaptopFile, PlainValue, Resolved, StageArtifact
from remote.control.config.inventory import HostEntry
from remote.control.errors import (
    ArtifactCorrupt,
    BoxStopped,
    BoxUnreachable,
    HostKeyMismatch,
    JobFailed,
    WindlassError,
)
from remote.control.output.sanitize import sized
from remote.control.progress import Bytes, Say, detail, details, no_bytes, silent, warning

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.cloud.bucket import Bucket
    from remote.control.config.inventory import BoxEntry, Inventory
    from remote.control.transport.base import Transport
    from remote.control.transport.push.push import Deployed
    from remote.control.transport.push.release import Release

GRANT_MARGIN_SECONDS = 3600.0
SPILL_SECONDS = 180.0
"""How long a spill may take: a spot box has two minutes."""

_ENDING_SECONDS = 10.0
_LOOK_SECONDS = 0.5


BY_THE_CLOUD = ("spot:", "cloud:", "capacity:")
"""Who ended a box, as `boxes.ended_by` tells: these and not its user, nor its own clocks."""

SIGHT_SECONDS = 10.0


class SshBackend(Backend):
    """One box for the length of one command, or one after the other.

    The inventory's bucket is how a job goes from one box to the next. Without `may_launch` a box
    that does not run is an error.
    """

    def __init__(
        self,
        entry: "BoxEntry",
        inventory: "Inventory",
        run_id: str = "",
        record: Record | None = None,
        may_launch: bool = True,
        say: Say = silent,
        progress: Bytes = no_bytes,
    ) -> None:
        self.entry, self.name, self.run_id, self.say = entry, entry.name, run_id, say
        self._record, self._may_launch, self._progress = record or _unheard, may_launch, progress
        self._inventory, self._storage = inventory, entry.bucket
        self._box: Box | None = None
        self._transport: Transport | None = None
        self._release: Release | None = None
        self._closing = ExitStack()
        self.files: list[Path] = []

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    # ---- the five verbs ----

    def start(
        self,
        job: JobRequest,
        *,
        is_again: bool = False,
        queue: bool = False,
        secrets: Mapping[str, str] | None = None,
    ) -> JobState:
        """Start the job's supervisor on the box; what an earlier box spilled of the job is brought
        there first."""
        from remote.control.jobs.start import start

        paths = {name: self.path_on_box(each) for name, each in job.inputs.items()}
        spec = JobSpec(
            job.job_id,
            job.stage,
            self.deploy(),
            job.run_id,
            job.environment,
            paths,
            dict(job.options),
            job.recipe,
            exclusive=job.exclusive,
        )
        if is_again:
            self.restore_from_bucket(job.job_id)
        self.grant_upload(job.recipe)
        transport, root = self.transport, self.box.root
        state = start(transport, root, spec, queue=queue, secrets=secrets)
        if state.status.is_final and state.status is not Status.SUCCEEDED:
            return start(transport, root, spec, again=True, queue=queue, secrets=secrets)
        return state

    def state(self, job_id: str, restore: bool = False) -> JobState | None:
        """How the job stands; `restore` brings one that only the bucket has onto the box first."""
        from remote.control.jobs.state import find_state

        if restore:
            self.deploy()  # the box may be a new one, with no code on it yet
            self.restore_from_bucket(job_id)
        return find_state(self.transport, self.box.root, job_id)

    def follow(self, job_id: str, log: Path, metrics: Path, display: Display) -> JobState:
        """Follow the job until it ends; a lost connection is made anew."""
        from remote.control.logs.follow import follow

        openings = count()
        return follow(
            lambda: self.open_transport(is_again=next(openings) > 0),
            self.box.root,
            job_id,
            log,
            metrics,
            None,
            display.metric,
            notice=display.line,
        )

    def cancel(self, job_id: str, patience_seconds: float) -> JobState:
        """End the job: SIGTERM, so many seconds for a checkpoint, SIGKILL."""
        from remote.control.jobs.cancel import cancel

        return cancel(self.transport, self.box.root, job_id, patience_seconds)

    def fetch(self, made: StageArtifact, folder: Path) -> Path:
        """Pull the artifact, or what the box has spilled of it where it is gone."""
        artifact = made.artifact
        destination = folder / Path(artifact.path).name
        if destination.exists() and digest.of_path(destination) == artifact.sha256:
            return destination
        try:
            return self._pull(artifact, destination)
        except BoxStopped:  # before the first byte, or on its way
            if self._bring_from_bucket(artifact, destination):
                return destination
            raise

    def preflight(self, recipe: Mapping[str, Any], inputs: Mapping[str, Resolved]) -> Report:
        """Every check on the box, in one round trip."""
        paths = {name: self.path_on_box(each) for name, each in inputs.items()}
        self.deploy()
        return preflight(self.transport, self.box, recipe, paths, storage=self._storage)

    # ---- the box ----

    def ready(self) -> None:
        """Launch or start the box, and deploy to it."""
        self.deploy()

    @property
    def where(self) -> str:
        """`box demo (i-0abc at 127.0.0.1:40123)`."""
        return self.transport.where

    @property
    def box(self) -> "Box":
        """The running box: launched or started where needed; without `may_launch` raises BoxStopped
        instead."""
        if self._box is None:
            from remote.control.backends.clocks import set_deadlines
            from remote.control.cloud import boxes

            if not self._may_launch:
                self._box = boxes.running(self.entry)
                return self._box
            self._box = boxes.ready(self.entry, details(self.say), set_deadlines=set_deadlines)
            self._record(
                "box_ready",
                name=self._box.name,
                provider=self._box.provider,
                id=self._box.id,
                instance_type=self._box.instance_type,
                region=self._box.region,
                hourly_usd=self._box.hourly_usd,
                market=self._box.market,
            )
            if self._box.market == "spot" and self._storage is None:
                lost = "when the cloud takes it back, what is on it is lost"
                self._warn(f"a spot box without `storage.bucket`: {lost}")
        return self._box

    @property
    def transport(self) -> "Transport":
        """The one connection of this command."""
        if self._transport is None:
            self._transport = self._closing.enter_context(self.open_transport())
        return self._transport

    def open_transport(self, is_again: bool = False) -> "Transport":
        """A fresh connection, for a follower that outlives a lost one. `is_again` raises BoxStopped
        where the box is gone meanwhile."""
        from remote.control.transport.connect import connect

        if is_again:
            self.look()
        return connect(self.box, self.say)

    def look(self) -> None:
        """Raises BoxStopped where the box that this command used is gone meanwhile."""
        why = ""
        with suppress(WindlassError):  # a cloud that cannot be asked says nothing about the box
            why = self.ended_by()
        if why:
            raise self.gone(why)

    def ended_by(self, seconds: float = 0.0) -> str:
        """Why the box that this command used is gone, in the words of `boxes.ended_by`; empty while
        it lives, or was not used yet.

        A box that is just being taken back may still seem to live: it is looked at for so many
        seconds.
        """
        from remote.control.cloud import boxes

        deadline = time.monotonic() + seconds
        while self._box is not None:
            if (why := boxes.ended_by(self._box)) or time.monotonic() >= deadline:
                return why
            time.sleep(_LOOK_SECONDS)
        return ""

    def gone(self, why: str) -> BoxStopped:
        """The error for a box that ended under its command."""
        remedy = f"`./inv resume {self.run_id}` goes on, on a box started or launched for it"
        return BoxStopped(
            f"box {self.entry.name} is gone", where=self.box.where, why=why, remedy=remedy
        )

    def taken_back(self, error: WindlassError) -> str:
        """Why the cloud has taken the box back, if that is behind `error`; else empty. Raises
        BoxStopped where somebody else ended it."""
        if isinstance(error, JobFailed) and error.cause is Cause.SPOT:
            return error.why or error.what
        lost_sight = isinstance(error, BoxUnreachable)
        is_lost = isinstance(error, JobFailed) and error.cause in (Cause.LOST, Cause.CODE)
        if not (lost_sight or is_lost or isinstance(error, BoxStopped)):
            return ""
        why = self.ended_by(SIGHT_SECONDS if lost_sight else 0.0)
        if lost_sight and why and not why.startswith(BY_THE_CLOUD):
            raise self.gone(why) from None
        return why if why.startswith(BY_THE_CLOUD) else ""

    def leave(self, why: str) -> None:
        """End a box that the cloud takes back; what it still holds of any run goes to the bucket
        first. The next job gets one that is made ready anew."""
        self._record("box_lost", name=self.name, id=self.box.id, why=why)
        ending.end_spot_box(self)
        self._closing.close()
        self._box = self._transport = self._release = None

    def finish(self, action: str, other_run: Callable[[], str | None], is_done: bool) -> None:
        """Stop or terminate the box, unless there is none, it is a host that stands, or another run
        works on it."""
        if done := ending.finish(self, action, other_run, is_done):
            self._record("box_stopped", name=self.name, action=done)

    def is_another(self, box_id: str) -> bool:
        """Whether the entry's box is known to have another instance id."""
        from remote.control.cloud import boxes

        box = None if isinstance(self.entry, HostEntry) else boxes.find(self.entry)
        return bool(box and box_id and box.id != box_id)

    def more_time(self) -> str:
        """What to type for more time on the box's clocks."""
        return (
            f"for more time `./inv start {self.name}` and `./inv box.extend {self.name} --lifetime"
            " 2h` (or --dollars 5) before that, for every start `clocks:` in inventory.yaml"
        )

    def works_for(self) -> str | None:
        """Another run with a job on the box, such as one of another laptop. A box that does not
        answer tells none."""
        from remote.control.jobs.state import jobs_on

        try:
            jobs = jobs_on(self.transport, self.box.root, self.name, self.say)
        except WindlassError:
            return None
        return next(
            (
                job.run_id or job.state.job_id
                for job in jobs
                if not job.state.status.is_final and job.run_id != self.run_id
            ),
            None,
        )

    # ---- what outlives the box ----

    @cached_property
    def bucket(self) -> "Bucket | None":
        """The inventory's bucket, where this box can use one."""
        from remote.control.cloud import bucket

        return bucket.of_entry(self._storage, self.entry)

    def grant_upload(self, recipe: Mapping[str, Any] | None = None) -> None:
        """Leave the right to spill this run's jobs on the box, for as long as the box may run; and
        to put the dataset of a data recipe, that wants it there, into the bucket."""
        if self.bucket is None:
            return
        clocks = None if isinstance(self.entry, HostEntry) else self.entry.clocks
        seconds = (clocks.lifetime + clocks.grace if clocks else 0.0) + GRANT_MARGIN_SECONDS
        is_spot = self.box.market == "spot"
        names = dataset_names(recipe or {})
        grant = self.bucket.grant(self.run_id, seconds, always=is_spot, datasets=names)
        self._call("grant", stdin=asdict(grant))

    def restore_from_bucket(self, job_id: str) -> bool:
        """Bring what was spilled of a job onto this box, unless the box knows the job; returns
        whether it did."""
        from remote.control.jobs.state import find_state

        if self.bucket is None or find_state(self.transport, self.box.root, job_id) is not None:
            return False
        manifest = self.bucket.manifest(job_id)
        if manifest is None:
            return False
        place, size = self.bucket.place(job_id), sized(manifest.size)
        self.say(detail(f"  bringing {manifest.what} from {place} ({size})"))
        return bool(
            self._call("fetch", job_id, stdin=self.bucket.fetching(manifest)).get("fetched")
        )

    def saved(self, job: JobState) -> JobState:
        """The state of an interrupted job once what it keeps has reached the bucket, or when no
        more can come."""
        if ON_ITS_WAY not in job.kept or self.bucket is None:
            return job
        self.say(detail(f"  kept: {job.kept}; waiting for that"))
        deadline = time.monotonic() + SPILL_SECONDS
        while True:
            is_over = bool(self.ended_by()) or time.monotonic() > deadline
            manifest = self.bucket.manifest(job.job_id)
            if manifest and manifest.ended_at == job.ended_at:
                return replace(job, kept=f"{manifest.what} in {self.bucket.place(job.job_id)}")
            if is_over:
                return replace(
                    job,
                    kept=(
                        f"{manifest.what}, as it was before, in {self.bucket.place(job.job_id)}"
                        if manifest
                        else ""
                    ),
                )
            time.sleep(_LOOK_SECONDS)

    def spill_all(self) -> dict[str, str]:
        """Have the box put every job that it was trusted with into the bucket; by job, what is
        there, or `not spilled` and why."""
        from remote.control.transport.payload import understood

        told = self._call("all", on_line=details(self.say))
        with understood(self.transport.where):
            return {str(job_id): str(words) for job_id, words in told["spilled"].items()}

    def _bring_from_bucket(self, artifact: Artifact, destination: Path) -> bool:
        """Bring what a box that is gone has spilled; returns whether it is here then, verified."""
        place, job_id = (*PurePosixPath(artifact.path).parts, "")[:2]
        manifest = (
            self.bucket.manifest(job_id) if self.bucket and place == "jobs" and job_id else None
        )
        if self.bucket is None or manifest is None:
            return False
        from remote.control.transport.pull.pull import pull_spilled

        self.say(detail(f"  {destination.name}: from {self.bucket.place(job_id)}"))
        try:
            with self._progress(destination.name, artifact.size) as on_bytes:
                pull_spilled(self.bucket, manifest, artifact, destination, on_bytes, self._warn)
        except ArtifactCorrupt:
            return False
        return True

    def sweep(self) -> None:
        """After a run has succeeded: drop from the bucket what its jobs need no more. Nothing is
        asked when no box was."""
        if self._box is None or self.bucket is None:
            return
        try:
            self.bucket.sweep(self.run_id)
        except WindlassError as error:  # the run has succeeded: that stands
            left = f"older checkpoints of this run are left in s3://{self._storage}"
            self._warn(f"{left}: {error.what}")

    def _call(
        self, *words: str, stdin: dict[str, Any] | None = None, on_line: Say | None = None
    ) -> dict[str, Any]:
        from remote.control.transport.payload import call, payload_command

        self.deploy()
        content = b"" if stdin is None else json.dumps(stdin).encode()
        return call(
            self.transport,
            payload_command(self.box.root, "transfer.upload", *words),
            content,
            on_line,
        )

    def deploy(self) -> str:
        """The digest of the release on the box, pushed and activated where it is not there yet."""
        if self._release is None:
            from remote.control.transport.push.release import build_release
            from remote.control.transport.push.selection import Push

            release = build_release(self.files, push=Push.of(self._inventory))
            for line in release.warnings:
                self._warn(line)
            done = self._deployed(release)
            self._record(
                "deployed",
                release=release.digest,
                sent_bytes=done.sent_bytes,
                environment=done.environment,
            )
            self._release = release
        return self._release.digest

    def _deployed(self, release: "Release") -> "Deployed":
        from remote.control.transport.push.release import deploy

        def deployed() -> "Deployed":
            return deploy(
                self.transport,
                self.box.root,
                release,
                details(self.say),
                self.entry.shared,
                progress=self._progress,
                again=self._way_again,
            )

        way = self.transport
        try:
            return deployed()
        except (
            BoxUnreachable,
            HostKeyMismatch,
        ):  # before its first answer, or another machine has its old address
            if self._way_again() is way:
                raise
        return deployed()

    def _way_again(self) -> "Transport":
        """The way to the box after a loss: a new one where it has another address by now. Raises
        BoxStopped where it is gone."""
        from remote.control.cloud import boxes

        self.look()
        found = None
        with suppress(WindlassError):  # a cloud that cannot be asked says nothing about the box
            found = boxes.find(self.entry)
        if (
            found
            and found.state == "running"
            and found.id == self.box.id
            and found.address != self.box.address
        ):
            self.say(detail(f"  {self.box.where} is at {found.address} now"))
            self._closing.close()
            self._box, self._transport = found, None
        return self.transport

    def path_on_box(self, each: Resolved) -> str:
        """Where a job finds it: relative to the box's root, or absolute."""
        if isinstance(each, LaptopFile):
            return f"releases/{self.deploy()}/files/{each.path}"
        return str(each.value if isinstance(each, PlainValue) else each.path)

    def _pull(self, artifact: Artifact, destination: Path) -> Path:
        from remote.control.transport.pull.pull import pull

        transport = self.transport
        with self._progress(destination.name, artifact.size) as on_bytes:
            return pull(
                transport,
                self.box.root,
                artifact,
                destination,
                on_bytes,
                self._warn,
                look=self.look,
            )

    def _warn(self, line: str) -> None:
        self.say(warning(f"  {line}"))


def _unheard(event: str, **facts: Any) -> None:
    """For a command that belongs to no run."""
