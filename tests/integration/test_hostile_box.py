"""Every command against a box that answers anything but what it was asked: one clear error each,
within the bounds that the errors name."""

import json
import os
import re
import signal
import sys
import time

import pytest

import tasks
from remote.contract.job.exits import Exit
from remote.control import retry, targets
from remote.control.backends import preflight
from remote.control.jobs import cancel, state, table
from remote.control.logs import client, follow
from remote.control.observe import find, live, top
from remote.control.transport import base, payload
from remote.control.transport.pull import download
from remote.control.transport.push import push, rollback
from tests.integration import boxes
from tests.integration.typed import in_process

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]

HOSTILE = r"""
import json, os, re, sys, time
asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")
token = re.search(r"' sh ([0-9a-f]+) '", asked)
out, kind = sys.stdout.buffer, open(os.environ["HOME"] + "/kind").read()
say = lambda content: (out.write(content), out.flush())
say(b"windlass:" + token[1].encode() + b"\n")
FACTS = {"job": "r-1-train-00000000", "run": "r-1", "stage": "train", "status": "RUNNING", "next": 0}
STATE = {"job_id": FACTS["job"], "stage": "train", "status": "RUNNING", "run_id": "r-1"}
def for_ever(content):
    while True:
        say(content)
def frame(content, **header):
    return json.dumps({**header, "size": len(content)}).encode() + b"\n" + content
if kind == "empty": sys.exit(0)
if kind == "failing": sys.exit("no such thing")
if kind == "killed": os.kill(os.getpid(), 9)
if kind == "random": say(os.urandom(200_000))
if kind == "text": say(b"Welcome to this box\n" * 1000)
if kind == "number": say(b"7\n")
if kind == "list": say(b"[]\n")
if kind == "deep": say(b"[" * 200_000 + b"\n")
if kind == "deep object": say(b'{"done":' * 50_000 + b"1" + b"}" * 50_000 + b"\n")
if kind == "silent": time.sleep(600)
if kind == "slow":
    while True:
        say(b"{")
        time.sleep(0.1)
if kind == "lines": for_ever(b"x\n" * 30_000)
if kind == "one line": for_ever(b"x" * 65_536)
if kind == "said lines": for_ever(b'{"line": "still at it"}\n' * 1000)
if kind == "beats": for_ever(b'{"beat": true}\n' * 1000)
if kind == "stderr":
    while True: sys.stderr.write("x" * 65_536)
if kind == "done": say(b'{"done": {}}\n')
if kind == "done number": say(b'{"done": 7}\n')
if kind == "done wrong":
    odd = {name: 7 for name in ("jobs", "releases", "checks", "seconds", "environment", "state", "status", "job_id", "spilled")}
    say(json.dumps({"done": odd, "files": 7, "jobs": 7, "now": "x"}).encode() + b"\n")
if kind == "odd error": say(b'{"error": 7}\n')
if kind == "odd words": say(json.dumps({"error": {"what": {"a": 1}, "why": [2], "remedy": None, "cause": 7, "busy": []}}).encode() + b"\n")
if kind == "escapes": say(json.dumps({"error": {"what": "\x1b]0;owned\x07\x1b[2J", "why": "x" * 100_000}}).encode() + b"\n")
if kind == "many jobs": say(json.dumps({"done": {"jobs": [{"run_id": "../x"}] * 100_000}}).encode() + b"\n")
if kind == "many files": say(json.dumps({"files": [[f"{n:07}", 0] for n in range(150_000)]}).encode() + b"\n")
if kind == "state":
    odd = {**STATE, "artifacts": {"a": {"path": "jobs/x/../../../../etc/a", "size": -1, "sha256": "../" * 21 + "a"}}}
    say(json.dumps({"done": odd, "state": odd}).encode() + b"\n")
if kind == "log":
    say(json.dumps({"now": time.time(), "jobs": [FACTS]}).encode() + b"\n")
    at = 0
    while True:
        at += 60_000
        say(frame(b"line\n" * 12_000, job=FACTS["job"], at=time.time(), next=at))
if kind == "metrics":
    say(json.dumps({"now": time.time(), "jobs": [FACTS]}).encode() + b"\n")
    at = 0
    while True:
        at += 60_000
        say(frame(b"line\n" * 12_000, job=FACTS["job"], at=0.0, next=at, file="metrics"))
if kind == "restarts":
    say(json.dumps({"now": time.time(), "jobs": [FACTS]}).encode() + b"\n")
    for_ever(json.dumps({"restart": FACTS["job"], "file": "log"}).encode() + b"\n")
if kind == "log line":
    say(json.dumps({"now": time.time(), "jobs": [FACTS]}).encode() + b"\n")
    for_ever(frame(b"x" * 60_000, job=FACTS["job"], at=time.time(), partial=True))
if kind == "log jobs":
    for number in range(10**9):
        say(json.dumps({"now": time.time(), "jobs": [{**FACTS, "job": f"j{number}-{n}"} for n in range(500)]}).encode() + b"\n")
if kind == "top": for_ever(json.dumps({"at": time.time(), "jobs": [{**STATE, "what": "x" * 100}] * 1000}).encode() + b"\n")
"""
KINDS = [*dict.fromkeys(re.findall(r'kind == "([\w ]+)"', HOSTILE))]

