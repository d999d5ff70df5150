"""Progress on the terminal: what functions tell while they work."""

from typing import TYPE_CHECKING

from remote.control.output import console
from remote.control.progress import Kind, Note

if TYPE_CHECKING:
    from remote.control.backends.preflight import Report
    from remote.control.runs.reporter import Reporter

_STYLES: dict[Kind, str] = {"title": "bold", "detail": "dim", "done": "green", "warning": "yellow"}


def say(line: str) -> None:
    """A line of progress, or a warning: on standard error, coloured by its kind."""
    console.say(line, _STYLES[line.kind] if isinstance(line, Note) else None)


def reporter() -> "Reporter":
    """Shows a run: on standard error, its jobs and transfers live where that is a terminal."""
    from remote.control.commands.views.runs.job_progress import display_for
    from remote.control.runs.reporter import Reporter

    return Reporter(say, console.bytes_progress, console.rows_asked, display_for, _checks)


def _checks(report: "Report") -> None:
    from remote.control.commands.views.runs import preflight

    with console.aside():
        preflight.show(report, whole=False)
