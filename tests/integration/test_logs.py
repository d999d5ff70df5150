"""`inv logs` from a checkout that knows nothing but the inventory: a real sshd, a link that fails
on purpose."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime

import pytest

import tasks
from remote.contract.files import atomic
from remote.contract.job.jobs import JobSpec, JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.telemetry.timeline import Event, append
from remote.control.cloud import boxes
from remote.control.commands.views.observe.log_lines import Printer
from remote.control.errors import BoxStopped
from remote.control.jobs import start as jobs
from remote.control.jobs.cancel import cancel
from remote.control.jobs.state import read_state
from remote.control.logs import archive
from remote.control.logs.archive import ArchivedLog
from remote.control.logs.mirror import FileLog
from remote.payload import process
from tests.integration.boxes import SSHD, await_true, code_tree, deploy_stages, running_sshd, spec
from tests.integration.links import DOWN, Proxy
from tests.integration.typed import command_of, environment, in_process, typed

pytestmark = [pytest.mark.sshd, pytest.mark.skipif(SSHD is None, reason="no sshd")]

INVENTORY = """\
default_box: one
ssh: {{dead_after: 2s}}
boxes:
{boxes}"""
BOX = (
    "  {name}: {{provider: static, host: 127.0.0.1, port: {port}, user: {user}, ssh_key: {key},"
    " host_key: '{host_key}', root: {root}}}\n"
)


class Lab:
    """Two boxes on one sshd, in folders of their own; the first behind a link that can fail."""

    def __init__(self, sshd, proxy, project, code):
        self.sshd, self.proxy, self.project, self.code = sshd, proxy, project, code
        self.release = {}
        with sshd.transport() as transport:
            for root in ("one", "two"):
                self.release[root] = deploy_stages(transport, code, root)
        rows = "".join(
            self.row(name, root, port)
            for name, root, port in (("one", "one", proxy.port), ("two", "two", sshd.port))
        )
        (project / "inventory.yaml").write_text(INVENTORY.format(boxes=rows))

    def row(self, name, root, port):
        facts = self.sshd.address()
        key = " ".join(self.sshd.host_key_line.split()[:2])
        return BOX.format(
            name=name, port=port, user=facts.user, key=self.sshd.key, host_key=key, root=root
        )

    def job(
        self,
        root,
        job_id,
        run_id,
        content,
        began,
        status=Status.SUCCEEDED,
        times=((0, 0.0),),
        stage="count",
    ):
        """A job that has ended, as its box keeps it; `times` are offsets and seconds after it
        began."""
        paths = BoxPaths(self.sshd.home / root).job(job_id)
        paths.folder.mkdir(parents=True)
        paths.spec.write_text(JobSpec(job_id, stage, "0" * 64, run_id).to_json())
        paths.state.write_text(
            JobState(job_id, stage, status, started_at=began, ended_at=began + 100.0).to_json()
        )
        paths.log.write_bytes(content)
        (paths.folder / "log.times").write_text(
            "".join(f"{offset} {began + after}\n" for offset, after in times)
        )
        return paths

    def logs(self, *words, seconds=60):
        return typed("logs", *words, project=self.project, seconds=seconds)

    def began(self, *words):
        return subprocess.Popen(
            command_of("logs", *words),
            env=environment(self.project),
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    (folder / "project").mkdir()
    with running_sshd(folder / "box") as sshd:
        proxy = Proxy(sshd.port)
        try:
            yield Lab(sshd, proxy, folder / "project", code_tree(folder / "code"))
        finally:
            proxy.close()


@pytest.fixture(scope="module")
def two_runs(lab):
    """A run on each box, an hour ago, their lines in turns; and what happened to the first box
    meanwhile."""
    began = time.time() - 3600.0
    first = b"one 0\none 1 WARNING: warm\none 2\n"
    lab.job(
        "one",
        "haul-aa-train-0123abcd",
        "haul-aa",
        first,
        began,
        times=((0, 0.0), (6, 10.0), (26, 20.0)),
    )
    second = b"two 0\ntwo 1 \xff\xfe\ntwo 2 ERROR: hot\n"
    lab.job(
        "two",
        "haul-bb-train-0123abcd",
        "haul-bb",
        second,
        began,
        times=((0, 5.0), (6, 15.0), (15, 25.0)),
    )
    timeline = BoxPaths(lab.sshd.home / "one").timeline
    for event in (
        Event(
            began + 12.0,
            "kernel",
            "error",
            "NVRM: Xid (PCI:0000:00:1e): 79, GPU has fallen off the bus",
        ),
        Event(began + 13.0, "job", "info", "another job's", "haul-xx-train-00000000"),
        Event(began + 5000.0, "gpu", "info", "long after"),
    ):
        append(timeline, event)
    return began


def test_a_run_that_only_its_box_knows(lab, two_runs):
    told = lab.logs("haul-aa")
    assert told.returncode == 0 and not (lab.project / "runs").exists()
    lines = told.stdout.splitlines()
    assert [line for line in lines if "one" in line] == ["one 0", "one 1 WARNING: warm", "one 2"]
    assert re.fullmatch(r"\[\d\d:\d\d:\d\d kernel\] NVRM: Xid .* bus", lines[2]) and len(lines) == 4


def test_boxes_are_merged_by_time_and_named(lab, two_runs):
    lines = lab.logs("one", "two").stdout.splitlines()
    said = [line.split("│ ", 1)[1] for line in lines]
    xid = "[kernel] NVRM: Xid (PCI:0000:00:1e): 79, GPU has fallen off the bus"
    assert said == [
        "one 0",
        "two 0",
        "one 1 WARNING: warm",
        xid,
        "two 1 ��",
        "one 2",
        "two 2 ERROR: hot",
    ]
    assert all(re.match(r"\d\d:\d\d:\d\d (one|two) +│ ", line) for line in lines)


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (("--grep", r"one \d$"), ["one 0", "one 2"]),
        (("--level", "warning"), ["one 1 WARNING: warm", "Xid"]),
        (("--level", "error"), ["Xid"]),
        (("--tail", "1"), ["one 2"]),
        (("--tail", "1", "--grep", "one [01]"), ["one 1 WARNING: warm"]),
        (("--tail", "2"), ["one 1 WARNING: warm", "Xid", "one 2"]),
        (("--since", "1m"), []),
        (("--tail", "0"), []),
    ],
)
def test_only_what_is_wanted_is_told(lab, two_runs, words, texts):
    lines = lab.logs("haul-aa", *words).stdout.splitlines()
    assert len(lines) == len(texts) and all(
        text in line for text, line in zip(texts, lines, strict=True)
    )


def test_since_a_while_ago(lab, two_runs):
    ago = time.time() - two_runs - 15.0
    assert lab.logs("haul-aa", "--since", f"{ago:.0f}s").stdout == "one 2\n"


def seconds(iso):
    return datetime.fromisoformat(iso).timestamp()


def test_scripts_get_an_object_a_line(lab, two_runs):
    told = [
        json.loads(line) for line in lab.logs("haul-aa", "haul-bb", "--json").stdout.splitlines()
    ]
    assert [seconds(each["time"]) - two_runs for each in told] == pytest.approx(
        [0, 5, 10, 12, 15, 20, 25], abs=0.001
    )
    facts = {
        "box": "one",
        "run": "haul-aa",
        "job": "haul-aa-train-0123abcd",
        "stage": "train",
        "source": "log",
        "level": "warning",
    }
    assert (
        told[2] | facts == told[2]
        and told[3]["source"] == "kernel"
        and told[-1]["level"] == "error"
    )


def test_raw_is_the_bytes_themselves(lab, two_runs):
    raw = subprocess.run(
        command_of("logs", "haul-bb", "--raw"),
        env=environment(lab.project),
        capture_output=True,
        check=True,
    )
    assert raw.stdout == b"two 0\ntwo 1 \xff\xfe\ntwo 2 ERROR: hot\n"


def test_a_box_that_does_not_answer_silences_no_other(lab, two_runs, tmp_path):
    (tmp_path / "inventory.yaml").write_text(
        INVENTORY.format(boxes=lab.row("one", "one", 1) + lab.row("two", "two", lab.sshd.port))
    )
    told = typed("logs", "one", "two", project=tmp_path, seconds=60)
    assert "two 2 ERROR: hot" in told.stdout and told.returncode and "box one" in told.stderr
    assert typed("logs", "haul-bb", project=tmp_path, seconds=60).stdout.endswith(
        "two 2 ERROR: hot\n"
    )


def test_a_box_whose_code_is_older_or_missing_is_named_with_the_remedy(lab, two_runs, tmp_path):
    (tmp_path / "inventory.yaml").write_text(
        INVENTORY.format(boxes=lab.row("one", "none", lab.sshd.port))
    )
    told = typed("logs", "one", project=tmp_path, seconds=60)
    assert (
        told.returncode
        and "nothing is deployed" in told.stderr
        and "`./inv deploy one`" in told.stderr
    )
    module = lab.sshd.home / "two/current/remote/payload/logs/query.py"
    aside = module.rename(module.with_suffix(".aside"))
    try:
        told = lab.logs("two")
    finally:
        aside.rename(module)
    assert (
        told.returncode and "older Windlass" in told.stderr and "`./inv deploy two`" in told.stderr
    )


def test_a_clock_that_is_off_is_corrected_and_told(lab, two_runs):
    """The box's clock is an hour ahead, as its Python sees it."""
    site = lab.sshd.home / "two/current/sitecustomize.py"
    site.write_text("import time\nreal = time.time\ntime.time = lambda: real() + 3600.0\n")
    try:
        told = lab.logs("haul-bb", "--json")
    finally:
        site.unlink()
    assert "two: its clock is 3,600 s ahead" in told.stderr
    first = json.loads(told.stdout.splitlines()[0])
    assert seconds(first["time"]) == pytest.approx(two_runs + 5.0 - 3600.0, abs=3.0)


