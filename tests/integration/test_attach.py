"""`inv attach`, `inv ps` and `inv cancel` from a checkout that knows nothing but the inventory: a
real sshd."""

import json
import shutil
import signal
import subprocess
from dataclasses import replace

import pytest

from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Status
from remote.contract.job.paths import BoxPaths
from remote.control.jobs import start as jobs
from remote.control.jobs.cancel import cancel
from remote.control.jobs.state import jobs_on, read_state
from tests.integration.boxes import SSHD, await_true, code_tree, deploy_stages, spec
from tests.integration.typed import command_of, environment, typed

pytestmark = [pytest.mark.sshd, pytest.mark.skipif(SSHD is None, reason="no sshd")]

ROOT = "windlass"
HEAD = "default_box: gpu\nboxes:\n"
BOX = """\
  {name}: {{provider: static, host: 127.0.0.1, port: {port}, user: {user}, ssh_key: {key}, host_key: '{host_key}', root: {root}}}
"""


@pytest.fixture(scope="module")
def release(sshd, tmp_path_factory):
    with sshd.transport() as transport:
        return deploy_stages(transport, code_tree(tmp_path_factory.mktemp("code")), ROOT)


@pytest.fixture
def elsewhere(sshd, tmp_path):
    """A second laptop's project: an inventory and nothing more."""
    (tmp_path / "inventory.yaml").write_text(HEAD)
    add_box(sshd, tmp_path, "gpu", sshd.port)
    return lambda *words: typed(*words, project=tmp_path, seconds=60)


def add_box(sshd, project, name, port, root=ROOT):
    key = " ".join(sshd.host_key_line.split()[:2])
    with (project / "inventory.yaml").open("a") as inventory:
        inventory.write(
            BOX.format(
                name=name,
                port=port,
                user=sshd.address().user,
                key=sshd.key,
                host_key=key,
                root=root,
            )
        )


def run_here(project, run_id, *events):
    """A run of that laptop: its ledger."""
    folder = project / "runs" / run_id
    folder.mkdir(parents=True)
    plan = {"name": "p", "stages": [{"label": "train", "uses": "train"}], "finally_": []}
    created = {"event": "run_created", "time": 1.0, "plan": plan, "box": "gpu"}
    (folder / "events.jsonl").write_text(
        "".join(json.dumps(event) + "\n" for event in (created, *events))
    )


@pytest.fixture
def box(sshd, release):
    """The first laptop: its connection, and a function that starts a job."""
    with sshd.transport() as transport:

        def start(stage, run_id, label="train", in_line=False, **options):
            wanted = replace(
                spec(release, stage, f"{run_id}-{label}-00000000", run_id, **options),
                exclusive=True,
            )
            return jobs.start(transport, ROOT, wanted, queue=in_line)

        yield transport, start
        for job in [
            job
            for job in reversed(jobs_on(transport, ROOT, "gpu", print))
            if not job.state.status.is_final
        ]:
            cancel(transport, ROOT, job.state.job_id, 5)


def test_a_job_is_shown_live_from_another_laptop_and_goes_on_when_that_leaves(
    sshd, box, elsewhere, tmp_path
):
    transport, start = box
    state = start("count", "haul-1", lines=4000, pause=0.05)
    log = BoxPaths(sshd.home / ROOT).job(state.job_id).log
    await_true(lambda: "line 3 " in log.read_text())
    words = command_of("attach", "haul-1")
    watching = subprocess.Popen(
        words,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for number, line in enumerate(watching.stdout):
        assert line.decode() == f"line {number} äöü\n"
        if number == 40:
            watching.send_signal(signal.SIGINT)
            break
    _, told = watching.communicate(timeout=30)
    assert watching.returncode == Exit.INTERRUPTED
    assert (
        b"the job goes on; come back with `./inv attach haul-1`, or end it with `./inv cancel"
        b" haul-1`" in told
    )
    assert read_state(transport, ROOT, state.job_id).status is Status.RUNNING
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        "inventory.yaml"
    ], "nothing is left here"
    assert (
        "would end train-00000000 (haul-1-train-00000000) on box gpu, RUNNING"
        in elsewhere("cancel", "gpu", "--dry-run").stdout
    )
    ended = json.loads(elsewhere("cancel", "haul-1", "--json").stdout)
    assert (ended["job_id"], ended["status"]) == (state.job_id, "CANCELLED")


def test_what_has_ended_is_told_from_the_end_of_its_log(box, elsewhere, sshd):
    transport, start = box
    state = start("count", "haul-2", lines=12000, pause=0)
    await_true(lambda: read_state(transport, ROOT, state.job_id).status.is_final, 40)
    done = elsewhere("attach", "haul-2-train-00000000")
    lines = done.stdout.splitlines()
    assert (
        done.returncode == 0
        and lines[-1] == "line 11999 äöü"
        and 1000 < len(lines) < 8000
        and "dropped" not in done.stdout
    )
    assert lines == [f"line {number} äöü" for number in range(12000 - len(lines), 12000)]
    assert "haul-2-train-00000000 is SUCCEEDED" in done.stderr
    for_a_script = elsewhere("attach", "haul-2", "--json")
    assert (
        json.loads(for_a_script.stdout)["status"] == "SUCCEEDED"
        and "line 11999 äöü" in for_a_script.stderr
    )


