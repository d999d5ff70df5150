"""One instance as a machine: a disk folder, an SSH server, user-data, a console.

User-data is treated as cloud-init treats it: a `#!` script runs beside the first boot; what begins
with `#cloud-boothook` runs at every boot, less that line and by the `#!` that follows, and the boot
waits for it (here a bounded time) before SSH answers.

```
<cloud>/instances/<id>/
  disk/            the box's home: kept by stop and start, gone with terminate
  console.log      what GetConsoleOutput tells
  machine.json     where it listens, its server process, whether it ever booted
  environment enter bin/ sshd_config ssh.log    made anew at every boot
```
"""

import contextlib
import getpass
import gzip
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from remote.contract.files import atomic, typed, untrusted_json
from remote.contract.job import surroundings
from remote.control import daemon, processes
from remote.control.cloud.access.waiting import speaks_ssh
from remote.control.errors import CloudError
from remote.control.project import CODE
from remote.embedded.instances import asyncssh_server, disk, guest, openssh

SSH_SERVER = "WINDLASS_SSH_SERVER"
"""Set to `asyncssh_server` to do without OpenSSH's sshd, as on a machine that has none."""

_CONSOLE_BYTES = 64 * 1024
_BOOTHOOK = b"#cloud-boothook"
_BOOTHOOK_SECONDS = 60.0


