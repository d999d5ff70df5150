"""Spilling to a real S3 server over the wire, and fetching on another box."""

import json
import os
import shutil
import stat
import time
from dataclasses import asdict

import pytest

from remote.contract.artifacts import upload as contract
from remote.contract.artifacts.upload import Manifest, UploadGrant, manifest_key
from remote.contract.files import atomic, digest
from remote.contract.job.jobs import Artifact, Cause, JobSpec, JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.logs import job_log
from remote.payload.jobs import states, supervise
from remote.payload.jobs.supervise import Refused
from remote.payload.logs.writer import Log
from remote.payload.transfer import bucket, grants
from remote.payload.transfer import upload as spill

PREFIX = "windlass/p/jobs/"
RUN = "run-1"
JOB = f"{RUN}-train-abc"


@pytest.fixture
def grant(s3):
    post = s3.generate_presigned_post("kept", f"{PREFIX}{RUN}-${{filename}}", ExpiresIn=600)
    return UploadGrant(
        RUN, "kept", "us-east-1", PREFIX, post["url"], post["fields"], time.time() + 600
    )


@pytest.fixture
def box(tmp_path, monkeypatch, s3):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="kept"):
        for each in page.get("Contents", ()):
            s3.delete_object(Bucket="kept", Key=each["Key"])
    monkeypatch.setattr(contract, "PIECE_BYTES", 1000)
    return BoxPaths(tmp_path / "one")


def make_job(box, name=JOB, status=Status.INTERRUPTED, ended_at=5.0, steps=(10, 20)):
    paths = box.job(name)
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(JobSpec(name, "train", "r", RUN).to_json())
    state = JobState(name, "train", status, ended_at=ended_at, cause=Cause.SPOT, kept="as before")
    paths.log.write_text("one\ntwo\n")
    for step in steps:
        folder = paths.checkpoints / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / "adapter.safetensors").write_bytes(os.urandom(2500))
        (folder / "empty").write_bytes(b"")
        files = {path.name: digest.of_file(path) for path in digest.files_in(folder)}
        (folder / "manifest.json").write_text(json.dumps({"identity": {}, "files": files}))
    if status is Status.SUCCEEDED:
        for place in (paths.artifacts / "adapter", box.models / "tiny"):
            place.mkdir(parents=True)
            (place / "weights").write_bytes(os.urandom(1500))
        made = {"adapter": paths.artifacts / "adapter", "model": box.models / "tiny"}
        state.artifacts = {
            key: Artifact(str(path.relative_to(box.root)), 1500, digest.of_path(path), True)
            for key, path in made.items()
        }
    states.write(paths, state)
    return paths


def fetching(s3, manifest):
    folder = f"{PREFIX}{manifest.job_id}/"
    keys = [piece.key for kept in manifest.files.values() for piece in kept.pieces(folder)]
    urls = {
        key: s3.generate_presigned_url("get_object", {"Bucket": "kept", "Key": key}, 600)
        for key in keys
    }
    return manifest, folder, urls


def keys_of(s3):
    return {each["Key"] for each in s3.list_objects_v2(Bucket="kept").get("Contents", ())}


def test_the_newest_whole_checkpoint_goes_over_to_another_box(box, s3, grant, tmp_path):
    paths = make_job(box)
    manifest = spill.spill(box, JOB, grant)
    assert manifest.what == "checkpoint step-20" and spill.recorded(paths) == manifest
    other = BoxPaths(tmp_path / "other")
    other.root.mkdir()
    assert spill.fetch(other, *fetching(s3, manifest)) is True
    there = other.job(JOB)
    assert digest.of_folder(there.checkpoints / "step-20") == digest.of_folder(
        paths.checkpoints / "step-20"
    )
    assert not (there.checkpoints / "step-10").exists() and there.log.read_text() == "one\ntwo\n"
    state = supervise.status(other, JOB)
    assert (state.status, state.cause) == (Status.INTERRUPTED, Cause.SPOT)
    assert state.kept == f"checkpoint step-20 in s3://kept/{PREFIX}{JOB}/"
    assert [path.name for path in other.root.iterdir() if path.name.endswith("fetched")] == []


