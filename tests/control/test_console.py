"""What is told and where: progress without a terminal, tables on a narrow one and in a pipe; and
that nothing told can do harm."""

import ast
import json
import re
import subprocess
import sys

import pytest
from invoke import Context
from rich.text import Text

from remote.control.commands.program.verb import verb
from remote.control.commands.views.observe.log_lines import Printer
from remote.control.logs.record import LogRecord
from remote.control.output import console
from remote.control.output.sanitize import folded
from remote.control.project import CODE
from tests.integration.typed import environment
from tests.terminal import Terminal


@pytest.fixture(autouse=True)
def fresh():
    both = (console.console, console.output)
    for each in both:
        each.cache_clear()
    yield
    for each in both:
        each.cache_clear()


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_a_line_each_ten_seconds_with_rate_and_time_left(clock, capsys):
    console.console.cache_clear()
    with console.bytes_progress("adapter", 170_000_000) as done:
        for second in range(26):
            done(50_000_000 + second * 2_000_000)
            clock[0] += 1
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"  adapter: 41 % of 170\.0 MB, 2\.0 MB/s, 0:00:50 left", first)
    assert re.fullmatch(r"  adapter: 53 % of 170\.0 MB, 2\.0 MB/s, 0:00:40 left", second)


def test_nothing_moves_and_nothing_is_known(clock, capsys):
    console.console.cache_clear()
    with console.bytes_progress("adapter", 0) as done:
        done(5)
        clock[0] += 11
        done(5)
    assert capsys.readouterr().err == "  adapter: 5 bytes, 0 bytes/s\n"


def test_rows_that_are_asked_are_told_at_each_quarter(capsys):
    with console.rows_asked(6) as tell:
        for asked in range(1, 7):
            tell(asked)
    assert capsys.readouterr().err.splitlines() == [
        f"  asked {asked} of 6" for asked in (2, 3, 5, 6)
    ]


@pytest.mark.parametrize("width", [80, 100])
def test_a_runs_id_can_be_copied_from_a_narrow_table(monkeypatch, capsys, width):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(console, "output", lambda: terminal)
    terminal = console._plain_console()(width=width, force_terminal=True, color_system=None)
    run = "20261121-201254-haul-e598"
    row = (
        "sa",
        "base-32ef00a8",
        "pretrain",
        run,
        "PENDING, place 1 in line",
        "2026-11-21 20:16",
        "37 s",
        "waits for train of another run",
    )
    console.print_table("", ("box", "job", "stage", "run", "status", "began", "took", "why"), [row])
    lines = capsys.readouterr().out.splitlines()
    assert (
        max(map(len, lines)) <= width
        and sum(run in line for line in lines) == 1
        and len(lines) <= 7
    )


@pytest.mark.parametrize("width", [40, 60])
def test_a_table_that_a_narrow_terminal_would_tear_apart_is_a_list(monkeypatch, capsys, width):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(console, "output", lambda: terminal)
    terminal = console._plain_console()(width=width, force_terminal=True, color_system=None)
    run = "20261121-201254-haul-e598"
    rows = [
        (run, "golden-path", "RUNNING", "2026-11-21", ""),
        (run, "demo", "FAILED", "2026-11-22", Text("disk full")),
    ]
    console.print_table("runs", ("run", "playbook", "state", "began", "why"), rows)
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown == [
        "runs",
        f"run       {run}",
        "playbook  golden-path",
        "state     RUNNING",
        "began     2026-11-21",
        "",
        f"run       {run}",
        "playbook  demo",
        "state     FAILED",
        "began     2026-11-22",
        "why       disk full",
    ]
    console.print_table("", ("box", "state"), [("gpu", "running")])
    assert "gpu" in capsys.readouterr().out.splitlines()[-2]  # what fits stays a table


TOLD = """
from remote.control.output import console
console.tell("told", "bold green")
console.say("said", "red")
console.print_table("boxes", ("box", "does"), [("gpu", console.styled("stuck", "bold red"))])
"""


