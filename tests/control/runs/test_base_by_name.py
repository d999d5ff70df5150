"""`--base` by name, `box:~/…`, `box:windlass/…`; and what check, launch and run say of base models
that nothing has brought yet."""

from types import SimpleNamespace

import pytest

from remote.control.cloud.provider import Plan
from remote.control.commands.views.boxes import launch as view
from remote.control.config import base_model
from remote.control.config.checks.survey import survey
from remote.control.config.inventory import load_inventory, read_inventory
from remote.control.errors import ConfigError
from remote.control.operations import launching
from remote.control.runs import wiring
from remote.control.runs.single import plan_training

INVENTORY = """
default_box: gpu
boxes:
  gpu: {provider: ec2, region: us-east-1, instance_type: g5.2xlarge}
  ready: {provider: ec2, region: us-east-1, instance_type: g5.2xlarge, models: [mistralai/Mistral-7B-v0.3]}
  demo: {provider: embedded}
"""
GOLDEN, DEMO = "playbooks/recipes/mistral-7b-golden.yaml", "playbooks/recipes/demo.yaml"
DATA = "data/profiles/train.jsonl"


@pytest.fixture(autouse=True)
def inventory(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    return load_inventory()


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("box:/home/ubuntu/m", "/home/ubuntu/m"),
        ("box:~/m", "~/m"),
        ("box:~ubuntu/m", "~ubuntu/m"),
        ("box:windlass/shared/models/m", "~/windlass/shared/models/m"),
        ("box:m", "~/m"),
        ("box:shared/models/m", "shared/models/m"),
        ("box:jobs/j/artifacts/m", "jobs/j/artifacts/m"),
    ],
)
def test_a_path_on_the_box(given, path):
    assert wiring.box_path(given).path == path


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("tiny-mistral", "box:shared/models/tiny-mistral"),
        ("mistralai/Mistral-7B-v0.3", "box:shared/models/mistralai--Mistral-7B-v0.3"),
        ("box:~/m", "box:~/m"),
        ("/home/me/model", "/home/me/model"),
        ("../model", "../model"),
        ("a b", "a b"),
    ],
)
def test_a_base_by_its_name(given, base, inventory):
    train = (
        next(stage for stage in plan_or_findings(given) if stage.uses == "train")
        if base.startswith("box:")
        else None
    )
    assert wiring.base_by_name(given) == base and (train is None or train.wiring["base"] == base)


def plan_or_findings(base):
    inventory = load_inventory()
    return plan_training(DEMO, DATA, base, inventory, inventory.box("demo")).stages


def test_a_folder_of_that_name_on_the_laptop_goes_before(tmp_path):
    (tmp_path / "model").mkdir()
    assert wiring.base_by_name("model") == "model"


def test_a_training_without_a_base_asks_for_the_recipes_by_name():
    stages = {stage.uses: stage for stage in plan_or_findings("")}
    named = stages["train"].recipe["base"]["name"]
    assert (
        stages["train"].wiring["base"]
        == stages["preflight"].wiring["base"]
        == f"box:{wiring.base_of_recipe({'base': {'name': named}})}"
    )


def test_a_base_that_is_no_path_is_still_a_finding():
    with pytest.raises(ConfigError):
        plan_or_findings("box:")


@pytest.mark.parametrize(
    ("box", "step"),
    [
        ("gpu", "`./inv box.setup gpu --model mistralai/Mistral-7B-v0.3`"),
        ("ready", "`./inv box.setup ready` brings it"),
    ],
)
def test_check_says_how_the_base_model_gets_onto_the_box(box, step):
    found = survey(*read_inventory(), "golden-path", box)
    assert not found.findings and len(found.steps) == 1 and step in found.steps[0]


def test_check_of_the_demo_wants_no_step():
    assert survey(*read_inventory(), "demo", "demo").steps == ()


@pytest.mark.parametrize(
    ("box", "step"),
    [("gpu", "./inv box.setup gpu --model"), ("ready", "`./inv box.setup ready`"), ("demo", "")],
)
def test_a_launch_says_what_the_box_wants_before_its_first_run(inventory, box, step, capsys):
    intent = launching.Intent(inventory.box(box), Plan("launch it", None), "")
    view.show([intent], "bucket")
    assert step in capsys.readouterr().out and bool(view.record(intent)["then"]) == bool(step)
    assert step in base_model.after_launch(inventory.box(box))


def test_a_base_that_a_stage_makes_is_not_looked_for_on_a_hub():
    (step,) = base_model.steps(
        [{"name": "windlass/tiny-mistral", "path": None}], SimpleNamespace(name="demo", models=[])
    )
    assert "`./inv demo`" in step and "box.setup" not in step