def test_the_line_is_seen_followed_and_left_from_another_laptop(box, elsewhere):
    _, start = box
    start("endless", "haul-3")
    start("endless", "haul-4", in_line=True)
    told = {job["run_id"]: job for job in json.loads(elsewhere("ps", "--json").stdout)}
    assert (told["haul-4"]["status"], told["haul-4"]["place"], told["haul-3"]["place"]) == (
        "PENDING",
        1,
        0,
    )
    table = " ".join(elsewhere("ps").stdout.split())
    assert "PENDING, place 1 in line" in table and "waits for endless of haul-3" in table
    both = elsewhere("cancel", "gpu")
    assert both.returncode == Exit.NOT_FOUND and "2 jobs are meant by `gpu`" in both.stderr
    assert "haul-4-train-00000000 on gpu" in both.stderr
    assert "train-00000000 is CANCELLED" in elsewhere("cancel", "haul-4").stdout
    assert "haul-3-train-00000000" in elsewhere("cancel", "--json").stdout, (
        "the only one under way, without a word"
    )
    nobody = elsewhere("attach", "haul-9")
    assert nobody.returncode == Exit.NOT_FOUND and "./inv ps --all" in nobody.stderr
    assert "no run, job, box or group `haul-9`" in nobody.stderr
    assert "no job is under way" in elsewhere("attach").stderr


def test_cancel_without_a_name_ends_no_job_of_others(box, elsewhere, tmp_path):
    transport, start = box
    of_another = start("endless", "haul-5").job_id
    run_here(tmp_path, "20260101-x-aa")
    not_begun = elsewhere("cancel")
    assert (
        not_begun.returncode == Exit.NOT_FOUND
        and "run 20260101-x-aa has no job yet" in not_begun.stderr
    )
    run_here(tmp_path, "20260102-x-aa")
    assert "2 runs match `aa`" in elsewhere("cancel", "aa").stderr
    assert read_state(transport, ROOT, of_another).status is Status.RUNNING
    shutil.rmtree(tmp_path / "runs")
    start("endless", "haul-6", in_line=True)
    several = elsewhere("cancel")
    assert several.returncode == Exit.NOT_FOUND and "2 jobs are under way" in several.stderr
    assert (
        f"{of_another} on gpu" in several.stderr
        and "haul-6-train-00000000 on gpu" in several.stderr
    )


def test_the_only_job_is_the_only_one_where_all_boxes_have_told(sshd, box, elsewhere, tmp_path):
    transport, start = box
    of_another = start("endless", "haul-7").job_id
    add_box(sshd, tmp_path, "down", port=1)
    told = elsewhere("cancel")
    assert (
        told.returncode == Exit.NOT_FOUND
        and f"whether {of_another} on gpu is the only job under way is not known" in told.stderr
    )
    assert "not asked: down: " in told.stderr and f"`./inv cancel {of_another}`" in told.stderr
    assert read_state(transport, ROOT, of_another).status is Status.RUNNING


def test_what_the_box_refused_has_no_job_to_come_back_to(elsewhere, tmp_path):
    started = {
        "event": "stage_started",
        "time": 2.0,
        "label": "train",
        "key": "k",
        "job_id": "20260101-x-aa-train-k",
        "box": "gpu",
    }
    failure = {"exit_code": int(Exit.BUSY), "what": "the box works for another job: train of r9"}
    ended = {
        "event": "stage_finished",
        "time": 3.0,
        "label": "train",
        "status": "FAILED",
        "failure": failure,
    }
    run_here(tmp_path, "20260101-x-aa", started, ended)
    for verb in ("attach", "cancel"):
        told = elsewhere(verb)
        assert (
            told.returncode == Exit.NOT_FOUND
            and "train of run 20260101-x-aa has no job: it never began" in told.stderr
        )
        assert (
            "the box works for another job: train of r9" in told.stderr
            and "--queue`" in told.stderr
        )


def test_a_box_without_a_job_and_one_that_cannot_be_asked_are_told_as_that(
    sshd, elsewhere, tmp_path
):
    with (tmp_path / "inventory.yaml").open("a") as inventory:
        inventory.write("  strange: {provider: static, host: 127.0.0.1, port: 1, user: me}\n")
    add_box(sshd, tmp_path, "empty", sshd.port, root="elsewhere")
    told = elsewhere("attach", "empty")
    assert (
        told.returncode == Exit.NOT_FOUND
        and "nothing is under way on empty" in told.stderr
        and "`./inv ps --all`" in told.stderr
    )
    assert "not asked: strange: " in elsewhere("cancel", "strange").stderr
    assert "not asked: strange: " in elsewhere("attach", "haul-9").stderr


def test_a_box_that_is_down_from_the_start_is_not_waited_for(sshd, elsewhere, tmp_path):
    (tmp_path / "inventory.yaml").write_text(HEAD)
    add_box(sshd, tmp_path, "gpu", port=1)
    began = {
        "event": "stage_started",
        "time": 2.0,
        "label": "train",
        "key": "k",
        "job_id": "20260101-x-aa-train-k",
        "box": "gpu",
    }
    run_here(tmp_path, "20260101-x-aa", began)
    assert elsewhere("attach").returncode == Exit.BOX_UNREACHABLE
