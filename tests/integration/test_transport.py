"""The transport against a real sshd on loopback."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from remote.contract.job.jobs import Artifact, Status
from remote.control.errors import BoxUnreachable, HostKeyMismatch, LoginRefused
from remote.control.jobs.cancel import cancel
from remote.control.jobs.start import start
from remote.control.jobs.state import read_state
from remote.control.logs.follow import follow
from remote.control.project import CODE
from remote.control.transport.over_ssh import SshTransport
from remote.control.transport.pull.pull import pull
from remote.control.transport.push.release import build_release, deploy
from tests.integration import boxes
from tests.integration.boxes import await_true, each_line, is_running, make_key, spec

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]
ROOT = "windlass"


@pytest.fixture(scope="module")
def digest(sshd, tmp_path_factory):
    with sshd.transport() as transport:
        return boxes.deploy_stages(transport, boxes.code_tree(tmp_path_factory.mktemp("code")))


@pytest.fixture
def box(sshd):
    with sshd.transport() as transport:
        yield transport


def test_exec(box, capfd):
    result = box.exec("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert box.exec("kill -9 $$").exit_code == -1
    assert capfd.readouterr() == ("", "")


def test_one_connection_many_commands_at_once(box, sshd):
    found = []
    threads = [
        threading.Thread(
            target=lambda n=n: found.append(box.exec(f"sleep 0.1; echo {n} $PPID").text.split())
        )
        for n in range(8)
    ]
    box.exec("true")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(number) for number, _ in found) == list(range(8))
    assert len({parent for _, parent in found}) == 1
    assert box.round_trips == 9


def test_both_directions_full_do_not_deadlock(box):
    content = os.urandom(1 << 20) * 24
    result = box.exec("tee /dev/stderr", io.BytesIO(content))
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(content).digest()
    assert content.endswith(result.stderr) and result.stderr


def test_large_input_is_streamed_not_held(sshd, tmp_path):
    size = 220 << 20
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size)
    script = f"""
