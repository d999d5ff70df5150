"""Where the rope is measured: one sshd, near (loopback) or far (a namespace behind a wire of 50
ms), and the ways into it."""

import contextlib
import getpass
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.control.cloud.box import Box
from remote.control.transport.over_ssh import SshTransport
from tests.integration import boxes, links

ROOT = Path(__file__).resolve().parents[2]
FILES, BYTES = 300, 3_000_000
"""What a first push carries."""
HANDSHAKE_ROUND_TRIPS = 6
"""TCP; identification and key exchange offers; the key exchange; the service; the login; a channel.
What runs in it is one more."""
_PROBE_BYTES = 64 << 20
_OPTIONS = ("Subsystem sftp internal-sftp",)


@dataclass
class Ground:
    """One sshd and how to get there. `bandwidth`: what one TCP connection carries towards the
    laptop, in bytes a second."""

    folder: Path
    sshd: boxes.Sshd
    rtt: float
    wire: links.Wire | None
    bandwidth: float = 0.0
    names: list[str] = field(default_factory=lambda: [f"box-{number}" for number in range(64)])

    @property
    def title(self) -> str:
        """The distance in words."""
        return f"{self.rtt * 1000:.0f} ms"

    @property
    def home(self) -> Path:
        """The home folder on the box, which is on this machine's disk."""
        return self.sshd.home

    @property
    def config(self) -> Path:
        """A configuration for OpenSSH in which the box is called `box`, and also `box-0` to
        `box-63`."""
        return self.folder / "ssh_config"

    @property
    def ssh(self) -> list[str]:
        """The words before a host's name."""
        return ["ssh", "-F", str(self.config)]

    def floor(self, round_trips: float, size: float = 0.0, cold: bool = True) -> float:
        """Seconds that no SSH can go below that waits for each answer: so many round trips after
        the login, `size` bytes over the measured bandwidth."""
        return (
            self.rtt * (round_trips + (HANDSHAKE_ROUND_TRIPS if cold else 0))
            + size / self.bandwidth
        )

    def transport(self) -> SshTransport:
        """Ours; the connection is made with the first command."""
        return self.sshd.transport()

    def box(self, name: str = "box", root: str = "windlass") -> Box:
        """The box as the inventory would give it."""
        return Box(
            name,
            "static",
            "",
            "running",
            self.sshd.host,
            self.sshd.port,
            getpass.getuser(),
            self.sshd.key,
            name,
            "",
            "",
            root,
            None,
            None,
            None,
        )

    def inventory(self, folder: Path, root: str = "windlass", fleet: int = 0) -> Path:
        """A project folder whose inventory has `box`, and so many more as the group `fleet`."""
        folder.mkdir(exist_ok=True)
        key = " ".join(self.sshd.host_key_line.split()[:2])
        facts = (
            f"provider: static, host: {self.sshd.host}, port: {self.sshd.port}, user:"
            f" {getpass.getuser()}, root: {root}"
        )
        lines = [
            f"  {name}: {{{facts}, ssh_key: {self.sshd.key}, host_key: {key}}}"
            for name in ("box", *self.names[:fleet])
        ]
        groups = [f"groups: {{fleet: [{', '.join(self.names[:fleet])}]}}"] if fleet else []
        (folder / "inventory.yaml").write_text(
            "\n".join(["default_box: box", "boxes:", *lines, *groups]) + "\n"
        )
        return folder

    def mark(self, tree: Path, root: str) -> None:
        """Let the box believe that the environment of the code's requirements is made: pip is not
        what is measured."""
        with self.transport() as transport:
            boxes.mark_environment(transport, tree / "remote/payload/requirements.txt", root)

    def write_config(self) -> None:
        """Make `config` and the known_hosts beside it."""
        place = f"[{self.sshd.host}]:{self.sshd.port}"
        (self.folder / "known_hosts").write_text(
            f"{place} {' '.join(self.sshd.host_key_line.split()[:2])}\n"
        )
        self.config.write_text(
            f"Host box box-*\n  HostName {self.sshd.host}\n  Port {self.sshd.port}\n  User"
            f" {getpass.getuser()}\n  IdentityFile {self.sshd.key}\n  IdentitiesOnly yes\n "
            f" UserKnownHostsFile {self.folder}/known_hosts\n  StrictHostKeyChecking yes\n "
            " BatchMode yes\n  LogLevel ERROR\n"
        )


@contextlib.contextmanager
def near(folder: Path) -> Iterator[Ground]:
    """The sshd on loopback."""
    folder.mkdir()
    with boxes.running_sshd(folder / "sshd", *_OPTIONS) as sshd:
        yield _measured(Ground(folder, sshd, 0.0, None))


@contextlib.contextmanager
def far(folder: Path, rtt: float) -> Iterator[Ground]:
    """The sshd in a namespace, `rtt` seconds away there and back."""
    folder.mkdir()
    with links.wire(rtt) as wire, links.sshd_behind(wire, folder / "sshd", *_OPTIONS) as sshd:
        yield _measured(Ground(folder, sshd, rtt, wire))


def _measured(ground: Ground) -> Ground:
    ground.write_config()
    ground.bandwidth = max(_tcp(ground) for _ in range(2))
    return ground


def _tcp(ground: Ground) -> float:
    """Bytes a second of one bare TCP connection from the box to here, its slow start included."""
    serve = (
        "import socket, sys; l = socket.create_server((sys.argv[1], 0)); print(l.getsockname()[1],"
        " flush=True); c, _ = l.accept()\n"
    )
    serve += f"c.sendall(bytes({_PROBE_BYTES}))"
    inside = ground.wire.inside if ground.wire else ()
    server = subprocess.Popen(
        [*inside, sys.executable, "-c", serve, ground.sshd.host], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    with (
        server,
        socket.create_connection((ground.sshd.host, int(server.stdout.readline()))) as link,
    ):
        began, got = time.perf_counter(), 0
        while chunk := link.recv(1 << 20):
            got += len(chunk)
        return got / (time.perf_counter() - began)


def padded_code(folder: Path) -> tuple[Path, Path]:
    """A copy of the code whose release is exactly FILES files of BYTES bytes, and a folder with
    just those files for the peers."""
    tree, sent = folder / "tree", folder / "sent"
    shutil.copytree(
        ROOT / "remote", tree / "remote", ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    shutil.copy2(ROOT / "tasks.py", tree)
    travels = [
        tree / "remote/__init__.py",
        *(tree / "remote/contract").rglob("*"),
        *(tree / "remote/payload").rglob("*"),
    ]
    files = [path for path in travels if path.is_file()]
    _pad(
        tree / "remote/payload/padding",
        FILES - len(files),
        BYTES - sum(path.stat().st_size for path in files),
    )
    for path in (*files, *(tree / "remote/payload/padding").iterdir()):
        target = sent / path.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return tree, sent


def _pad(folder: Path, count: int, size: int) -> None:
    """Files that compress as code does: lines of words out of the standard library's own
    sources."""
    folder.mkdir()
    source = b"".join(
        path.read_bytes() for path in sorted(Path(contextlib.__file__).parent.glob("[a-p]*.py"))
    )
    at = 0
    for number in range(count):
        length = size // count + (1 if number < size % count else 0)
        (folder / f"text{number:03}.txt").write_bytes(source[at : at + length])
        at += length


def seconds(work: Any) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
