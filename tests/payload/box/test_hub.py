"""Datasets of the hub: in at one commit, checked, under a licence; and out, as Parquet with a
card."""

import io
import json
import re

import pytest

from remote.contract.artifacts.rows import Row, Turn
from remote.contract.files import atomic
from remote.contract.job.jobs import Cause, JobSpec
from remote.payload.data.engine import Context
from remote.payload.data.sources import hub as source
from remote.payload.data.units import Given
from remote.payload.job import Job, StageFailed
from remote.payload.stages import prepare
from tests.hub_datasets import Repository
from tests.hub_server import serving

NAME = "someone/facts"
CARD = b"---\nlicense: cc-by-4.0\n---\n# Facts\n"


@pytest.fixture(scope="module")
def served():
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(served, monkeypatch, tmp_path):
    from huggingface_hub import constants

    served.datasets.clear()
    served.gated.clear()
    served.damaged.clear()
    served.requests.clear()
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # as stages are started
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server has none
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf/token"))
    return served


def lines(count, start=0):
    return "".join(
        Row.of(f"What is {number}?", str(number)).to_line()
        for number in range(start, start + count)
    ).encode()


def parquet(rows):
    import pyarrow
    from pyarrow import parquet as format_

    file = io.BytesIO()
    format_.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def alpaca(count, start=0):
    return [
        {"instruction": f"Say {number}.", "output": str(number)}
        for number in range(start, start + count)
    ]


def commit(hub, files, name=NAME):
    return hub.datasets.setdefault(name, Repository()).commit(files)


def opened(tmp_path, path, **entry):
    return source.open_source(
        {"type": "hub", "path": path, **entry}, Context(tmp_path, tmp_path / "work", {})
    )


def rows(tmp_path, path, **entry):
    made = opened(tmp_path, path, **entry)
    return [result for unit in made.units() for result in made.read(unit)]


def units(tmp_path, sha, **entry):
    return [unit.id for unit in opened(tmp_path, f"hf://{NAME}@{sha}", **entry).units()]


def test_the_rows_of_a_commit_with_their_origin_and_licence(hub, tmp_path):
    sha = commit(hub, {"README.md": CARD, "data/train.parquet": parquet(alpaca(3))})
    commit(hub, {"README.md": CARD, "data/train.parquet": parquet(alpaca(5))})
    made = opened(tmp_path, f"hf://{NAME}@{sha}")
    (unit,) = made.units()
    assert unit.what["license"] == ["cc-by-4.0"] and unit.what["commit"] == sha
    assert unit.digest.startswith("sha256:") and unit.size
    found = list(made.read(unit))
    assert all(isinstance(each, Given) for each in found)
    assert [each.row.answer for each in found] == ["0", "1", "2"]
    assert {each.row.source for each in found} == {NAME}
    assert str(found[1].origin) == f"hf://{NAME}@{sha}/data/train.parquet:2"
    assert not list((tmp_path / "work/hub").iterdir())


@pytest.mark.parametrize(
    ("revision", "why"), [("", "names no commit"), ("@main", "moves"), ("@v1", "moves")]
)
def test_a_revision_that_is_not_pinned_is_refused_with_the_commit_to_write(
    hub, tmp_path, revision, why
):
    commit(hub, {"README.md": CARD})
    repository = hub.datasets[NAME]
    repository.commits = (
        {**repository.commits, "v1": {}} if "v1" in revision else repository.commits
    )
    with pytest.raises(StageFailed, match="is not pinned") as caught:
        list(opened(tmp_path, f"hf://{NAME}{revision}").units())
    assert why in caught.value.why and caught.value.cause is Cause.CONFIG
    assert re.search(f"hf://{NAME}@[0-9a-f]+|hf://{NAME}@v1", caught.value.remedy)


@pytest.mark.parametrize(
    "path", ["hf://", "hf://a/b/c", "s3://a/b", "hf://a b@main", "hf://someone/facts@"]
)
def test_an_address_that_is_none_is_refused(tmp_path, path):
    with pytest.raises(StageFailed, match="is no dataset of the hub"):
        opened(tmp_path, path)


def test_what_the_hub_refuses_is_said_in_words(hub, tmp_path, monkeypatch):
    sha = commit(hub, {"README.md": CARD, "train.jsonl": lines(2)})
    with pytest.raises(StageFailed, match="is not on the hub") as caught:
        rows(tmp_path, f"hf://someone/nothing@{sha}")
    assert "HF_TOKEN" in caught.value.remedy
    with pytest.raises(StageFailed, match="has no such revision"):
        rows(tmp_path, f"hf://{NAME}@{'0' * 40}")
    hub.gated.add(NAME)
    hub.tokens.add("hf_good")
    with pytest.raises(StageFailed, match="is gated"):
        rows(tmp_path, f"hf://{NAME}@{sha}")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert len(rows(tmp_path, f"hf://{NAME}@{sha}")) == 2
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StageFailed, match="cannot be asked for") as caught:
        rows(tmp_path, f"hf://{NAME}@{sha}")
    assert caught.value.cause is Cause.DATA


