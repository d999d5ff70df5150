"""Any login shell on a real sshd: a command comes through unchanged, or the error says why not, in
time, with a remedy that helps."""

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from remote.contract.job.jobs import Artifact, Status
from remote.control.errors import BoxUnreachable, LoginRefused, ShellRefused
from remote.control.jobs.cancel import cancel
from remote.control.jobs.start import start
from remote.control.jobs.state import jobs_on, read_state
from remote.control.ssh import login_shell
from remote.control.transport.pull.pull import pull
from tests.integration import boxes
from tests.integration.boxes import await_true, is_running, spec

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]

ROOT = "windlass"
AWKWARD = """printf '%s|' "it's" 'back\\slash\\\\' '!bang!!' "a
b" 'tab\there' äöü '' "$0" $((1 + 2)) `echo tick` ~/x '*' '%d' '#'; echo; cat; echo err >&2; exit 7"""
SHELLS = ["bash", "dash", "zsh", "fish", "tcsh", "rbash"]


def shell_at(name):
    found = shutil.which(name)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"needs {name}: sudo apt-get install {name}")
    assert found is not None, f"CI installs {name}"
    return found


def with_shell(folder, shell):
    """A real sshd whose user has that login shell: in a view of /etc/passwd of its own where this
    machine lets us make one, else forced."""
    if not _may_mount():
        return boxes.running_sshd(folder, f'ForceCommand exec {shell} -c "$SSH_ORIGINAL_COMMAND"')
    view = folder.with_name(f"{folder.name}.passwd")
    lines = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    view.write_text(
        "".join(
            ":".join([*line[:6], shell] if line[0] == boxes._me() else line) + "\n"
            for line in lines
        )
    )
    inside = (
        "unshare",
        "-m",
        "sh",
        "-c",
        f'mount --bind {shlex.quote(str(view))} /etc/passwd && exec "$@"',
        "sh",
    )
    return boxes.running_sshd(folder, inside=inside)


def _may_mount():
    words = ["unshare", "-m", "sh", "-c", "mount --bind /etc/passwd /etc/passwd"]
    with contextlib.suppress(OSError):
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    return False


@pytest.fixture(scope="module", params=SHELLS)
def server(request, tmp_path_factory):
    with with_shell(
        tmp_path_factory.mktemp("box") / request.param, shell_at(request.param)
    ) as running:
        yield running


@pytest.fixture
def box(server):
    with server.transport() as transport:
        yield transport


def test_a_command_comes_through_unchanged(box, server):
    expected = subprocess.run(
        ["sh", "-c", AWKWARD],
        input=b"in\n",
        capture_output=True,
        env={**os.environ, "HOME": str(server.home)},
        check=False,
    )
    for _ in range(2):
        result = box.exec(AWKWARD, b"in\n")
        assert (result.exit_code, result.stdout, result.stderr) == (7, expected.stdout, b"err\n")
    assert box.exec("set -- a b; echo $2", b"").stdout == b"b\n"


def test_streams_are_exact_and_end_with_their_reader(box):
    content = os.urandom(3_000_000)
    assert box.exec("cat", content).stdout == content
    with box.open("echo $$; while echo x; do sleep 0.02; done") as stream:
        pid = int(next(iter(stream)).split()[0])
    await_true(lambda: not is_running(pid))


def test_a_long_command_comes_whole(box):
    text = "äöü'!\\\n" * 1000
    assert (
        box.exec(f"printf %s {shlex.quote(text)} | sha256sum").text.split()[0]
        == hashlib.sha256(text.encode()).hexdigest()
    )


def test_jobs_start_are_told_and_come_home(server, tmp_path):
    with server.transport() as box:
        digest = boxes.deploy_stages(box, boxes.code_tree(tmp_path / "code"))
        assert start(box, ROOT, spec(digest, "endless", "outlives")).status is Status.RUNNING
    server.cut()
    with server.transport() as box:
        assert read_state(box, ROOT, "outlives").status is Status.RUNNING
        assert [job.state.job_id for job in jobs_on(box, ROOT, "demo", print)] == ["outlives"]
        await_true(lambda: b"worker" in (server.home / ROOT / "jobs/outlives/log").read_bytes())
        assert cancel(box, ROOT, "outlives", 20).kept == "checkpoint step-7"
        content = os.urandom(100_000)
        path = server.home / ROOT / "jobs/outlives/artifacts/it's !bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        artifact = Artifact(
            "jobs/outlives/artifacts/it's !bin", len(content), hashlib.sha256(content).hexdigest()
        )
        assert pull(box, ROOT, artifact, tmp_path / "home").read_bytes() == content


# ---- shells that do not ----


