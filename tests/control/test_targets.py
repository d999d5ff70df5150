"""What the words of a command mean, for every command that takes them."""

import json
from types import SimpleNamespace

import pytest

from remote.contract.job.jobs import JobState, Status
from remote.control import targets
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxStopped, ConfigError, NotFound
from remote.control.jobs.state import BoxJob
from remote.control.targets import InBucket, OfRun, OnBox

INVENTORY = """\
default_box: a1
boxes:
  a1: {provider: static, host: 127.0.0.1, user: me}
  b2: {provider: static, host: 127.0.0.1, user: me}
groups: {both: [a1, b2]}
"""


said = []
"""What was said of boxes that were not asked."""


def logs_of(words, stage, follow):
    return targets.logs_of(words, stage, follow, load_inventory, said.append)


def job_of(word, verb):
    return targets.job_of(word, verb, load_inventory(), said.append)


def newest_of(word, stage):
    return targets.newest_of(word, stage, load_inventory, said.append)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    said.clear()
    return tmp_path


@pytest.fixture
def told(monkeypatch):
    """What the boxes tell of their jobs, and which could not be asked."""
    jobs, silent = [], []

    def look(boxes, say, patience_seconds):
        names = {box.name for box in boxes}
        return [job for job in jobs if job.box in names], silent

    monkeypatch.setattr(
        targets,
        "boxes_of",
        lambda inventory, names: [box(entry.name) for entry in inventory.resolve(names)],
    )
    monkeypatch.setattr(targets.table, "look", look)
    return jobs, silent


def box(name):
    return SimpleNamespace(name=name, state="running")


def run(project, run_id, stage="train"):
    folder = project / "runs" / run_id
    folder.mkdir(parents=True)
    plan = {"name": "p", "stages": [{"label": stage, "uses": "count"}], "finally_": []}
    started = {
        "event": "stage_started",
        "time": 2.0,
        "label": stage,
        "key": "k",
        "job_id": f"{run_id}-{stage}-0123abcd",
        "box": "a1",
    }
    created = {"event": "run_created", "time": 1.0, "plan": plan, "box": "a1"}
    (folder / "events.jsonl").write_text(
        "".join(json.dumps(event) + "\n" for event in (created, started))
    )


def job(box, run_id, stage, began, status=Status.SUCCEEDED):
    return BoxJob(
        box, run_id, JobState(f"{run_id}-{stage}-0123abcd", stage, status, started_at=began)
    )


def test_a_run_here_then_a_box_then_the_end_of_a_run(project, told):
    run(project, "20260101-x-a1")  # its end is a box's name
    (exact,) = logs_of(["20260101-x-a1"], "", False)
    (on_box,) = logs_of(["a1"], "", False)
    (beginning,) = logs_of(["20260101"], "", False)
    assert (
        isinstance(exact, OfRun)
        and exact.job == beginning.job
        and isinstance(on_box, OnBox)
        and on_box.entry.name == "a1"
    )
    assert isinstance(logs_of([], "", False)[0], OfRun)


def test_a_run_here_is_found_without_an_inventory_that_can_be_read(project, told):
    run(project, "20260101-x-aa")
    (project / "inventory.yaml").write_text("boxes: [\n")
    for word in ("", "20260101-x-aa"):
        assert isinstance(logs_of([word], "", False)[0], OfRun)
        assert newest_of(word, "").run_id == "20260101-x-aa"
    with pytest.raises(ConfigError):
        logs_of(["a1"], "", False)


def test_what_is_in_the_middle_of_an_id_is_not_offered_as_a_run(project):
    run(project, "20260101-000000-toy-0aa1")
    for word, meant in (("toy", ""), ("0aa2", "did you mean `0aa1`?")):
        with pytest.raises(NotFound, match=f"no run `{word}`") as caught:
            targets.find_run(word)
        assert caught.value.remedy == f"{meant} `./inv runs` lists them".lstrip()


def test_of_several_runs_the_chosen_one_is_meant(project, told):
    for name in ("20260101-x-aa", "20260102-x-bb"):
        run(project, name)
    asked = []

    def choose(verb, rows):
        asked.append((verb, [row.split()[0] for row in rows]))
        return 1

    assert targets.run_of("", "attach", to="follow", choose=choose).run_id == "20260101-x-aa"
    assert asked == [("attach", ["20260102-x-bb", "20260101-x-aa"])]


def test_groups_and_their_boxes_are_told_once(project, told):
    assert [source.entry.name for source in logs_of(["both", "b2", "both"], "train", False)] == [
        "a1",
        "b2",
    ]


def test_without_a_name_and_without_runs_what_is_under_way_or_the_newest(project, told):
    told[0][:] = [job("a1", "r1", "train", 5.0), job("b2", "r2", "train", 9.0)]
    assert [source.jobs for source in logs_of([], "", False)] == [["r2-train-0123abcd"]]
    told[0].extend(
        [
            job("a1", "r3", "train", 1.0, Status.RUNNING),
            job("b2", "r4", "train", 0.0, Status.PENDING),
        ]
    )
    assert [source.jobs for source in logs_of([], "", False)] == [
        ["r3-train-0123abcd"],
        ["r4-train-0123abcd"],
    ]