@pytest.mark.parametrize(
    ("card", "entry", "what"),
    [
        (b"# no word\n", {}, "has no licence"),
        (b"---\nlicense: cc-by-nc-4.0\n---\n", {}, "is not allowed"),
        (b"---\nlicense: cc-by-nc-4.0\n---\n", {"licenses": ["CC-BY-NC-4.0"]}, ""),
        (b"# no word\n", {"license": "own"}, ""),
    ],
)
def test_a_licence_must_be_known_and_allowed(hub, tmp_path, card, entry, what):
    sha = commit(hub, {"README.md": card, "train.jsonl": lines(1)})
    if not what:
        assert len(rows(tmp_path, f"hf://{NAME}@{sha}", **entry)) == 1
        return
    with pytest.raises(StageFailed, match=what):
        rows(tmp_path, f"hf://{NAME}@{sha}", **entry)


def test_a_file_that_comes_otherwise_than_the_commit_has_it_is_not_read(hub, tmp_path):
    files = {"README.md": CARD, "train-1.jsonl": lines(3), "train-2.parquet": parquet(alpaca(3))}
    sha = commit(hub, files)
    hub.damaged |= {"train-1.jsonl", "train-2.parquet"}
    made = opened(tmp_path, f"hf://{NAME}@{sha}")
    for unit in made.units():
        with pytest.raises(ValueError, match="its hash is another|cannot be fetched"):
            list(made.read(unit))


CONFIGS = b"""---
license: mit
configs:
- config_name: fr
  data_files:
  - split: train
    path: fr/*.jsonl
  - split: test
    path: [fr-test.jsonl]
- config_name: en
  data_files: en.jsonl
---
"""
FILES = {name: lines(1) for name in ("fr/a.jsonl", "fr/b.jsonl", "fr-test.jsonl", "en.jsonl")}


def test_files_are_those_that_the_card_names(hub, tmp_path):
    sha = commit(hub, {"README.md": CONFIGS, **FILES})
    assert units(tmp_path, sha, config="fr") == ["fr/a.jsonl", "fr/b.jsonl"]
    assert units(tmp_path, sha, config="fr", split="test") == ["fr-test.jsonl"]
    assert units(tmp_path, sha, config="en") == ["en.jsonl"]
    assert units(tmp_path, sha, files=["*/b.jsonl", "en*"]) == ["en.jsonl", "fr/b.jsonl"]
    with pytest.raises(StageFailed, match="no config 'default'") as caught:
        units(tmp_path, sha)
    assert "fr, en" in caught.value.why
    with pytest.raises(StageFailed, match="no split 'validation'"):
        units(tmp_path, sha, config="fr", split="validation")
    with pytest.raises(StageFailed, match="has no file to read"):
        units(tmp_path, sha, files=["*.csv"])


@pytest.mark.parametrize(
    ("files", "split", "chosen"),
    [
        (["a.jsonl", "b.jsonl.gz"], "train", ["a.jsonl", "b.jsonl.gz"]),
        (["data/train-0-of-1.parquet", "data/test-0-of-1.parquet"], "train", [0]),
        (["data/train-0-of-1.parquet", "data/test-0-of-1.parquet"], "test", [1]),
        (["train/x.csv", "dev/x.csv"], "validation", [1]),
        (["evaluation.jsonl", "training.jsonl"], "test", [0]),
        (["training.jsonl", "devices.jsonl"], "train", [0]),
        (["a.jsonl", "notes.md", "picture.png"], "train", [0]),
        (["a.jsonl"], "test", []),
    ],
)
def test_files_are_those_whose_names_tell_of_the_split(files, split, chosen):
    expected = [files[each] if isinstance(each, int) else each for each in chosen]
    assert source.chosen_files(["README.md", *files], [], {"split": split}) == expected


def job_of(tmp_path, recipe, name="job-1"):
    folder = tmp_path / "windlass" / "jobs" / name
    spec = JobSpec(name, "prepare", "run", inputs={}, recipe=recipe)
    atomic.write_text(folder / "spec.json", spec.to_json())
    return Job(folder)


def recipe_of(path, **more):
    return {
        "name": "facts",
        "sources": [{"type": "hub", "path": path, **more}],
        "steps": [{"type": "deduplicate"}],
        "split": {"validation": 0.2},
        "limits": {"workers": 2},
    }


def test_prepare_reads_a_dataset_of_the_hub_once(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    files = {"train-1.jsonl": lines(20), "train-2.parquet": parquet(alpaca(20))}
    sha = commit(hub, {"README.md": CARD, **files})
    job = job_of(tmp_path, recipe_of(f"hf://{NAME}@{sha}"))
    prepare.main(job)
    told = json.loads(job.paths.outputs.read_text())
    assert told["rows"]["value"] == 40 and told["val_rows"]["value"] == 8
    hub.requests.clear()
    again = job_of(tmp_path, recipe_of(f"hf://{NAME}@{sha}"), "job-2")
    prepare.main(again)
    assert not [each for each in hub.requests if "train-" in each["path"]]
    assert again.artifact("train.jsonl").read_bytes() == job.artifact("train.jsonl").read_bytes()


assert Turn
