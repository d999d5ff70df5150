"""Base models in the shared place: fetched whole, resumed, verified, adopted; over real HTTP."""

import dataclasses
import hashlib
import json
import shutil

import pytest

from remote.contract.artifacts import base_models
from remote.contract.artifacts.base_models import ModelFetch, ModelFile
from remote.contract.job.jobs import Cause
from remote.payload import model
from remote.payload.job import StageFailed
from remote.payload.transfer import download
from tests.hub_server import WANTED, serving, tiny_model

REPO = "mistralai/Tiny"


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(download, "_FIRST_PAUSE_SECONDS", 0.001)
    with serving() as hub:
        hub.repos[REPO] = tiny_model()
        yield hub


@pytest.fixture
def models(tmp_path):
    return tmp_path / "shared" / "models"


def asked(hub, revision="a" * 40, authorization=""):
    files = [
        _file(hub, name, content)
        for name, content in hub.repos[REPO].items()
        if base_models.is_wanted(name)
    ]
    return ModelFetch(REPO, REPO, f"{hub.url}/{REPO}", revision, tuple(files), authorization)


def _file(hub, name, content):
    url = f"{hub.url}/{REPO}/resolve/{'a' * 40}/{name}"
    if name.endswith((".safetensors", ".model")):
        return ModelFile(name, len(content), url, sha256=hashlib.sha256(content).hexdigest())
    return ModelFile(
        name,
        len(content),
        url,
        git_sha1=hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
    )


def fetch(wanted, models):
    said = []
    return model.fetch(wanted, models, said.append), said


def test_a_model_is_fetched_whole_and_only_what_is_needed(hub, models):
    manifest, _ = fetch(asked(hub), models)
    folder = models / "mistralai--Tiny"
    assert {path.name for path in folder.iterdir()} == WANTED
    assert (folder / "model.safetensors").read_bytes() == hub.repos[REPO]["model.safetensors"]
    assert manifest["fetched_bytes"] == sum(len(hub.repos[REPO][name]) for name in WANTED)
    assert model.find(models, REPO)["revision"] == "a" * 40
    assert [path.name for path in models.iterdir() if path.name.startswith(".")] == [
        ".mistralai--Tiny.lock"
    ]


def test_what_is_there_is_left_as_it_is(hub, models):
    fetch(asked(hub), models)
    hub.requests.clear()
    again, _ = fetch(asked(hub), models)
    assert (again["was_there"], hub.requests) == (True, [])
    (models / "mistralai--Tiny" / "model.safetensors").write_bytes(b"cut")
    assert model.find(models, REPO) is None
    assert fetch(asked(hub), models)[0]["was_there"] is False
    assert model.find(models, REPO)


def test_a_cut_connection_is_resumed_where_it_ended(hub, models):
    hub.cut, hub.cuts = 100, 1
    fetch(asked(hub), models)
    ranges = hub.sent("model.safetensors") + hub.sent("tokenizer.model")
    assert "bytes=100-" in ranges


def test_a_fetch_that_was_killed_goes_on_with_what_lies_there(hub, models):
    content = hub.repos[REPO]["model.safetensors"]
    partial = models / ".mistralai--Tiny.partial"
    partial.mkdir(parents=True)
    wanted = asked(hub)
    (models / ".mistralai--Tiny.partial.json").write_text(
        json.dumps({"source": wanted.source, "revision": wanted.revision})
    )
    (partial / "model.safetensors.part").write_bytes(content[:77])
    manifest, _ = fetch(wanted, models)
    assert hub.sent("model.safetensors") == ["bytes=77-"]
    assert manifest["fetched_bytes"] == wanted.size - 77
    assert (models / "mistralai--Tiny" / "model.safetensors").read_bytes() == content


def test_parts_of_another_revision_are_thrown_away(hub, models):
    partial = models / ".mistralai--Tiny.partial"
    partial.mkdir(parents=True)
    (partial / "model.safetensors.part").write_bytes(b"of another revision")
    (models / ".mistralai--Tiny.partial.json").write_text(
        json.dumps({"source": "elsewhere", "revision": "b" * 40})
    )
    fetch(asked(hub), models)
    assert hub.sent("model.safetensors") == [""]


def test_a_store_without_ranges_sends_it_anew(hub, models):
    hub.cut, hub.cuts, hub.honours_ranges = 100, 1, False
    fetch(asked(hub), models)
    assert model.find(models, REPO)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_never_gets_its_place(hub, models, name):
    hub.damaged = {name}
    with pytest.raises(StageFailed, match=f"{name} is not what its source says") as failed:
        fetch(asked(hub), models)
    assert failed.value.cause is Cause.ARTIFACT
    assert model.find(models, REPO) is None
    assert not (models / "mistralai--Tiny").exists()
    hub.damaged = set()
    fetch(asked(hub), models)
    assert model.find(models, REPO)


