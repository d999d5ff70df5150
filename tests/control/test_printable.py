"""What a box says cannot play with the terminal of who reads it."""

import io

import pytest

from remote.control.errors import WindlassError
from remote.control.output import console
from remote.control.output.sanitize import coloured, plain, sized

TITLE, CLIPBOARD, UP, C1 = "\x1b]0;mine\x07", "\x1b]52;c;aGk=\x07", "\x1b[2A\x1b[K", "\x9b2J"


@pytest.mark.parametrize("sequence", [TITLE, CLIPBOARD, UP, C1, "\x08\x7f", "\x1bc"])
def test_no_sequence_passes(sequence):
    for safe in (plain(f"a{sequence}b"), coloured(f"a{sequence}b")):
        assert safe[0] == "a" and safe[-1] == "b" and safe.isprintable()


def test_colours_of_a_log_stay_and_end_with_their_line():
    assert coloured("\x1b[31mred\x1b[0m") == "\x1b[31mred\x1b[0m"
    assert coloured("\x1b[8mhidden") == "\x1b[8mhidden\x1b[0m"
    assert plain("\x1b[31mred\x1b[0m\r\nnext\tone") == "red\nnext\tone"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (99_999, "99,999 bytes"),
        (100_000, "0.1 MB"),
        (170_000_000, "170.0 MB"),
        (4_000_000_000, "4.00 GB"),
    ],
)
def test_an_amount_of_bytes(count, words):
    assert sized(count) == words


def test_an_error_in_a_boxs_words():
    assert WindlassError(f"what{UP}", why=f"why{TITLE}").lines() == [
        "error: what·[2A·[K",
        "  why: why·]0;mine·",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """A console on a terminal, and what it has shown."""
    out = Terminal()
    terminal = console._plain_console()(file=out, force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(console, "console", lambda: terminal)
    monkeypatch.setattr(console, "output", lambda: terminal)
    return out


def test_lines_and_tables_for_people(shown, monkeypatch):
    monkeypatch.setattr("sys.stdout", shown)
    monkeypatch.setattr("sys.stderr", shown)
    console.say(f"a line{TITLE}", "red")
    console.print_table("jobs", ("box", "why"), [("one", f"words{CLIPBOARD}")])
    assert "\x1b[31ma line" in shown.getvalue()
    assert "\x1b]" not in shown.getvalue() and "\x07" not in shown.getvalue()


def test_a_live_screen(shown):
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("log")
    table.add_row(Text(f"words{TITLE}{UP}"))
    with Live(table, console=console.console(), auto_refresh=False) as live:
        live.refresh()
    assert (
        "words·]0;mine" in shown.getvalue()
        and "\x1b]" not in shown.getvalue()
        and "\x1b[2A\x1b[K·" not in shown.getvalue()
    )
