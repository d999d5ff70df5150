"""What a push would carry: what goes, what stays and why, and how large it is."""

from typing import Any

from remote.control.transport.push.release import Release
from remote.control.transport.push.selection import Selection, Staying, rest_of_project


def plan_of(selection: Selection, release: Release) -> dict[str, Any]:
    """All of it as plain JSON."""
    goes = [
        {"name": each.name, "bytes": each.size, "why": each.why, "link": each.target}
        for each in selection.goes
    ]
    stays = [
        {"name": each.name, "bytes": each.size, "files": each.files, "why": each.why}
        for each in all_that_stays(selection)
    ]
    return {
        "release": release.digest,
        "bytes": selection.size,
        "goes": goes,
        "stays": stays,
        "warnings": list(selection.warnings),
    }


def all_that_stays(selection: Selection) -> list[Staying]:
    """What was looked at and does not go, then a line for the rest of the project."""
    return [*selection.stays, *(each for each in rest_of_project(selection) if each.files)]
