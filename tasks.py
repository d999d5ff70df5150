"""Where Invoke looks for commands. The tree is in remote/control/commands/tree.py."""

from remote.control.commands.tree import ns

__all__ = ["ns"]
