"""`inv ps`: the jobs of every box that runs, by what the boxes themselves tell."""

import json

import pytest

from remote.control.cloud import boxes
from remote.control.config.inventory import load_inventory
from remote.control.jobs import start as jobs
from remote.control.jobs.cancel import cancel
from remote.control.transport.connect import connect

from .boxes import code_tree, deploy_stages, spec
from .typed import typed


@pytest.fixture
def entries(embedded_project):
    (embedded_project / "inventory.yaml").write_text(
        "default_box: one\nboxes:\n  one: {provider: embedded}\n  two: {provider: embedded}\n  none: {provider: embedded}\n"
    )
    inventory = load_inventory()
    yield [inventory.box("one"), inventory.box("two")]
    for entry in inventory.boxes.values():
        boxes.terminate(entry)


def ps(*words):
    return typed("ps", *words, seconds=120)


def test_jobs_are_told_by_the_boxes_that_run(entries, tmp_path):
    one, _ = [boxes.ready(entry, lambda line: None) for entry in entries]
    assert "no job is under way" in ps().stderr
    with connect(one) as transport:
        release = deploy_stages(transport, code_tree(tmp_path / "code"), "windlass")
        jobs.start(transport, "windlass", spec(release, "endless", "haul-7-train", "haul-7"))
        jobs.start(transport, "windlass", spec(release, "count", "haul-7-prepare", "haul-7"))
        cancel(transport, "windlass", "haul-7-prepare", 10)
        (told,) = json.loads(ps("--json").stdout)
        assert (told["box"], told["run_id"], told["job_id"], told["status"]) == ("one", "haul-7", "haul-7-train", "RUNNING")
        assert json.loads(ps("two", "--json").stdout) == []
        assert len(json.loads(ps("one", "--all", "--json").stdout)) == 2
        assert "haul-7" in ps("--all").stderr
        cancel(transport, "windlass", "haul-7-train", 10)
    boxes.stop(entries[1])
    assert json.loads(ps("--json").stdout) == []
