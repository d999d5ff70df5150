"""Which boxes are this project's: a mark on everything it makes, drawn once."""

import re
import secrets
import shlex
from pathlib import Path

from remote.contract.files import atomic, digest
from remote.control import project
from remote.control.errors import LaptopError
from remote.control.project import history

PROJECT_TAG = "windlass:project"
BOX_TAG = "windlass:box"

ADOPTED_TAG = "windlass:adopted"
"""On an instance that somebody else made: when it was adopted. Nothing ends it unasked."""

REPLACED_TAG = "windlass:replaced"
"""On an instance that a newer one is to replace: since when. Its loss was agreed to."""

UNUSED_TAG = "windlass:unused"
"""On a stopped instance or a disk attached to nothing: since when it has been so, as far as `reap`
knows. EC2 does not always tell."""


_shared: dict[Path, str] = {}
"""By the project's folder, what its inventory says; a process may load several."""


def project_mark() -> str:
    """`<folder>-<8 hexadecimal digits>`: the value of the tag `windlass:project`. Drawn once, kept
    in `.windlass/project`.

    Drawn, not derived from the path: two people with a folder of the same name share no boxes, and
    a moved folder keeps its own. Where the inventory names one, it is that: so checkouts on several
    laptops see the same boxes. Raises LaptopError for a mark that is damaged, or gone although this
    checkout has launched boxes: under another one they would be lost sight of, and launched twice.
    """
    if mark := kept_mark():
        return mark
    known, shared = history.launched(), _shared.get(project.root(), "")
    if any(not shared or each.mark != shared for each in known):
        raise _unusable(project.mark_file(), "is gone", "there is no such file")
    atomic.create(
        project.mark_file(), f"{shared or history.last_mark() or _drawn_mark()}\n".encode()
    )
    return kept_mark()


def share(mark: str) -> None:
    """Take the mark that this project's inventory names, empty for none, where none is kept yet."""
    _shared[project.root()] = mark


def kept_mark() -> str:
    """What `.windlass/project` says; empty where there is no such file. Raises LaptopError for
    anything but a whole mark."""
    path = project.mark_file()
    try:
        text = path.read_bytes()[:200].decode()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(
            path, "cannot be read", getattr(error, "strerror", None) or "it is no text"
        ) from None
    mark = text.strip()
    if not re.fullmatch(project.MARK_PATTERN, mark):
        raise _unusable(path, "is damaged", "it is empty" if not mark else f"it says {mark[:60]!r}")
    if not text.endswith("\n") and mark not in history.marks():
        raise _unusable(
            path, "is damaged", f"it ends within its line, {mark!r}: the rest may be cut off"
        )
    return mark


def lost_sight_of(mark: str, instance_id: str, region: str) -> tuple[str, str]:
    """For an instance that this checkout launched and that does not bear its mark: what is wrong in
    words, and the command that fixes it.

    `mark` is the one that the instance bears, empty for none.
    """
    if mark:
        return (
            f"launched here under the mark {mark}, and this checkout's is {project_mark()}",
            restoring(mark),
        )
    command = (
        f"aws ec2 create-tags --region {region} --resources {instance_id} --tags"
        f" Key={PROJECT_TAG},Value={project_mark()}"
    )
    return f"launched here, and its tag {PROJECT_TAG} is gone", command


def restoring(mark: str) -> str:
    """The command that makes `mark` this checkout's again."""
    path = project.mark_file()
    removed = f"rm -r {shlex.quote(str(path))}; " if path.is_dir() or path.is_symlink() else ""
    return f"{removed}echo {shlex.quote(mark)} > {shlex.quote(str(path))}"


def _unusable(path: Path, what: str, why: str) -> LaptopError:
    """The error that names the instances at stake, and the command that brings the mark back."""
    known = history.launched()
    at_stake = ", ".join(f"{each.id} (box {each.box}, {each.region})" for each in known)
    if mark := history.last_mark():
        remedy = f"`{restoring(mark)}`"
    elif known:
        tags = (
            f"aws ec2 describe-tags --region {known[-1].region} --filters"
            f" Name=resource-id,Values={known[-1].id}"
        )
        remedy = f"`{tags}` shows the mark as the tag {PROJECT_TAG}; then `{restoring('MARK')}`"
    else:
        remedy = (
            f"`{restoring('MARK')}` with that of another checkout, or where it has no box: `rm -r"
            f" {shlex.quote(str(path))}`"
        )
    return LaptopError(
        f"the mark of this project {what}: without it no box of it can be found",
        where=str(path),
        why=f"{why}; this checkout launched {at_stake}" if at_stake else why,
        remedy=f"{remedy}, then the same command again",
        kept="everything; no box was touched, and none was made",
    )


def _drawn_mark() -> str:
    folder = re.sub(r"[^A-Za-z0-9]+", "-", project.root().name)[:40].strip("-")
    return f"{folder or 'project'}-{secrets.token_hex(4)}"


def client_token(box_name: str, generation: int, offer: str) -> str:
    """What makes a repeated RunInstances find its first result: 64 characters, the same for one
    offer in one life of a box."""
    return digest.of_value([project_mark(), box_name, generation, offer])


def tags(box_name: str, further: dict[str, str]) -> dict[str, str]:
    """The tags on all that is made for a box. Windlass's own win over the inventory's."""
    return {
        **further,
        "Name": f"windlass-{box_name}",
        BOX_TAG: box_name,
        PROJECT_TAG: project_mark(),
    }


def shared_tags() -> dict[str, str]:
    """The tags on what several boxes share, such as the key pair."""
    return {"Name": "windlass", PROJECT_TAG: project_mark()}


def group_name(box_name: str) -> str:
    """The name of the box's security group."""
    return f"windlass-{project_mark()}-{box_name}"
