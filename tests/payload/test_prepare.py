import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.files import atomic, digest
from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Cause, JobSpec
from remote.payload.job import Job, StageFailed
from remote.payload.stages import prepare

PROJECT = Path(__file__).resolve().parents[2]


def row(number, group=None, **changes):
    made = {
        "instruction": "Add.",
        "input": f"{number} 1",
        "output": str(number + 1),
        **({"group": group} if group else {}),
        **changes,
    }
    return json.dumps(made)


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"".join(line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines)
    )
    return path


@pytest.fixture
def job(tmp_path):
    def make(lines=None, *, source=None, held_out=None, name="job-1", **options):
        dataset = source or write(tmp_path / "data" / "rows.jsonl", lines)
        inputs = {"dataset": str(dataset), **({"held_out": str(held_out)} if held_out else {})}
        folder = tmp_path / "windlass" / "jobs" / name
        atomic.write_text(
            folder / "spec.json",
            JobSpec(name, "prepare", "r", inputs=inputs, options=options).to_json(),
        )
        return Job(folder)

    return make


def run(job):
    prepare.main(job)
    outputs = json.loads(job.paths.outputs.read_text())
    rows = {name: flat(job.artifact(f"{name}.jsonl")) for name in ("train", "val")}
    return (
        rows["train"],
        rows["val"],
        {name: item["value"] for name, item in outputs.items() if "value" in item},
    )


def flat(path):
    """Rows with their input and group."""
    rows = read(path)
    for item in rows:
        item["input"] = item["messages"][0]["content"].rpartition("\n\n")[2]
    return rows


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_splits_off_the_share_and_loses_no_row(job):
    train, val, values = run(job([row(number) for number in range(200)]))
    assert values == {"rows": 200, "rejected": 0, "train_rows": 180, "val_rows": 20}
    assert (len(train), len(val)) == (180, 20)
    assert {item["input"] for item in train + val} == {f"{number} 1" for number in range(200)}
    assert all(item["group"] for item in train + val)


def test_a_group_stays_on_one_side(job):
    train, val, _ = run(job([row(number, group=f"profile-{number % 30}") for number in range(300)]))
    assert len({item["group"] for item in val}) == 3
    assert not {item["group"] for item in train} & {item["group"] for item in val}


def test_one_prompt_with_two_answers_stays_on_one_side(job):
    lines = [row(number, output=answer) for number in range(100) for answer in ("yes", "no")]
    train, val, _ = run(job(lines))
    assert not {item["input"] for item in train} & {item["input"] for item in val}


def test_the_same_input_gives_the_same_bytes(job):
    lines = [row(number, group=str(number % 17)) for number in range(100)]
    first, second = job(lines, name="one"), job(lines, name="two")
    run(first), run(second)
    assert digest.of_folder(first.paths.artifacts) == digest.of_folder(second.paths.artifacts)
    other = job(lines, name="three", seed=1)
    run(other)
    assert digest.of_folder(other.paths.artifacts) != digest.of_folder(first.paths.artifacts)


def test_new_rows_move_hardly_any_old_one_across(job):
    _, before, _ = run(job([row(number) for number in range(1000)], name="one"))
    _, after, _ = run(job([row(number) for number in range(1010)], name="two"))
    moved = {item["input"] for item in before} - {item["input"] for item in after}
    assert len(moved) <= 2


def test_a_folder_is_read_whole_and_in_order(job, tmp_path):
    write(tmp_path / "data" / "b.jsonl", [row(2), "no"])
    write(tmp_path / "data" / "a" / "deep.jsonl", [row(1), row(2)])
    write(tmp_path / "data" / "notes.txt", ["not data"])
    made = job(source=tmp_path / "data", validation_share=0, max_reject_share=0.5)
    train, val, _ = run(made)
    assert [item["input"] for item in train] == ["1 1", "2 1"]
    assert val == []
    assert [(item["where"], item["reason"]) for item in read(made.artifact("rejects.jsonl"))] == [
        ("b.jsonl:2", "not JSON: Expecting value"),
        ("b.jsonl:1", "repeats a/deep.jsonl:2"),
    ]


def test_bad_rows_are_set_aside_and_named_by_line(job):
    lines = [*(row(number) for number in range(98)), "", "{", b'{"instruction": "\xff"}\n']
    made = job(lines)
    train, val, values = run(made)
    assert values["rows"] == 100 and values["rejected"] == 2 and len(train) + len(val) == 98
    rejects = read(made.artifact("rejects.jsonl"))
    assert [item["where"] for item in rejects] == ["rows.jsonl:100", "rows.jsonl:101"]
    assert rejects[0]["line"] == "{"