COMMANDS = [
    "ps",
    "ps --all",
    "ps --all --json",
    "top --json",
    "why gpu",
    "why r-1",
    "logs gpu",
    "logs r-1",
    "logs gpu --tail 5",
    "attach r-1",
    "attach gpu",
    "cancel r-1 --patience 1",
    "cancel gpu",
    "status",
    "deploy gpu",
    "rollback gpu --list",
    "preflight --box gpu --recipe demo",
    "pull r-2",
    "bundle gpu",
]
SMALL = {
    "QUERY_SECONDS": 2.0,
    "SILENCE_SECONDS": 2.0,
    "ONCE_SECONDS": 3.0,
    "PATIENCE_SECONDS": 1.0,
    "ONCE_PATIENCE_SECONDS": 1.0,
    "SNAPSHOT_SECONDS": 2.0,
    "FIRST_SECONDS": 0.5,
    "_SECONDS": 2.0,
    "_LOOK_SECONDS": 2.0,
    "_LINK_SECONDS": 1.0,
    "ATTEMPT_SECONDS": 3.0,
    "FRAME_SECONDS": 2.0,
    "LIST_SECONDS": 2.0,
    "_OTHER_CHECKS_SECONDS": -178.0,
    "_SILENCE_SECONDS": 2.0,
    "MOST_ANSWER_BYTES": 8 << 20,
    "MOST_LOG_BYTES": 8 << 20,
    "MOST_BYTES": 8 << 20,
    "MOST_LINES": 2000,
    "LONGEST_SAID": 400,
}
"""The bounds, for a test."""

ENDLESS = {"attach r-1": {"beats", "log", "metrics", "log line"}, "attach gpu": set()}
"""A job that is followed may beat, and write, for ever."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "hostile.py").write_text(HOSTILE)
    with boxes.running_sshd(
        folder / "box", f"ForceCommand exec {sys.executable} {folder}/hostile.py"
    ) as running:
        yield running


@pytest.fixture
def project(server, tmp_path, monkeypatch):
    key = " ".join(server.host_key_line.split()[:2])
    facts = (
        f"provider: static, host: 127.0.0.1, port: {server.port}, user: {boxes._me()}, ssh_key:"
        f" {server.key}, host_key: '{key}'"
    )
    (tmp_path / "inventory.yaml").write_text(f"default_box: gpu\nboxes:\n  gpu: {{{facts}}}\n")
    artifact = {
        "kind": "artifact",
        "box": "gpu",
        "path": "jobs/r-2-train-00000000/artifacts/it",
        "size": 4,
        "sha256": "0" * 64,
    }
    made = {"it": {**artifact, "is_folder": True}}
    write_run(tmp_path, "r-1")
    write_run(
        tmp_path,
        "r-2",
        {"event": "stage_finished", "label": "train", "status": "SUCCEEDED", "outputs": made},
    )
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    modules = [cancel, follow, state, table, client, targets, preflight, find, live, top]
    modules += [base, download, payload, push, retry, rollback]
    monkeypatch.setattr(
        follow.follow,
        "__defaults__",
        tuple(1.0 if each == 600.0 else each for each in follow.follow.__defaults__),
    )
    for module in modules:
        for name, value in SMALL.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    return tmp_path


def write_run(project, run_id, *events):
    plan = {"name": "p", "stages": [{"label": "train", "uses": "train"}], "finally_": []}
    begun = [
        {"event": "run_created", "plan": plan, "box": "gpu"},
        {"event": "run_begun"},
        {
            "event": "stage_started",
            "label": "train",
            "key": "0",
            "job_id": f"{run_id}-train-00000000",
            "box": "gpu",
        },
    ]
    folder = project / "runs" / run_id
    folder.mkdir(parents=True)
    lines = [json.dumps({"time": time.time(), **event}) for event in (*begun, *events)]
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))


class Stuck(BaseException):
    """Nothing came of it in time."""


def stuck(number, frame):
    raise Stuck


def chosen():
    """Every command with every answer where WINDLASS_HOSTILE is set; else every seventh, each
    command with others."""
    step = 1 if os.environ.get("WINDLASS_HOSTILE") else 7
    return [
        (command, kind)
        for number, command in enumerate(COMMANDS)
        for kind in KINDS[number % step :: step]
    ]


@pytest.mark.parametrize(("command", "kind"), chosen())
def test_each_command_ends_with_one_error_within_its_bound(server, project, capsys, command, kind):
    (server.home / "kind").write_text(kind)
    before = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(45)
    try:
        code, out, err = in_process(capsys, tasks.ns, command)
    except Stuck:
        assert kind in ENDLESS.get(command, ()), f"{command} does not end"
        return
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    told = f"{command} / {kind}: {code}\n{err[-3000:]}"
    assert code in set(map(int, Exit)) - {Exit.UNEXPECTED}, told
    assert "a fault of Windlass" not in err and "Traceback" not in err, told
    assert len(err) < 100_000 and err.count("error:") <= 1, told
    assert not set(err) & {"\x1b", "\x07"}, told
    assert len(out) < 40 << 20
    if code:
        assert "fix:" in err, told
