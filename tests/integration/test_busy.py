"""Two runs that want one GPU, on an embedded box: one is told, or waits in line; the box is not
stopped under the other."""

import json
import threading
from dataclasses import replace

import pytest

from remote.contract.job.jobs import Status
from remote.contract.job.stages import STAGES
from remote.control.cloud import boxes
from remote.control.commands.views.progress import reporter
from remote.control.config.inventory import load_inventory
from remote.control.errors import Busy
from remote.control.jobs import start as jobs
from remote.control.jobs.cancel import cancel
from remote.control.jobs.state import jobs_on
from remote.control.project import CODE
from remote.control.runs.engine import begin, drive, prepare_run
from remote.control.runs.state import state_of
from remote.control.transport.connect import connect
from tests.integration.boxes import await_true, code_tree, deploy_stages, mark_environment, spec

PLAYBOOK = (
    "name: small\nstages:\n  prepare: {uses: prepare, with: {dataset: rows.jsonl}}\nfinally:"
    " [stop]\n"
)
OTHER = "haul-7-train"


@pytest.fixture
def ledger(embedded_project, monkeypatch):
    """A run whose one stage wants the GPU, on a box that believes to have its environment."""
    monkeypatch.setitem(
        STAGES, "prepare", replace(STAGES["prepare"], environment="requirements.txt")
    )
    box = boxes.ready(load_inventory().box(), lambda line: None)
    with connect(box) as transport:
        mark_environment(transport, CODE / "remote/payload/requirements.txt")
    rows = [
        json.dumps({"instruction": f"Add {number} and 1.", "output": str(number + 1)})
        for number in range(12)
    ]
    (embedded_project / "rows.jsonl").write_text("\n".join(rows) + "\n")
    (embedded_project / "small.yaml").write_text(PLAYBOOK)
    return begin(*prepare_run("small.yaml", load_inventory()))


@pytest.fixture
def other(ledger, tmp_path):
    """The connection of another laptop, whose job has the GPU."""
    with connect(boxes.running(load_inventory().box())) as transport:
        release = deploy_stages(transport, code_tree(tmp_path / "code"))
        jobs.start(
            transport,
            "windlass",
            replace(spec(release, "endless", OTHER, "haul-7"), exclusive=True),
            again=True,
        )
        yield transport
        if boxes.find(load_inventory().box()).state == "running":
            cancel(transport, "windlass", OTHER, 5)


def test_a_run_is_told_that_the_box_is_busy_and_leaves_it_alone(ledger, other):
    with pytest.raises(Busy, match="the box works for another job: endless of haul-7") as caught:
        drive(ledger, load_inventory())
    assert (
        f"`./inv resume {ledger.run_id} --queue`" in caught.value.remedy
        and "`./inv logs haul-7 -f`" in caught.value.remedy
    )
    assert state_of(ledger).status is Status.FAILED
    assert boxes.find(load_inventory().box()).state == "running", (
        "finally would have stopped it under the other run"
    )


def test_a_run_that_waits_goes_on_by_itself_and_does_not_stop_a_box_that_another_laptop_uses(
    ledger, other, capsys
):
    kwargs = {"queue": True, "reporter": reporter()}
    driving = threading.Thread(target=drive, args=(ledger, load_inventory()), kwargs=kwargs)
    driving.start()
    await_true(
        lambda: any(job.state.place == 1 for job in jobs_on(other, "windlass", "demo", print)), 60
    )
    cancel(other, "windlass", OTHER, 5)
    driving.join(60)
    assert state_of(ledger).status is Status.SUCCEEDED
    assert (
        "place 1 in line for the box's GPU: waits for endless of haul-7" in capsys.readouterr().err
    )
    assert boxes.find(load_inventory().box()).state == "stopped"


def test_a_box_with_another_laptops_job_is_not_stopped_in_the_end(ledger, other, monkeypatch):
    monkeypatch.setitem(
        STAGES, "prepare", replace(STAGES["prepare"], environment=None)
    )  # needs no GPU: runs beside the other
    assert drive(ledger, load_inventory()).status is Status.SUCCEEDED
    assert boxes.find(load_inventory().box()).state == "running"
