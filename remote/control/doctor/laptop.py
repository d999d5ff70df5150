"""What the laptop itself must have. Nothing here asks a cloud."""

import platform
import shutil
import stat
import sys
from collections.abc import Iterator

from remote.contract.files.disk import apart
from remote.contract.job.checks import Check, Verdict, judge
from remote.control import project, secrets
from remote.control.config.inventory import Inventory
from remote.control.errors import WindlassError

_ROOM_GB = 40
_LEAST_GB = 2


def checks(inventory: Inventory) -> Iterator[Check]:
    """Every check of the laptop, in the order of the table."""
    yield _python()
    yield _disk()
    yield _program(
        "ssh",
        "`./inv ssh` and editors need it; nothing else does",
        "`sudo apt-get install openssh-client`",
    )
    yield _state_folder()
    yield _mark()
    yield _ollama(inventory)
    if inventory.secrets:
        yield _secrets(inventory)
    if any(entry.provider == "ec2" and entry.reach == "ssm" for entry in inventory.boxes.values()):
        yield _program(
            "session-manager-plugin",
            "boxes with `reach: ssm`",
            "install AWS's Session Manager plugin",
            Verdict.FAIL,
        )


def _python() -> Check:
    found, good = platform.python_version(), (3, 11) <= sys.version_info[:2] < (3, 15)
    return judge(
        good, "python", found, "3.11 to 3.14", "install one, remove .venv, then `./inv doctor`"
    )


def _disk() -> Check:
    free, room = shutil.disk_usage(project.root()).free, _ROOM_GB * 1e9
    has, needs = apart(free, room)
    remedy = (
        f"free space on the disk of {project.root()}: a 7B model as GGUF takes 5 to 15 GB, its"
        " pulled parts as much again"
    )
    otherwise = Verdict.WARN if free >= _LEAST_GB * 1e9 else Verdict.FAIL
    return judge(
        free >= room, "laptop disk", f"{has} free", f"{needs} for a 7B model", remedy, otherwise
    )


def _program(name: str, what_for: str, remedy: str, otherwise: Verdict = Verdict.WARN) -> Check:
    found = shutil.which(name)
    return judge(bool(found), name, found or "not on the PATH", what_for, remedy, otherwise)


def _state_folder() -> Check:
    folder = project.state_folder()
    is_private = not folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    return judge(
        is_private,
        ".windlass",
        "private" if is_private else "open to others",
        "for you alone",
        f"`chmod 700 {folder}`",
    )


def _mark() -> Check:
    from remote.control.project import identity

    expected = "whole, or not drawn yet: it finds this project's boxes"
    try:
        mark = identity.kept_mark()
    except WindlassError as error:
        return Check("project mark", error.why, expected, Verdict.FAIL, error.remedy)
    return Check("project mark", mark or "not drawn yet", expected, Verdict.OK)


def _secrets(inventory: Inventory) -> Check:
    found = secrets.findings(inventory)
    lacking = "; ".join(finding.what.replace("`", "") for finding in found)
    remedy = "; ".join(finding.remedy for finding in found)
    return judge(
        not found,
        "secrets",
        lacking or "set",
        "every variable of `secrets:`, for runs on a box",
        remedy,
    )


def _ollama(inventory: Inventory) -> Check:
    from remote.control.serving.find import describe

    expected = "answers, or starts on demand"
    try:
        found = describe(inventory)
    except WindlassError as error:
        return Check("ollama", error.what, expected, Verdict.FAIL, error.remedy)
    told = (
        f"{found['kind']} {found['version']} at {found['url']}"
        if found["running"]
        else f"{found['kind']}, not started"
    )
    return Check("ollama", told, expected, Verdict.OK)
