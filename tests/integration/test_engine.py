"""The engine on a real embedded box, with the one stage that needs no torch: what is skipped, what
runs again, what is left alone."""

import json
from pathlib import Path

import pytest

from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Cause, Status
from remote.control.cloud import boxes
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxStopped, BoxUnreachable, Fault, GateFailed, JobFailed
from remote.control.project import CODE
from remote.control.runs.artifacts import bring_all
from remote.control.runs.engine import begin, drive, prepare_run
from remote.control.runs.ledger import Ledger
from remote.control.runs.receipt import write_receipt
from remote.control.runs.state import state_of
from remote.control.runs.verbs import VERBS
from remote.control.transport.connect import connect
from tests.integration.boxes import mark_environment

PLAYBOOK = """\
name: small
stages:
  prepare: {uses: prepare, with: {dataset: rows.jsonl, validation_share: 0.3}, gates: {rows: "%s"}}
  pull: {uses: pull, with: {train: prepare.train}}
finally: %s
"""


@pytest.fixture(scope="module")
def project(embedded_project):
    """An embedded box that has its environment, or believes so."""
    box = boxes.ready(load_inventory().box(), lambda line: None)
    with connect(box) as transport:
        mark_environment(transport, CODE / "remote/payload/requirements.txt")
    return embedded_project


@pytest.fixture
def playbook(project):
    """A function that writes the playbook and the rows, and begins a run."""

    def write(rows: int = 12, gate: str = ">0", finally_: str = "[]", broken: int = 0) -> Ledger:
        lines = [
            json.dumps({"instruction": f"Add {number} and 1.", "output": str(number + 1)})
            for number in range(rows)
        ]
        (project / "rows.jsonl").write_text("\n".join([*lines, *["{not json"] * broken]) + "\n")
        (project / "small.yaml").write_text(PLAYBOOK % (gate, finally_))
        return begin(*prepare_run("small.yaml", load_inventory()))

    return write


def events(ledger: Ledger, name: str) -> list[dict]:
    return [event for event in ledger.events() if event["event"] == name]


def test_a_run_ends_well_and_is_not_done_twice(playbook):
    ledger = playbook()
    assert drive(ledger, load_inventory()).status is Status.SUCCEEDED
    count = len(ledger.events())
    assert drive(ledger, load_inventory(), "resume").status is Status.SUCCEEDED
    assert len(ledger.events()) == count
    (pulled,) = ledger.folder.glob("artifacts/prepare/train.jsonl")
    assert (
        len(pulled.read_text().splitlines())
        == state_of(ledger).stages["prepare"].values["train_rows"]
    )


def test_a_ledger_that_lost_its_last_words_is_driven_to_the_same_end_without_working_twice(
    playbook,
):
    ledger = playbook()
    drive(ledger, load_inventory())
    whole, first = ledger.path.read_bytes().splitlines(keepends=True), state_of(ledger)
    for kept in range(1, len(whole)):
        ledger.path.write_bytes(b"".join(whole[:kept]))
        again = drive(ledger, load_inventory(), "resume")
        assert again.status is Status.SUCCEEDED
        assert again.stages["prepare"].outputs == first.stages["prepare"].outputs
    (job,) = {stage["job_id"] for stage in events(ledger, "stage_started") if stage.get("job_id")}
    assert (
        len(
            list(
                (ledger.folder.parents[1] / ".windlass/cloud/instances").glob(
                    f"*/disk/windlass/jobs/{job}"
                )
            )
        )
        == 1
    )


def test_a_gate_that_does_not_hold_ends_the_run_and_finally_is_still_done(playbook):
    ledger = playbook(gate=">1000", finally_="[stop]")
    with pytest.raises(GateFailed, match="rows is 12, must be >1000"):
        drive(ledger, load_inventory())
    assert state_of(ledger).status is Status.FAILED
    assert boxes.find(load_inventory().box()).state == "stopped"
    assert write_receipt(ledger)["gates"][0]["holds"] is False


