"""A box set up by the typed command: code, base models from a hub and a bucket, adoption; over real
SSH and real HTTP."""

import json
from pathlib import Path

import pytest
from invoke import Collection

from remote.control.cloud import boxes, embedded
from remote.control.cloud.account import endpoint
from remote.control.commands.boxes import setup as verbs
from remote.control.config.inventory import load_inventory
from remote.control.project import CODE, history
from remote.control.transport.connect import connect
from tests.hub_server import WANTED, serving, tiny_model
from tests.integration.boxes import mark_environment
from tests.integration.typed import in_process

REPO = "mistralai/Tiny"
INVENTORY = f"""\
default_box: demo
boxes:
  demo:
    provider: embedded
    models: [{REPO}]
  fromstore:
    provider: embedded
    models: ["{REPO}=s3://models/tiny/"]
"""


@pytest.fixture(scope="module")
def box(embedded_project):
    (embedded_project / "inventory.yaml").write_text(INVENTORY)
    box = boxes.ready(load_inventory().box("demo"), lambda line: None)
    with connect(box) as transport:
        mark_environment(transport, CODE / "remote/payload/requirements.txt")
    return box


@pytest.fixture
def hub(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.repos[REPO] = tiny_model()
        yield hub


def inv(capsys, words):
    return in_process(capsys, Collection(verbs.setup), f"setup {words}")


def disk(box):
    return Path(embedded.describe(embedded.endpoint(), box.id)["disk"])


def parts(out):
    return {phase["name"]: phase["outcome"] for phase in json.loads(out)["phases"]}


def test_a_gate_is_told_before_anything_is_sent(box, hub, capsys):
    hub.gated = {REPO}
    code, _, err = inv(capsys, "")
    assert (code, "export HF_TOKEN" in err) == (24, True)
    assert not (disk(box) / "windlass/current").exists()


def test_a_rehearsal_asks_the_hub_and_leaves_the_box_alone(box, hub, capsys):
    code, out, _ = inv(capsys, "--dry-run --json")
    assert (code, set(parts(out))) == (0, {"deploy", REPO})
    assert not (disk(box) / "windlass/current").exists()


def test_a_box_is_set_up_and_again_without_fetching(box, hub, capsys, monkeypatch):
    hub.gated, hub.tokens = {REPO}, {"hf_secret"}
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    code, out, err = inv(capsys, "--json")
    assert code == 0, err
    assert parts(out)[REPO].endswith("GB fetched, every file verified")
    folder = disk(box) / "windlass/shared/models/mistralai--Tiny"
    assert {path.name for path in folder.iterdir()} == WANTED
    assert "hf_secret" not in out + err
    kept = [path for path in disk(box).rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in kept if b"hf_secret" in path.read_bytes()]
    phases = history.last("demo", "phases")
    assert (phases["action"], set(phases["seconds"])) == ("setup", {"deploy", "environment", REPO})

    hub.requests.clear()
    code, out, _ = inv(capsys, "--json")
    assert (code, hub.requests) == (0, [])
    assert parts(out)[REPO].startswith("was there")
    assert parts(out)["deploy"].endswith("was current")


def test_a_folder_of_the_box_is_adopted_in_place_of_a_fetch(box, hub, capsys):
    folder = disk(box) / "mistral-7b-v0.3"
    folder.mkdir()
    for name, content in tiny_model().items():
        if "/" not in name:
            (folder / name).write_bytes(content)
    code, _, err = inv(capsys, f"--adopt {folder} --name other/Model")
    assert code == 0, err
    assert (disk(box) / "windlass/shared/models/other--Model").readlink() == folder
    (folder / "model.safetensors").write_bytes(b"cut short")
    code, _, err = inv(capsys, f"--adopt {folder} --name other/Broken")
    assert (code, "no whole, unquantised base model" in err) == (58, True)


def test_a_model_of_the_bucket(box, hub, capsys, embedded_project):
    entry = load_inventory().box("fromstore")
    s3 = endpoint.of_entry(entry).client("s3")
    s3.create_bucket(Bucket="models")
    for name, content in tiny_model().items():
        s3.put_object(Bucket="models", Key=f"tiny/{name}", Body=content, ChecksumAlgorithm="SHA256")
    other = boxes.ready(entry, lambda line: None)
    try:
        with connect(other) as transport:
            mark_environment(transport, CODE / "remote/payload/requirements.txt")
        code, _, err = inv(capsys, "fromstore --json")
        assert code == 0, err
        folder = disk(other) / "windlass/shared/models/mistralai--Tiny"
        assert {path.name for path in folder.iterdir()} == WANTED
        manifest = json.loads(folder.with_name("mistralai--Tiny.json").read_text())
        assert manifest["source"] == "s3://models/tiny/"
        assert all("sha256" in facts for facts in manifest["files"].values())
        assert hub.requests == []
    finally:
        boxes.terminate(entry)


def test_a_bucket_without_a_model(box, hub, capsys):
    endpoint.of_entry(load_inventory().box()).client("s3").create_bucket(Bucket="empty")
    code, _, err = inv(capsys, "--model s3://empty/nothing/")
    assert (code, "there is no config.json" in err) == (12, True)
    code, _, err = inv(capsys, "--model s3://absent-bucket/nothing/")
    assert code == 20


def test_a_box_that_does_not_run_is_not_set_up(box, hub, capsys):
    code, _, err = inv(capsys, "fromstore")
    assert (code, "./inv launch fromstore" in err) == (32, True)
