"""The box of a run while a command drives it: made ready, connected and deployed to only when a stage first needs it."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from remote.contract import digest
from remote.control.console import bytes_progress, say
from remote.control.project import CODE
from remote.control.runs.ledger import Ledger
from remote.control.runs.wiring import Reference, artifact_of

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import BoxEntry
    from remote.control.transport.base import Transport
    from remote.control.transport.release import Release


class BoxSession:
    """One box for the length of one command. Use as a context manager: it closes the connection, never the box."""

    def __init__(self, entry: "BoxEntry", ledger: Ledger, may_launch: bool = True) -> None:
        self.entry, self._ledger, self._may_launch = entry, ledger, may_launch
        self._box: Box | None = None
        self._transport: Transport | None = None
        self._release: Release | None = None
        self._closing = ExitStack()
        self.files: list[Path] = []

    def __enter__(self) -> "BoxSession":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def box(self) -> "Box":
        """The running box: launched or started where needed; without `may_launch` raises BoxStopped instead."""
        if self._box is None:
            from remote.control.cloud import boxes

            if not self._may_launch:
                self._box = boxes.running(self.entry)
                return self._box
            self._box = boxes.ready(self.entry, lambda line: say(f"  {line}", "dim"))
            self._ledger.append(
                "box_ready",
                name=self._box.name,
                provider=self._box.provider,
                id=self._box.id,
                instance_type=self._box.instance_type,
                region=self._box.region,
                hourly_usd=self._box.hourly_usd,
            )
        return self._box

    @property
    def transport(self) -> "Transport":
        """The one connection of this command."""
        if self._transport is None:
            self._transport = self._closing.enter_context(self.open_transport())
        return self._transport

    def open_transport(self) -> "Transport":
        """A fresh connection, for a follower that outlives a lost one."""
        from remote.control.transport.connect import connect

        return connect(self.box)

    def deploy(self) -> str:
        """The digest of the release on the box, pushed and activated where it is not there yet."""
        if self._release is None:
            from remote.control.transport.release import build_release, deploy

            release = build_release(self.files)
            done = deploy(self.transport, self.box.root, release, lambda line: say(f"  {line}", "dim"), shared=self.entry.shared)
            self._ledger.append("deployed", release=release.digest, sent_bytes=done.sent_bytes, environment=done.environment)
            self._release = release
        return self._release.digest

    def path_on_box(self, reference: Reference) -> str:
        """Where a stage finds a reference: relative to the box's root, or absolute."""
        if reference["kind"] == "file":
            return f"releases/{self.deploy()}/files/{reference['path']}"
        return str(reference["path"])

    def bring(self, reference: Reference, folder: Path) -> Path:
        """An artifact on the laptop under `folder`, verified; no box is asked when it is there already."""
        artifact = artifact_of(reference)
        destination = folder / Path(artifact.path).name
        if destination.exists() and digest.of_path(destination) == artifact.sha256:
            return destination
        from remote.control.transport.pull import pull

        transport = self.transport
        with bytes_progress(destination.name, artifact.size) as on_bytes:
            return pull(transport, self.box.root, artifact, destination, on_bytes)


def code_state() -> dict[str, object]:
    """Which Windlass this is: commit, and digest of the difference where files were changed. Empty outside git."""
    import subprocess

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(CODE), *words], capture_output=True, text=True, check=False).stdout

    commit, difference = git("rev-parse", "HEAD").strip(), git("diff", "HEAD")
    return {"commit": commit, "changed": digest.of_bytes(difference.encode())[:12] if difference else ""} if commit else {}
