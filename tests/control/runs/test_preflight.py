"""Preflight from the laptop over a transport: one round trip, a table, exit 40."""

import json

import pytest

from remote.contract.job.checks import Check, Verdict
from remote.contract.job.exits import Exit
from remote.control.backends.preflight import Report, preflight, thresholds
from remote.control.backends.resolved import BoxPath, LaptopFile
from remote.control.cloud.box import Box
from remote.control.commands.views.runs.preflight import show
from remote.control.config.recipe import load_recipe
from remote.control.errors import ConfigError, PreflightFailed
from remote.control.project import CODE
from remote.control.runs.preflight import inputs_of_words, require
from tests.integration.boxes import FakeTransport

GOLDEN = load_recipe(CODE / "playbooks/recipes/mistral-7b-golden.yaml").plain()


@pytest.fixture
def box():
    return Box(
        "fake",
        "static",
        "",
        "running",
        "127.0.0.1",
        22,
        "me",
        None,
        "fake",
        "",
        "us-east-1",
        "windlass",
        None,
        None,
        None,
    )


@pytest.fixture
def transport(tmp_path):
    """A folder as a box, with this checkout's code as its release."""
    release = tmp_path / "windlass" / "releases" / "x"
    release.mkdir(parents=True)
    (release / "remote").symlink_to(CODE / "remote")
    (tmp_path / "windlass" / "current").symlink_to("releases/x")
    return FakeTransport(tmp_path)


def _verdicts(report):
    return {check.name: check.verdict.value for check in report.checks}


def test_a_bare_box_fails_check_by_check_in_one_round_trip(transport, box):
    report = preflight(
        transport,
        box,
        {**GOLDEN, "device": "cpu"},
        {"base": "/nowhere/base", "train": "nowhere.jsonl"},
    )
    assert transport.round_trips == 1
    found = _verdicts(report)
    assert {
        name: found[name]
        for name in (
            "python",
            "environment",
            "base model",
            "dataset",
            "storage",
            "golden configuration",
        )
    } == {
        "python": "ok",
        "environment": "fail",
        "base model": "fail",
        "dataset": "fail",
        "storage": "skip",
        "golden configuration": "ok",
    }
    assert all(check.remedy for check in report.checks if check.verdict is Verdict.FAIL)


def test_deviations_from_the_golden_configuration_are_warnings(transport, box):
    recipe = {**GOLDEN, "lora": {**GOLDEN["lora"], "r": 16}}
    report = preflight(transport, box, recipe, {})
    assert [
        (check.measured, check.expected) for check in report.checks if check.name == "golden lora.r"
    ] == [("16", "golden 64")]
    assert _verdicts(report)["golden lora.r"] == "warn"


def test_inputs_are_relative_to_the_root_of_the_box(transport, box, tmp_path):
    rows = tmp_path / "windlass" / "jobs" / "j" / "train.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_text(json.dumps({"instruction": "a", "output": "b"}) + "\n")
    assert (
        _verdicts(preflight(transport, box, GOLDEN, {"train": "jobs/j/train.jsonl"}))["dataset"]
        == "ok"
    )


def test_nothing_deployed(tmp_path, box):
    with pytest.raises(PreflightFailed) as error:
        preflight(FakeTransport(tmp_path), box, GOLDEN, {})
    assert "./inv deploy" in error.value.remedy


def test_a_failing_check_is_exit_40_and_named(capsys):
    report = Report(
        [
            Check("disk", "1", "2", Verdict.FAIL, "free space"),
            Check("gpu", "none", "none", Verdict.WARN),
        ],
        0.1,
    )
    assert (report.failures, report.warnings) == (1, 1)
    with pytest.raises(PreflightFailed, match="1 of 2 checks failed: disk") as error:
        require(report, "box x", "fix it")
    assert error.value.exit_code is Exit.PREFLIGHT
    assert error.value.to_json()["failures"] == 1
    require(Report(report.checks[1:], 0.1), "box x", "fix it")
    show(report)
    assert "free space" in capsys.readouterr().out


def test_thresholds_follow_the_recipe():
    on_gpu = thresholds(GOLDEN)
    assert on_gpu["capability"] == 8.0 and 8 < on_gpu["gpu_gb"] < 12 and 30 < on_gpu["disk_gb"] < 50
    assert "gpu_gb" not in thresholds({**GOLDEN, "device": "cpu"})
    assert thresholds({**GOLDEN, "base": {"name": "someone/else"}}) == {"capability": 8.0}
    assert thresholds({}) == {}


def test_inputs_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text("{}\n")
    found = inputs_of_words(GOLDEN, "", "rows.jsonl")
    assert found["base"] == BoxPath("/home/ubuntu/mistral-7b-v0.3")
    assert isinstance(found["train"], LaptopFile) and found["train"].path == "rows.jsonl"
    assert inputs_of_words(GOLDEN, "box:/b", "box:/r")["train"] == BoxPath("/r")
    with pytest.raises(ConfigError):
        inputs_of_words(GOLDEN, "", "absent.jsonl")
