"""Deploys, the releases that a box keeps, and what a push would carry, for people."""

from typing import TYPE_CHECKING

from remote.control.output import timefmt
from remote.control.output.console import print_table, say, tell
from remote.control.output.sanitize import counted, sized
from remote.control.transport.push.plan import all_that_stays
from remote.control.transport.push.selection import FILES, Member

if TYPE_CHECKING:
    from remote.control.operations.deploying import RolledBack, Sent
    from remote.control.transport.push.release import Release
    from remote.control.transport.push.rollback import KeptRelease
    from remote.control.transport.push.selection import Selection

_SHOWN = 200


def sentence(sent: "Sent") -> str:
    """What came of a deploy, as one line."""
    done = sent.deployed
    state = (
        "was current"
        if done.was_current
        else f"is current now, {counted(done.sent_bytes, 'byte')} sent"
    )
    return f"release {done.digest[:12]} {state} ({sent.seconds} s)"


def show_sent(sent: "Sent") -> None:
    """What came of the deploy to one box, as a table."""
    done = sent.deployed
    state = "was current" if done.was_current else "now current"
    told = f"{counted(done.sent_bytes, 'byte')} in {counted(done.round_trips, 'round trip')}"
    rows = [
        ("release", f"{done.digest[:12]} ({state})"),
        ("sent", f"{told}; {done.lacking:,} bytes of files were not there"),
        ("environment", done.environment),
        ("seconds", sent.seconds),
    ]
    print_table(f"deploy to {sent.box}", ("", ""), rows)


def show_releases(box: str, releases: "list[KeptRelease]") -> None:
    """The releases that a box keeps, as a table."""
    if not releases:
        tell(f"nothing is deployed on box {box} yet; `./inv deploy {box}` does it")
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
    columns = ("release", "", "deployed (UTC)", "files", "size", "used by")
    print_table(f"releases on {box}", columns, rows)


def show_rolled_back(done: "RolledBack", dry_run: bool) -> None:
    """Which release is, or with `dry_run` would become, current."""
    tell(
        f"{'would make' if dry_run else 'made'} release {done.release[:12]} current on {done.box},"
        f" in place of {done.was[:12]}"
    )
    if not dry_run:
        tell(
            "the next deploy, run or preflight puts this checkout's code there again: check out"
            " what you want to stay",
            "dim",
        )


def show_plan(selection: "Selection", release: "Release") -> None:
    """What a push would carry: two tables, the largest first; Windlass's own code is one row."""
    columns = ("name", "files", "size", "why")
    code = [each for each in selection.goes if not each.name.startswith(f"{FILES}/")]
    others = sorted(
        (each for each in selection.goes if each.name.startswith(f"{FILES}/")),
        key=lambda each: -each.size,
    )
    rows = [
        ("remote/", len(code), sized(sum(each.size for each in code)), "Windlass's code"),
        *map(_row, others[:_SHOWN]),
    ]
    print_table(f"release {release.digest[:12]}: what goes", columns, rows)
    if len(others) > _SHOWN:
        tell(
            f"and {len(others) - _SHOWN} smaller ones: `./inv deploy --plan --json` names them all"
        )
    stays = sorted(all_that_stays(selection), key=lambda each: -each.size)
    told = [(each.name, each.files, sized(each.size), each.why) for each in stays]
    print_table("what stays", columns, told)
    tell(
        f"{counted(len(selection.goes), 'file')}, {sized(selection.size)}; what the box has already"
        " is not sent again"
    )
    for warning in selection.warnings:
        say(f"warning: {warning}", "yellow")


def _row(going: Member) -> tuple[object, ...]:
    link = f" -> {going.target}" if going.target else ""
    return f"{going.name.removeprefix(f'{FILES}/')}{link}", 1, sized(going.size), going.why
