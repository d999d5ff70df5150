"""Deploys and rollbacks of boxes of the inventory: connected, done, told."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from remote.control.cloud import boxes
from remote.control.commands.views import fleet
from remote.control.errors import NotFound
from remote.control.output import timefmt
from remote.control.output.console import bytes_progress, print_table, say, tell
from remote.control.output.sanitize import counted, sized
from remote.control.transport.connect import connect
from remote.control.transport.push.push import Place, no_progress, push_command
from remote.control.transport.push.release import Release, deploy
from remote.control.transport.push.rollback import KeptRelease, chosen, go_back, kept_releases

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry


def deploy_to(entries: "Sequence[BoxEntry]", release: Release, show: bool) -> list[dict[str, Any]]:
    """Deploy to each, side by side; what came of it, one record a box."""
    progress = bytes_progress if len(entries) == 1 else no_progress

    def work(entry: "BoxEntry", tell: Callable[[str], None]) -> dict[str, Any]:
        started = time.monotonic()
        with connect(boxes.running(entry)) as transport:
            deployed = deploy(
                transport, entry.root, release, tell, shared=entry.shared, progress=progress
            )
        return {
            "box": entry.name,
            **asdict(deployed),
            "seconds": round(time.monotonic() - started, 2),
        }

    records = fleet.each(entries, work, _sentence)
    if show and len(records) == 1:
        print_table(f"deploy to {entries[0].name}", ("", ""), _rows(records[0]))
    return records


def rehearse(entry: "BoxEntry", release: Release, tell: Callable[[str], None]) -> dict[str, Any]:
    """What a deploy would run."""
    size = sum(member.size for member in release.members)
    files = f"{counted(len(release.members), 'file')}, {counted(size, 'byte')}"
    command = push_command(Place(entry.root, entry.shared or ""), release.digest)
    lines = [
        f"would run on box {entry.name}: {command}",
        f"then would send what the box lacks of {files}, and make the environment",
    ]
    for line in lines:
        tell(line)
    return {"box": entry.name, "release": release.digest, "bytes": size, "would_run": lines}


def releases_of(entry: "BoxEntry") -> list[KeptRelease]:
    """The releases that a running box keeps, the one deployed last first."""
    with connect(boxes.running(entry)) as transport:
        return kept_releases(transport, entry.root)


def show_releases(entry: "BoxEntry", releases: list[KeptRelease]) -> None:
    """The releases as a table."""
    if not releases:
        tell(f"nothing is deployed on box {entry.name} yet; `./inv deploy {entry.name}` does it")
        return
    rows = [
        (
            each.digest[:12],
            "current" if each.is_current else "",
            timefmt.day(each.deployed_at),
            each.files,
            sized(each.bytes),
            ", ".join(each.jobs),
        )
        for each in releases
    ]
    print_table(
        f"releases on {entry.name}",
        ("release", "", "deployed (UTC)", "files", "size", "used by"),
        rows,
    )


def roll_back(entry: "BoxEntry", to: str, dry_run: bool) -> dict[str, Any]:
    """Make an older release current. Raises NotFound where there is none."""
    with connect(boxes.running(entry)) as transport:
        releases = kept_releases(transport, entry.root)
        if not releases:
            raise NotFound(
                f"nothing is deployed on box {entry.name} yet",
                where=f"box {entry.name}",
                remedy=f"`./inv deploy {entry.name}`",
            )
        release = chosen(releases, to, entry.name)
        was = next((each.digest for each in releases if each.is_current), "")
        outcome = {"box": entry.name, "release": release.digest, "was": was, "jobs": release.jobs}
        if dry_run:
            return {**outcome, "dry_run": True}
        environment = go_back(
            transport,
            Place(entry.root, entry.shared or ""),
            release,
            lambda line: say(f"  {line}", "dim"),
        )
        return {**outcome, "environment": environment}


def _sentence(record: dict[str, Any]) -> str:
    state = (
        "was current"
        if record["was_current"]
        else f"is current now, {counted(record['sent_bytes'], 'byte')} sent"
    )
    return f"release {record['digest'][:12]} {state} ({record['seconds']} s)"


def _rows(record: dict[str, Any]) -> list[tuple[str, object]]:
    state = "was current" if record["was_current"] else "now current"
    sent = (
        f"{counted(record['sent_bytes'], 'byte')} in {counted(record['round_trips'], 'round trip')}"
    )
    sent += f"; {record['lacking']:,} bytes of files were not there"
    release = f"{record['digest'][:12]} ({state})"
    return [
        ("release", release),
        ("sent", sent),
        ("environment", record["environment"]),
        ("seconds", record["seconds"]),
    ]
