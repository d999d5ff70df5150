"""Boxes that go away under a run: taken back by the spot market, ended by somebody, or by their own
clocks. No torch: small stages."""

import json
from dataclasses import replace

import pytest
from invoke import Context

from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Cause, Status
from remote.control.cloud import boxes, embedded
from remote.control.cloud.account import endpoint
from remote.control.commands.observe import logs as logs_commands
from remote.control.commands.views.progress import reporter
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxStopped, BoxUnreachable, JobFailed
from remote.control.project import CODE
from remote.control.runs import engine
from remote.control.runs.artifacts import bring_all
from remote.control.runs.engine import begin, drive, prepare_run
from remote.control.runs.receipt import write_receipt
from remote.control.runs.state import state_of
from remote.control.runs.verbs import VERBS
from remote.control.transport.connect import connect
from tests.integration.boxes import await_true, mark_environment

INVENTORY = """\
default_box: gpu
%s
boxes:
  gpu: {provider: embedded, market: %s, shared: %s}
"""
PLAYBOOK = """\
name: small
stages:
  prepare: {uses: prepare, with: {dataset: rows.jsonl, validation_share: 0.3}}
  pull: {uses: pull, with: {train: prepare.train}}
finally: %s
"""
BUCKET = "storage: {bucket: kept-jobs}"


@pytest.fixture(scope="module")
def shared(embedded_project, tmp_path_factory):
    """What every box finds made already: its Python environment, or so it believes."""
    folder = tmp_path_factory.mktemp("shared")
    (embedded_project / "inventory.yaml").write_text(INVENTORY % ("", "spot", folder))
    box = boxes.ready(load_inventory().box(), lambda line: None)
    with connect(box) as transport:
        mark_environment(transport, CODE / "remote/payload/requirements.txt", "made")
        made = f"{transport.exec('echo $HOME').text.strip()}/made/shared/environments"
        transport.exec(f"cp -r {made} {folder}")
    boxes.terminate(load_inventory().box())
    return folder


@pytest.fixture
def begun(embedded_project, shared):
    """A function that begins a run; its box is gone afterwards."""

    def write(storage=BUCKET, market="spot", finally_="[]"):
        (embedded_project / "inventory.yaml").write_text(INVENTORY % (storage, market, shared))
        lines = [
            json.dumps({"instruction": f"Add {number} and 1.", "output": str(number + 1)})
            for number in range(12)
        ]
        (embedded_project / "rows.jsonl").write_text("\n".join(lines) + "\n")
        (embedded_project / "small.yaml").write_text(PLAYBOOK % finally_)
        return begin(*prepare_run("small.yaml", load_inventory()))

    yield write
    boxes.terminate(load_inventory().box())
    url = embedded.endpoint()
    embedded.clear(url)
    await_true(lambda: embedded.leaks(url).get("instances", []) == [])


def events(ledger, name):
    return [event for event in ledger.events() if event["event"] == name]


def taken_back(times=1, how="spot-notice"):
    """`pull`, before which the box goes away so often."""
    left = [None] * times

    def pull(task):
        if left:
            left.pop()
            if bucket := task.backend.bucket:  # what a job made follows its end by a moment
                await_true(lambda: bucket.manifest(state_of(task.ledger).stages["prepare"].job_id))
            url = embedded.endpoint()
            embedded.inject(
                url, {"kind": how, "box": "gpu"} | ({"seconds": 0} if how == "spot-notice" else {})
            )
            raise_unreachable(task.backend.box)
        return real(task)

    real = VERBS["pull"]
    return pull


def raise_unreachable(box):
    raise BoxUnreachable(f"{box.where} does not answer", where=box.where)


def test_what_was_made_comes_from_the_bucket_onto_the_next_box(begun, monkeypatch, capsys):
    ledger = begun()
    monkeypatch.setitem(VERBS, "pull", taken_back())
    assert drive(ledger, load_inventory(), reporter=reporter()).status is Status.SUCCEEDED
    assert len({event["id"] for event in events(ledger, "box_ready")}) == 2
    assert [event["why"][:5] for event in events(ledger, "box_lost")] == ["spot:"]
    assert [event["label"] for event in events(ledger, "stage_started")] == [
        "prepare",
        "pull",
        "pull",
    ]
    assert len(write_receipt(ledger)["boxes"]) == 2
    said = capsys.readouterr().err
    assert (
        "move 1 of 5: looking for another one" in said
        and "bringing manifest, rejects, report, statistics, train, val from s3://kept-jobs/"
        in said
    )


