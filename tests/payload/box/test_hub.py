"""Datasets of the hub: in at one commit, checked, under a licence; and out, as Parquet with a
card."""

import io
import json
import re
from dataclasses import replace

import pytest

from remote.contract.artifacts import row_kinds
from remote.contract.artifacts.rows import Row, Turn
from remote.contract.files import atomic
from remote.contract.job.jobs import Cause, JobSpec
from remote.payload.data.engine import Context
from remote.payload.data.outputs import hub as hub_out
from remote.payload.data.outputs import parquet as parquet_out
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
        with pytest.raises(ValueError, match=r"its hash is another|cannot be fetched"):
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
    manifest = json.loads(job.artifact("manifest.json").read_text())
    assert [unit["license"] for unit in manifest["units"]] == [["cc-by-4.0"]] * 2
    assert hub_out.About.of_manifest(manifest).licences == ("cc-by-4.0",)
    hub.requests.clear()
    again = job_of(tmp_path, recipe_of(f"hf://{NAME}@{sha}"), "job-2")
    prepare.main(again)
    assert not [each for each in hub.requests if "train-" in each["path"]]
    assert again.artifact("train.jsonl").read_bytes() == job.artifact("train.jsonl").read_bytes()


TWO = [
    Row.of("Who?", "Me.", group="a", source="one"),
    Row(
        (
            Turn("system", "Be brief."),
            Turn("user", "Hi"),
            Turn("assistant", "Hello."),
            Turn("user", "Bye"),
            Turn("assistant", "Good bye.", is_learnt=True),
        ),
        group="b",
        weight=0.5,
    ),
    Row(text="A document \u2028 é.", group="c"),
]
ABOUT = hub_out.About("facts", "f" * 64, ("hf://a/b@c", "1 × corpus"), ("mit",))


def written(path, rows):
    path.write_text("".join(row.to_line() for row in rows))
    return path


@pytest.fixture
def made(tmp_path):
    train = written(tmp_path / "train.jsonl", TWO * 3)
    val = written(tmp_path / "val.jsonl", [Row.of("Where?", "Here.", group="d")])
    return hub_out.write(tmp_path / "out", train, val, ABOUT)


def read_back(table):
    return [
        row_kinds.row_of({name: value for name, value in each.items() if value is not None})
        for each in table
    ]


def test_parquet_has_the_same_rows_and_features(made, tmp_path, monkeypatch):
    import datasets

    told = datasets.load_dataset(str(made), cache_dir=str(tmp_path / "cache"))
    assert read_back(told["train"]) == TWO * 3 and told["validation"].num_rows == 1
    assert set(told["train"].features) == {"messages", "text", "group", "source", "weight"}
    again = hub_out.write(tmp_path / "2", tmp_path / "train.jsonl", tmp_path / "val.jsonl", ABOUT)
    one, two = (
        {path.name: path.read_bytes() for path in each.rglob("*") if path.is_file()}
        for each in (made, again)
    )
    assert one == two


def test_large_files_are_parted(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_out, "FILE_BYTES", 200)
    train = written(tmp_path / "train.jsonl", TWO * 3)
    out = hub_out.write(tmp_path / "out", train, None, ABOUT)
    files = sorted(path.name for path in out.glob("data/*"))
    assert len(files) > 3 and files[0].startswith("train-00000-of-0000")
    import datasets

    told = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert read_back(told["train"]) == TWO * 3


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
def test_a_dataset_is_pushed_as_one_commit_and_comes_back(hub, made, tmp_path):
    address = hub_out.push_to_hub(made, "hf://someone/made")
    repository = hub.datasets["someone/made"]
    (sha,) = repository.commits
    assert address == f"hf://someone/made@{sha}" and repository.is_private
    assert set(repository.commits[sha]) == {
        "README.md",
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
    }
    back = [each.row for each in rows(tmp_path, address, split="validation")]
    assert back == [Row.of("Where?", "Here.", group="d", source="someone/made")]
    (unit,) = opened(tmp_path, address, split="validation").units()
    assert unit.what["license"] == ["mit"]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
