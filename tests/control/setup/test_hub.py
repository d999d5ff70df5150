"""What the laptop asks the hub before anything else happens: the pinned commit, the files, the
right to read them."""

import pytest

from remote.control.config import base_model
from remote.control.errors import (
    CloudError,
    ConfigError,
    CredentialsMissing,
    NotFound,
    PermissionDenied,
)
from remote.control.setup import hub as asking
from tests.hub_server import WANTED, serving, tiny_model

REPO = "mistralai/Tiny"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.repos[REPO] = tiny_model()
        yield hub


def resolve(text=REPO):
    (spec,) = base_model.parsed([text], "here")
    return asking.resolve(spec)


def test_the_files_at_the_pinned_commit(hub):
    found = resolve()
    assert (found.name, found.revision, found.authorization) == (REPO, "a" * 40, "")
    assert {file.path for file in found.files} == WANTED
    assert all(file.sha256 or file.git_sha1 for file in found.files)
    assert all(f"/resolve/{'a' * 40}/" in file.url for file in found.files)


def test_a_revision_and_another_name(hub):
    hub.revisions["v0.2"] = "b" * 40
    found = resolve(f"mistral={REPO}@v0.2")
    assert (found.name, found.revision, found.asked) == (
        "mistral",
        "b" * 40,
        f"mistral={REPO}@v0.2",
    )
    with pytest.raises(NotFound, match="no revision v9"):
        resolve(f"{REPO}@v9")


def test_a_gated_model_without_a_token(hub):
    hub.gated = {REPO}
    with pytest.raises(CredentialsMissing, match="gated, and there is no token") as refused:
        resolve()
    assert "export HF_TOKEN" in refused.value.remedy
    assert not [asked for asked in hub.requests if asked["origin"] == "store"]


def test_a_gated_model_that_is_not_granted(hub, monkeypatch):
    hub.gated = {REPO}
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    with pytest.raises(PermissionDenied, match="may not read it yet") as refused:
        resolve()
    assert f"{hub.url}/{REPO}" in refused.value.remedy
    assert "hf_mine" not in " ".join(refused.value.lines())


def test_a_gated_model_that_is_granted_by_the_token_that_a_login_left(hub, tmp_path):
    hub.gated, hub.tokens = {REPO}, {"hf_mine"}
    (tmp_path / "token").write_text("hf_mine\n")
    assert resolve().authorization == "Bearer hf_mine"
    assert all(
        asked["authorization"] == "Bearer hf_mine"
        for asked in hub.requests
        if asked["origin"] == "hub"
    )


def test_a_model_that_is_not_there_or_private(hub):
    with pytest.raises(CredentialsMissing, match="gated, or is not there"):
        resolve("mistralai/Absent")


def test_a_model_in_another_format(hub):
    del hub.repos[REPO]["model.safetensors"]
    with pytest.raises(NotFound) as refused:
        resolve()
    assert "it has no weights in safetensors" in refused.value.why


def test_a_hub_that_does_not_answer(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CloudError, match="does not answer"):
        resolve()


def test_every_line_that_is_off_is_found_at_once():
    with pytest.raises(ConfigError) as refused:
        base_model.parsed(["mistral", "s3://", REPO, "a b/c"], "inventory.yaml:3")
    assert [finding.what for finding in refused.value.findings] == [
        f"`{text}` names no base model" for text in ("mistral", "s3://", "a b/c")
    ]


@pytest.mark.parametrize(
    ("text", "name", "where"),
    [
        ("s3://models/mistral-7b/", "mistral-7b", ("models", "mistral-7b/")),
        (
            "mistralai/Mistral-7B-v0.3=s3://models/a/b",
            "mistralai/Mistral-7B-v0.3",
            ("models", "a/b/"),
        ),
    ],
)
def test_a_bucket_as_source(text, name, where):
    (spec,) = base_model.parsed([text], "here")
    assert (spec.name, (spec.bucket, spec.prefix)) == (name, where)
