"""Test boxes: a release with small stages of our own, deployed into a folder; and a real sshd on
loopback."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.job.jobs import JobSpec
from remote.control.project import CODE
from remote.control.ssh.connection import Address
from remote.control.transport.base import Stdin, Transport
from remote.control.transport.local import LocalStream, LocalTransport
from remote.control.transport.over_ssh import SshTransport
from remote.control.transport.push.release import build_release, deploy

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin")

STAGES = {
    "count": (
        """
        import time
        for number in range(int(job.option("lines", 5))):
            print(f"line {number} äöü", flush=True)
            job.metric(number + 1, int(job.option("lines", 5)), loss=1.0 / (number + 1))
            time.sleep(float(job.option("pause", 0)))
        whole = job.artifact("made.txt")
        whole.write_text("made\\n")
        job.output("made", whole)
        job.output("score", 0.75)
    """
    ),
    "endless": (
        """
        import multiprocessing, signal, sys, time
        def stop(number, frame):
            if job.option("stubborn"):
                return
            (job.paths.checkpoints / "step-7").mkdir(parents=True)
            sys.exit(143)
        signal.signal(signal.SIGTERM, stop)
        import subprocess
        worker = subprocess.Popen(["sleep", "600"])
        print(f"worker {worker.pid}", flush=True)
        while True:
            time.sleep(0.05)
    """
    ),
    "saving": (
        """
        import json, signal, sys, time
        from remote.contract.files import atomic; from remote.contract.files import digest
        from remote.payload.training.interrupt import flush
        step, asked = 0, []
        signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
        def save():
            with atomic.making(job.paths.checkpoints / f"step-{step}") as folder:
                (folder / "weights").write_bytes(bytes(step % 256 for _ in range(1000)))
                files = {path.name: digest.of_file(path) for path in digest.files_in(folder)}
                (folder / "manifest.json").write_text(json.dumps({"identity": {}, "files": files}))
        while not asked:
            step += 1
            flush(job.paths.folder, save)
            print(f"step {step}", flush=True)
            time.sleep(0.02)
        save()
        sys.exit(143)
    """
    ),
    "failing": (
        """
        how = job.option("how")
        if how == "told":
            from remote.payload.job import StageFailed
            from remote.contract.job.jobs import Cause
            raise StageFailed(Cause.NOT_A_NUMBER, "the loss is not a number", "step 3", "lower the rate", "checkpoint 2")
        if how == "killed":
            import os
            os.kill(os.getpid(), 9)
        if how == "nothing left":
            job.output("gone", job.artifact("gone"))
            return
        if how == "bug in a while":
            import time
            time.sleep(0.7)
        raise RuntimeError("a bug")
    """
    ),
    "hoarding": (
        """
        with open(job.paths.folder / "hoard", "wb") as hoard:
            while True:
                hoard.write(bytes(65536))
    """
    ),
    "hungry": (
        """
        import time
        while not (job.paths.folder / "go").exists():
            time.sleep(0.02)
        eaten = [bytearray(b"x" * 8_000_000) for _ in range(100)]
    """
    ),
    "telling": (
        """
        import os, time
        from remote.payload.job import StageFailed
        from remote.contract.job.jobs import Cause
        print("the token is " + os.environ["TOKEN"], flush=True)
        while job.option("patient") and not (job.paths.folder / "go").exists():
            time.sleep(0.02)
        raise StageFailed(Cause.DATA, "refused", "with " + os.environ["TOKEN"])
    """
    ),
}


class FakeTransport(LocalTransport):
    """A box that is a folder, with HOME there; it keeps the `commands` that it ran."""

    def __init__(
        self,
        home: Path,
        where: str = "box fake (a folder)",
        environment: dict[str, str] | None = None,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        super().__init__(home, where, {**os.environ, "HOME": str(home), **(environment or {})})
        self.commands: list[str] = []

    def open(
        self,
        command: str,
        stdin: Stdin = b"",
        timeout: float | None = None,
        silence: float | None = None,
    ) -> LocalStream:
        self.commands.append(command)
        return super().open(command, stdin, timeout, silence)


def code_tree(folder: Path) -> Path:
    """A copy of the box's code with the stages above."""
    shutil.copytree(
        CODE / "remote", folder / "remote", ignore=shutil.ignore_patterns("__pycache__", "control")
    )
    for name, body in STAGES.items():
        write_stage(folder, name, body)
    return folder


def write_stage(code: Path, name: str, body: str) -> None:
    """Add a stage to a copy of the code: the lines of its `main(job)`."""
    main = textwrap.indent(textwrap.dedent(body), "    ")
    text = (
        f"from remote.payload.job import run_stage\ndef main(job):{main}\nif __name__ =="
        ' "__main__":\n    run_stage(main)\n'
    )
    (code / "remote/payload/stages" / f"{name}.py").write_text(text)


def with_small_parts(code: Path, size: int) -> Path:
    """The same code tree, whose logs are rotated at so many bytes."""
    place = code / "remote/contract/logs/job_log.py"
    text = place.read_text()
    assert "PART_BYTES = 64 * 1024 * 1024" in text
    place.write_text(text.replace("PART_BYTES = 64 * 1024 * 1024", f"PART_BYTES = {size}"))
    return code