import resource, sys
sys.path.insert(0, {str(CODE)!r})
from pathlib import Path
from remote.control.ssh.connection import Address
from remote.control.transport.over_ssh import SshTransport
address = Address("demo", "i", "127.0.0.1", {sshd.port}, {sshd.address().user!r}, Path({str(sshd.key)!r}), "i")
with SshTransport(address, lambda alias: [{sshd.host_key_line!r}]) as box:
    box.exec("true")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open({str(tmp_path / "large")!r}, "rb") as file:
        print(box.exec("wc -c", file).text.strip(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    sent, grown_kb = map(int, answer.stdout.split())
    assert sent == size and grown_kb < 40_000


def test_a_command_may_ignore_its_input(box):
    assert box.exec("exec 0<&-; echo done", b"x" * 5_000_000).stdout == b"done\n"


def test_leaving_early_ends_the_command(box):
    with box.open("echo $$; while echo x; do sleep 0.02; done") as stream:
        pid = int(next(iter(stream)).split()[0])
    await_true(lambda: not is_running(pid))


def test_a_lost_connection_is_told_and_the_next_command_connects_anew(box, sshd):
    with (
        pytest.raises(BoxUnreachable, match="was lost") as caught,
        box.open("echo first; sleep 600") as stream,
    ):
        for chunk in stream:
            assert chunk == b"first\n"
            sshd.cut()
    assert "./inv status" in caught.value.remedy and "demo" in caught.value.where
    assert box.exec("echo again").text == "again\n"


def test_silence_and_time_limits(box):
    with (
        pytest.raises(BoxUnreachable, match="was lost") as caught,
        box.open("echo a; sleep 600", silence=0.2) as stream,
    ):
        list(stream)
    assert "within 0.2 s" in caught.value.why
    with pytest.raises(BoxUnreachable) as caught:
        box.exec("sleep 600", timeout=0.2)
    assert "within 0.2 s" in caught.value.why


def test_nobody_answers(sshd):
    with pytest.raises(BoxUnreachable, match="does not answer") as caught:
        sshd.transport(port=1).exec("true")
    assert (
        type(caught.value) is BoxUnreachable
        and "refused" in caught.value.why
        and "./inv start demo" in caught.value.remedy
    )


def test_something_answers_that_is_no_ssh():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        address = boxes.Sshd(Path("/nowhere"), listener.getsockname()[1]).address()
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGz0ZZOkZ9VnPK2uFQj0eWv8gkN5Z7mXqWz1s6f1bq2d"
        with pytest.raises(BoxUnreachable, match="does not answer"):
            SshTransport(address, lambda alias: [key]).exec("true")
        thread.join()


def test_another_host_key_is_refused_before_anything_is_sent(sshd, tmp_path):
    make_key(tmp_path / "other")
    log = (sshd.folder / "sshd.log").read_text()
    transport = SshTransport(sshd.address(), lambda alias: [(tmp_path / "other.pub").read_text()])
    with pytest.raises(HostKeyMismatch) as caught:
        transport.exec("true")
    prints = [
        subprocess.run(
            ["ssh-keygen", "-lf", str(path)], capture_output=True, text=True, check=True
        ).stdout.split()[1]
        for path in (tmp_path / "other.pub", sshd.folder / "host.pub")
    ]
    assert all(fingerprint in caught.value.why for fingerprint in prints)
    assert "./inv box.forget demo" in caught.value.remedy
    assert "publickey" not in (sshd.folder / "sshd.log").read_text()[len(log) :]


def test_no_pinned_key_no_connection(sshd):
    with pytest.raises(HostKeyMismatch, match="no host key is pinned"):
        SshTransport(sshd.address(), lambda alias: []).exec("true")


def test_a_refused_key(sshd, tmp_path):
    make_key(tmp_path / "stranger")
    with pytest.raises(LoginRefused, match="refuses the login") as caught:
        sshd.transport(key=tmp_path / "stranger").exec("true")
    assert "ssh_key" in caught.value.remedy and "SHA256:" in caught.value.why


@pytest.mark.parametrize("content", [None, "no key at all"])
def test_a_key_file_that_is_none(sshd, tmp_path, content):
    path = tmp_path / "key"
    if content:
        path.write_text(content)
    with pytest.raises(LoginRefused):
        sshd.transport(key=path).exec("true")


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_kinds_of_keys(sshd, tmp_path, kind):
    make_key(tmp_path / "key", kind)
    authorize(sshd, tmp_path / "key.pub")
    assert says_in(sshd, tmp_path / "key")


def test_a_key_with_a_passphrase_needs_the_agent(sshd, tmp_path, monkeypatch):
    make_key(tmp_path / "key", passphrase="secret words")
    (tmp_path / "key.pub").rename(tmp_path / "elsewhere.pub")
    authorize(sshd, tmp_path / "elsewhere.pub")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(LoginRefused, match="passphrase") as caught:
        sshd.transport(key=tmp_path / "key").exec("true")
    assert f"ssh-add {tmp_path / 'key'}" in caught.value.remedy
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL
    )
    try:
        await_true((tmp_path / "agent").exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        ask = tmp_path / "ask"
        ask.write_text("#!/bin/sh\necho secret words\n")
        ask.chmod(0o755)
        surroundings = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(
            ["ssh-add", "-q", str(tmp_path / "key")],
            env=surroundings,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        assert says_in(sshd, tmp_path / "key")
        assert says_in(sshd, None), "without a key in the inventory, the agent's are tried"
    finally:
        agent.terminate()
        agent.wait()


def says_in(sshd, key):
    with sshd.transport(key=key) as box:
        return box.exec("echo in").text == "in\n"


def authorize(sshd, public):
    with (sshd.folder / "authorized").open("a") as file:
        file.write(public.read_text())


def test_deploy_is_one_round_trip_when_nothing_changed(sshd, digest, tmp_path):
    requirements = tmp_path / "none.txt"
    requirements.write_text("")
    release = build_release([])
    with sshd.transport() as box:
        boxes.mark_environment(box, requirements)
        first = deploy(box, ROOT, release, print, requirements=str(requirements))
        assert (first.round_trips, first.lacking) == (1, 0), (
            "another release is there, with all that this one has"
        )
    with sshd.transport() as box:
        again = deploy(box, ROOT, release, print, requirements=str(requirements))
        assert again.was_current and again.round_trips == box.round_trips == 1


def test_start_returns_at_once_and_the_job_outlives_the_connection(sshd, digest, tmp_path):
    with sshd.transport() as box:
        assert start(box, ROOT, spec(digest, "endless", "outlives")).status is Status.RUNNING
    sshd.cut()
    with sshd.transport() as box:
        assert read_state(box, ROOT, "outlives").status is Status.RUNNING
        await_true(lambda: b"worker" in (sshd.home / ROOT / "jobs/outlives/log").read_bytes())
        assert cancel(box, ROOT, "outlives", 20).kept == "checkpoint step-7"


def test_the_log_is_exact_though_the_connection_is_cut_again_and_again(sshd, digest, tmp_path):
    with sshd.transport() as box:
        start(box, ROOT, spec(digest, "count", "cut", lines=150, pause=0.02))
    lines, steps, ended = [], [], threading.Event()

    def cutter():
        while not ended.wait(0.7):
            sshd.cut()

    cutting = threading.Thread(target=cutter)
    cutting.start()
    try:
        metric = lambda metric: steps.append(metric.step)  # noqa: E731
        state = follow(
            sshd.transport,
            ROOT,
            "cut",
            tmp_path / "log",
            tmp_path / "metrics",
            each_line(lines.append),
            metric,
        )
    finally:
        ended.set()
        cutting.join()
    assert state.status is Status.SUCCEEDED
    assert (tmp_path / "log").read_bytes() == (sshd.home / ROOT / "jobs/cut/log").read_bytes()
    assert lines == [f"line {number} äöü" for number in range(150)] and steps == list(range(1, 151))


def test_the_log_is_exact_though_the_laptop_is_killed(sshd, digest, tmp_path):
    with sshd.transport() as box:
        start(box, ROOT, spec(digest, "count", "killed", lines=100, pause=0.02))
    script = f"""
import sys
sys.path.insert(0, {str(CODE)!r})
from pathlib import Path
from remote.control.logs.follow import follow
from remote.control.ssh.connection import Address
from remote.control.transport.over_ssh import SshTransport
address = Address("demo", "i", "127.0.0.1", {sshd.port}, {sshd.address().user!r}, Path({str(sshd.key)!r}), "i")
folder = Path({str(tmp_path)!r})
box = lambda: SshTransport(address, lambda alias: [{sshd.host_key_line!r}])
print(follow(box, {ROOT!r}, "killed", folder / "log", folder / "metrics", lambda line: None, lambda metric: None).status.value)
"""
    for size in (200, 700, 1100):
        client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
        await_true(
            lambda size=size: (
                (tmp_path / "log").exists() and (tmp_path / "log").stat().st_size > size
            )
        )
        client.send_signal(signal.SIGKILL)
        client.wait()
    assert (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        == "SUCCEEDED\n"
    )
    assert (tmp_path / "log").read_bytes() == (sshd.home / ROOT / "jobs/killed/log").read_bytes()
    assert (tmp_path / "metrics").read_bytes() == (
        sshd.home / ROOT / "jobs/killed/metrics.jsonl"
    ).read_bytes()


def test_a_cut_pull_goes_on(sshd, digest, tmp_path):
    content = os.urandom(1 << 20) * 16
    path = sshd.home / ROOT / "jobs/p/artifacts/large.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    artifact = Artifact(
        "jobs/p/artifacts/large.bin", len(content), hashlib.sha256(content).hexdigest()
    )

    seen, told, cuts = [], [], []

    def cut_twice(done):
        seen.append(done)
        if done > 3_000_000 * (1 + len(cuts)) and len(cuts) < 2 and (cut := sshd.cut()):
            cuts.append(cut)

    with sshd.transport() as box:
        pull(box, ROOT, artifact, tmp_path / "large.bin", cut_twice, told.append)
    assert (tmp_path / "large.bin").read_bytes() == content and seen == sorted(seen)
    assert len(cuts) == 2 and len(told) == 2 and "connection lost" in told[0]