@dataclass
class Record:
    """What outlives the cloud's process: where the box listens, and which process serves it."""

    host: str = ""
    port: int = 0
    server_pid: int = 0
    server_start: str | None = None
    booted: bool = False

    @classmethod
    def read(cls, path: Path) -> "Record":
        """The record, or a new one where there is none."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return typed.read(cls, untrusted_json.read_object(path))
        return cls()

    def server_alive(self) -> bool:
        """Whether that very server process still runs."""
        return (
            self.server_start is not None
            and daemon.start_time_of(self.server_pid) == self.server_start
        )


@dataclass(frozen=True)
class Signs:
    """What ails a machine, as far as it must do something for it."""

    strange_host_key: bool = False
    full_disk: bool = False


@dataclass
class Machine:
    """One instance. `boot`, `halt` and `erase` are for its one line of work: submit them, and they
    happen in that order."""

    id: str
    folder: Path
    region: str
    cloud_url: str
    tokens: set[str] = field(default_factory=set)
    work: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(max_workers=1))
    booted_at: float = 0.0
    _signs: Signs = Signs()
    _children: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _timer: threading.Timer | None = None

    def __post_init__(self) -> None:
        self.record = Record.read(self.folder / "machine.json")

    @property
    def disk(self) -> Path:
        """The box's home."""
        return self.folder / "disk"

    @property
    def console_log(self) -> Path:
        """The whole console."""
        return self.folder / "console.log"

    def console(self) -> bytes:
        """The console's last 64 KiB, as on EC2."""
        with contextlib.suppress(FileNotFoundError), open(self.console_log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _CONSOLE_BYTES))
            return file.read()
        return b""

    def address(self) -> dict[str, object]:
        """Where and as whom to log in."""
        user = getpass.getuser()
        return {
            "host": self.record.host,
            "port": self.record.port,
            "user": user,
            "disk": str(self.disk),
            "log": str(self.console_log),
        }

    def boot(
        self, public_key: str, user_data: bytes, signs: Signs = Signs(), hangs: bool = False
    ) -> None:
        """Bring the machine up; returns when SSH answers. Raises CloudError when it never does.

        A first boot makes the host key, admits `public_key`, and runs `user_data`. Where user-data
        `hangs` it does its work and never
        ends: a boothook keeps SSH from ever answering.
        """
        self.disk.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.booted_at = time.time()
        self._print(f"[    0.000000] Windlass embedded cloud: {self.id} boots on {platform.node()}")
        environment = guest.prepare(self.folder, self.id, self.region, self.cloud_url)
        first = not self.record.booted
        if first:
            self._first_boot(public_key)
            self._save(booted=True)
        self._signs = Signs(
            strange_host_key=signs.strange_host_key, full_disk=disk.is_full(self.disk)
        )
        self.show(signs)
        script = _unpacked(user_data)
        self._run_user_data(script, environment, first)
        if hangs and script:
            self._print("cloud-init: user-data hangs")
            if script.startswith(_BOOTHOOK):
                host, port = free_address(self.id)
                self._save(host=host, port=port)
                return
        self._start_ssh_server()
        self._print(host_key_block(self._host_key.with_suffix(".pub").read_text(), self.id))

    def show(self, signs: Signs) -> None:
        """From now on show these signs, and no others."""
        before, self._signs = self._signs, signs
        if signs.full_disk != before.full_disk:
            members = processes.members(processes.INSTANCE, self.id) - {self.record.server_pid}
            self._print(
                disk.fill(self.disk, members) if signs.full_disk else "the disk has room again"
            )
            if not signs.full_disk:
                disk.free(self.disk, members)
        if signs.strange_host_key != before.strange_host_key and self.record.server_alive():
            self._restart_ssh_server()

    def halt(self, grace_seconds: float) -> None:
        """End every process of the machine."""
        self.cancel_timer()
        # A child already waited for is left out: its pid may be another's by now.
        groups = {child.pid for child in self._children if child.returncode is None}
        if self.record.server_alive():
            groups.add(self.record.server_pid)
        left = processes.end(processes.INSTANCE, self.id, groups, grace_seconds)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=1)
        self._children.clear()
        self.tokens.clear()
        if self.folder.exists():
            self._save(server_pid=0, server_start=None, port=0)
            self._print(
                "[  OK  ] Reached target"
                f" Power-Off{f'; still there: {sorted(left)}' if left else ''}"
            )

    def erase(self) -> None:
        """Remove the disk and all else, once halted."""
        disk.free(self.disk, ())
        shutil.rmtree(self.folder, ignore_errors=True)

    def call_later(self, minutes: float, action: Callable[[], None]) -> None:
        """Have `action()` called after `minutes`, unless the timer is set anew or cancelled."""
        self.cancel_timer()
        self._timer = threading.Timer(minutes * 60, action)
        self._timer.daemon = True
        self._timer.start()

    def cancel_timer(self) -> None:
        """Forget a planned shutdown."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    @property
    def _host_key(self) -> Path:
        return self.disk / ".host" / "ssh_host_ed25519_key"

    @property
    def _shown_host_key(self) -> Path:
        """The key that SSH shows: a strange one is never vouched for by the console."""
        if not self._signs.strange_host_key:
            return self._host_key
        strange = self.folder / "strange_host_key"
        if not strange.exists():
            make_host_key(strange)
        return strange

    @property
    def _authorized_keys(self) -> Path:
        return self.disk / ".ssh" / "authorized_keys"

    def _first_boot(self, public_key: str) -> None:
        make_host_key(self._host_key)
        self._authorized_keys.parent.mkdir(mode=0o700, exist_ok=True)
        atomic.write_text(self._authorized_keys, public_key.strip() + "\n", mode=0o600)
        atomic.write_text(
            self.disk / ".profile", '[ -z "$WINDLASS_ENVIRONMENT" ] || . "$WINDLASS_ENVIRONMENT"\n'
        )

    def _run_user_data(self, user_data: bytes, environment: dict[str, str], first: bool) -> None:
        if user_data.startswith(_BOOTHOOK):
            self._wait_for_boothook(
                self._start_script(user_data.partition(b"\n")[2].lstrip(), "boothook", environment)
            )
        elif not first or not user_data:
            return
        elif user_data.startswith(b"#!"):
            child = self._start_script(user_data, "user-data", environment)
            threading.Thread(target=self._report_user_data, args=(child,), daemon=True).start()
        else:
            self._print(
                "cloud-init: user-data is no script (its first line must begin with #! or be"
                " #cloud-boothook); ignored"
            )

    def _start_script(
        self, script: bytes, name: str, environment: dict[str, str]
    ) -> "subprocess.Popen[bytes]":
        path = self.folder / name
        atomic.write_bytes(path, script, mode=0o700)
        interpreter = (
            script.splitlines()[0][2:].decode().split(None, 1)
            if script.startswith(b"#!")
            else ["/bin/sh"]
        )
        return self._spawn(
            [*interpreter, str(path)],
            {**environment, "INSTANCE_ID": self.id},
            self.console_log,
            self.disk,
        )

    def _wait_for_boothook(self, child: "subprocess.Popen[bytes]") -> None:
        try:
            self._print(
                f"cloud-init: boothook ended with exit code {child.wait(_BOOTHOOK_SECONDS)}"
            )
        except subprocess.TimeoutExpired:
            self._print(
                f"cloud-init: boothook still runs after {_BOOTHOOK_SECONDS:.0f} s; the boot goes on"
            )

    def _report_user_data(self, child: "subprocess.Popen[bytes]") -> None:
        code = child.wait()
        if self.folder.exists():
            self._print(f"cloud-init: user-data ended with exit code {code}")

    def _start_ssh_server(self) -> None:
        complaints = []
        for kind in _ssh_servers():
            for _ in range(3):  # another process may take the port first
                complaint = self._try_ssh_server(kind, *free_address(self.id))
                if not complaint:
                    return
                complaints.append(f"{kind.__name__.rpartition('.')[2]}: {complaint}")
        why = " | ".join(complaints)
        raise CloudError(
            "the SSH server did not start",
            where=f"instance {self.id}",
            why=why,
            remedy=f"read {self.folder}/ssh.log",
        )

    def _restart_ssh_server(self) -> None:
        """With connections, and jobs, left as they are; at the same address."""
        kind, host, port = _ssh_servers()[0], self.record.host, self.record.port
        server = next(
            (child for child in self._children if child.pid == self.record.server_pid), None
        )
        os.kill(self.record.server_pid, signal.SIGKILL)
        if server:
            server.wait()
        if complaint := self._try_ssh_server(kind, host, port):
            raise CloudError(
                "the SSH server did not start again", where=f"instance {self.id}", why=complaint
            )

    def _try_ssh_server(self, kind: ModuleType, host: str, port: int) -> str:
        """Start one and wait for its greeting; returns nothing, or why it did not come."""
        command = kind.command(self.folder, host, port, self._shown_host_key, self._authorized_keys)
        mark = {processes.INSTANCE: self.id, processes.CLOUD: str(self.folder.parents[1])}
        child = self._spawn(
            command, {**surroundings.passed_on(os.environ), **mark}, self.folder / "ssh.log", CODE
        )
        self._save(
            host=host, port=port, server_pid=child.pid, server_start=daemon.start_time_of(child.pid)
        )
        deadline = time.monotonic() + 20
        while child.poll() is None and time.monotonic() < deadline:
            if speaks_ssh(host, port):
                return ""
            time.sleep(0.01)
        ended = (
            f"ended with exit code {child.returncode}"
            if child.returncode is not None
            else "did not answer in time"
        )
        child.kill()
        said = (self.folder / "ssh.log").read_text(errors="replace").strip()
        return f"{ended}: {said.rpartition(chr(10))[2]}"

    def _spawn(
        self, command: list[str], environment: dict[str, str], output: Path, cwd: Path
    ) -> "subprocess.Popen[bytes]":
        with open(output, "ab") as log:
            child = subprocess.Popen(
                command,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def _save(self, **changes: Any) -> None:
        self.record = Record(**{**asdict(self.record), **changes})
        atomic.write_json(self.folder / "machine.json", asdict(self.record))

    def _print(self, text: str) -> None:
        with open(self.console_log, "a") as console:
            console.write(text.rstrip("\n") + "\n")


def _unpacked(user_data: bytes) -> bytes:
    """User-data may be compressed with gzip, as for cloud-init."""
    return gzip.decompress(user_data) if user_data.startswith(b"\x1f\x8b") else user_data


def sweep(cloud_folder: Path) -> set[int]:
    """End every process of every instance of a cloud whose own process is gone. Returns what could
    not be ended."""
    records = [Record.read(path) for path in cloud_folder.glob("instances/*/machine.json")]
    groups = {record.server_pid for record in records if record.server_alive()}
    left = processes.end(processes.CLOUD, str(cloud_folder), groups)
    for box in cloud_folder.glob("instances/*"):
        disk.free(box / "disk", ())
    return left


def host_key_block(public_key: str, instance_id: str) -> str:
    """What cloud-init prints on the console: fingerprints and public host keys between their
    markers."""
    import base64
    import hashlib

    kind, key, *_ = public_key.split()
    fingerprint = (
        base64.b64encode(hashlib.sha256(base64.b64decode(key)).digest()).decode().rstrip("=")
    )
    return f"""\
