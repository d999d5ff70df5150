"""Logs on a terminal, in a file or a pipe."""

from collections.abc import Sequence
from contextlib import ExitStack

from remote.contract.job.jobs import Status
from remote.control.commands.views.observe.log_lines import Printer
from remote.control.observe.log_reading import Ended, Reading
from remote.control.output import console


def show(reading: Reading, mode: str, on_interrupt: str) -> None:
    """Print all records as they come, with the progress of the only job beside them where there is
    one. `mode` is lines, json or raw; Ctrl-C says `on_interrupt`, unless it is empty."""
    with ExitStack() as closing:
        printer = Printer(mode, reading.count, shows_partial=not reading.title)
        on_metric = None
        if reading.title:
            from remote.control.commands.views.runs.job_progress import display_for

            on_metric = closing.enter_context(display_for(reading.title)).metric
        try:
            for record in reading.records(printer.introduce, on_metric):
                printer.print(record)
        except KeyboardInterrupt:
            printer.finish()
            if on_interrupt:
                console.say(on_interrupt)
            raise
        printer.finish()


def warn_of_failures(ended: Sequence[Ended]) -> None:
    """A line for each job that did not end well."""
    for each in ended:
        status = each.state.status
        if status.is_final and status is not Status.SUCCEEDED:
            console.say(f"{each.label} is {status.value}{each.why}{each.hint}", "yellow")
