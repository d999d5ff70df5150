"""Lines of logs as people and scripts get them, on standard output."""

import os
import shutil
import sys

from remote.contract.logs.lines import Levels
from remote.contract.logs.query import LOG, METRICS
from remote.control.logs.record import LogRecord
from remote.control.output import console, json_text, timefmt
from remote.control.output.sanitize import coloured, counted, plain
from remote.control.secrets import mask

LONGEST_LINE = 2000
"""Characters of a line on a terminal."""

_END_OF_RUN = 4
"""So many characters tell runs apart: they are random."""
_NAME_COLOURS = (36, 35, 33, 32, 34, 96, 95, 93, 92, 94)
_LEVEL_COLOURS = {"info": 2, "warning": 33, "error": 31}


def fit_for_terminal(line: str) -> str:
    """The line without what would disturb a terminal, and not longer than `LONGEST_LINE`."""
    if len(line) > LONGEST_LINE:
        line = (
            f"{line[:LONGEST_LINE]}\x1b[0m … [{counted(len(line) - LONGEST_LINE, 'character')}"
            " more: --raw has all]"
        )
    return coloured(line)


class Printer:
    """Prints records: `mode` is lines, json or raw. `boxes` are several where there is more than
    one; `shows_partial`: whether a terminal shows lines that have no end yet."""

    def __init__(self, mode: str, boxes: int, shows_partial: bool = True) -> None:
        self._mode, self._boxes, self._shows_partial = mode, boxes, shows_partial
        self._is_terminal = sys.stdout.isatty() and mode == "lines"
        self._is_coloured = (
            self._is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        )
        self._mask = mask()
        self._jobs: dict[str, set[tuple[str, str]]] = {}
        self._colours: dict[str, int] = {}
        self._levels: dict[str, Levels] = {}
        self._width = 0
        self._is_overwritten = self._has_told_zone = False

    def introduce(self, box: str, stage: str, run: str) -> None:
        """Records of another job follow: its lines may need a name. `run`, or the job's own id
        where it has none."""
        self._jobs.setdefault(box, set()).add((stage, run))

    def print(self, record: LogRecord) -> None:
        """Print it."""
        if record.is_partial:
            self._show_partial(record)
            return
        if record.source == METRICS or (self._mode == "raw" and not record.content):
            return
        self._take_back_partial()
        if self._mode == "raw":
            sys.stdout.buffer.write(self._mask.content(record.content))
            sys.stdout.buffer.flush()
        elif self._mode == "json":
            sys.stdout.write(self._objects(record))
        else:
            sys.stdout.write(self._text(record))
        sys.stdout.flush()

    def finish(self) -> None:
        """Leave the terminal as it should be."""
        self._take_back_partial()
        sys.stdout.flush()

    def _text(self, record: LogRecord) -> str:
        name = self._name(record)
        if record.source == LOG and not name and not self._is_terminal:
            return (  # many lines at once: a fast log brings a million in a second
                f"{plain(record.text(self._mask))}\n"
            )
        prefix = self._prefix(record, name)
        return "".join(f"{prefix}{self._event(record, line)}\n" for line in self._lines(record))

    def _lines(self, record: LogRecord) -> list[str]:
        lines = record.text(self._mask).split("\n")
        if self._mode == "json":
            return lines
        return (
            [fit_for_terminal(line) for line in lines]
            if self._is_terminal
            else [plain(line) for line in lines]
        )

    def _objects(self, record: LogRecord) -> str:
        facts = {
            "time": record.at,
            "box": record.box,
            "run": record.run,
            "job": record.job,
            "stage": record.stage,
            "source": record.source,
        }
        head = json_text.line(facts)[:-1]  # the same for all these lines: they may be many
        levels = self._levels.setdefault(f"{record.box} {record.job}", Levels())
        is_log = record.source == LOG
        return "".join(
            f'{head}, "level": {json_text.text(levels.of(line) if is_log else record.level)},'
            f' "text": {json_text.text(line)}}}\n'
            for line in self._lines(record)
        )

    def _name(self, record: LogRecord) -> str:
        jobs = self._jobs.get(record.box, set())
        parts = [record.box] if self._boxes > 1 else []
        if record.stage and len({stage for stage, _ in jobs}) > 1:
            parts.append(record.stage)
        if record.stage and sum(stage == record.stage for stage, _ in jobs) > 1:
            parts.append((record.run or record.job)[-_END_OF_RUN:])
        return plain("/".join(parts))

    def _prefix(self, record: LogRecord, name: str) -> str:
        if not name and (record.source == LOG or self._stands_alone(record.box)):
            return ""
        self._width = max(self._width, len(name))
        colour = self._colours.setdefault(
            name, _NAME_COLOURS[len(self._colours) % len(_NAME_COLOURS)]
        )
        return (
            f"{self._painted(self._clock(record.at), 2)}"
            f" {self._painted(f'{name:<{self._width}}', colour)} │ "
        )

    def _event(self, record: LogRecord, line: str) -> str:
        if record.source == LOG:
            return line
        when = f"{self._clock(record.at)} " if self._stands_alone(record.box) else ""
        return self._painted(
            f"[{when}{plain(record.source)}] {line}", _LEVEL_COLOURS.get(record.level, 0)
        )

    def _clock(self, at: float) -> str:
        if self._is_terminal and not self._has_told_zone:
            self._has_told_zone = True
            console.say("times are UTC", "dim")
        return timefmt.clock(at)

    def _stands_alone(self, box: str) -> bool:
        return self._boxes == 1 and len(self._jobs.get(box, ())) < 2

    def _painted(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_coloured else text

    def _show_partial(self, record: LogRecord) -> None:
        if self._is_terminal and self._shows_partial:
            width = shutil.get_terminal_size().columns - 1
            name = self._name(record)
            shown = f"{name} │ {self._lines(record)[-1]}".removeprefix(" │ ")[:width]
            sys.stdout.write(f"\r\x1b[2K{shown}\x1b[0m")
            sys.stdout.flush()
            self._is_overwritten = True

    def _take_back_partial(self) -> None:
        if self._is_overwritten:
            sys.stdout.write("\r\x1b[2K")
            self._is_overwritten = False
