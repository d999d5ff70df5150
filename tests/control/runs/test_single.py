"""`./inv train`: its words become a plan, a file that exists is a file, and what comes next is
told."""

import json

import pytest

from remote.contract.job.jobs import Status
from remote.control.commands.views import next_step
from remote.control.config.inventory import load_inventory
from remote.control.errors import ConfigError
from remote.control.runs.single import plan_training
from remote.control.runs.state import RunState, StageState
from remote.control.runs.wiring import Reference, files_to_send, reference_of
from tests.integration.typed import typed

INVENTORY = "default_box: demo\nboxes:\n  demo: {provider: embedded}\n"
ROW = json.dumps({"instruction": "a", "input": "b", "output": "c"}) + "\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    (tmp_path / "train.jsonl").write_text(ROW * 20)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/pull.adapter").write_text(ROW)
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    return tmp_path


def demo():
    """The inventory, and its box."""
    inventory = load_inventory()
    return inventory, inventory.box("demo")


@pytest.mark.parametrize(
    "name", ["train.jsonl", "preflight.jsonl", "pull.jsonl", "prepare.data", "train.xz"]
)
def test_a_file_that_exists_is_a_file_though_a_stage_is_called_so(project, name):
    (project / name).write_text(ROW)
    plan = plan_training("demo", name, "box:/base", *demo())
    assert [path.name for path in files_to_send(RunState("", plan))] == [name]
    assert reference_of(name, RunState("", plan)) is None


def test_what_a_stage_makes_is_a_reference_whatever_files_there_are(project):
    (project / "prepare.train").write_text(ROW)
    plan = plan_training("demo", "train.jsonl", "box:/base", *demo())
    assert reference_of("prepare.train", RunState("", plan)) == Reference("prepare", "train")
    assert (
        reference_of("pull.adapter", RunState("", plan)) == Reference("pull", "adapter")
        and reference_of("pull.jsonl", RunState("", plan)) is None
    )
    with pytest.raises(ConfigError, match="configuration"):
        plan_training("demo", "nothing.jsonl", "box:/base", *demo())


def test_typed_in_the_project(project):
    done = typed(
        "train",
        "--recipe",
        "demo",
        "--data",
        "train.jsonl",
        "--base",
        "box:/base",
        "--dry-run",
        "--json",
        project=project,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sent"] == ["train.jsonl"]


@pytest.mark.parametrize(
    ("done", "status", "next_one"),
    [
        (("train",), Status.SUCCEEDED, "`./inv export r-1` "),
        (("train", "export"), Status.SUCCEEDED, "`./inv install r-1` "),
        (("train", "export", "install"), Status.SUCCEEDED, ""),
        ((), Status.SUCCEEDED, ""),
        (("train",), Status.FAILED, "`./inv resume r-1` "),
    ],
)
def test_what_comes_next(project, done, status, next_one):
    from remote.control.runs.plan import Plan, PlannedStage

    stages = tuple(PlannedStage(uses, uses, {}) for uses in ("train", "export", "install"))
    states = {
        stage.label: StageState(
            stage.label, Status.SUCCEEDED if stage.uses in done else Status.PENDING
        )
        for stage in stages
    }
    step = next_step.after_run(RunState("r-1", Plan("p", stages), status=status, stages=states))
    assert step.startswith(next_one) and bool(step) == bool(next_one)