def deploy_stages(transport: Transport, code: Path, root: str = "windlass") -> str:
    """Put the code tree on a box without making any environment; returns the digest."""
    release = build_release([], code)
    requirements = code / "no-requirements.txt"
    requirements.write_text("")
    mark_environment(transport, requirements, root)
    deploy(transport, root, release, lambda line: None, requirements=str(requirements))
    return release.digest


def mark_environment(transport: Transport, requirements: Path, root: str = "windlass") -> None:
    """Let the box believe that the environment of `requirements` is made: seconds saved where a
    test is about something else."""
    script = f"""
import sys
sys.path.insert(0, {str(CODE)!r})
from pathlib import Path
from remote.payload import environment
requirements = Path({str(requirements)!r})
folder = Path.home() / {root!r} / "shared/environments" / environment.key_of(requirements, environment.flavour())
(folder / "venv/bin").mkdir(parents=True, exist_ok=True)
(folder / environment.MARKER).write_text("{{}}")
if not (folder / "venv/bin/python").exists():
    (folder / "venv/bin/python").symlink_to(sys.executable)
"""
    answer = transport.exec("python3 -", script.encode())
    assert answer.exit_code == 0, answer.stderr


def folder_box(home: Path) -> FakeTransport:
    """A box in a folder, whose `python3` is the one that runs the tests."""
    return FakeTransport(
        home, environment={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    )


def spec(
    digest: str, stage: str, job_id: str = "job-1", run_id: str = "", **options: object
) -> JobSpec:
    """A job that runs one of the stages above with the box's own Python."""
    return JobSpec(job_id, stage, digest, run_id, environment=None, options=dict(options))


@dataclass
class Sshd:
    """A real sshd of the calling user, alone in its folder."""

    folder: Path
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    options: tuple[str, ...] = field(default=())
    host: str = "127.0.0.1"
    inside: tuple[str, ...] = ()
    """The words that run a command where `host` is: in a network namespace."""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def key(self) -> Path:
        return self.folder / "client"

    @property
    def host_key_line(self) -> str:
        return (self.folder / "host.pub").read_text()

    def prepare(self) -> "Sshd":
        self.home.mkdir(parents=True)
        for name in ("host", "client"):
            make_key(self.folder / name)
        shutil.copyfile(self.folder / "client.pub", self.folder / "authorized")
        return self

    def start(self) -> "Sshd":
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        config = self.folder / "config"
        config.write_text(
            "\n".join(
                (
                    *self.options,  # sshd takes the first word on a matter
                    f"ListenAddress {self.host}:{self.port}",
                    f"HostKey {self.folder}/host",
                    f"AuthorizedKeysFile {self.folder}/authorized",
                    "StrictModes no",
                    "UsePAM no",
                    f"PidFile {self.folder}/pid",
                    "MaxStartups 200:30:400",
                    "MaxSessions 100",
                    f"SetEnv HOME={self.home} WINDLASS_TEST_BOX={self.folder}",
                    "PasswordAuthentication no",
                )
            )
        )
        assert SSHD is not None
        with (self.folder / "sshd.log").open("ab") as log:
            words = [*self.inside, SSHD, "-D", "-e", "-f", str(config)]
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await()
        return self

    def stop(self) -> None:
        """End the listener and every session of it, as a crash would."""
        if self.process is not None:
            for pid in descendants(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            self.process = None

    def cut(self) -> int:
        """Kill the sessions but not the listener: a lost connection. Returns how many."""
        assert self.process is not None
        sessions = children(self.process.pid)
        for pid in sessions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(sessions)

    def address(self, **changes: object) -> Address:
        facts: dict[str, object] = {
            "name": "demo",
            "id": "i-0test",
            "host": self.host,
            "port": self.port,
            "user": _me(),
            "key": self.key,
            "alias": "i-0test",
        }
        return Address(**{**facts, **changes})  # type: ignore[arg-type]

    def transport(self, **changes: object) -> SshTransport:
        return SshTransport(self.address(**changes), lambda alias: [self.host_key_line])

    def _await(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((self.host, self.port), timeout=1) as link,
            ):
                if link.recv(4) == b"SSH-":
                    return
            time.sleep(0.02)
        raise AssertionError((self.folder / "sshd.log").read_text())


@contextlib.contextmanager
def running_sshd(folder: Path, *options: str, **place: Any) -> Iterator[Sshd]:
    """A real sshd for the length of a block; nothing of it is left. `place`: its `host`, and what
    runs it `inside`."""
    box = Sshd(folder, options=options, **place).prepare().start()
    try:
        yield box
    finally:
        box.stop()
        for pid in marked(f"WINDLASS_TEST_BOX={folder}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def descendants(pid: int) -> list[int]:
    return [found for child in children(pid) for found in (child, *descendants(child))]


def marked(word: str) -> list[int]:
    """The processes whose environment holds `word`."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if word.encode() in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_true(condition: object, seconds: float = 20) -> None:
    """Wait for something that must come; fails when it does not."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def _me() -> str:
    import getpass

    return getpass.getuser()


def each_line(on_line: Callable[[str], object]) -> Callable[[str], None]:
    """Takes whole lines, as many as came at once, and gives them one by one."""

    def on_text(text: str) -> None:
        for line in text.split("\n"):
            on_line(line)

    return on_text
