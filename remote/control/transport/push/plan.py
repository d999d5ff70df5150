"""What a push would carry, for people and scripts: what goes, what stays and why, and how large it
is."""

from typing import Any

from remote.control.output.sanitize import counted, sized
from remote.control.transport.push.release import Release
from remote.control.transport.push.selection import (
    FILES,
    Member,
    Selection,
    Staying,
    rest_of_project,
)

_SHOWN = 200


def plan_of(selection: Selection, release: Release) -> dict[str, Any]:
    """All of it as plain JSON."""
    goes = [
        {"name": each.name, "bytes": each.size, "why": each.why, "link": each.target}
        for each in selection.goes
    ]
    stays = [
        {"name": each.name, "bytes": each.size, "files": each.files, "why": each.why}
        for each in _all_that_stays(selection)
    ]
    return {
        "release": release.digest,
        "bytes": selection.size,
        "goes": goes,
        "stays": stays,
        "warnings": list(selection.warnings),
    }


def show(selection: Selection, release: Release) -> None:
    """Two tables, the largest first; Windlass's own code is one row."""
    from remote.control.output.console import print_table, say, tell

    code = [each for each in selection.goes if not each.name.startswith(f"{FILES}/")]
    others = sorted(
        (each for each in selection.goes if each.name.startswith(f"{FILES}/")),
        key=lambda each: -each.size,
    )
    rows = [
        ("remote/", len(code), sized(sum(each.size for each in code)), "Windlass's code"),
        *map(_row, others[:_SHOWN]),
    ]
    print_table(f"release {release.digest[:12]}: what goes", ("name", "files", "size", "why"), rows)
    if len(others) > _SHOWN:
        tell(
            f"and {len(others) - _SHOWN} smaller ones: `./inv deploy --plan --json` names them all"
        )
    stays = sorted(_all_that_stays(selection), key=lambda each: -each.size)
    print_table(
        "what stays",
        ("name", "files", "size", "why"),
        [(each.name, each.files, sized(each.size), each.why) for each in stays],
    )
    tell(
        f"{counted(len(selection.goes), 'file')}, {sized(selection.size)}; what the box has already"
        " is not sent again"
    )
    for warning in selection.warnings:
        say(f"warning: {warning}", "yellow")


def _all_that_stays(selection: Selection) -> list[Staying]:
    return [*selection.stays, *(each for each in rest_of_project(selection) if each.files)]


def _row(going: Member) -> tuple[object, ...]:
    link = f" -> {going.target}" if going.target else ""
    return f"{going.name.removeprefix(f'{FILES}/')}{link}", 1, sized(going.size), going.why
