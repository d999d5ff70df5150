"""`inv logs` of a job whose box is gone: out of the bucket, by whoever knows the inventory, with
the same words."""

import json
import re
import time

import pytest

import tasks
from remote.contract.artifacts.upload import Kept, Manifest, manifest_key
from remote.contract.files import digest
from remote.contract.job.jobs import JobSpec, JobState, Status
from remote.contract.logs.job_log import part_name
from remote.contract.telemetry.timeline import Event
from remote.control.cloud import bucket
from remote.control.config.inventory import load_inventory
from tests.integration.typed import in_process, typed

INVENTORY = """\
default_box: gpu
storage: {bucket: kept-logs}
boxes:
  gpu: {provider: embedded}
"""
RUN = "20260101-000000-haul-ab12"
JOB = f"{RUN}-train-0123abcd"


@pytest.fixture(scope="module")
def spilled(embedded_project):
    """A job of another checkout in the bucket; its first part is large, and its box never was."""
    (embedded_project / "inventory.yaml").write_text(INVENTORY)
    inventory = load_inventory()
    found = bucket.of_entry("kept-logs", inventory.box())
    began = time.time() - 7200
    first = b"".join(b"line %d\n" % number for number in range(1000))
    second = b"line 1000 WARNING: near the end\nlast words"
    files = {
        part_name(0): first,
        "log": second,
        "log.times": f"0 {began}\n{len(first)} {began + 60}\n".encode(),
        "spec.json": JobSpec(JOB, "train", "0" * 64, RUN).to_json().encode(),
        "state.json": JobState(JOB, "train", Status.RUNNING, started_at=began).to_json().encode(),
        "timeline.jsonl": (
            Event(began + 61, "spot", "warning", "the cloud will terminate this spot instance")
            .to_line()
            .encode()
        ),
    }
    put(found, "elsewhere-00000000", files)
    return embedded_project, len(first)


def put(found, mark, files):
    s3, folder = found._s3, f"windlass/{mark}/jobs/{JOB}/"
    kept = {
        f"jobs/{JOB}/{name}": Kept(digest.of_bytes(content), len(content))
        for name, content in files.items()
    }
    for (_, each), content in zip(kept.items(), files.values(), strict=True):
        (piece,) = each.pieces(folder)
        s3.put_object(Bucket=found.name, Key=piece.key, Body=content)
    s3.put_object(
        Bucket=found.name,
        Key=manifest_key(folder),
        Body=Manifest(JOB, 0.0, "its log", kept).to_json().encode(),
    )


@pytest.fixture
def logs(capsys, spilled):
    return lambda words: in_process(capsys, tasks.ns, f"logs {words}")


def test_a_run_of_another_checkout_out_of_the_bucket(spilled):
    told = typed("logs", "ab12", seconds=60)
    lines = told.stdout.splitlines()
    assert lines[:1001] == [
        *(f"line {number}" for number in range(1000)),
        "line 1000 WARNING: near the end",
    ]
    assert (
        lines[1001] == "last words"
        and re.fullmatch(r"\[\d\d:\d\d:\d\d spot\] the cloud will .*", lines[1002])
        and len(lines) == 1003
    )
    assert (
        "s3://kept-logs/windlass/elsewhere-00000000/" in told.stderr
        and f"train of {RUN} is LOST" in told.stderr
    )


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--tail 2 --raw", ["line 1000 WARNING: near the end", "last words"]),
        ("--grep 99[89]", ["line 998", "line 999"]),
        ("--level warning", ["line 1000 WARNING: near the end", "spot"]),
        ("--since 7170s --grep l", ["line 1000", "last words", "spot"]),
        ("--since 1m", []),
    ],
)
def test_the_same_words_mean_the_same(logs, words, texts):
    lines = logs(f"{RUN} {words}")[1].splitlines()
    assert len(lines) == len(texts) and all(
        text in line for text, line in zip(texts, lines, strict=True)
    )


def test_scripts_get_the_same_objects(logs):
    (told,) = [json.loads(line) for line in logs(f"{RUN} --json --grep last")[1].splitlines()]
    assert (told["run"], told["stage"], told["source"], told["text"]) == (
        RUN,
        "train",
        "log",
        "last words",
    )


def test_who_names_the_box_is_told_that_it_is_gone(logs):
    code, _, said = logs("gpu --tail 1")
    assert code and "there is no box gpu" in said
    assert "no run, job, box or group" in logs("nothing-like-it")[2]


def test_what_does_not_verify_is_not_shown(logs):
    found = bucket.of_entry("kept-logs", load_inventory().box())
    folder = f"windlass/elsewhere-00000000/jobs/{JOB}/"
    manifest = Manifest.from_json(
        found._s3.get_object(Bucket=found.name, Key=manifest_key(folder))["Body"].read()
    )
    (piece,) = manifest.files[f"jobs/{JOB}/log"].pieces(folder)
    whole = found._s3.get_object(Bucket=found.name, Key=piece.key)["Body"].read()
    found._s3.put_object(Bucket=found.name, Key=piece.key, Body=b"X" + whole[1:])
    try:
        code, out, said = logs(f"{RUN} --tail 1")
    finally:
        found._s3.put_object(Bucket=found.name, Key=piece.key, Body=whole)
    assert "does not verify" in said and code and not out
