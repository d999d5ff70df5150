import io
import json
import sys

import pytest

from remote.control.commands.views.observe.log_lines import LONGEST_LINE, Printer, fit_for_terminal
from remote.control.logs.record import LogRecord

BAR = b"\r 10%|#   |\r 50%|##  |\r100%|####|\nnext\r\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A function that makes standard output a terminal: pytest sets its own anew for each phase."""

    def begin():
        monkeypatch.setattr(sys, "stdout", Terminal())
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        return sys.stdout

    return begin


def log(content, box="one", stage="train", at=1.0, **facts):
    return LogRecord(at, box, "run-1", "job-1", stage, content=content, **facts)


def test_a_progress_bar_is_told_by_its_last_state(capsys):
    Printer("lines", 1).print(log(BAR))
    assert capsys.readouterr().out == "100%|####|\nnext\n"


def test_raw_keeps_every_byte(capsysbinary):
    Printer("raw", 1).print(log(b"\xff\x00\r" + BAR))
    assert capsysbinary.readouterr().out == b"\xff\x00\r" + BAR


def test_a_terminal_is_not_disturbed_and_its_lines_are_not_endless(terminal):
    out = terminal()
    Printer("lines", 1).print(
        log(b"a\x07\x1b]0;title\x07\x1b[31mred\x1b[0m\tb\n" + b"y" * 1_000_000 + b"\n")
    )
    first, second = out.getvalue().splitlines()
    assert first == "a··]0;title·\x1b[31mred\x1b[0m\tb"
    assert len(second) < LONGEST_LINE + 100 and "998,000 characters more: --raw has all" in second


def test_in_a_pipe_a_long_line_is_whole(capsys):
    Printer("lines", 1).print(log(b"y" * 1_000_000 + b"\n"))
    assert len(capsys.readouterr().out) == 1_000_001


def test_several_jobs_have_coloured_names(terminal):
    out = terminal()
    printer = Printer("lines", 2)
    printer.introduce("one", "train", "run-1")
    printer.introduce("two", "train", "run-1")
    printer.introduce("two", "prepare", "run-1")
    printer.print(log(b"a\nb\n"))
    printer.print(log(b"c\n", box="two", stage="prepare"))
    lines = out.getvalue().splitlines()
    assert [line.rpartition(" │ ")[2] for line in lines] == ["a", "b", "c"]
    assert "\x1b[36mone\x1b[0m" in lines[1] and "\x1b[35mtwo/prepare\x1b[0m" in lines[2]


@pytest.mark.parametrize(("boxes", "names"), [(1, ["ab12", "cd34"]), (2, ["one/ab12", "one/cd34"])])
def test_two_runs_of_one_stage_on_one_box_are_told_apart(capsys, boxes, names):
    printer = Printer("lines", boxes)
    for run in ("20260101-haul-ab12", "20260102-haul-cd34"):
        printer.introduce("one", "train", run)
    printer.print(LogRecord(1.0, "one", "20260101-haul-ab12", "j1", "train", content=b"a\n"))
    printer.print(LogRecord(2.0, "one", "20260102-haul-cd34", "j2", "train", content=b"b\n"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" │ ")[0].split()[1] for line in lines] == names


def test_what_happened_stands_out(capsys):
    Printer("lines", 1).print(
        LogRecord(1.0, "one", source="kernel", level="error", content=b"Xid 79")
    )
    assert capsys.readouterr().out.endswith(" kernel] Xid 79\n")


def test_secrets_are_masked_in_every_way(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz")
    for mode in ("lines", "json", "raw"):
        Printer(mode, 1).print(log(b"token hf_abcdefghijklmnopqrstuvwxyz\n"))
    out = capsys.readouterr().out
    assert "hf_abc" not in out and out.count("token ***") == 3


def test_objects_have_the_level_of_their_line(capsys):
    printer = Printer("json", 1)
    printer.print(log(b"Traceback (most recent call last):\n"))
    printer.print(log(b"  deep\nKeyError: 'x'\nfine \xff\n"))
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["level"] for each in objects] == ["error", "error", "error", "info"] and objects[
        3
    ]["text"] == "fine �"
    assert set(objects[0]) == {"time", "box", "run", "job", "stage", "source", "level", "text"}


def test_a_line_without_an_end_is_shown_on_a_terminal_until_the_next(terminal):
    out = terminal()
    printer = Printer("lines", 1)
    printer.print(log(b"\r 10%|#", is_partial=True))
    printer.print(log(b"whole\n"))
    assert out.getvalue() == "\r\x1b[2K 10%|#\x1b[0m\r\x1b[2Kwhole\n"


def test_without_a_terminal_it_is_not(capsys):
    Printer("lines", 1).print(log(b"half", is_partial=True))
    assert capsys.readouterr().out == "" and fit_for_terminal("ok") == "ok"


def test_what_a_box_calls_a_stage_or_a_source_disturbs_nobody(terminal, capsys):
    out, wild = terminal(), "x\x1b]0;t\x07"
    printer = Printer("lines", 2)
    printer.introduce("one", wild, "run-1")
    printer.introduce("one", "b", "run-1")
    printer.print(log(b"line\n", stage=wild))
    printer.print(log(b"happened", stage=wild, source=wild))
    assert "\x1b]" not in out.getvalue() and "x·]0;t·" in out.getvalue()


def test_a_level_that_a_box_makes_up_is_one_value(capsys):
    Printer("json", 1).print(log(b"happened", source="gpu", level='x", "box": "another'))
    told = json.loads(capsys.readouterr().out)
    assert told["box"] == "one" and told["level"] == 'x", "box": "another'
