"""Lists of runs, their receipts and their lock survive whatever lies in a run's folder; what is
damaged is made again, or one bad row."""

import json
import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.contract.job.jobs import Status
from remote.control import targets
from remote.control.cloud.pricing import prices
from remote.control.commands.views.runs.listing import row as run_row
from remote.control.errors import ArtifactCorrupt, NotFound
from remote.control.project import history, keep_private, runs_folder, state_folder
from remote.control.runs import cleanup
from remote.control.runs.artifacts import verify_artifacts
from remote.control.runs.ledger import Ledger, all_runs
from remote.control.runs.plan import Plan, PlannedStage
from remote.control.runs.receipt import receipt_of
from remote.control.runs.state import fold, state_of
from tests.contract.hostile import FILES, JSON, changed

PLAN = Plan("demo", (PlannedStage("prepare", "prepare", {"dataset": "rows.jsonl"}),), ("stop",))
ARTIFACT = {
    "kind": "artifact",
    "box": "b",
    "path": "jobs/j/train",
    "size": 1,
    "sha256": "0" * 64,
    "is_folder": False,
}
EVENTS = [
    {
        "event": "run_created",
        "time": 1.0,
        "plan": PLAN.to_json(),
        "box": "demo",
        "facts": {"commit": "c"},
    },
    {"event": "run_begun", "time": 2.0, "purpose": "run"},
    {
        "event": "box_ready",
        "time": 3.0,
        **dict.fromkeys(("name", "provider", "id", "instance_type", "region"), "x"),
        "hourly_usd": 1.0,
    },
    {
        "event": "stage_started",
        "time": 4.0,
        "label": "prepare",
        "key": "k",
        "job_id": "j",
        "box": "demo",
    },
    {
        "event": "gate",
        "time": 5.0,
        "label": "prepare",
        "gate": "rows",
        "bound": ">0",
        "measured": 1,
        "holds": True,
    },
    {
        "event": "stage_finished",
        "time": 6.0,
        "label": "prepare",
        "status": "SUCCEEDED",
        "outputs": {"train": ARTIFACT},
        "values": {"n": 1},
    },
    {"event": "run_extended", "time": 7.0, "stages": [{"label": "more", "uses": "prepare"}]},
    {
        "event": "finally_due",
        "time": 8.0,
        "action": "stop",
        "box": "demo",
        "id": "i-1",
        "why": "no",
    },
    {"event": "run_finished", "time": 9.0, "status": "FAILED"},
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    return tmp_path


def begun(*events: dict, name: str = "demo") -> Ledger:
    ledger = Ledger.create(name)
    ledger.append("run_created", plan=PLAN.to_json(), box="demo")
    for event in events:
        ledger.append(**event)
    return ledger


FAILED = [{"event": "run_begun"}, {"event": "run_finished", "status": "FAILED"}]
ALIVE = [
    {"event": "run_begun"},
    {"event": "stage_started", "label": "prepare", "key": "k", "job_id": "j", "box": "demo"},
]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["state.json", "receipt.json", "lock"])
def test_a_derived_file_that_is_bad_is_absent(project, kind, name):
    ledger = begun(*FAILED)
    (ledger.folder / name).unlink(missing_ok=True)
    FILES[kind](ledger.folder / name)
    assert run_row(ledger, state_of(ledger))[3] == "FAILED"
    assert cleanup.clear(dry_run=True)[0][0].run_id == ledger.run_id
    assert receipt_of(ledger)["status"] == "FAILED"


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "2 GB"])
def test_a_ledger_that_is_bad_is_one_row_and_says_so_when_it_is_driven(project, kind):
    good, ledger = begun(*FAILED), begun(*FAILED, name="bad")
    ledger.path.unlink()
    FILES[kind](ledger.path)
    rows = {run.run_id: run_row(run, state_of(run))[3] for run in all_runs()}
    assert (
        rows[good.run_id] == "FAILED"
        and rows.get(ledger.run_id, "ledger without its plan") == "ledger without its plan"
    )
    from remote.control.config.inventory import Inventory
    from remote.control.runs.engine import drive

    with pytest.raises(ArtifactCorrupt) as caught:
        drive(ledger, Inventory.model_construct(), "resume")
    assert str(ledger.path) in caught.value.where and caught.value.remedy