def test_without_a_bucket_it_is_said_before_and_made_again_after(begun, monkeypatch, capsys):
    ledger = begun(storage="")
    monkeypatch.setitem(VERBS, "pull", taken_back())
    assert drive(ledger, load_inventory(), reporter=reporter()).status is Status.SUCCEEDED
    assert [event["label"] for event in events(ledger, "stage_started")] == [
        "prepare",
        "pull",
        "prepare",
        "pull",
    ]
    assert "a spot box without `storage.bucket`" in capsys.readouterr().err


def test_a_box_that_somebody_terminated_is_not_replaced_behind_his_back(begun, monkeypatch):
    ledger = begun()
    monkeypatch.setitem(VERBS, "pull", taken_back(how="terminate"))
    with pytest.raises(BoxStopped, match="is gone") as caught:
        drive(ledger, load_inventory())
    assert (
        caught.value.why.startswith("user:")
        and f"`./inv resume {ledger.run_id}`" in caught.value.remedy
    )
    assert boxes.find(load_inventory().box()) is None and state_of(ledger).status is Status.FAILED
    monkeypatch.undo()
    assert drive(ledger, load_inventory(), "resume").status is Status.SUCCEEDED
    assert [event["label"] for event in events(ledger, "stage_started")].count("prepare") == 1


def test_the_moves_of_one_command_are_bounded(begun, monkeypatch):
    ledger = begun()
    monkeypatch.setattr(engine, "MOVES", 1)
    monkeypatch.setitem(VERBS, "pull", taken_back(times=2))
    with pytest.raises(BoxUnreachable):
        drive(ledger, load_inventory())
    assert len(events(ledger, "box_lost")) == 1


def test_a_spot_box_is_terminated_in_place_of_stopped(begun, capsys):
    ledger = begun(finally_="[stop]")
    drive(ledger, load_inventory())
    assert boxes.find(load_inventory().box()) is None
    assert [event["action"] for event in events(ledger, "box_stopped")] == ["terminate"]
    (job,) = {event["job_id"] for event in events(ledger, "stage_started") if event.get("job_id")}
    s3 = endpoint.of_entry(load_inventory().box()).client("s3")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="kept-jobs")["Contents"]]
    assert any(key.endswith(f"{job}/manifest.json") for key in keys)
    pulled = ledger.folder / "artifacts/prepare"
    before = (pulled / "train.jsonl").read_bytes()
    (pulled / "train.jsonl").unlink()
    assert all(each.path.exists() for each in bring_all(ledger, load_inventory())), (
        "what the box held is brought from the bucket"
    )
    assert (pulled / "train.jsonl").read_bytes() == before and boxes.find(
        load_inventory().box()
    ) is None
    log = ledger.folder / "logs/prepare.log"
    whole = log.read_text()
    assert "12 rows: " in whole
    log.unlink()
    capsys.readouterr()
    logs_commands.logs(Context(), [ledger.run_id], "prepare")
    told = capsys.readouterr()
    assert (told.out, log.read_text()) == (
        whole,
        whole,
    ) and "what is left in s3://kept-jobs/" in told.err


def test_a_spot_box_is_left_to_its_clocks_where_its_end_would_lose_something(
    begun, monkeypatch, capsys
):
    ledger = begun(storage="", finally_="[stop]")
    monkeypatch.setitem(VERBS, "pull", failing)
    with pytest.raises(JobFailed):
        drive(ledger, load_inventory(), reporter=reporter())
    assert boxes.find(load_inventory().box()).state == "running"
    said = capsys.readouterr().err
    assert "left running until its clocks end it" in said and "./inv terminate gpu" in said


def failing(_task):
    raise JobFailed("no", cause=Cause.CODE)


def test_a_job_that_a_clock_ended_says_which_and_how_to_get_more(begun, monkeypatch):
    ledger = begun(market="on-demand")
    watch = engine._Drive._follow

    def ended_by_a_clock(self, stage, job):
        done = watch(self, stage, job)
        return replace(
            done,
            status=Status.INTERRUPTED,
            cause=Cause.DEADMAN,
            what="prepare was interrupted",
            why="lifetime clock: 12 h",
        )

    monkeypatch.setattr(engine._Drive, "_follow", ended_by_a_clock)
    with pytest.raises(JobFailed) as caught:
        drive(ledger, load_inventory())
    assert caught.value.exit_code is Exit.DEADMAN and "lifetime clock" in caught.value.why
    assert "./inv box.extend gpu --lifetime 2h" in caught.value.remedy
    assert events(ledger, "box_lost") == []
