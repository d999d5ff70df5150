import json

import pytest

from remote.contract.jobs import JobState, Status
from remote.control.errors import NotFound
from remote.control.jobs.state import BoxJob
from remote.control.logs import sources
from remote.control.logs.sources import OfRun, OnBox

INVENTORY = """\
default_box: a1
boxes:
  a1: {provider: static, host: 127.0.0.1, user: me}
  b2: {provider: static, host: 127.0.0.1, user: me}
groups: {both: [a1, b2]}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    return tmp_path


@pytest.fixture
def told(monkeypatch):
    """What the boxes tell of their jobs."""
    jobs, silent = [], []
    monkeypatch.setattr(sources, "_look", lambda inventory: (jobs, silent))
    return jobs, silent


def run(project, run_id, stage="train"):
    folder = project / "runs" / run_id
    folder.mkdir(parents=True)
    plan = {"name": "p", "stages": [{"label": stage, "uses": "count"}], "finally_": []}
    started = {"event": "stage_started", "time": 2.0, "label": stage, "key": "k", "job_id": f"{run_id}-{stage}-0123abcd", "box": "a1"}
    created = {"event": "run_created", "time": 1.0, "plan": plan, "box": "a1"}
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in (created, started)))


def job(box, run_id, stage, began, status=Status.SUCCEEDED):
    return BoxJob(box, run_id, JobState(f"{run_id}-{stage}-0123abcd", stage, status, started_at=began))


def test_a_run_here_then_a_box_then_the_end_of_a_run(project, told):
    run(project, "20260101-x-a1")  # its end is a box's name
    (exact,) = sources.find(["20260101-x-a1"], "").sources
    (box,) = sources.find(["a1"], "").sources
    (beginning,) = sources.find(["20260101"], "").sources
    assert isinstance(exact, OfRun) and exact.job == beginning.job and isinstance(box, OnBox) and box.entry.name == "a1"
    assert isinstance(sources.find([], "").sources[0], OfRun)


def test_groups_and_their_boxes_are_told_once(project, told):
    assert [source.entry.name for source in sources.find(["both", "b2", "both"], "train").sources] == ["a1", "b2"]


def test_without_a_name_and_without_runs_what_is_under_way_or_the_newest(project, told):
    told[0][:] = [job("a1", "r1", "train", 5.0), job("b2", "r2", "train", 9.0)]
    assert [source.jobs for source in sources.find([], "").sources] == [["r2-train-0123abcd"]]
    told[0].extend([job("a1", "r3", "train", 1.0, Status.RUNNING), job("b2", "r4", "train", 0.0, Status.PENDING)])
    assert [source.jobs for source in sources.find([], "").sources] == [["r3-train-0123abcd"], ["r4-train-0123abcd"]]


def test_a_run_that_the_boxes_know(project, told):
    told[0][:] = [job("a1", "haul-aa", "train", 5.0), job("a1", "haul-aa", "prepare", 2.0), job("b2", "haul-ab", "train", 9.0)]
    (source,) = sources.find(["aa"], "").sources
    assert (source.entry.name, source.jobs) == ("a1", ["haul-aa-train-0123abcd"])
    assert sources.find(["aa"], "prepare").sources[0].jobs == ["haul-aa-prepare-0123abcd"]
    with pytest.raises(NotFound, match="2 runs match"):
        sources.find(["haul"], "")


def test_a_run_whose_job_never_began_says_so_and_how_it_does(project, told):
    run(project, "20260101-x-aa")
    failure = {"exit_code": 75, "what": "the box works for another job: train of r9"}
    ended = {"event": "stage_finished", "time": 3.0, "label": "train", "status": "FAILED", "failure": failure}
    with (project / "runs/20260101-x-aa/events.jsonl").open("a") as ledger:
        ledger.write(json.dumps(ended) + "\n")
    with pytest.raises(NotFound, match="train of run 20260101-x-aa has no log: it never began") as caught:
        sources.find([], "")
    assert caught.value.why == failure["what"]
    assert "`./inv resume 20260101-x-aa --queue`" in caught.value.remedy and "`./inv logs a1 -f`" in caught.value.remedy


def test_a_stage_that_the_run_does_not_have_names_those_that_it_has(project, told):
    run(project, "20260101-x-aa")
    with pytest.raises(NotFound, match="has no job of a stage `typo`") as caught:
        sources.find(["20260101-x-aa"], "typo")
    assert caught.value.why == "stages with a job: train" and caught.value.remedy == "`./inv logs 20260101-x-aa --stage train`"


def test_what_nobody_knows_says_who_was_not_asked(project, told):
    told[1].append("b2: it does not answer")
    with pytest.raises(NotFound, match="no run, box or group `zz`") as caught:
        sources.find(["zz"], "")
    assert "b2: it does not answer" in caught.value.why
