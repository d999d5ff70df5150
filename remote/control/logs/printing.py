"""Lines of logs as people and scripts get them, on standard output."""

import os
import shutil
import sys

from remote.contract.log_lines import Levels
from remote.control import console, json_text, moments
from remote.control.jobs.mirror import last_state
from remote.control.logs.told import LOG, Told
from remote.control.printable import coloured, counted, plain
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
        line = f"{line[:LONGEST_LINE]}\x1b[0m … [{counted(len(line) - LONGEST_LINE, 'character')} more: --raw has all]"
    return coloured(line)


def print_lines(text: str) -> None:
    """Print lines of a log that came at once, and bring them out at once: none waits for the next."""
    sys.stdout.write("\n".join([*map(fit_for_terminal, text.split("\n")), ""]) if sys.stdout.isatty() else f"{plain(text)}\n")
    sys.stdout.flush()


class Printer:
    """Prints what is told: `mode` is lines, json or raw. `boxes` are several where there is more than one."""

    def __init__(self, mode: str, boxes: int) -> None:
        self._mode, self._boxes = mode, boxes
        self._is_terminal = sys.stdout.isatty() and mode == "lines"
        self._is_coloured = self._is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._mask = mask()
        self._jobs: dict[str, set[tuple[str, str]]] = {}
        self._colours: dict[str, int] = {}
        self._levels: dict[str, Levels] = {}
        self._width = 0
        self._is_overwritten = self._has_told_zone = False

    def introduce(self, box: str, stage: str, run: str) -> None:
        """Another job will be told: its lines may need a name. `run`, or the job's own id where it has none."""
        self._jobs.setdefault(box, set()).add((stage, run))

    def tell(self, told: Told) -> None:
        """Print it."""
        if told.is_partial:
            self._show_partial(told)
            return
        self._take_back_partial()
        if self._mode == "raw":
            sys.stdout.buffer.write(self._mask.content(told.content))
            sys.stdout.buffer.flush()
        elif self._mode == "json":
            sys.stdout.write(self._objects(told))
        else:
            sys.stdout.write(self._text(told))
        sys.stdout.flush()

    def finish(self) -> None:
        """Leave the terminal as it should be."""
        self._take_back_partial()
        sys.stdout.flush()

    def _text(self, told: Told) -> str:
        name = self._name(told)
        if told.source == LOG and not name and not self._is_terminal and b"\r" not in told.content:
            text = plain(self._mask.text(told.content.decode(errors="replace")))
            return text if text.endswith("\n") else f"{text}\n"
        prefix = self._prefix(told, name)
        return "".join(f"{prefix}{self._event(told, line)}\n" for line in self._lines(told))

    def _lines(self, told: Told) -> list[str]:
        content = told.content.removesuffix(b"\n")
        content = b"\n".join(last_state(line) for line in content.split(b"\n")) if b"\r" in content else content
        lines = self._mask.text(content.decode(errors="replace")).split("\n")
        if self._mode == "json":
            return lines
        return [fit_for_terminal(line) for line in lines] if self._is_terminal else [plain(line) for line in lines]

    def _objects(self, told: Told) -> str:
        facts = {"time": told.at, "box": told.box, "run": told.run, "job": told.job, "stage": told.stage, "source": told.source}
        head = json_text.line(facts)[:-1]  # the same for all these lines: they may be many
        levels = self._levels.setdefault(f"{told.box} {told.job}", Levels())
        is_log = told.source == LOG
        return "".join(
            f'{head}, "level": {json_text.text(levels.of(line) if is_log else told.level)}, "text": {json_text.text(line)}}}\n'
            for line in self._lines(told)
        )

    def _name(self, told: Told) -> str:
        jobs = self._jobs.get(told.box, set())
        parts = [told.box] if self._boxes > 1 else []
        if told.stage and len({stage for stage, _ in jobs}) > 1:
            parts.append(told.stage)
        if told.stage and sum(stage == told.stage for stage, _ in jobs) > 1:
            parts.append((told.run or told.job)[-_END_OF_RUN:])
        return plain("/".join(parts))

    def _prefix(self, told: Told, name: str) -> str:
        if not name and (told.source == LOG or self._stands_alone(told.box)):
            return ""
        self._width = max(self._width, len(name))
        colour = self._colours.setdefault(name, _NAME_COLOURS[len(self._colours) % len(_NAME_COLOURS)])
        return f"{self._painted(self._clock(told.at), 2)} {self._painted(f'{name:<{self._width}}', colour)} │ "

    def _event(self, told: Told, line: str) -> str:
        if told.source == LOG:
            return line
        when = f"{self._clock(told.at)} " if self._stands_alone(told.box) else ""
        return self._painted(f"[{when}{plain(told.source)}] {line}", _LEVEL_COLOURS.get(told.level, 0))

    def _clock(self, at: float) -> str:
        if self._is_terminal and not self._has_told_zone:
            self._has_told_zone = True
            console.say("times are UTC", "dim")
        return moments.clock(at)

    def _stands_alone(self, box: str) -> bool:
        return self._boxes == 1 and len(self._jobs.get(box, ())) < 2

    def _painted(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_coloured else text

    def _show_partial(self, told: Told) -> None:
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            name = self._name(told)
            sys.stdout.write(f"\r\x1b[2K{f'{name} │ {self._lines(told)[-1]}'.removeprefix(' │ ')[:width]}\x1b[0m")
            sys.stdout.flush()
            self._is_overwritten = True

    def _take_back_partial(self) -> None:
        if self._is_overwritten:
            sys.stdout.write("\r\x1b[2K")
            self._is_overwritten = False
