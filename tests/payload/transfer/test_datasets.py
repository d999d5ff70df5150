"""A dataset of a data recipe, put into a real S3 server over the wire."""

import json
import sys
import time

import pytest

from remote.contract.artifacts.upload import UploadGrant, dataset_folder, dataset_names
from remote.contract.files import atomic
from remote.contract.job.jobs import Cause, JobSpec
from remote.payload.job import Job, StageFailed
from remote.payload.stages import prepare
from remote.payload.transfer import bucket, datasets, grants

RUN = "run-1"
FILES = ("train.jsonl", "val.jsonl", "rejects.jsonl", "statistics.json", "report.html")


@pytest.fixture
def kept(s3):
    """What lies in the bucket below `datasets/`."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="kept"):
        for each in page.get("Contents", ()):
            s3.delete_object(Bucket="kept", Key=each["Key"])

    def listed():
        found = s3.list_objects_v2(Bucket="kept", Prefix="datasets/").get("Contents", ())
        return {
            each["Key"]: s3.get_object(Bucket="kept", Key=each["Key"])["Body"].read()
            for each in found
        }

    return listed


@pytest.fixture
def grant(s3):
    post = s3.generate_presigned_post("kept", "windlass/p/jobs/${filename}", ExpiresIn=600)
    ours = s3.generate_presigned_post("kept", "datasets/golden/${filename}", ExpiresIn=600)
    ends, names = time.time() + 600, {"golden": ours["fields"]}
    return UploadGrant(
        RUN,
        "kept",
        "us-east-1",
        "windlass/p/jobs/",
        post["url"],
        post["fields"],
        ends,
        datasets=names,
    )


@pytest.fixture
def job(tmp_path):
    rows = [{"instruction": f"q {number}", "output": "a"} for number in range(20)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "golden",
        "sources": [{"type": "corpus", "path": str(file)}],
        "steps": [{"type": "deduplicate"}],
        "split": {"validation": 0.2},
        "limits": {"workers": 1},
        "outputs": {"bucket": True},
        "seed": 42,
    }
    folder = tmp_path / "windlass" / "jobs" / "job-1"
    spec = JobSpec("job-1", "prepare", "r", run_id=RUN, recipe=recipe)
    atomic.write_text(folder / "spec.json", spec.to_json())
    return Job(folder)


def test_prepare_puts_what_it_made_into_the_bucket(job, grant, kept):
    grants.take(job.root, grant)
    prepare.main(job)
    lying = kept()
    assert set(lying) == {f"datasets/golden/{name}" for name in (*FILES, "manifest.json")}
    for name in (*FILES, "manifest.json"):
        assert lying[f"datasets/golden/{name}"] == job.artifact(name).read_bytes()
    told = json.loads(lying["datasets/golden/manifest.json"])
    assert told["files"]["train"]["bytes"] == len(lying["datasets/golden/train.jsonl"])
    assert [(each["read"], each["kept"], each["units"]) for each in told["sources"]] == [
        (20, 20, 1)
    ]
    assert len(told["units"][0]["digest"]) == 64
    assert told["tokens"]["train"]["rows"] == told["counts"]["train_rows"]


def test_without_a_right_the_stage_says_so_and_keeps_the_rows(job, kept):
    with pytest.raises(StageFailed) as caught:
        prepare.main(job)
    assert caught.value.cause is Cause.ARTIFACT
    assert "no right to write" in caught.value.why
    assert job.artifact("train.jsonl").exists()
    assert kept() == {}


def test_the_right_to_one_dataset_is_none_to_another(tmp_path, grant, kept):
    grants.take(tmp_path, grant)
    file = tmp_path / "train.jsonl"
    file.write_text("{}")
    with pytest.raises(bucket.Unreachable, match="no right to write datasets/other/"):
        datasets.publish(tmp_path, RUN, "other", {"train.jsonl": file})
    assert kept() == {}


def test_the_manifest_comes_last(tmp_path, grant, monkeypatch):
    grants.take(tmp_path, grant)
    put = []
    monkeypatch.setattr(bucket.Bucket, "put_file", lambda _self, key, _path: put.append(key))
    files = {name: tmp_path / name for name in ("manifest.json", "a", "z")}
    datasets.publish(tmp_path, RUN, "golden", files)
    assert put[-1] == "datasets/golden/manifest.json"


def test_a_large_file_is_streamed_and_an_empty_one_put(tmp_path, grant, kept):
    grants.take(tmp_path, grant)
    large, empty = tmp_path / "large", tmp_path / "empty"
    large.write_bytes(bytes(range(256)) * 20_000)
    empty.touch()
    datasets.publish(tmp_path, RUN, "golden", {"large": large, "empty": empty})
    assert kept()["datasets/golden/large"] == large.read_bytes()
    assert kept()["datasets/golden/empty"] == b""


def test_with_an_instance_profile_another_python_does_it(tmp_path, grant, monkeypatch, kept):
    grants.take(tmp_path, grant)
    file = tmp_path / "train.jsonl"
    file.write_text("{}")
    monkeypatch.setattr(datasets, "_with_boto3", lambda _grant, _root: sys.executable)
    place = datasets.published(tmp_path, RUN, "golden", {"train.jsonl": file})
    assert place == "s3://kept/datasets/golden/"
    assert kept() == {"datasets/golden/train.jsonl": b"{}"}
    with pytest.raises(bucket.Unreachable, match="no right to write datasets/other/"):
        datasets.published(tmp_path, RUN, "other", {"train.jsonl": file})


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x"])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        dataset_folder(name)


def test_only_a_recipe_that_says_so_wants_the_bucket():
    assert dataset_names({"name": "a", "outputs": {"bucket": True}}) == ["a"]
    for recipe in ({}, {"name": "a"}, {"name": "a", "outputs": {"bucket": False}}):
        assert dataset_names(recipe) == []
    assert dataset_names({"name": "", "outputs": {"bucket": True}}) == []
