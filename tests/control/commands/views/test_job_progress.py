import io

import pytest
from rich.console import Console

from remote.contract.telemetry.events import Metric
from remote.control.backends.display import followed
from remote.control.commands.views.runs import job_progress

METRIC = Metric(
    3, 12, 1.0, loss=0.41234, tokens_per_second=1234.4, memory_gb=5.06, eta_seconds=245.0
)


def test_a_measurement_in_words():
    assert job_progress.summary(METRIC) == "loss 0.412 · 1,234 tok/s · 5.1 GB"
    assert job_progress.summary(Metric(3, 12, 1.0, val_loss=0.5, note="best")) == "val 0.500 · best"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3845, "1:04:05"), (59.7, "1:00")]
)
def test_clock(seconds, text):
    assert job_progress.clock(seconds) == text


def test_without_a_terminal_lines_are_few_and_the_last_one_is_said(capsys):
    with job_progress.display_for("train") as plain:
        for step in range(1, 13):
            plain.metric(Metric(step, 12, 1.0, loss=1 / step))
        plain.line("something [bold] happened")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("  train   8% step 1/12 · loss 1.000")
    assert (
        "something [bold] happened" in lines[1]
        and lines[-1].startswith("  train 100% step 12/12 · loss 0.083")
        and len(lines) == 3
    )


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    output = io.StringIO()
    console = Console(
        file=output, width=160, force_terminal=True, color_system=None, legacy_windows=False
    )
    monkeypatch.setattr(job_progress, "console", lambda: console)
    monkeypatch.setattr("remote.control.output.console.console", lambda: console)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with job_progress.display_for("train") as live:
        live.metric(METRIC)
        live.metric(Metric(3, 12, 1.0, val_loss=0.4))
        live.line("a line")
    text = output.getvalue()
    assert isinstance(live, job_progress.LiveDisplay)
    for word in ("train", "3/12", "25%", "loss 0.412", "1,234 tok/s", "4:05 to go", "a line"):
        assert word in text


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(capsys):
    hint = "come back with `./inv logs 1 -f`"
    with pytest.raises(KeyboardInterrupt), followed(job_progress.display_for, "train", hint):
        raise KeyboardInterrupt
    assert "come back with `./inv logs 1 -f`" in capsys.readouterr().err