def test_finished_artifacts_go_over_with_the_model_that_lies_elsewhere(box, s3, grant, tmp_path):
    make_job(box, status=Status.SUCCEEDED)
    manifest = spill.spill(box, JOB, grant)
    assert manifest.what == "adapter, model" and not any(
        "checkpoints" in path for path in manifest.files
    )
    other = BoxPaths(tmp_path / "other")
    disk = tmp_path / "another disk"
    disk.mkdir()
    other.root.mkdir()
    other.shared.symlink_to(disk)
    spill.fetch(other, *fetching(s3, manifest))
    state = supervise.status(other, JOB)
    assert all(
        digest.of_path(other.root / made.path) == made.sha256 for made in state.artifacts.values()
    )
    assert (disk / "models/tiny/weights").exists()


def test_the_newest_parts_of_a_log_go_over_to_their_places(box, s3, grant, tmp_path, monkeypatch):
    paths, content = make_job(box), os.urandom(9500)
    paths.log.unlink()
    log = Log(paths.folder, part_bytes=1000)
    for at in range(0, len(content), 500):
        log.write(content[at : at + 500])
    log.close()
    monkeypatch.setattr(spill, "SPILLED_PARTS", 3)
    manifest = spill.spill(box, JOB, grant)
    assert sum("/log." in path and not path.endswith(".times") for path in manifest.files) == 3
    other = BoxPaths(tmp_path / "other")
    other.root.mkdir()
    spill.fetch(other, *fetching(s3, manifest))
    there = other.job(JOB).folder
    assert (
        job_log.parts(there)[0].start == 6000
        and job_log.between(there, 6000, 9500) == content[6000:]
    )
    assert list(job_log.times(there)) == list(job_log.times(paths.folder))


def test_a_torn_checkpoint_is_passed_over(box, grant):
    paths = make_job(box)
    (paths.checkpoints / "step-20/adapter.safetensors").write_bytes(b"torn")
    assert spill.spill(box, JOB, grant).what == "checkpoint step-10"
    shutil.rmtree(paths.checkpoints / "step-10")
    assert spill.spill(box, JOB, grant).what == "its log"


def test_what_is_there_is_not_sent_again(box, s3, grant, monkeypatch):
    make_job(box)
    spill.spill(box, JOB, grant)
    sent = []
    put = bucket.Bucket.put
    monkeypatch.setattr(
        bucket.Bucket,
        "put",
        lambda self, key, content: (sent.append(key), put(self, key, content))[1],
    )
    spill.spill(box, JOB, grant)
    assert sent == [manifest_key(grant.folder(JOB))]


def test_the_manifest_comes_last_and_not_at_all_after_a_failure(box, s3, grant, monkeypatch):
    make_job(box)
    put = bucket.Bucket.put

    def failing(self, key, content):
        if key.endswith("/1"):
            raise bucket.Unreachable("no")
        put(self, key, content)

    monkeypatch.setattr(bucket.Bucket, "put", failing)
    with pytest.raises(bucket.Unreachable):
        spill.spill(box, JOB, grant)
    assert manifest_key(grant.folder(JOB)) not in keys_of(s3)
    monkeypatch.undo()


def test_what_does_not_verify_is_not_put_into_place(box, s3, grant, tmp_path):
    make_job(box)
    manifest = spill.spill(box, JOB, grant)
    victim = next(path for path in manifest.files if path.endswith("adapter.safetensors"))
    key, *_ = [piece.key for piece in manifest.files[victim].pieces(grant.folder(JOB))]
    s3.put_object(Bucket="kept", Key=key, Body=b"x" * 1000)
    other = BoxPaths(tmp_path / "other")
    other.root.mkdir()
    with pytest.raises(Refused, match="does not verify"):
        spill.fetch(other, *fetching(s3, manifest))
    assert not other.jobs.exists() or not list(other.jobs.iterdir())
    s3.delete_object(Bucket="kept", Key=key)
    with pytest.raises(bucket.Unreachable, match="404"):
        spill.fetch(other, *fetching(s3, manifest))


def test_a_job_that_is_there_is_left_alone(box, s3, grant):
    paths = make_job(box)
    manifest = spill.spill(box, JOB, grant)
    paths.log.write_text("newer")
    assert spill.fetch(box, *fetching(s3, manifest)) is False
    assert paths.log.read_text() == "newer"