def test_a_whole_download_that_is_no_model_is_refused(hub, models):
    hub.repos[REPO]["config.json"] = json.dumps({"quantization_config": {}}).encode()
    with pytest.raises(StageFailed, match="no whole, unquantised base model"):
        fetch(asked(hub), models)
    hub.repos[REPO] = {
        name: content for name, content in tiny_model().items() if not name.startswith("tokenizer")
    }
    with pytest.raises(StageFailed, match="lacks its tokenizer"):
        fetch(asked(hub, "b" * 40), models)


def test_a_disk_without_room_is_said_before_a_byte_is_fetched(hub, models, monkeypatch):
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: shutil._ntuple_diskusage(1 << 40, 1 << 40, model.SPARE_BYTES),
    )
    with pytest.raises(StageFailed, match="no room") as failed:
        fetch(asked(hub), models)
    assert (failed.value.cause, hub.requests) == (Cause.DISK_FULL, [])


def test_the_token_goes_to_the_hub_and_never_to_its_store(hub, models):
    hub.gated, hub.tokens = {REPO}, {"hf_secret"}
    fetch(asked(hub, authorization="Bearer hf_secret"), models)
    shown = {(request["origin"], request["authorization"]) for request in hub.requests}
    assert shown == {("hub", "Bearer hf_secret"), ("store", "")}
    assert not [
        path for path in models.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()
    ]
    assert "hf_secret" not in repr(asked(hub, authorization="Bearer hf_secret"))


def test_a_refusal_is_told_without_the_address_that_is_a_secret(hub, models):
    hub.gated = {REPO}
    with pytest.raises(StageFailed, match="the source refuses") as failed:
        fetch(asked(hub), models)
    assert "restricted" in failed.value.why
    assert "signature" not in failed.value.why


def test_a_source_that_stays_silent_is_given_up(hub, models, monkeypatch):
    hub.cut, hub.cuts = 0, 1000
    with pytest.raises(StageFailed, match="does not come from"):
        fetch(asked(hub), models)


def test_a_folder_is_adopted_as_it_is(hub, models, tmp_path):
    folder = tmp_path / "mistral-7b-v0.3"
    folder.mkdir()
    for name, content in tiny_model().items():
        if "/" not in name:
            (folder / name).write_bytes(content)
    before = sorted(path.name for path in folder.iterdir())
    manifest = model.adopt(REPO, folder, models)
    assert (models / "mistralai--Tiny").readlink() == folder
    assert set(manifest["files"]) == WANTED
    assert model.find(models, REPO)["source"] == str(folder)
    assert model.adopt(REPO, folder, models) == manifest
    assert sorted(path.name for path in folder.iterdir()) == before
    (folder / "model.safetensors").unlink()
    assert model.find(models, REPO) is None


def test_a_folder_that_is_not_whole_is_not_adopted(models, tmp_path):
    with pytest.raises(StageFailed, match="there is no folder"):
        model.adopt(REPO, tmp_path / "absent", models)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    with pytest.raises(StageFailed, match="no whole, unquantised base model"):
        model.adopt(REPO, tmp_path / "half", models)
    assert not models.exists()


def test_adopting_never_replaces_a_fetched_model(hub, models, tmp_path):
    fetch(asked(hub), models)
    shutil.copytree(models / "mistralai--Tiny", tmp_path / "other")
    with pytest.raises(StageFailed, match="as a folder of its own"):
        model.adopt(REPO, tmp_path / "other", models)


def test_a_fetch_goes_over_the_wire_unchanged(hub):
    wanted = asked(hub, authorization="Bearer x")
    assert ModelFetch.from_json(wanted.to_json()) == wanted
    assert dataclasses.asdict(wanted)["files"]


def test_a_recipes_base_is_found_under_its_name_where_its_path_leads_nowhere(tmp_path):
    named = tmp_path / "named"
    recipe = {"base": {"name": REPO, "path": str(named)}}
    assert base_models.found(named, tmp_path, recipe) == named
    (tmp_path / base_models.place(REPO)).mkdir(parents=True)
    assert base_models.found(named, tmp_path, recipe) == tmp_path / "shared/models/mistralai--Tiny"
    named.mkdir()
    assert base_models.found(named, tmp_path, recipe) == named


@pytest.mark.parametrize(
    "asked", ["shared/models/nosuch", "nosuch", "shared/models/mistralai--Nosuch"]
)
def test_a_base_that_was_asked_for_and_is_not_there_is_never_replaced_by_the_recipes(
    tmp_path, asked
):
    place = tmp_path / base_models.place(REPO)
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    recipe = {"base": {"name": REPO, "path": None}}
    assert base_models.found(tmp_path / asked, tmp_path, recipe) == tmp_path / asked
    assert base_models.found(tmp_path / "shared/models/Tiny", tmp_path, recipe) == place
