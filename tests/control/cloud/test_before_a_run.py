"""Before a run launches a box that is billed: what it costs is shown, and a person is asked."""

import contextlib
import sys
from types import SimpleNamespace

import invoke
import pytest

from remote.control import project
from remote.control.cloud.pricing import prices
from remote.control.commands.runs.run import agree_to_launch
from remote.control.config.inventory import load_inventory
from remote.control.output import console
from remote.control.project import identity
from remote.control.runs.plan import Plan, PlannedStage

ON_BOX = Plan("haul", (PlannedStage("prepare", "prepare"),))
HERE = Plan("fetch", (PlannedStage("pull", "pull"),))
INVENTORY = (
    "default_box: trainer\nboxes:\n  trainer: {provider: ec2, region: us-east-1, ami:"
    " ami-12c6146b}\n"
)


@pytest.fixture
def person(cloud, monkeypatch):
    """Sits at a terminal: `person.says` is the answer, `person.asked` what was asked, `person.told`
    what was shown before."""
    (project.root() / "inventory.yaml").write_text(INVENTORY)
    person = SimpleNamespace(says=False, asked=[], told=[], cloud=cloud)
    monkeypatch.setattr(prices, "_asked", lambda *_: None)
    for name in ("say", "tell"):
        monkeypatch.setattr(console, name, lambda text, style="": person.told.append(text))
    monkeypatch.setattr(
        console, "print_table", lambda title, columns, rows: person.told.append(f"{columns} {rows}")
    )
    monkeypatch.setattr(
        console,
        "ask_yes",
        lambda question, yes: person.asked.append(question) or yes or person.says,
    )
    return person


@contextlib.contextmanager
def at_a_terminal():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("stdin", "stderr"):
            patch.setattr(getattr(sys, name), "isatty", lambda: True, raising=False)
        yield


def test_a_no_ends_it_before_anything_is_made(person):
    with at_a_terminal(), pytest.raises(invoke.Exit, match="nothing was done"):
        agree_to_launch(ON_BOX, load_inventory(), person.cloud.entry, yes=False)
    assert person.asked == ["Launch trainer for this run?"]
    told = "\n".join(map(str, person.told))
    assert "$/h" in told and "1.212" in told and "at the latest" in told
    assert not any(
        each["Instances"] for each in person.cloud.ec2.describe_instances()["Reservations"]
    )


def test_a_yes_goes_on(person):
    person.says = True
    with at_a_terminal():
        agree_to_launch(ON_BOX, load_inventory(), person.cloud.entry, yes=False)
    assert person.asked


def test_what_is_lost_with_a_spot_box_is_told_where_nothing_is_kept(person):
    agree_to_launch(
        ON_BOX, load_inventory(), person.cloud.entry.model_copy(update={"market": "spot"}), yes=True
    )
    assert any("lost without `storage.bucket`" in str(line) for line in person.told)


@pytest.mark.parametrize(("plan", "is_up"), [(HERE, False), (ON_BOX, True)])
def test_nothing_is_asked_where_nothing_is_launched(person, plan, is_up):
    if is_up:
        tags = [{"Key": key, "Value": value} for key, value in identity.tags("trainer", {}).items()]
        asked = {
            "ImageId": "ami-12c6146b",
            "InstanceType": "g5.2xlarge",
            "MinCount": 1,
            "MaxCount": 1,
        }
        person.cloud.ec2.run_instances(
            **asked, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}]
        )
    with at_a_terminal():
        agree_to_launch(plan, load_inventory(), person.cloud.entry, yes=False)
    assert person.asked == []