def test_all_takes_the_cut_off_first_and_each_once(box, s3, grant):
    make_job(box, f"{RUN}-a", Status.SUCCEEDED)
    shutil.rmtree(box.models)
    make_job(box, f"{RUN}-b", Status.SUCCEEDED)
    (box.job(f"{RUN}-b").artifacts / "adapter/more").write_bytes(b"x" * 9000)
    make_job(box, f"{RUN}-c")
    make_job(box, "another-run-d")
    box.job("another-run-d").spec.write_text(
        JobSpec("another-run-d", "train", "r", "another-run").to_json()
    )
    grants.take(box.root, grant)
    said = []
    told = spill.spill_all(box, said.append)
    assert list(told) == [f"{RUN}-c", f"{RUN}-a", f"{RUN}-b"] and len(said) == 3
    assert all(words.endswith("/") and "s3://kept/" in words for words in told.values())
    assert spill.spill_all(box, said.append) == {}


def test_the_grants_file_is_for_its_owner_alone_and_forgets_what_has_run_out(box, grant):
    box.root.mkdir(parents=True)
    grants.take(
        box.root,
        UploadGrant("old", "kept", "r", PREFIX, "http://x", {}, expires=time.time() + 0.05),
    )
    time.sleep(0.06)
    grants.take(box.root, grant)
    path = box.root / "grant.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())) == {RUN} and grants.of_run(box.root, RUN) == grant
    atomic.write_text(path, "half a fi")
    assert grants.of_run(box.root, RUN) is None


def test_with_an_instance_profile_by_boto3(box, s3, monkeypatch):
    make_job(box)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.meta.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    manifest = spill.spill(box, JOB, UploadGrant(RUN, "kept", "us-east-1", PREFIX, profile=True))
    key = manifest_key(f"{PREFIX}{JOB}/")
    assert Manifest.from_json(s3.get_object(Bucket="kept", Key=key)["Body"].read()) == manifest


def test_a_profile_that_fails_leaves_the_presigned_road(box, s3, grant, monkeypatch):
    make_job(box)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    both = UploadGrant(**{**asdict(grant), "profile": True})
    assert spill.spill(box, JOB, both).what == "checkpoint step-20"


def test_without_a_road_it_says_why(box, grant):
    make_job(box)
    with pytest.raises(bucket.Unreachable, match="has run out"):
        spill.spill(box, JOB, UploadGrant(**{**asdict(grant), "expires": 1.0}))


def test_a_finished_job_whose_artifact_lies_outside_is_refused(box, grant):
    paths = make_job(box, status=Status.SUCCEEDED)
    state = JobState.read(paths.state)
    state.artifacts["far"] = Artifact("../far", 1, "a" * 64)
    states.write(paths, state)
    with pytest.raises(Refused, match="outside"):
        spill.spill(box, JOB, grant)


def test_nothing_outside_is_moved_whatever_a_state_from_the_bucket_says(box, s3, grant, tmp_path):
    paths = make_job(box)
    state = JobState.read(paths.state)
    state.artifacts["far"] = Artifact("../mine", 1, "a" * 64)
    states.write(paths, state)
    other = BoxPaths(tmp_path / "home/windlass")
    (other.root / "mine").mkdir(parents=True)
    assert spill.fetch(other, *fetching(s3, spill.spill(box, JOB, grant)))
    assert (other.root / "mine").exists() and not (tmp_path / "home/mine").exists()


def test_an_instance_profile_is_used_by_the_python_that_has_boto3(box, monkeypatch):
    went = []
    monkeypatch.setattr(spill.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(
        spill.environment,
        "find",
        lambda requirements, environments: environments / "key/venv/bin/python",
    )
    monkeypatch.setattr(spill.os, "execv", lambda path, words: went.append((path, words[:3])))
    monkeypatch.setattr(spill.sys, "argv", ["spill", "all"])
    spill._with_boto3([UploadGrant(RUN, "kept", "us-east-1", PREFIX, "http://x", {}, 9e9)], box)
    assert went == []
    spill._with_boto3([UploadGrant(RUN, "kept", "us-east-1", PREFIX, profile=True)], box)
    python = box.environments / "key/venv/bin/python"
    assert went == [(python, [str(python), "-m", "remote.payload.transfer.upload"])]
