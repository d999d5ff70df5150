"""The ledger: append-only, torn lines skipped, one driver at a time, state folded from events
alone."""

import fcntl
import json
import multiprocessing
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.artifacts.gguf import QUANTIZATIONS
from remote.contract.job.jobs import Status
from remote.control.errors import Busy, ConfigError, NotFound
from remote.control.runs.ledger import Ledger, all_runs
from remote.control.runs.plan import Plan, PlannedStage
from remote.control.runs.receipt import receipt_of
from remote.control.runs.single import extend, model_name, plan_export, plan_install
from remote.control.runs.state import fold, state_of
from remote.control.targets import find_run
from remote.control.text import render

PLAN = Plan(
    "demo",
    (
        PlannedStage("prepare", "prepare", {"dataset": "rows.jsonl"}),
        PlannedStage("train", "train", {"train": "prepare.train"}),
    ),
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
    assert [event["event"] for event in ledger.events()] == [event["event"] for event in kept] + [
        "run_begun"
    ]


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
    assert (
        state.stages["prepare"].attempts,
        state.stages["prepare"].values,
        state.current().label,
    ) == (2, {"rows": 3}, "train")
    ledger.append("stage_lost", label="prepare")
    assert state_of(ledger).current().label == "prepare"


def test_an_event_of_a_newer_version_is_skipped():
    events = [
        {"event": "run_created", "time": 1.0, "plan": PLAN.to_json(), "box": "b"},
        {"event": "teleported", "time": 2.0},
    ]
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
        find_run("")
    assert "./inv demo" in caught.value.remedy


def test_one_who_only_looks_keeps_nobody_from_driving(ledger):
    with open(ledger.folder / "lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert not ledger.is_driven()
        threading.Timer(0.1, fcntl.flock, (lock, fcntl.LOCK_UN)).start()
        with ledger.locked("run"):
            assert ledger.is_driven()


def test_a_stage_that_failed_before_its_job_began_took_no_time(ledger):
    ledger.append(
        "stage_finished", label="train", status="FAILED", failure={"what": "no connection"}
    )
    (train,) = (stage for stage in receipt_of(ledger)["stages"] if stage["label"] == "train")
    assert (train["status"], train["seconds"]) == ("FAILED", None)


def test_the_receipt_names_the_lock_of_each_stages_environment(ledger):
    assert receipt_of(ledger)["environments"] == [] and "Python environment" not in render(
        "receipt.md.j2", **receipt_of(ledger)
    )
    for label, lock in (
        ("train", "a" * 64),
        ("train", "b" * 64),
    ):  # another attempt, after a deploy
        ledger.append("stage_started", label=label, key="k", job_id="job-1", box="demo")
        ledger.append("stage_environment", label=label, lock_sha256=lock)
    receipt = receipt_of(ledger)
    assert receipt["environments"] == [{"lock_sha256": "b" * 64, "stages": ["train"]}]
    assert (
        next(stage for stage in receipt["stages"] if stage["label"] == "train")["environment"]
        == "b" * 64
    )
    assert f"- train: every package as in the lock of sha256 `{'b' * 64}`" in render(
        "receipt.md.j2", **receipt
    )


def test_the_receipt_tells_of_a_host_that_stands_what_there_is(ledger):
    facts = {"id": "", "instance_type": "", "region": "", "hourly_usd": None, "market": "on-demand"}
    ledger.append("box_ready", name="lab", provider="static", **facts)
    assert "\n- lab: (static)\n" in render("receipt.md.j2", **receipt_of(ledger))


HAUL = Plan(
    "haul",
    (
        PlannedStage("train", "train", {"base": "box:/base", "train": "rows.jsonl"}),
        PlannedStage(
            "export",
            "export",
            {"base": "box:/base", "adapter": "train.adapter", "quantize": "q4_k_m"},
        ),
        PlannedStage(
            "install",
            "install",
            {"gguf": "export.gguf", "parity": "export.parity", "name": "haul"},
            gates={"reused": "==false"},
        ),
        PlannedStage("validate", "validate", {"model": "install.model", "val": "rows.jsonl"}),
    ),
)


@pytest.fixture
def hauled(ledger):
    ledger.append("run_created", plan=HAUL.to_json(), box="demo")
    for stage in HAUL.stages:
        ledger.append("stage_started", label=stage.label, key="k")
        ledger.append("stage_finished", label=stage.label, status="SUCCEEDED")
    ledger.append("run_finished", status="SUCCEEDED")
    return ledger


def test_another_export_of_a_finished_run_comes_after_what_there_is(hauled):
    extend(hauled, plan_export(hauled, "q8_0"), "export")
    run = state_of(hauled)
    assert [stage.label for stage in run.plan.stages] == [
        "train",
        "export",
        "install",
        "validate",
        "export-2",
        "bring",
    ]
    assert [label for label, stage in run.stages.items() if stage.status is Status.PENDING] == [
        "export-2",
        "bring",
    ]
    assert run.plan.stages[-1].wiring == {"gguf": "export-2.gguf", "parity": "export-2.parity"}
    assert run.status is Status.PENDING


def test_an_export_that_was_made_is_only_brought(hauled):
    for _ in range(2):
        extend(hauled, plan_export(hauled, "q4_k_m"), "export")
        assert [stage.label for stage in state_of(hauled).plan.stages] == [
            "train",
            "export",
            "install",
            "validate",
            "bring",
        ]


@pytest.mark.parametrize("quantize", QUANTIZATIONS)
def test_every_quantisation_can_be_asked_for(hauled, quantize):
    extend(hauled, plan_export(hauled, quantize.upper()), "export")
    assert quantize in {stage.wiring.get("quantize") for stage in state_of(hauled).plan.stages}


def test_an_unknown_quantisation_is_found_before_the_box_is_asked(hauled):
    with pytest.raises(ConfigError) as caught:
        plan_export(hauled, "q3")
    line, *_ = caught.value.lines()
    assert "`q3` is not known" in line and "q4_k_s, q4_0" in line and "./inv export" in line


def test_the_same_install_runs_again_in_its_place_and_another_beside_it(hauled):
    assert model_name(hauled) == "haul"
    extend(hauled, plan_install(hauled, "haul"), "install")
    run = state_of(hauled)
    assert run.plan.stages == HAUL.stages
    assert [label for label, stage in run.stages.items() if stage.status is Status.PENDING] == [
        "install"
    ]
    extend(hauled, plan_install(hauled, "other"), "install")
    assert state_of(hauled).plan.stages[-1].label == "install-2"


def test_a_run_that_is_driven_is_not_extended(hauled):
    before = len(hauled.events())
    with hauled.locked("resume"), pytest.raises(Busy):
        extend(hauled, plan_export(hauled, "q8_0"), "export")
    assert len(hauled.events()) == before


def test_a_ledger_without_its_plan_is_listed_as_what_it_is(ledger):
    from remote.control.commands.views.runs.listing import row as run_row

    ledger.path.write_text('{"event": "run_begun", "time": 1.0}\n')
    assert run_row(ledger, state_of(ledger)) == (
        ledger.run_id,
        "?",
        "?",
        "ledger without its plan",
        "",
        "",
        "",
    )
