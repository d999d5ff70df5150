"""Which boxes are this project's: a mark on everything it makes, drawn once."""

import re
import secrets

from remote.contract import atomic, digest
from remote.control import project

PROJECT_TAG = "windlass:project"
BOX_TAG = "windlass:box"

ADOPTED_TAG = "windlass:adopted"
"""On an instance that somebody else made: when it was adopted. Nothing ends it unasked."""

REPLACED_TAG = "windlass:replaced"
"""On an instance that a newer one is to replace: since when. Its loss was agreed to."""

UNUSED_TAG = "windlass:unused"
"""On a stopped instance or a disk attached to nothing: since when it has been so, as far as `reap` knows. EC2 does not always tell."""


def project_mark() -> str:
    """`<folder>-<8 hexadecimal digits>`: the value of the tag `windlass:project`. Drawn once, kept in `.windlass/project`.

    Drawn, not derived from the path: two people with a folder of the same name share no boxes, and a moved folder keeps its own. Where
    the inventory names one, it is that: so checkouts on several laptops see the same boxes.
    """
    path = project.mark_file()
    if not path.exists():
        atomic.create(path, f"{_shared_mark() or _drawn_mark()}\n".encode())
    return path.read_text().strip()


def _shared_mark() -> str:
    from remote.control.config.inventory import load_inventory

    return load_inventory().project or ""


def _drawn_mark() -> str:
    folder = re.sub(r"[^A-Za-z0-9]+", "-", project.root().name)[:40].strip("-")
    return f"{folder or 'project'}-{secrets.token_hex(4)}"


def client_token(box_name: str, generation: int, offer: str) -> str:
    """What makes a repeated RunInstances find its first result: 64 characters, the same for one offer in one life of a box."""
    return digest.of_value([project_mark(), box_name, generation, offer])


def tags(box_name: str, further: dict[str, str]) -> dict[str, str]:
    """The tags on all that is made for a box. Windlass's own win over the inventory's."""
    return {**further, "Name": f"windlass-{box_name}", BOX_TAG: box_name, PROJECT_TAG: project_mark()}


def shared_tags() -> dict[str, str]:
    """The tags on what several boxes share, such as the key pair."""
    return {"Name": "windlass", PROJECT_TAG: project_mark()}


def group_name(box_name: str) -> str:
    """The name of the box's security group."""
    return f"windlass-{project_mark()}-{box_name}"