@pytest.fixture(autouse=True)
def _first_time(monkeypatch):
    monkeypatch.setattr(login_shell, "_has_run", set())
    monkeypatch.setattr(login_shell, "FIRST_ANSWER_FLOOR_SECONDS", 3.0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with with_shell(tmp_path_factory.mktemp("box") / "plain", shell_at("bash")) as running:
        yield running


@pytest.fixture
def rc_box(request, plain, tmp_path, monkeypatch):
    """A box with bash, and what writes its .bashrc."""
    place = plain.home / ".bashrc"
    with plain.transport(dead_after=1.0) as transport:
        yield transport, place.write_text
    place.unlink(missing_ok=True)


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false"])
@pytest.mark.parametrize("stdin", [b"", b"in\n"])
def test_an_account_without_a_shell(tmp_path, stdin, shell):
    with with_shell(tmp_path / "box", shell) as server, server.transport() as box:
        with pytest.raises(
            ShellRefused, match=r"login shell of .* does not run commands"
        ) as caught:
            box.exec("touch ~/ran", stdin)
        assert (
            "nologin" in caught.value.why
            and "usermod -s /bin/bash" in caught.value.remedy
            and "demo" in caught.value.remedy
        )
        assert not (server.home / "ran").exists()


@pytest.mark.parametrize(
    "text", ["Welcome!\n", "no line end", '{"done": {}}\n', "windlass:\n" * 100, "x" * 70_000]
)
def test_what_start_up_files_print_is_left_out(rc_box, text):
    box, write = rc_box
    write(f"printf %s {shlex.quote(text)}\n")
    result = box.exec("cat; exit 3", b"in\n")
    assert (result.exit_code, result.stdout) == (3, b"in\n")


@pytest.mark.parametrize("stdin", [b"", b"touch ~/ran\n" * 3])
@pytest.mark.parametrize("other", ["fish", "tcsh", "zsh", "dash", "bash --norc"])
def test_another_shell_started_by_bashrc_is_named_and_runs_no_input(rc_box, plain, other, stdin):
    box, write = rc_box
    shell_at(other.split()[0])
    write(f"exec {other}\n")
    with pytest.raises(ShellRefused) as caught:
        box.exec("touch ~/ran", stdin)
    assert (
        ".bashrc" in caught.value.remedy
        and "case $- in" in caught.value.remedy
        and "./inv ssh demo" in caught.value.remedy
    )
    assert not stdin or "exec fish" in caught.value.why
    assert not (plain.home / "ran").exists()


def test_the_remedy_helps(rc_box):
    box, write = rc_box
    write("case $- in *i*) ;; *) return ;; esac\nexec fish\n")
    assert box.exec("cat", b"in").text == "in"


@pytest.mark.parametrize("reads", ["read line", "cat >/dev/null", "head -c 40 >/dev/null"])
def test_a_bashrc_that_reads_the_input(rc_box, plain, reads):
    box, write = rc_box
    write(f"{reads}\n")
    assert box.exec("echo none to read", b"").text == "none to read\n"
    with pytest.raises(BoxUnreachable) as caught:
        box.exec("cat > ~/ran", b"one line\nanother\n")
    assert "reads standard input" in caught.value.why and "~/.bashrc" in caught.value.remedy
    assert not (plain.home / "ran").exists()


@pytest.mark.parametrize(
    "endless",
    ["sleep 600", "cat", *(f"while :; do echo still; sleep 0.2; done{to}" for to in ("", " >&2"))],
)
def test_a_bashrc_without_end_is_bounded(rc_box, endless):
    box, write = rc_box
    write(f"{endless}\n")
    began = time.monotonic()
    with pytest.raises(ShellRefused) as caught, box.open("true", _Never()) as stream:
        list(stream)
    assert (
        time.monotonic() - began < 8
        and "ssh.dead_after" in caught.value.why
        and "~/.bashrc" in caught.value.remedy
    )


class _Never:
    """An open standard input that says nothing."""

    def read(self, size):
        time.sleep(0.2)
        return b"\n" if time.monotonic() < self.until else b""

    def __init__(self):
        self.until = time.monotonic() + 6


def test_a_bashrc_that_prints_without_end(rc_box):
    box, write = rc_box
    write("yes\n")
    with pytest.raises(ShellRefused, match="does not run commands") as caught:
        box.exec("true")
    assert "printed more than" in caught.value.why


def test_a_box_that_ran_commands_before_is_tried_again(rc_box):
    box, write = rc_box
    assert box.exec("echo in").text == "in\n"
    write("sleep 600\n")
    with pytest.raises(BoxUnreachable) as caught:
        box.exec("true")
    assert not isinstance(caught.value, LoginRefused)


@pytest.mark.parametrize(
    "forced", ["echo $SSH_ORIGINAL_COMMAND", "internal-sftp", "/bin/true", "cat"]
)
@pytest.mark.parametrize("stdin", [b"", b"in\n"])
def test_a_forced_command_is_named(tmp_path, forced, stdin):
    with (
        boxes.running_sshd(tmp_path / "box", f"ForceCommand {forced}") as server,
        server.transport() as box,
    ):
        with pytest.raises(ShellRefused) as caught:
            box.exec("true", stdin)
        assert "ForceCommand" in caught.value.remedy


def test_a_forced_command_that_runs_what_was_asked_for(tmp_path):
    forced = 'ForceCommand logger=1; exec sh -c "$SSH_ORIGINAL_COMMAND"'
    with boxes.running_sshd(tmp_path / "box", forced) as server, server.transport() as box:
        assert box.exec(AWKWARD, b"in\n").exit_code == 7