def test_a_line_that_is_no_event_is_named_and_the_others_count(project):
    ledger = begun()
    with ledger.path.open("ab") as file:
        file.write(
            b"\xff\xfe garbage\n"
            + b"[" * 50_000
            + b"\n"
            + b'{"event": "run_finished", "time": 1e300, "status": "SUCCEEDED"}\n'
        )
    ledger.append("run_begun")
    assert ledger.unread() == [2, 3, 4]
    assert state_of(ledger).status is Status.RUNNING


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.one_of(*(changed(event) | st.just(event) for event in EVENTS)), max_size=12))
def test_any_events_add_up_to_a_state_that_can_be_shown(project, events):
    folder = runs_folder() / "run"
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder)
    ledger.path.write_text("".join(json.dumps(event) + "\n" for event in events))
    state = state_of(ledger)
    json.dumps(state.to_json())
    run_row(ledger, state)
    receipt_of(ledger)
    verify_artifacts(ledger)
    assert state.is_alive in (True, False) and isinstance(state.owed_in_words(), str)


def test_the_events_above_are_all_understood():
    state = fold("run", EVENTS)
    assert (
        state.status is Status.FAILED
        and list(state.owed) == ["stop"]
        and state.gates
        and state.boxes
        and "more" in state.stages
    )
    assert state.stages["prepare"].outputs["train"].size == 1


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_runs_and_what_is_in_them_are_their_owners_alone(project, umask):
    (project / "runs").mkdir(mode=0o755)
    before = os.umask(umask)
    try:
        ledger = begun(*FAILED)
        state_of(ledger)
        with ledger.locked("test"):
            (ledger.folder / "artifacts/prepare").mkdir(parents=True)
            (ledger.folder / "artifacts/prepare/rows.jsonl").write_text("private")
        state_folder()
    finally:
        os.umask(before)
    places = [project / "runs", project / ".windlass", *(project / "runs").rglob("*")]
    assert [path for path in places if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert keep_private(project / "nowhere") == project / "nowhere"


def test_clear_puts_away_what_ended_badly_and_says_what_stays(project):
    failed, alive = begun(*FAILED), begun(*ALIVE, name="alive")
    cancelled = begun(
        {"event": "run_begun"}, {"event": "run_finished", "status": "CANCELLED"}, name="cancelled"
    )
    well = begun(
        {"event": "run_begun"}, {"event": "run_finished", "status": "SUCCEEDED"}, name="well"
    )
    owing = begun(*FAILED, {"event": "finally_due", "action": "stop", "box": "demo"}, name="owing")
    driven = begun(*FAILED, name="driven")
    with driven.locked("run"):
        would, left = cleanup.clear(dry_run=True)
        assert {run.run_id for run in would} == {
            failed.run_id,
            cancelled.run_id,
        } and failed.folder.exists()
        done, left = cleanup.clear()
    assert {run.run_id for run in done} == {failed.run_id, cancelled.run_id}
    assert (
        left.keys() == {alive.run_id, owing.run_id, driven.run_id}
        and "owes: stop of box demo" in left[owing.run_id]
    )
    assert {run.run_id for run in all_runs()} == {
        alive.run_id,
        well.run_id,
        owing.run_id,
        driven.run_id,
    }
    (cleanup.folder() / failed.run_id).rename(runs_folder() / failed.run_id)  # the way back
    assert failed.run_id in {run.run_id for run in all_runs()}


def test_without_a_name_the_run_that_is_alive_is_meant(project):
    with pytest.raises(NotFound, match="no runs yet"):
        targets.run_of("", "why")
    alive, first, second = (
        begun(*ALIVE, name="alive"),
        begun(*FAILED, name="x"),
        begun(*FAILED, name="y"),
    )
    for to in ("show", "follow", "drive"):
        assert targets.run_of("", "logs -f", to=to).run_id == alive.run_id
    alive.append("run_finished", status="FAILED")
    assert (
        targets.run_of("", "why").run_id == sorted(run.run_id for run in (alive, first, second))[-1]
    )
    with pytest.raises(NotFound) as caught:
        targets.run_of("", "resume", to="drive")
    assert (
        f"`./inv resume {first.run_id}`" in caught.value.remedy
        and f"`./inv resume {second.run_id}`" in caught.value.remedy
    )
    with first.locked("run"):
        assert (
            targets.run_of("", "logs -f", to="follow").run_id == first.run_id
        )  # a command drives it
        with pytest.raises(NotFound, match="2 runs may be meant"):
            targets.run_of(
                "", "resume", to="drive"
            )  # that one cannot be resumed; of the others either


@pytest.mark.parametrize("kind", FILES)
def test_bad_caches_are_absent(project, kind):
    for name in ("prices.json", "history.jsonl"):
        FILES[kind](state_folder() / name)
    assert prices._kept() == {} and history.read("demo") == []


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.text(max_size=5),
        changed({"usd": 1.0, "at": "2026-01-01T00:00:00+00:00"}) | JSON,
        max_size=4,
    )
)
def test_a_cache_of_prices_holds_prices_alone(project, kept):
    (state_folder() / "prices.json").write_text(json.dumps(kept))
    assert all(
        0 <= known["usd"] < 1e6 and known["at"][:4].isdecimal() for known in prices._kept().values()
    )