def test_a_run_that_the_boxes_know(project, told):
    told[0][:] = [
        job("a1", "haul-aa", "train", 5.0),
        job("a1", "haul-aa", "prepare", 2.0),
        job("b2", "haul-ab", "train", 9.0),
    ]
    (source,) = logs_of(["aa"], "", False)
    assert (source.entry.name, source.jobs) == ("a1", ["haul-aa-train-0123abcd"])
    assert logs_of(["aa"], "prepare", False)[0].jobs == ["haul-aa-prepare-0123abcd"]
    with pytest.raises(NotFound, match="2 runs match"):
        logs_of(["haul"], "", False)


def test_a_run_whose_job_never_began_says_so_and_how_it_does(project, told):
    run(project, "20260101-x-aa")
    failure = {"exit_code": 75, "what": "the box works for another job: train of r9"}
    ended = {
        "event": "stage_finished",
        "time": 3.0,
        "label": "train",
        "status": "FAILED",
        "failure": failure,
    }
    with (project / "runs/20260101-x-aa/events.jsonl").open("a") as ledger:
        ledger.write(json.dumps(ended) + "\n")
    with pytest.raises(
        NotFound, match="train of run 20260101-x-aa has no log: it never began"
    ) as caught:
        logs_of([], "", False)
    assert caught.value.why == failure["what"]
    assert (
        "`./inv resume 20260101-x-aa --queue`" in caught.value.remedy
        and "`./inv logs a1 -f`" in caught.value.remedy
    )


def test_a_stage_that_the_run_does_not_have_names_those_that_it_has(project, told):
    run(project, "20260101-x-aa")
    with pytest.raises(NotFound, match="has no job of a stage `typo`") as caught:
        logs_of(["20260101-x-aa"], "typo", False)
    assert (
        caught.value.why == "stages with a job: train"
        and caught.value.remedy == "`./inv logs 20260101-x-aa --stage train`"
    )


def meanings(word):
    """What the word means to `logs`, to `attach` and `cancel`, and to `why`."""
    return (
        lambda: logs_of([word], "", False),
        lambda: job_of(word, "attach"),
        lambda: newest_of(word, ""),
    )


def test_what_nobody_knows_is_told_alike_with_what_is_near_and_who_was_not_asked(project, told):
    told[0].append(job("a1", "20260101-haul-aa", "train", 5.0))
    told[1].append("b2: it does not answer")
    for meaning in meanings("20260101-haul-ab"):
        with pytest.raises(
            NotFound, match="no run, job, box or group `20260101-haul-ab`"
        ) as caught:
            meaning()
        assert (
            "not asked: b2: it does not answer" in caught.value.why
            and said.pop() == "not asked: b2: it does not answer"
        )
        assert caught.value.remedy.startswith("did you mean `20260101-haul-aa`? `./inv ps --all`")


def test_a_beginning_that_several_runs_share_is_refused_alike(project, told):
    told[0][:] = [
        job("a1", "haul-aa", "train", 5.0, Status.RUNNING),
        job("b2", "haul-ab", "train", 9.0),
    ]
    for meaning in meanings("haul"):
        with pytest.raises(NotFound, match="2 runs match `haul`") as caught:
            meaning()
        assert caught.value.why == "there are haul-aa, haul-ab"
    told[0].append(job("b2", "haul", "train", 1.0))
    assert job_of("haul", "attach").run_id == newest_of("haul", "").run_id == "haul", (
        "a whole id is no beginning"
    )


def test_a_job_to_act_on_is_the_one_under_way_and_to_explain_the_newest(project, told):
    told[0][:] = [
        job("a1", "haul-aa", "prepare", 9.0),
        job("a1", "haul-aa", "train", 5.0, Status.RUNNING),
    ]
    for word in ("haul-aa", "aa", "a1", "both"):
        assert (job_of(word, "attach").label, newest_of(word, "").label) == ("train", "prepare")
    assert (
        newest_of("aa", "train").job_id == job_of("", "cancel").job_id == "haul-aa-train-0123abcd"
    )
    with pytest.raises(NotFound, match="a1 has no job of a stage `typo`") as caught:
        newest_of("a1", "typo")
    assert caught.value.why == "stages with a job: prepare, train"


def test_what_lies_in_the_bucket_alone_has_logs_and_nothing_to_attach_to(
    project, told, monkeypatch
):
    stored = InBucket(SimpleNamespace(place=lambda job: f"s3://b/{job}/"), "haul-aa-train-0123abcd")
    monkeypatch.setattr(targets._Search, "_stored", lambda self, word: stored)
    assert logs_of(["haul-aa"], "", False) == [stored] and newest_of("haul-aa", "") == stored
    with pytest.raises(BoxStopped, match="the box of job haul-aa-train-0123abcd is gone") as caught:
        job_of("haul-aa", "cancel")
    assert (
        caught.value.kept == "s3://b/haul-aa-train-0123abcd/"
        and caught.value.remedy == "`./inv logs haul-aa` shows its log"
    )
