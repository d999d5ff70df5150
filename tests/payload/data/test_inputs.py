"""The laptop's files of a recipe: a new release brings them under another path, and nothing is read
again for that."""

import json

import pytest

from remote.contract.files import atomic
from remote.contract.job.jobs import JobSpec
from remote.payload.job import Job
from remote.payload.stages import prepare

RECIPE = {
    "name": "mine",
    "sources": [
        {"type": "corpus", "path": "input:sources-1-path"},
        {"type": "kinds", "path": "input:sources-2-path", "license": "mit", "name": "other"},
    ],
    "steps": [{"type": "redact", "names": "input:steps-1-names"}],
    "split": {"validation": 0.2, "held_out": "input:split-held_out"},
}


def rows(*words):
    return "".join(json.dumps({"instruction": word, "output": "Ada"}) + "\n" for word in words)


@pytest.fixture
def made(tmp_path):
    """Prepare by the recipe, with the files of that release."""

    def run(release, name="Ada"):
        folder = tmp_path / "releases" / release
        told = {"a.jsonl": rows("a", "b"), "b.jsonl": rows("c"), "held.jsonl": rows("d")}
        for file, content in {**told, "names.txt": f"{name}\n"}.items():
            atomic.write_text(folder / file, content)
        files = dict(
            zip(
                ("sources-1-path", "sources-2-path", "split-held_out", "steps-1-names"),
                ("a.jsonl", "b.jsonl", "held.jsonl", "names.txt"),
                strict=True,
            )
        )
        inputs = {key: f"releases/{release}/{file}" for key, file in files.items()}
        job = tmp_path / "jobs" / release
        spec = JobSpec(release, "prepare", release, inputs=inputs, recipe=RECIPE)
        atomic.write_text(job / "spec.json", spec.to_json())
        prepare.main(Job(job))
        return job

    return run


def texts(job, name):
    lines = (job / "artifacts" / name).read_text().splitlines()
    return {json.loads(line)["messages"][0]["content"] for line in lines}


def test_they_are_read_wherever_they_lie(made):
    job = made("one")
    assert texts(job, "train.jsonl") == {"a", "b", "c"} and texts(job, "val.jsonl") == {"d"}
    told = json.loads((job / "artifacts/manifest.json").read_text())["recipe"]["sources"]
    assert told[0]["path"] == "shared/datasets/mine/inputs/sources-1-path/a.jsonl"


def test_another_release_reads_nothing_again(made, capsys):
    first = made("one")
    notes = (first / "metrics.jsonl").read_text()
    assert "units to work" in notes
    second = made("two")
    told = second / "metrics.jsonl"
    assert not told.exists() or "units to work" not in told.read_text()
    for name in ("train.jsonl", "val.jsonl", "manifest.json"):
        assert (second / "artifacts" / name).read_bytes() == (
            first / "artifacts" / name
        ).read_bytes()


def test_another_list_of_names_is_another_step(made):
    assert "[NAME]" in (made("one") / "artifacts/train.jsonl").read_text()
    assert "[NAME]" not in (made("two", name="Bob") / "artifacts/train.jsonl").read_text()
