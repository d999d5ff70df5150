"""A shell on a box, and what the user's own ssh, editor or rsync need to get there."""

from typing import Any

from remote.control.commands.program.verb import verb

_NAME = {"name": "the box, by its name in inventory.yaml (default: its default_box)"}


@verb(
    positional=["name"],
    rest="--command",
    help={**_NAME, "command": "a line for the box's shell, run instead of opening one"},
)
def ssh(_context: Any, name: str = "", command: str = "") -> None:
    """Open a shell on a running box, or run a command there.

    `./inv ssh NAME -- COMMAND` ends with the exit code of the command.
    """
    import os
    import shutil
    import sys

    from remote.control.cloud import boxes
    from remote.control.cloud.access import openssh
    from remote.control.commands.views.progress import say
    from remote.control.errors import LaptopError
    from remote.control.transport import connect

    if not shutil.which("ssh"):
        raise LaptopError(
            "there is no `ssh` on this laptop", remedy="`sudo apt-get install openssh-client`"
        )
    box = boxes.running(_reached_by_ssh(name))
    connect.open_door(box, say)
    is_seen = (
        command and sys.stdin.isatty() and sys.stdout.isatty()
    )  # then it may want a terminal, as `top` does
    words = openssh.command(box, command, terminal=bool(is_seen))
    os.execvp("ssh", words)  # noqa: S606 - input, output, signals and the exit code are ssh's own


@verb(name="ssh-config", positional=["name"], help=_NAME)
def ssh_config(_context: Any, name: str = "") -> None:
    """Print a block for ~/.ssh/config, for editors and rsync.

    Writes nothing.
    """
    from remote.control.cloud import boxes
    from remote.control.cloud.access import openssh
    from remote.control.output import console

    console.write(openssh.config_block(boxes.running(_reached_by_ssh(name))))


@verb(positional=["name"], help=_NAME)
def forget(_context: Any, name: str = "") -> None:
    """Forget a box's pinned host key.

    The next start reads it anew from the box's console.
    """
    from remote.control.cloud import boxes
    from remote.control.output import console

    entry = _entry(name)
    if boxes.forget_host_key(entry):
        console.tell(
            f"the host key of {entry.name} is forgotten; `./inv start {entry.name}` pins it anew"
        )
    else:
        console.tell(f"{entry.name} has no pinned host key")


def _reached_by_ssh(name: str) -> Any:
    """The entry; raises ConfigError for this machine."""
    from remote.control.config.inventory import LocalEntry
    from remote.control.errors import ConfigError, Finding

    entry = _entry(name)
    if isinstance(entry, LocalEntry):
        what, remedy = f"`{name}` is this machine: no SSH leads to it", "run the command itself"
        raise ConfigError([Finding("the command line", what, "a box of the inventory", remedy)])
    return entry


def _entry(name: str) -> Any:
    from remote.control.config.inventory import load_inventory

    return load_inventory().box(name or None)
