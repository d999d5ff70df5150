"""What a run tells while it goes on, and who hears it."""

import contextlib
import io
import sys

import pytest

from remote.contract.job.jobs import JobState, Status
from remote.control import progress
from remote.control.commands.views import progress as terminal
from remote.control.config.inventory import load_inventory
from remote.control.runs import engine
from remote.control.runs.plan import Plan, PlannedStage
from remote.control.runs.reporter import Reporter
from remote.control.runs.state import state_of


class Place:
    """Starts any job, and is interrupted while one is followed."""

    name, where, files = "demo", "box demo", ()

    def ready(self):
        pass

    def start(self, job, **_):
        return JobState(job.job_id, job.stage, Status.RUNNING)

    def follow(self, *_):
        raise KeyboardInterrupt

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class Heard:
    """Takes what is told."""

    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)

    @contextlib.contextmanager
    def job(self, title):
        self.lines.append(title)
        yield self


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(
        "default_box: demo\nboxes:\n  demo: {provider: embedded}\n"
    )
    monkeypatch.setattr(engine, "backend_of", lambda *_: Place())
    inventory = load_inventory()
    ledger = engine.begin(
        Plan("haul", (PlannedStage("prepare", "prepare"),), ("stop",)), inventory.box()
    )
    heard = Heard()
    with pytest.raises(KeyboardInterrupt):
        engine.drive(ledger, inventory, reporter=Reporter(heard.line, job=heard.job))
    begun, title, hint = heard.lines
    assert (begun.split(":")[0], title) == ("[1/1] prepare", "prepare")
    assert f"`./inv resume {ledger.run_id}`" in hint and f"`./inv cancel {ledger.run_id}`" in hint
    run = state_of(ledger)
    assert (run.stages["prepare"].status, run.owed) == (Status.RUNNING, {}), "the box is left alone"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        (progress.warning("careful"), "\x1b[33mcareful\x1b[0m"),
        (progress.title("begins"), "\x1b[1mbegins\x1b[0m"),
        (progress.done("ends"), "\x1b[32mends\x1b[0m"),
        (progress.detail("goes on"), "\x1b[2mgoes on\x1b[0m"),
    ],
)
def test_a_terminal_shows_what_kind_of_line_it_is(monkeypatch, line, shown):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    terminal.say(line)
    assert sys.stderr.getvalue() == f"{shown}\n"