def test_too_many_bad_rows_stop_and_the_first_are_named(job):
    made = job([*(row(number) for number in range(50)), *["{"] * 8])
    with pytest.raises(StageFailed) as caught:
        prepare.main(made)
    failure = caught.value
    assert failure.cause is Cause.DATA
    assert failure.what == "8 of 58 rows are unusable; at most 2.0% may be"
    assert failure.why.startswith("rows.jsonl:51: not JSON") and failure.why.endswith(
        "; and 3 more"
    )
    assert str(made.artifact("rejects.jsonl")) in failure.kept
    assert len(read(made.artifact("rejects.jsonl"))) == 8
    assert not made.paths.outputs.exists()
    assert [path.name for path in made.paths.artifacts.iterdir()] == ["rejects.jsonl"]


def test_repeated_rows_are_set_aside_but_do_not_stop(job):
    _, _, values = run(job([row(number % 10) for number in range(100)], validation_share=0.2))
    assert values == {"rows": 100, "rejected": 90, "train_rows": 8, "val_rows": 2}


@pytest.mark.parametrize("lines", [[], ["", " "]])
def test_nothing_to_train_on_stops(job, lines):
    with pytest.raises(StageFailed, match="holds no rows"):
        prepare.main(job(lines))


def test_a_folder_without_rows_stops(job, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StageFailed, match="no file with rows"):
        prepare.main(job(source=tmp_path / "empty"))


def test_held_out_rows_validate_and_never_train(job, tmp_path):
    held_out = write(tmp_path / "held.jsonl", [row(1, group="a"), row(900, group="b")])
    made = job([row(1, group="a"), row(2, group="a"), row(3, group="c"), row(4)], held_out=held_out)
    train, val, values = run(made)
    assert [item["input"] for item in val] == ["1 1", "900 1"]
    assert [item["input"] for item in train] == ["3 1", "4 1"]
    assert values == {"rows": 6, "rejected": 2, "train_rows": 2, "val_rows": 2}
    assert [item["reason"] for item in read(made.artifact("rejects.jsonl"))] == [
        "its group is held out",
        "its group is held out",
    ]


def test_one_group_alone_trains(job):
    train, val, _ = run(job([row(number, group="only") for number in range(10)]))
    assert (len(train), len(val)) == (10, 0)


@pytest.mark.parametrize("value", [1, -0.1, "a tenth", True])
def test_a_share_that_is_none_stops(job, value):
    with pytest.raises(StageFailed, match="validation_share"):
        prepare.main(job([row(1)], validation_share=value))


def test_what_it_writes_are_rows(job):
    made = job([row(number, output="é\u2028\n") for number in range(20)])
    run(made)
    for number, line in enumerate(made.artifact("train.jsonl").read_bytes().split(b"\n")[:-1], 1):
        assert parse_row(line, "train.jsonl", number).answer == "é\u2028\n"


def test_as_a_process_it_ends_with_the_code_for_data(job):
    made = job(["nothing"])
    command = [sys.executable, "-m", "remote.payload.stages.prepare", str(made.paths.folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.DATA
    assert (
        json.loads(made.paths.failure.read_text())["why"]
        == "rows.jsonl:1: not JSON: Expecting value"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["dataset", "held_out"])
def test_a_file_of_another_kind_is_named_before_a_row_is_read(job, tmp_path, name):
    pointer = write(tmp_path / "pointer.jsonl", ["version https://git-lfs.github.com/spec/v1"])
    rows = write(tmp_path / "rows.jsonl", [row(number) for number in range(4)])
    wired = {"source": pointer} if name == "dataset" else {"source": rows, "held_out": pointer}
    with pytest.raises(StageFailed) as caught:
        prepare.main(job(**wired, max_reject_share=1))
    assert caught.value.cause is Cause.DATA
    assert caught.value.what == f"{name}: pointer.jsonl is a Git LFS pointer"
    assert "lfs pull" in caught.value.remedy
    assert not job(**wired).artifact("rejects.jsonl").exists()


def test_a_packed_file_is_read(job, tmp_path):
    packed = tmp_path / "packed.jsonl"
    packed.write_bytes(gzip.compress("\n".join(row(number) for number in range(4)).encode()))
    train, val, _ = run(job(source=packed))
    assert len(train + val) == 4


def test_an_earlier_unit_is_not_worked_again(job, tmp_path, capsys):
    for number in range(3):
        write(tmp_path / "data" / f"{number}.jsonl", [row(number)])
    made = job(source=tmp_path / "data")
    run(made)
    parts = made.paths.checkpoints / "prepare" / "parts"
    before = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    write(tmp_path / "data" / "1.jsonl", [row(7)])
    run(made)
    after = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    kept = {name for name in after if before.get(name) == after[name]}
    assert len([name for name in kept if name.endswith(".rejects.jsonl")]) == 2