def test_nothing_is_lost_or_doubled_over_drops_and_rotation(lab):
    """A writer that rotates, on a link that is cut again and again."""
    paths = lab.job(
        "one", "drops-cc-train-0123abcd", "drops-cc", b"", time.time(), Status.RUNNING, times=()
    )
    state = json.loads(paths.state.read_text())
    mine = {"pid": 0, "ended_at": 0.0}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(paths.folder), json.dumps(state | mine), str(lab.code)]
    )
    await_true(lambda: (paths.folder / "log").stat().st_size > 0)
    reader = lab.began("drops-cc", "-f", "--raw")
    stop = threading.Event()

    def cut():
        cut_at = 0
        while not stop.wait(0.01):
            if lab.proxy.passed[DOWN] - cut_at > 40_000:
                lab.proxy.reset()
                cut_at = lab.proxy.passed[DOWN]

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        told, said = reader.communicate(timeout=60)
    finally:
        stop.set()
        cutter.join()
        writer.wait(timeout=60)
    numbers = [int(line.split()[1]) for line in told.splitlines()]
    assert numbers == list(range(numbers[-1] + 1)) and numbers[-1] + 1 == LINES
    assert b"connection lost" in said and len(list(paths.folder.glob("log.0*"))) > 3


LINES = 3000
WRITER = f"""
import json, os, sys, time
from pathlib import Path
folder, state, code = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
sys.path.insert(0, code)
from remote.contract.files import atomic
from remote.contract.logs.job_log import part_name
from remote.payload import process
state |= {{"pid": os.getpid(), "start_ticks": process.start_ticks(os.getpid()), "boot_id": process.boot_id()}}
atomic.write_json(folder / "state.json", state)
start, log = 0, (folder / "log").open("ab", buffering=0)
for number in range({LINES}):
    log.write(b"line %d %s\\n" % (number, b"x" * (number % 97)))
    if log.tell() > 20_000:
        size = log.tell()
        os.rename(folder / "log", folder / part_name(start))
        log, start = (folder / "log").open("ab", buffering=0), start + size
    time.sleep(0.001)
atomic.write_json(folder / "state.json", state | {{"status": "SUCCEEDED", "ended_at": time.time()}})
"""


