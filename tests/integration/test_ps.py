"""`inv ps`: the jobs of every box that runs, by what the boxes themselves tell."""

import json

import pytest

from remote.control.cloud import boxes
from remote.control.config.inventory import load_inventory
from remote.control.jobs import start as jobs
from remote.control.jobs.cancel import cancel
from remote.control.transport.connect import connect

from .boxes import code_tree, deploy_stages, make_key, spec
from .typed import typed

INVENTORY = (
    "default_box: one\nboxes:\n  one: {provider: embedded}\n  two: {provider: embedded}\n  none:"
    " {provider: embedded}\n"
)


@pytest.fixture
def entries(embedded_project):
    (embedded_project / "inventory.yaml").write_text(INVENTORY)
    inventory = load_inventory()
    yield [inventory.box("one"), inventory.box("two")]
    for entry in inventory.boxes.values():
        boxes.terminate(entry)


def ps(*words):
    return typed("ps", *words, seconds=120)


def test_jobs_are_told_by_the_boxes_that_run(entries, embedded_project, tmp_path):
    one, _ = [boxes.ready(entry, lambda line: None) for entry in entries]
    assert "no job is under way" in ps().stdout
    with connect(one) as transport:
        release = deploy_stages(transport, code_tree(tmp_path / "code"), "windlass")
        jobs.start(transport, "windlass", spec(release, "endless", "haul-7-train", "haul-7"))
        jobs.start(transport, "windlass", spec(release, "count", "haul-7-prepare", "haul-7"))
        cancel(transport, "windlass", "haul-7-prepare", 10)
        (told,) = json.loads(ps("--json").stdout)
        assert (told["box"], told["run_id"], told["job_id"], told["status"]) == (
            "one",
            "haul-7",
            "haul-7-train",
            "RUNNING",
        )
        assert json.loads(ps("two", "--json").stdout) == []
        assert len(json.loads(ps("one", "--all", "--json").stdout)) == 2
        assert "haul-7" in ps("--all").stdout
        cancel(transport, "windlass", "haul-7-train", 10)
    (embedded_project / "inventory.yaml").write_text(
        INVENTORY + "  off: {provider: static, host: 127.0.0.1, host_key: ssh-ed25519 AAAA}\n"
    )
    told = ps()
    assert told.returncode == 0 and "not asked: off: not a public host key" in told.stderr
    assert "of the boxes that were asked: no job is under way" in told.stdout
    (embedded_project / "inventory.yaml").write_text(INVENTORY)
    boxes.stop(entries[1])
    assert json.loads(ps("--json").stdout) == []


def test_boxes_that_cannot_be_asked_are_no_empty_list(tmp_path):
    make_key(tmp_path / "host")
    key = " ".join((tmp_path / "host.pub").read_text().split()[:2])
    (tmp_path / "inventory.yaml").write_text(
        "default_box: down\nboxes:\n  lost: {provider: static, host: 127.0.0.1, host_key:"
        " ssh-ed25519 AAAA}\n  down: {provider: static, host: 127.0.0.1, port: 1, user: me,"
        f" host_key: {key}}}\n"
    )
    told = typed("ps", "--json", project=tmp_path, seconds=60)
    assert (told.returncode, json.loads(told.stdout)["error"]) == (30, "BoxUnreachable")
    assert (
        "lost: not a public host key" in told.stderr
        and "down: box down (127.0.0.1:1) does not answer" in told.stderr
    )
    told = typed("logs", project=tmp_path, seconds=60)
    assert (
        told.returncode == 12
        and "lost: not a public host key" in told.stderr
        and "`./inv doctor`" in told.stderr
    )
    assert (
        "not asked: lost: not a public host key"
        in typed("why", project=tmp_path, seconds=60).stderr
    )