@pytest.mark.parametrize(
    ("named", "is_plain"), [({}, False), ({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, True)]
)
def test_no_colours_where_none_are_wanted(named, is_plain):
    terminal = Terminal([sys.executable, "-c", TOLD], environment=environment() | named)
    try:
        terminal.read_until("\0nothing")
    finally:
        terminal.close()
    assert "stuck" in terminal.shown and ("\x1b" not in terminal.shown) == is_plain


def test_a_table_off_a_terminal_is_one_line_a_row(capsys):
    rows = [
        ("a", "two\nlines", Text("red", style="red")),
        ("long-name", "漢字", f"{'x' * 3000}\x1b[2J end"),
    ]
    console.print_table("title", ("box", "why", "what"), rows)
    out, err = capsys.readouterr()
    assert err == "" and out.splitlines() == [
        "title",
        "box        why        what",
        "a          two lines  red",
        f"long-name  漢字       {'x' * 3000}·[2J end",
    ]
    assert not set(out) & set("│┃━─┏┓└┘")


def test_a_table_without_columns_or_rows(capsys):
    console.print_table("boxes", (), [])
    console.print_table("", ("box", "why"), [])
    assert capsys.readouterr().out == "boxes\nbox  why\n"


def test_where_words_go(capsys):
    console.say("progress")
    console.tell("told")
    console.tell_next("")
    console.tell_next("`./inv export r` makes a GGUF")
    with console.aside():
        console.tell("for a question")
        console.print_table("", ("column",), [["row"]])
    with console.aside(False):
        console.write("piece")
    out, err = capsys.readouterr()
    assert out == "told\nnext: `./inv export r` makes a GGUF\npiece"
    assert err == "progress\nfor a question\ncolumn\nrow\n"


def test_with_json_standard_output_is_one_document(capsys):
    @verb
    def told(context, json=False):
        """Tells."""
        console.print_table("", ("box",), [["demo"]])
        console.tell("words")
        if json:
            console.print_json({"box": "demo"})

    told.body(Context(), json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"box": "demo"} and err == "box\ndemo\nwords\n"
    told.body(Context())
    assert capsys.readouterr() == ("box\ndemo\nwords\n", "")


HARM = "\x1b]0;mine\x07\x1b[2A\x9b2J\x7f\u202eabc\u2066\u200b\u2028\ud83d"


@pytest.mark.parametrize(
    "way",
    ["say", "tell", "write", "complain", "table", "title", "column", "progress", "log", "json"],
)
def test_nothing_harmful_passes_through_a_pipe_either(capsys, way):
    ways = {
        "say": lambda: console.say(HARM),
        "tell": lambda: console.tell(HARM),
        "write": lambda: console.write(HARM),
        "complain": lambda: console.complain(HARM),
        "table": lambda: console.print_table("", ("box",), [[HARM], [Text(HARM)]]),
        "title": lambda: console.print_table(HARM, ("box",), [["x"]]),
        "column": lambda: console.print_table("", (HARM,), [["x"]]),
        "progress": lambda: lines(HARM),
        "log": (
            lambda: Printer("lines", 1).print(
                LogRecord(1.0, "gpu", content=HARM.encode(errors="replace"))
            )
        ),
        "json": lambda: (console.print_json({HARM: HARM}), console.print_json_line([HARM])),
    }

    def lines(text):
        with console.lines_of([text]) as show:
            show(text, text, None)
            show(text, text, True)
            show(text, text, False)

    ways[way]()
    told = "".join(capsys.readouterr())
    assert "abc" in told and all(
        character.isprintable() or character in "\n\t" for character in told
    )


def test_what_looks_like_markup_or_a_picture_is_text(capsys, monkeypatch):
    console.say("[red]s3://bucket:key:[/] [/nonsense]")
    console.print_table("[/title]", ("[/column]",), [["[/cell] :key:"]])
    terminal = console._plain_console()(width=100, force_terminal=True, color_system=None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(console, "output", lambda: terminal)
    console.print_table("[/title]", ("[/column]",), [["[/cell] :key:"]])
    told = "".join(capsys.readouterr())
    assert "[red]s3://bucket:key:[/] [/nonsense]" in told
    assert [told.count(words) for words in ("[/title]", "[/column]", "[/cell] :key:")] == [2, 2, 2]


def test_a_question_shows_words_as_they_are(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda *words: asked.append(words) or "y")
    assert console.ask_yes(f"Remove [/x] {HARM}?", False) and asked
    told = capsys.readouterr().err
    assert (
        "Remove [/x] " in told
        and "\x1b]" not in told
        and "\x07" not in told
        and "\u202e" not in told
    )


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("short", 20, ["short"]),
        ("  words that do not fit", 14, ["  words that", "  do not fit"]),
        (
            "  fix: type `./inv resume a-long-run`, wait",
            30,
            ["  fix: type", "       `./inv resume a-long-run`,", "       wait"],
        ),
        ("x" * 50, 20, ["x" * 50]),
        ("one two", 0, ["one two"]),
    ],
)
def test_lines_fold_between_words_and_never_in_a_command(text, width, lines):
    assert folded(text, width).split("\n") == lines


WRITERS = {
    "remote/control/output/console.py",
    "remote/control/commands/views/observe/log_lines.py",
    "remote/control/commands/__main__.py",
}
"""Who writes to standard output or error itself: the rest says, tells or prints by these.
(`log_lines` neutralises lines of logs by itself, or passes bytes on with --raw; `__main__` has a
line of its own for Ctrl-C before anything is loaded.)"""
DAEMONS = {
    "remote/embedded/cloud/account.py",
    "remote/embedded/instances/images.py",
    "remote/embedded/cloud/store.py",
    "remote/embedded/cloud/server.py",
    "remote/embedded/instances/guest/power.py",
    "remote/embedded/ollama/runner.py",
    "remote/embedded/teacher/serve.py",
}
"""Processes without a reader at a terminal: their output is a log, or what another process
reads."""


def writes_of(tree: ast.AST) -> "list[int]":
    """The lines that write to standard output or error by themselves."""
    called = [
        (node.lineno, ast.unparse(node.func))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]
    sites = (
        r"p?print|rprint",
        r"(.*\.)?Console",
        r"sys\.(__)?std\w+(\.buffer)?\.write(lines)?",
        r".*(console|output)\(\)\.print",
    )
    writes = re.compile("|".join(sites))
    return [line for line, name in called if writes.fullmatch(name)]


def test_nobody_else_writes_to_the_terminal():
    found = {
        str(path.relative_to(CODE)): lines
        for folder in ("remote/control", "remote/embedded")
        for path in sorted((CODE / folder).rglob("*.py"))
        if (lines := writes_of(ast.parse(path.read_text())))
    }
    assert set(found) == WRITERS | DAEMONS, {
        name: lines for name, lines in found.items() if name not in WRITERS | DAEMONS
    }


def test_a_line_about_a_static_box_loads_neither_rich_nor_what_a_cloud_needs():
    lines = (
        "import sys, tasks",
        "from remote.control.operations import deploying; from remote.control.output import console",
        "from remote.control.cloud import boxes",
        "console.say('progress', 'dim')",
        "late = ('rich', 'boto3', 'botocore', 'pathspec', 'remote.control.cloud.ec2.provider')",
        "print([name for name in late if name in sys.modules])",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=CODE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "progress\n")