def test_a_box_that_goes_while_it_is_followed_is_told_on_from_what_it_left(
    lab, monkeypatch, capsys, tmp_path
):
    paths = lab.job(
        "one", "gone-ee-train-0123abcd", "gone-ee", b"a\nb\n", time.time(), Status.RUNNING
    )
    me = {
        "pid": os.getpid(),
        "start_ticks": process.start_ticks(os.getpid()),
        "boot_id": process.boot_id(),
        "ended_at": 0.0,
    }
    atomic.write_json(paths.state, json.loads(paths.state.read_text()) | me)
    (tmp_path / "left").write_bytes(b"a\nb\nc\nd")
    left = ArchivedLog(
        "gone-ee-train-0123abcd",
        FileLog(tmp_path / "left"),
        "s3://bucket/",
        "gone-ee",
        "train",
        JobState("j", "train"),
    )
    is_gone, running, tell = threading.Event(), boxes.running, Printer.print

    def until_gone(entry):
        if is_gone.is_set():
            raise BoxStopped("box one is gone")
        return running(entry)

    def told(printer, each):
        tell(printer, each)
        if each.content == b"a\nb\n":
            is_gone.set()
            lab.proxy.reset()

    monkeypatch.setenv("WINDLASS_PROJECT", str(lab.project))
    monkeypatch.setattr(boxes, "running", until_gone)
    monkeypatch.setattr(archive, "of_box", lambda inventory, box, job_id: left)
    monkeypatch.setattr(Printer, "print", told)
    code, out, said = in_process(capsys, tasks.ns, "logs gone-ee -f --grep ^.$")
    assert (
        (code, out) == (0, "a\nb\nc\nd\n")
        and "left in s3://bucket/" in said
        and "train of gone-ee is LOST" in said
    )