<14>cloud-init: #############################################################
<14>cloud-init: -----BEGIN SSH HOST KEY FINGERPRINTS-----
<14>cloud-init: 256 SHA256:{fingerprint} root@{instance_id} (ED25519)
<14>cloud-init: -----END SSH HOST KEY FINGERPRINTS-----
<14>cloud-init: #############################################################
-----BEGIN SSH HOST KEY KEYS-----
{kind} {key} root@{instance_id}
-----END SSH HOST KEY KEYS-----
"""


def make_host_key(path: Path) -> None:
    """An ed25519 key pair in OpenSSH's format at `path` and `path`.pub."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write_bytes(path, private, mode=0o600)
    atomic.write_bytes(path.with_suffix(".pub"), public + b"\n")


def free_address(instance_id: str) -> tuple[str, int]:
    """A loopback address that stays the instance's own where the system has more than one, and a
    port free just now."""
    number = zlib.crc32(instance_id.encode())
    own = f"127.77.{number % 256}.{number // 256 % 254 + 1}"
    for host in (own, "127.0.0.1"):
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind((host, 0))
            return host, trial.getsockname()[1]
    raise CloudError("no free port on the loopback address", where="this machine")


def _ssh_servers() -> list[ModuleType]:
    with_openssh = os.environ.get(SSH_SERVER) != "library" and openssh.binary() is not None
    return [openssh, asyncssh_server] if with_openssh else [asyncssh_server]


if __name__ == "__main__":
    if left := sweep(Path(sys.argv[1])):
        sys.exit(f"pids {sorted(left)}")
