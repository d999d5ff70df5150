"""The system's ssh as a transport: one master, many commands, a new master after a loss."""

import contextlib
import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from remote.control import project
from remote.control.errors import BoxUnreachable, HostKeyMismatch, LaptopError, LoginRefused
from remote.control.transport import master
from tests.integration import boxes, links
from tests.integration.boxes import await_true, is_running, make_key

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
    pytest.mark.skipif(shutil.which("ssh") is None, reason="needs ssh: apt-get install openssh-client"),
]


@pytest.fixture
def place(sshd, tmp_path, monkeypatch):
    """Makes places of that server, or of a port before it; no master is left of them."""
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    def make(port=None, key=None, dead_after=10.0, host_key=None, **more):
        (tmp_path / "known").write_text(f"alias {host_key or sshd.host_key_line}\n")
        settings = {
            "HostName": "127.0.0.1", "Port": str(port or sshd.port), "User": boxes._me(), "IdentityFile": str(key or sshd.key),
            "IdentitiesOnly": "yes", "HostKeyAlias": "alias", "UserKnownHostsFile": str(tmp_path / "known"),
            "GlobalKnownHostsFile": "/dev/null", "StrictHostKeyChecking": "yes",
        }  # fmt: skip
        return master.Place("demo", "box demo (127.0.0.1)", settings, dead_after, **more)

    yield make
    master.end("demo")
    shutil.rmtree(master.sockets())


@pytest.fixture
def box(place):
    return master.OpenSshTransport(place())


def masters(sshd):
    return len(boxes.children(sshd.process.pid))


def master_of(box):
    """The process that serves the socket."""
    told = subprocess.run(
        ["ssh", "-F", "none", "-S", str(box.place.socket), "-O", "check", "x"], capture_output=True, text=True, check=True
    ).stderr
    return int(told.split("pid=")[1].split(")")[0])


