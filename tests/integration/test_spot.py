"""A spot box is taken back in the middle of a training: the run goes on on another one, and ends in
the same adapter, bit for bit.

Real all the way: the fault of the embedded cloud, the box's watchdog, the trainer, the bucket.
Takes minutes.
"""

import json
import os
import subprocess
import time
from collections.abc import Set
from pathlib import Path

import pytest

from remote.contract.files import digest
from remote.control.cloud.account import endpoint
from remote.control.config.inventory import load_inventory
from remote.control.project import CODE

from .typed import command_of, environment, typed

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1200)]

INVENTORY = """\
default_box: gpu
storage: {bucket: kept-jobs}
boxes:
  gpu: {provider: embedded, market: spot, shared: %s}
"""
PLAYBOOK = """\
name: spot
stages:
  base: {uses: pretrain, recipe: recipe.yaml, with: {corpus: corpus.txt}}
  prepare: {uses: prepare, with: {dataset: data/profiles/train.jsonl}}
  train: {uses: train, recipe: recipe.yaml, with: {base: base.model, train: prepare.train}}
  pull: {uses: pull, with: {adapter: train.adapter}}
finally: [stop]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose one box is a spot box of the embedded cloud, with its Python environment made
    already."""
    folder, shared = tmp_path_factory.mktemp("spot"), tmp_path_factory.mktemp("shared")
    environments = Path(os.environ.get("WINDLASS_ENVIRONMENTS") or shared / "made")
    environments.mkdir(parents=True, exist_ok=True)
    (shared / "environments").symlink_to(environments)
    (folder / "inventory.yaml").write_text(INVENTORY % shared)
    (folder / "spot.yaml").write_text(PLAYBOOK)
    (folder / "corpus.txt").write_text((CODE / "README.md").read_text())
    recipe = (
        (CODE / "playbooks/recipes/demo.yaml")
        .read_text()
        .replace("base/", f"{CODE}/playbooks/recipes/base/")
    )
    recipe = recipe.replace("max_steps: 60", "max_steps: 40").replace(
        "checkpoint_every: 30", "checkpoint_every: 10"
    )
    (folder / "recipe.yaml").write_text(recipe + "pretraining: {steps: 4}\n")
    yield folder
    inv(folder, "cloud.down")


@pytest.mark.long
def test_taken_back_in_the_middle_it_ends_in_the_same_adapter_on_another_box(project):
    with running(project, "run", "spot.yaml", "--json") as command:
        await_step(project, 13, command)
        done = inv(project, "cloud.fault", "spot-notice", "--box", "gpu", "--seconds", "120")
        assert done.returncode == 0, done.stderr
        out, said = command.communicate()
    assert command.returncode == 0, said
    (run,) = (project / "runs").iterdir()
    receipt = json.loads(out)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    ready = [event["id"] for event in events if event["event"] == "box_ready"]
    assert (
        len(set(ready)) == 2
        and [event["id"] for event in events if event["event"] == "box_lost"] == ready[:1]
    )
    assert "was taken back by the cloud" in said and "move 1 of" in said
    log = (run / "logs/train.log").read_text()
    assert "started again" in log and "resumed from step" in log
    assert {box["id"] for box in receipt["boxes"]} == set(ready)
    again = inv(project, "run", "spot.yaml", "--json")
    assert again.returncode == 0, again.stderr
    assert (
        "box_lost"
        not in (project / "runs" / json.loads(again.stdout)["run_id"] / "events.jsonl").read_text()
    )
    assert adapter_of(project, receipt["run_id"]) == adapter_of(
        project, json.loads(again.stdout)["run_id"]
    )


@pytest.mark.long
def test_taken_back_while_nobody_looks_it_is_resumed_from_what_the_box_spilled(
    project, monkeypatch
):
    monkeypatch.setenv("WINDLASS_PROJECT", str(project))
    iam = endpoint.of_entry(load_inventory().box()).client("iam")
    iam.create_role(RoleName="windlass", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="windlass")
    iam.add_role_to_instance_profile(InstanceProfileName="windlass", RoleName="windlass")
    (project / "inventory.yaml").write_text(
        (project / "inventory.yaml")
        .read_text()
        .replace("spot,", "spot, instance_profile: windlass,")
    )
    before = set((project / "runs").iterdir())
    with running(project, "run", "spot.yaml") as command:
        await_step(project, 13, command, before)
        command.kill()
        command.communicate()
    (run,) = set((project / "runs").iterdir()) - before
    assert (
        inv(project, "cloud.fault", "spot-notice", "--box", "gpu", "--seconds", "60").returncode
        == 0
    )
    await_gone(project)
    done = inv(project, "resume", run.name, "--json")
    assert done.returncode == 0, done.stderr
    assert "bringing checkpoint step-" in done.stderr
    assert "could not be spilled" not in done.stderr
    assert "resumed from step" in (run / "logs/train.log").read_text()
    other, *_ = sorted(before)
    assert adapter_of(project, run.name) == adapter_of(project, other.name)


def adapter_of(project: Path, run_id: str) -> str:
    return digest.of_file(
        project / "runs" / run_id / "artifacts/train/adapter/adapter_model.safetensors"
    )


def await_gone(project: Path) -> None:
    deadline = time.monotonic() + 240
    while json.loads(inv(project, "list", "--json").stdout)[0]["state"] != "absent":
        assert time.monotonic() < deadline, "the box was not taken back"
        time.sleep(1)


def await_step(
    project: Path, step: int, command: "subprocess.Popen[str]", before: Set[Path] = frozenset()
) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and command.poll() is None:
        files = [
            path
            for path in project.glob("runs/*/metrics/train.jsonl")
            if path.parents[1] not in before
        ]
        lines = [line for path in files for line in path.read_text().splitlines(keepends=True)]
        if any(json.loads(line)["step"] >= step for line in lines if line.endswith("\n")):
            return
        time.sleep(0.05)
    command.kill()
    raise AssertionError(f"the training never came so far: {command.communicate()[1]}")


def inv(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """One command, as typed."""
    return typed(*words, project=project)


def running(project: Path, *words: str) -> "subprocess.Popen[str]":
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command_of(*words), env=environment(project), cwd=CODE, **pipes)
