"""`inv deploy`: the code of the box's side, and its Python environment."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from remote.control.commands.verb import verb

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry
    from remote.control.transport.release import Release

_HELP = {
    "box": "name in inventory.yaml; the default box when left out",
    "dry-run": "say what would run, change nothing",
    "json": "the outcome as JSON on standard output",
}


@verb(positional=["box"], help=_HELP)
def deploy(context: Any, box: str = "", dry_run: bool = False, json: bool = False) -> None:
    """Put this checkout's code on a box and make its Python environment; nothing is sent when nothing changed."""
    import time

    from remote.control.cloud import boxes
    from remote.control.config.inventory import load_inventory
    from remote.control.console import print_json, print_table, say
    from remote.control.transport import release as releases
    from remote.control.transport.connect import connect

    entry = load_inventory().box(box or None)
    release = releases.build_release([])
    if dry_run:
        lines: list[str] = []
        _rehearse(entry, release, lines.append if json else say)
        if json:
            print_json({"box": entry.name, "release": release.digest, "would_run": lines})
        return
    started = time.monotonic()
    with connect(boxes.running(entry)) as transport:
        deployed = releases.deploy(transport, entry.root, release, say, shared=entry.shared)
    outcome = {"box": entry.name, **asdict(deployed), "seconds": round(time.monotonic() - started, 2)}
    if json:
        print_json(outcome)
        return
    state = "was current" if deployed.was_current else "now current"
    rows = [
        ("release", f"{deployed.digest[:12]} ({state})"), ("sent", f"{deployed.sent_bytes:,} bytes in {deployed.round_trips} round trips"),
        ("environment", deployed.environment), ("seconds", outcome["seconds"]),
    ]  # fmt: skip
    print_table(f"deploy to {entry.name}", ("", ""), rows)


def _rehearse(entry: "BoxEntry", release: "Release", say: Any) -> None:
    from remote.control.transport.dry_run import DryRunTransport
    from remote.control.transport.release import REQUIREMENTS, probe_command, receive_command

    transport = DryRunTransport(f"box {entry.name}", say)
    transport.exec(probe_command(entry.root, release.digest, entry.shared, REQUIREMENTS))
    transport.exec(receive_command(entry.root, release.digest, entry.shared, REQUIREMENTS), release.archive())