def test_a_later_push_replaces_the_rows_and_keeps_the_words_of_the_card(hub, made, tmp_path):
    card = b"---\nlicense: cc-by-4.0\nlanguage: fr\n---\n# Mine\n\nMy words.\n"
    old = {"data/train-00000-of-00009.parquet": parquet(alpaca(1)), "picture.png": b"png"}
    commit(hub, {"README.md": card, **old}, "someone/made")
    hub_out.push_to_hub(made, "hf://someone/made")
    repository = hub.datasets["someone/made"]
    now = repository.commits[repository.newest]
    assert "data/train-00000-of-00009.parquet" not in now and now["picture.png"] == b"png"
    told = now["README.md"].decode()
    assert "My words." in told and "license: mit" in told and "language: fr" in told


def test_an_upload_that_fails_is_said_in_words(hub, made, monkeypatch):
    monkeypatch.setattr(hub, "is_full", True)
    with (
        pytest.warns(DeprecationWarning, match="Use 'content="),
        pytest.raises(StageFailed, match="cannot be asked for") as caught,
    ):
        hub_out.push_to_hub(made, "hf://someone/made")
    assert "resume" in caught.value.remedy and not hub.datasets["someone/made"].commits


@pytest.mark.parametrize("path", [f"hf://someone/made@{'a' * 40}", "hf://made", "someone/made"])
def test_an_address_that_cannot_be_written_is_refused(made, path):
    with pytest.raises(StageFailed) as caught:
        hub_out.push_to_hub(made, path)
    assert caught.value.cause is Cause.CONFIG


def test_a_card_does_not_tell_where_files_of_ones_own_lie():
    manifest = {
        "name": "n",
        "recipe_sha256": "0" * 64,
        "recipe": {
            "sources": [
                {"type": "corpus", "path": "/home/me/secret"},
                {"type": "hub", "path": "hf://a/b@c"},
            ]
        },
        "units": [{"license": ["mit"]}, {"license": ["mit"]}],
    }
    about = hub_out.About.of_manifest(manifest)
    assert about.sources == ("hf://a/b@c", "1 × corpus") and about.licences == ("mit",)
    mixed = {**manifest, "units": [{"license": ["mit"]}, {}]}
    assert hub_out.About.of_manifest(mixed).licences == ()
    assert hub_out.About.of_manifest(mixed, "cc0-1.0").licences == ("cc0-1.0",)


def conversations(count):
    for number in range(count):
        first, last = TWO[0], TWO[1]
        yield replace(
            first, messages=(*first.messages[:-1], Turn("assistant", f"I {number}", True))
        )
        yield replace(last, messages=(Turn("system", f"Be {number}."), *last.messages[1:]))


def test_datasets_opens_what_prepare_leaves_with_the_same_rows(hub, tmp_path, monkeypatch):
    """The files themselves, without any of our code: `load_dataset("json", ...)`."""
    import datasets

    several = [replace(row, group=str(number)) for number, row in enumerate(conversations(30))]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    dataset = written(tmp_path / "rows.jsonl", several)
    folder = tmp_path / "windlass" / "jobs" / "job-1"
    spec = JobSpec("job-1", "prepare", "run", inputs={"dataset": str(dataset)}, options={})
    atomic.write_text(folder / "spec.json", spec.to_json())
    job = Job(folder)
    prepare.main(job)
    for name in ("train", "val"):
        path = job.artifact(f"{name}.jsonl")
        told = datasets.load_dataset(
            "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
        )
        expected = [row_kinds.parse_row(line, "x", 1) for line in path.read_bytes().splitlines()]
        assert expected and read_back(told) == expected


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
def test_prepare_puts_its_dataset_on_the_hub(hub, tmp_path):
    dataset = tmp_path / "rows.jsonl"
    dataset.write_bytes(lines(40))
    told = recipe_of(str(dataset))
    told["sources"] = [{"type": "corpus", "path": str(dataset)}]
    told["outputs"] = {"hub": "hf://someone/made", "license": "mit"}
    prepare.main(job_of(tmp_path, told))
    repository = hub.datasets["someone/made"]
    files = repository.commits[repository.newest]
    assert [name for name in files if name.endswith(".parquet")] and repository.is_private
    assert b"license: mit" in files["README.md"]