def test_a_real_job_is_followed_to_its_end_and_a_box_into_its_next_job(lab):
    with lab.sshd.transport() as transport:
        jobs.start(
            transport,
            "two",
            spec(lab.release["two"], "endless", "next-dd-train-0123abcd", "next-dd"),
        )
        reader = lab.began("two", "-f", "--json")
        assert json.loads(reader.stdout.readline())["run"] == "next-dd"
        jobs.start(
            transport,
            "two",
            spec(
                lab.release["two"],
                "count",
                "next-dd-prepare-0123abcd",
                "next-dd",
                lines=3,
                pause=0.1,
            ),
        )
        seen = []
        for line in reader.stdout:
            seen.append(json.loads(line))
            if seen[-1]["text"].startswith("line 2"):
                break
        reader.send_signal(signal.SIGINT)
        _, said = reader.communicate(timeout=20)
        assert {each["stage"] for each in seen} >= {
            "train",
            "prepare",
        } and "the jobs go on" in said.decode()
        assert [each["text"] for each in seen if each["stage"] == "prepare"] == [
            f"line {number} äöü" for number in range(3)
        ]
        whole = lab.began("next-dd", "-f")
        assert b"began" in whole.stdout.readline() and whole.stdout.readline().startswith(b"worker")
        cancel(transport, "two", "next-dd-train-0123abcd", 10)
        _, said = whole.communicate(timeout=30)
        assert b"CANCELLED" in said and whole.returncode == 0


def test_a_followed_box_tells_jobs_that_are_over_in_no_time_and_that_begin_again(lab):
    def read_until(text):
        found = []
        while not found or text not in found[-1]["text"]:
            found.append(json.loads(reader.stdout.readline()))
        return [each["text"] for each in found if each["source"] == "log"]

    with lab.sshd.transport() as transport:
        again = spec(
            lab.release["two"], "failing", "over-ff-again-0123abcd", "over-ff", how="a bug in it"
        )
        jobs.start(transport, "two", again)
        jobs.start(
            transport,
            "two",
            spec(lab.release["two"], "endless", "over-ff-train-0123abcd", "over-ff"),
        )
        reader = lab.began("two", "-f", "--json")
        read_until("worker")
        try:
            for number in range(4):
                jobs.start(
                    transport,
                    "two",
                    spec(
                        lab.release["two"],
                        "count",
                        f"over-ff-quick{number}-0123abcd",
                        "over-ff",
                        lines=1,
                    ),
                )
                assert read_until("line 0")[-1] == "line 0 äöü"
            for _ in range(2):
                await_true(lambda: read_state(transport, "two", again.job_id).status.is_final)
                jobs.start(transport, "two", again, again=True)
                said = read_until("RuntimeError: a bug")
                assert said.count("RuntimeError: a bug") == 1 and "started again" in said[0]
        finally:
            reader.send_signal(signal.SIGINT)
            reader.communicate(timeout=20)
            cancel(transport, "two", "over-ff-train-0123abcd", 10)