def test_a_box_that_works_for_another_run_is_not_stopped(playbook):
    other, ledger = playbook(), playbook(finally_="[stop]")
    with other.locked("run"):
        other.append("run_begun")
        drive(ledger, load_inventory())
    assert boxes.find(load_inventory().box()).state == "running"
    assert events(ledger, "box_stopped") == []
    other.append("run_finished", status="FAILED")


def test_too_many_broken_rows_stop_the_run_by_file_and_line(playbook):
    ledger = playbook(broken=2)
    with pytest.raises(JobFailed) as caught:
        drive(ledger, load_inventory())
    assert caught.value.exit_code is Exit.DATA
    assert "rows.jsonl:13" in f"{caught.value.what} {caught.value.why}"
    assert f"./inv resume {ledger.run_id}" in "\n".join(caught.value.lines())


def test_what_a_lost_box_had_is_made_again(playbook, project):
    ledger = playbook()
    drive(ledger, load_inventory())
    whole = ledger.path.read_bytes().splitlines(keepends=True)
    pull = next(
        number
        for number, line in enumerate(whole)
        if b'"label": "pull"' in line and b"stage_started" in line
    )
    ledger.path.write_bytes(b"".join(whole[:pull]))
    for path in ledger.folder.glob("artifacts/prepare/*"):
        path.unlink()
    boxes.terminate(load_inventory().box())
    box = boxes.ready(load_inventory().box(), lambda line: None)
    with connect(box) as transport:
        mark_environment(transport, CODE / "remote/payload/requirements.txt")
    again = drive(ledger, load_inventory(), "resume")
    assert again.status is Status.SUCCEEDED
    assert [event["label"] for event in events(ledger, "stage_lost")] == ["prepare"]
    assert Path(ledger.folder / "artifacts/prepare/train.jsonl").exists()


LAPTOP_FULL = JobFailed(
    "this laptop's disk is full",
    cause=Cause.DISK_FULL,
    remedy="free space, then `./inv logs RUN -f`",
)


@pytest.mark.parametrize("error", [BoxUnreachable("lost sight of the job"), LAPTOP_FULL])
def test_a_box_whose_job_was_only_lost_sight_of_is_left_running_and_its_run_goes_on(
    playbook, monkeypatch, error
):
    ledger = playbook(finally_="[stop]")
    with monkeypatch.context() as broken:
        broken.setattr("remote.control.logs.follow.follow", _raising(error))
        with pytest.raises(type(error)) as caught:
            drive(ledger, load_inventory())
    assert " RUN" not in caught.value.remedy
    run = state_of(ledger)
    assert (run.status, run.stages["prepare"].status) == (Status.INTERRUPTED, Status.RUNNING)
    assert boxes.find(load_inventory().box()).state == "running"
    assert drive(ledger, load_inventory(), "resume").status is Status.SUCCEEDED
    assert len(events(ledger, "stage_started")) == 2  # prepare once, pull once


def test_what_nobody_foresaw_still_ends_the_run_and_stops_the_box(playbook, monkeypatch):
    ledger = playbook(finally_="[stop]")
    monkeypatch.setitem(VERBS, "pull", _raising(ZeroDivisionError("oh")))
    with pytest.raises(Fault, match="a fault of Windlass itself"):
        drive(ledger, load_inventory())
    assert state_of(ledger).status is Status.FAILED
    assert boxes.find(load_inventory().box()).state == "stopped"


def test_pulling_by_hand_starts_no_box(playbook):
    ledger = playbook(finally_="[stop]")
    drive(ledger, load_inventory())
    assert [
        each.name
        for each in bring_all(ledger, load_inventory(), "prepare", dry_run=True)
        if each.path.exists()
    ] == ["prepare.train"]
    with pytest.raises(BoxStopped, match=r"is stopped: prepare.manifest, .* cannot be") as caught:
        bring_all(ledger, load_inventory())
    assert "`./inv start demo`" in caught.value.remedy
    assert caught.value.kept.startswith("the other 1 of 6")
    assert boxes.find(load_inventory().box()).state == "stopped"


def _raising(error: Exception):
    def raise_it(*_args: object, **_options: object) -> None:
        raise error

    return raise_it
