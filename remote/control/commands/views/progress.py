"""Progress on the terminal: what functions tell while they work."""

from remote.control.output import console
from remote.control.progress import Kind, Note

_STYLES: dict[Kind, str] = {
    "title": "bold",
    "detail": "dim",
    "done": "green",
    "warning": "yellow",
}


def say(line: str) -> None:
    """A line of progress, or a warning: on standard error, coloured by its kind."""
    console.say(line, _STYLES[line.kind] if isinstance(line, Note) else None)
