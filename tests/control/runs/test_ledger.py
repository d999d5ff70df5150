"""The ledger: append-only, torn lines skipped, one driver at a time, state folded from events alone."""

import json
import multiprocessing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.jobs import Status
from remote.control.errors import Busy, NotFound
from remote.control.runs.ledger import Ledger, all_runs, find_run
from remote.control.runs.plan import Plan, PlannedStage
from remote.control.runs.state import fold, state_of

PLAN = Plan(
    "demo",
    (PlannedStage("prepare", "prepare", {"dataset": "rows.jsonl"}), PlannedStage("train", "train", {"train": "prepare.train"})),
    ("stop",),
)


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    ledger = Ledger.create("demo")
    ledger.append("run_created", plan=PLAN.to_json(), box="demo")
    return ledger


def test_a_torn_last_line_is_skipped_and_the_next_event_stands_on_its_own(ledger):
    whole = len(ledger.events())
    with open(ledger.path, "ab") as file:
        file.write(b'{"event": "stage_sta')
    assert len(ledger.events()) == whole
    ledger.append("run_begun")
    assert [event["event"] for event in ledger.events()] == ["run_created", "run_begun"]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0, max_value=600))
def test_a_ledger_cut_at_any_byte_still_gives_a_prefix_of_its_events(tmp_path_factory, cut):
    ledger = Ledger(tmp_path_factory.mktemp("run"))
    ledger.append("run_created", plan=PLAN.to_json(), box="demo")
    ledger.append("stage_started", label="prepare", key="k")
    ledger.append("stage_finished", label="prepare", status="SUCCEEDED")
    whole = ledger.events()
    ledger.path.write_bytes(ledger.path.read_bytes()[:cut])
    kept = ledger.events()
    assert kept == whole[: len(kept)]
    ledger.append("run_begun")
    assert [event["event"] for event in ledger.events()] == [event["event"] for event in kept] + ["run_begun"]


def test_state_json_is_rebuilt_when_it_is_missing_or_corrupt(ledger):
    ledger.append("stage_started", label="prepare", key="k", job_id="j1", box="demo")
    first = state_of(ledger)
    path = ledger.folder / "state.json"
    for broken in ("", "{", "[]"):
        path.write_text(broken)
        assert state_of(ledger).to_json() == first.to_json()
        assert json.loads(path.read_text())["stages"]["prepare"]["status"] == "RUNNING"


def test_the_newest_attempt_decides_and_a_lost_stage_runs_again(ledger):
    ledger.append("stage_started", label="prepare", key="k", job_id="j1", box="demo")
    ledger.append("stage_finished", label="prepare", status="FAILED", failure={"what": "disk full"})
    ledger.append("stage_started", label="prepare", key="k", job_id="j1", box="demo")
    ledger.append("stage_finished", label="prepare", status="SUCCEEDED", values={"rows": 3})
    state = state_of(ledger)
    assert (state.stages["prepare"].attempts, state.stages["prepare"].values, state.current().label) == (2, {"rows": 3}, "train")
    ledger.append("stage_lost", label="prepare")
    assert state_of(ledger).current().label == "prepare"


def test_an_event_of_a_newer_version_is_skipped():
    events = [{"event": "run_created", "time": 1.0, "plan": PLAN.to_json(), "box": "b"}, {"event": "teleported", "time": 2.0}]
    assert fold("r", events).status is Status.PENDING


def _hold(folder, ready, release):
    with Ledger(folder).locked("resume"):
        ready.set()
        release.wait(20)


def test_a_second_driver_is_told_who_holds_the_run(ledger):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(ledger.folder, ready, release))
    holder.start()
    assert ready.wait(20)
    with pytest.raises(Busy, match="driven by another") as caught, ledger.locked("run"):
        pass
    assert f"pid {holder.pid}" in caught.value.why
    assert ledger.is_driven()
    release.set()
    holder.join(20)
    assert not ledger.is_driven()


def test_runs_are_found_by_a_unique_part_of_their_id(ledger):
    other = Ledger.create("train")
    other.append("run_created", plan=PLAN.to_json(), box="demo")
    assert {run.run_id for run in all_runs()} == {ledger.run_id, other.run_id}
    assert find_run(ledger.run_id[-4:]).run_id == ledger.run_id
    with pytest.raises(NotFound):
        find_run("nothing-like-it")


def test_without_runs_the_error_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    with pytest.raises(NotFound) as caught:
        find_run(None)
    assert "./inv demo" in caught.value.remedy