def test_a_stage_that_nobody_has_is_an_error_that_names_those_there_are(lab, two_runs):
    for words, whose in ((("one", "two"), "two"), (("one",), "one"), (("haul-aa",), "haul-aa")):
        told = lab.logs(*words, "--stage", "typo")
        assert (
            told.returncode == 12 and "one 0" not in told.stdout and "Traceback" not in told.stderr
        )
        assert (
            f"{whose} has no job of a stage `typo`" in told.stderr
            and "stages with a job: train" in told.stderr
        )


def test_a_stage_that_one_box_has_is_enough(lab, two_runs):
    lab.job(
        "two",
        "haul-cc-sift-0123abcd",
        "haul-cc",
        b"sifted\n",
        time.time() - 7200.0,
        stage="prepare",
    )
    told = lab.logs("one", "two", "--stage", "sift")
    assert (
        told.returncode == 0
        and "│ sifted\n" in told.stdout
        and "one has no job of a stage `sift`" in told.stderr
    )


SLOW = """
import json, os, sys, time
from pathlib import Path
folder, state, code = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
sys.path.insert(0, code)
from remote.contract.files import atomic
from remote.payload import process
state |= {"pid": os.getpid(), "start_ticks": process.start_ticks(os.getpid()), "boot_id": process.boot_id(), "ended_at": 0.0}
atomic.write_json(folder / "state.json", state)
number = 0
while not (folder / "enough").exists():
    with (folder / "log").open("a") as log:
        log.write(f"line {number}\\n")
    number += 1
    time.sleep(0.02)
(folder / "count").write_text(str(number))
atomic.write_json(folder / "state.json", state | {"status": "SUCCEEDED", "ended_at": time.time()})
"""


def test_a_box_that_is_silent_holds_up_no_other_and_what_it_missed_comes_in_when_it_is_back(lab):
    folders, writers = {}, []
    for root in ("one", "two"):
        paths = lab.job(
            root,
            f"slow-{root}-train-0123abcd",
            f"slow-{root}",
            b"",
            time.time(),
            Status.RUNNING,
            times=(),
        )
        folders[root] = paths.folder
        writers.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    SLOW,
                    str(paths.folder),
                    paths.state.read_text(),
                    str(lab.code),
                ]
            )
        )
    seen = {"one": [], "two": []}

    def take(stream):
        for line in stream:
            each = json.loads(line)
            if (
                each["source"] == "log" and each["run"] == f"slow-{each['box']}"
            ):  # other tests have left jobs there
                seen[each["box"]].append(each["text"])

    def goes_on(box, beside):
        before = {name: len(lines) for name, lines in seen.items()}
        await_true(lambda: len(seen[box]) > before[box] + 20)
        assert len(seen[beside]) == before[beside]

    await_true(lambda: all((folder / "log").stat().st_size for folder in folders.values()))
    lab.proxy.black_hole()  # from the start on
    reader = lab.began("one", "two", "-f", "--json")
    taker = threading.Thread(target=take, args=(reader.stdout,))
    taker.start()
    try:
        await_true(lambda: seen["two"])
        goes_on("two", beside="one")
        time.sleep(4.0)  # longer than a box that was never heard is tried without a word
        lab.proxy.heal()
        await_true(lambda: len(seen["one"]) > 20)
        lab.proxy.black_hole()  # and again, in the midst of it
        time.sleep(0.5)
        goes_on("two", beside="one")
        lab.proxy.heal()
        for folder in folders.values():
            (folder / "enough").touch()
        await_true(lambda: all((folder / "count").exists() for folder in folders.values()))
        counts = {box: int((folder / "count").read_text()) for box, folder in folders.items()}
        await_true(lambda: all(len(seen[box]) >= count for box, count in counts.items()))
        reader.send_signal(signal.SIGINT)
        reader.wait(timeout=20)
    finally:
        lab.proxy.heal()
        reader.kill()
        taker.join()
        said = reader.stderr.read().decode()
        reader.stdout.close()
        reader.stderr.close()
        reader.wait()
        for writer, folder in zip(writers, folders.values(), strict=True):
            (folder / "enough").touch()
            writer.wait(timeout=20)
    assert seen == {
        box: [f"line {number}" for number in range(count)] for box, count in counts.items()
    }
    assert said.count("one: connection lost") == 2 and "two:" not in said and "error" not in said