def test_exec(box, sshd, capfd):
    result = box.exec("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert box.exec("kill -9 $$").exit_code == -1
    assert box.exec("exit 0").exit_code == 0
    assert capfd.readouterr() == ("", "") and box.round_trips == 3


def test_one_login_for_many_commands_and_processes(box, place, sshd):
    parents, again = [], master.OpenSshTransport(place())
    threads = [threading.Thread(target=lambda each=each: parents.append(each.exec("echo $PPID").text)) for each in (box, again) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parents) == 8 and len(set(parents)) == 1


def test_both_directions_full_do_not_deadlock(box):
    content = os.urandom(1 << 20) * 8
    result = box.exec("tee /dev/stderr", io.BytesIO(content))
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(content).digest()
    assert content.endswith(result.stderr) and result.stderr


def test_a_command_may_ignore_its_input(box):
    assert box.exec("exec 0<&-; echo done", b"x" * 5_000_000).stdout == b"done\n"


def test_leaving_early_ends_the_command(box):
    with box.open("echo $$; while echo x; do sleep 0.02; done") as stream:
        pid = int(next(iter(stream)).split()[0])
    await_true(lambda: not is_running(pid))


def test_silence_and_time_limits(box):
    with pytest.raises(BoxUnreachable, match="was lost") as caught, box.open("echo a; sleep 600", silence=0.2) as stream:
        list(stream)
    assert "within 0.2 s" in caught.value.why
    with pytest.raises(BoxUnreachable) as caught:
        box.exec("sleep 600", timeout=0.2)
    assert "within 0.2 s" in caught.value.why


def test_a_lost_connection_is_told_and_the_next_command_logs_in_anew(box, sshd):
    with pytest.raises(BoxUnreachable, match="was lost"), box.open("echo first; sleep 600") as stream:
        for chunk in stream:
            assert chunk == b"first\n"
            sshd.cut()
    assert box.exec("echo again").text == "again\n"


def test_a_killed_master_leaves_a_socket_that_is_no_obstacle(box):
    box.exec("true")
    pid = master_of(box)
    os.kill(pid, signal.SIGKILL)
    await_true(lambda: not is_running(pid))
    assert box.place.socket.exists()
    assert box.exec("echo in").text == "in\n" and master_of(box) != pid


def test_a_silent_peer_is_dead(place, sshd):
    with links.proxied(sshd) as proxy:
        box = master.OpenSshTransport(place(port=proxy.port, dead_after=5))
        with pytest.raises(BoxUnreachable, match="was lost"), box.open("echo on; sleep 600") as stream:
            for _ in stream:
                proxy.black_hole()
        proxy.heal()
        assert box.exec("echo in").text == "in\n"


def test_it_outlives_the_command_and_ends_by_itself(place):
    box = master.OpenSshTransport(place(), persist_seconds=2)
    box.exec("true")
    pid = master_of(box)
    assert is_running(pid)
    await_true(lambda: not is_running(pid))


def test_it_outlives_the_process(place, tmp_path):
    here = place()
    script = f"""
from remote.control.transport.master import OpenSshTransport, Place
print(OpenSshTransport(Place("demo", "box", {dict(here.settings)!r}, 10.0)).exec("echo $PPID").text)
"""
    told = [
        subprocess.run([sys.executable, "-c", script], cwd=project.CODE, capture_output=True, text=True, check=True, timeout=60).stdout
        for _ in range(2)
    ]
    assert told[0] == told[1] != ""


def test_end_ends_the_masters_of_a_box(place, box):
    box.exec("true")
    pid = master_of(box)
    assert (master.end("other"), master.end("demo"), master.end("demo")) == (0, 1, 0)
    await_true(lambda: not is_running(pid))


def test_another_address_is_another_master(place, sshd):
    assert len({place().socket, place(port=1).socket, place(key=Path("/k")).socket, place(dead_after=3).socket}) == 4


def test_the_sockets_are_for_this_user_alone(place, box, tmp_path, monkeypatch):
    box.exec("true")
    folder = box.place.socket.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    with pytest.raises(LaptopError, match="yours alone"):
        box.exec("true")
    folder.chmod(0o700)


def test_a_long_path_is_no_obstacle(place, tmp_path, monkeypatch):
    deep = tmp_path / ("a" * 100) / "b"
    deep.mkdir(parents=True)
    monkeypatch.setenv("WINDLASS_PROJECT", str(deep))
    assert len(str(place().socket)) < 90 and str(deep) not in str(place().socket)
    assert master.OpenSshTransport(place()).exec("echo in").text == "in\n"


def test_a_refused_key(place, tmp_path):
    make_key(tmp_path / "stranger")
    with pytest.raises(LoginRefused, match="refuses the login") as caught:
        master.OpenSshTransport(place(key=tmp_path / "stranger")).exec("true")
    assert "Permission denied" in caught.value.why


def test_another_host_key(place, tmp_path):
    make_key(tmp_path / "other")
    with pytest.raises(HostKeyMismatch) as caught:
        master.OpenSshTransport(place(host_key=(tmp_path / "other.pub").read_text())).exec("true")
    assert "./inv box.forget demo" in caught.value.remedy
    # ssh's own words advise to remove the pinned key: nobody should read that as the thing to do.
    assert "SHA256:" in caught.value.why and "stands in between" in caught.value.why and "ssh-keygen" not in caught.value.why


def test_nobody_answers(place):
    with pytest.raises(BoxUnreachable, match="does not answer") as caught:
        master.OpenSshTransport(place(port=1)).exec("true")
    assert type(caught.value) is BoxUnreachable and "refused" in caught.value.why and caught.value.until_back is not None
    with pytest.raises(BoxUnreachable) as caught:
        master.OpenSshTransport(place(port=1, is_standing=True)).exec("true")
    assert caught.value.remedy.startswith("start the host")


def test_without_the_program_it_says_which(place, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LaptopError, match="no `ssh`") as caught:
        master.OpenSshTransport(place()).exec("true")
    assert "transport: paramiko" in caught.value.remedy


def test_too_many_commands_at_once_are_told(tmp_path, monkeypatch, place):
    with boxes.running_sshd(tmp_path / "narrow", "MaxSessions 1") as narrow:
        box = master.OpenSshTransport(place(port=narrow.port, key=narrow.key, host_key=narrow.host_key_line))
        with box.open("echo on; sleep 1") as stream:
            next(iter(stream))
            with pytest.raises(BoxUnreachable) as caught:
                box.exec("true")
            assert "refused" in caught.value.why

        def is_in():
            with contextlib.suppress(BoxUnreachable):
                return box.exec("echo in").text == "in\n"

        await_true(is_in)


def test_a_folder_with_a_space_in_its_name(place, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="w l", dir="/tmp") as folder:  # a short one: a socket's path may not be long
        monkeypatch.setattr(master, "_folder", lambda: Path(folder) / "s")
        assert master.OpenSshTransport(place()).exec("echo here").stdout == b"here\n"
        assert master.end("demo") == 1


def test_a_master_has_none_of_the_callers_tokens(place, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-of-the-caller")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-caller")
    box = master.OpenSshTransport(place())
    assert box.exec("true").exit_code == 0
    environment = Path(f"/proc/{master_of(box)}/environ").read_bytes()
    assert b"PATH=" in environment and b"secret-of-the-caller" not in environment


def test_a_session_gets_its_credentials_once_and_in_a_file(place, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-caller")
    with master._environment(place(carrier="session")) as variables:
        path = Path(variables[master.HANDED_OVER])
        assert "secret-of-the-caller" not in " ".join(variables.values()) and "secret-of-the-caller" in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    with master._environment(place(carrier="own")) as variables:
        assert variables == dict(os.environ)
