"""A release: the code of the box's side and the files a run needs, named by its content; and how it gets onto a box.

`deploy` asks once; when everything is there, that is all. Otherwise one stream carries the receiver and the archive, and
brings back the lines of making the environment.
"""

import gzip
import io
import json
import os
import shlex
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from remote.contract import digest
from remote.control.errors import ConfigError, Finding
from remote.control.project import CODE, name_of
from remote.control.transport.base import Transport
from remote.control.transport.payload import NO_PYTHON, call, no_python, on_box

REQUIREMENTS = "requirements.txt"
KEPT_RELEASES = 3

# The receiver comes first on standard input: on a fresh box there is nothing yet that could receive.
_BOOTSTRAP = 'import sys;i=sys.stdin.buffer;exec(compile(i.read(int(i.readline())),"receive.py","exec"))'


@dataclass(frozen=True)
class Member:
    """One file of a release: its name there, where it comes from, its SHA-256, whether it is executable, its size."""

    name: str
    source: Path
    sha256: str
    executable: bool
    size: int


@dataclass(frozen=True)
class Release:
    """A set of files under one digest: of names, contents and executable bits; not of times, owners or compression."""

    digest: str
    members: tuple[Member, ...]

    def write_archive(self, file: BinaryIO) -> None:
        """Write the tar.gz, the same bytes each time."""
        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0, compresslevel=6) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
            for member in self.members:
                entry = tarfile.TarInfo(member.name)
                entry.mode = 0o755 if member.executable else 0o644
                with member.source.open("rb") as content:
                    entry.size = os.fstat(content.fileno()).st_size
                    archive.addfile(entry, content)

    def archive(self) -> bytes:
        """The tar.gz in memory: for a release without large files."""
        packed = io.BytesIO()
        self.write_archive(packed)
        return packed.getvalue()


@dataclass(frozen=True)
class Deployed:
    """What `deploy` did. `environment` is the box's Python for the stages; `was_current`: nothing had to be sent or activated."""

    digest: str
    sent_bytes: int
    was_current: bool
    environment: str
    round_trips: int = 1


def build_release(files: Iterable[Path], code: Path = CODE) -> Release:
    """The release of `code` and `files` (folders with all in them), which land under `files/` by their `project.name_of`.

    Raises ConfigError for a file that is not there.
    """
    members = [_member(path.relative_to(code).as_posix(), path) for path in _code_files(code)]
    members += [_member(f"files/{name_of(path)}", path) for given in files for path in _existing(given)]
    unique = tuple(sorted({member.name: member for member in members}.values(), key=lambda member: member.name))
    return Release(_digest_of(unique), unique)


def deploy(
    transport: Transport, box_root: str, release: Release, on_line: Callable[[str], None],
    shared: str | None = None, requirements: str = REQUIREMENTS,
) -> Deployed:  # fmt: skip
    """Make `release` the current one on the box, with its Python environment. Idempotent; one round trip when nothing changed.

    `shared`: where `<root>/shared` points to instead of being a folder. Raises PreflightFailed (no Python), JobFailed (disk
    full, an environment that cannot be made), BoxUnreachable.
    """
    trips, bytes_before = transport.round_trips, transport.bytes_sent
    found = _probe(transport, box_root, release.digest, shared, requirements)
    environment = found.get("environment")
    if not environment:
        environment = _send(transport, box_root, release, on_line, shared, requirements, has_release=bool(found.get("release")))
    sent = transport.bytes_sent - bytes_before
    return Deployed(release.digest, sent, bool(found.get("current")), str(environment), transport.round_trips - trips)


def probe_command(box_root: str, release_digest: str, shared: str | None, requirements: str) -> str:
    """One question: is that release current, is its environment whole? Answers with one JSON line."""
    root, link = on_box(box_root), shlex.quote(f"releases/{release_digest}")
    check = 'import sys; sys.exit(sys.version_info < (3, 10) and "this is Python " + sys.version.split()[0])'
    place = f" --shared {shlex.quote(shared)}" if shared else ""
    find = f"exec python3 -m remote.payload.environment find {shlex.quote(requirements)}{place}"
    return (
        f'if cd -- {root} 2>/dev/null && [ "$(readlink current)" = {link} ]; then cd -P current && PYTHONPATH="$PWD" {find}; fi; '
        f"python3 -c {shlex.quote(check)} || exit {NO_PYTHON}; "
        f"if [ -d {link} ]; then echo '{{\"done\": {{\"release\": true}}}}'; else echo '{{\"done\": {{}}}}'; fi"
    )


def receive_command(box_root: str, release_digest: str, shared: str | None, requirements: str) -> str:
    """The command that reads the receiver and the archive from standard input."""
    words = " ".join(shlex.quote(word) for word in (release_digest, str(KEPT_RELEASES), requirements))
    return f"exec python3 -c {shlex.quote(_BOOTSTRAP)} {words} {on_box(box_root)} {shlex.quote(shared or '')}"


def _probe(transport: Transport, box_root: str, release_digest: str, shared: str | None, requirements: str) -> dict[str, object]:
    answer = transport.exec(probe_command(box_root, release_digest, shared, requirements))
    if answer.exit_code == NO_PYTHON:
        raise no_python(transport.where, answer.complaint)
    for line in answer.text.splitlines():
        if line.startswith("{"):
            found: dict[str, object] = json.loads(line).get("done", {})
            return found
    return {}


def _send(
    transport: Transport, box_root: str, release: Release, on_line: Callable[[str], None],
    shared: str | None, requirements: str, has_release: bool,
) -> str:  # fmt: skip
    receiver = (CODE / "remote/payload/receive.py").read_bytes()
    with tempfile.TemporaryFile() as package:
        package.write(b"%d\n" % len(receiver) + receiver)
        if not has_release:
            release.write_archive(package)
        package.seek(0)
        done = call(transport, receive_command(box_root, release.digest, shared, requirements), package, on_line)
    return str(done["environment"])


def _code_files(code: Path) -> list[Path]:
    folders = (code / "remote/contract", code / "remote/payload")
    files = [path for folder in folders for path in digest.files_in(folder) if _travels(path)]
    return [code / "remote/__init__.py", *files]


def _travels(path: Path) -> bool:
    return "__pycache__" not in path.parts and not path.name.startswith(".") and path.suffix != ".pyc"


def _member(name: str, source: Path) -> Member:
    return Member(name, source, digest.of_file(source), os.access(source, os.X_OK), source.stat().st_size)


def _digest_of(members: Iterable[Member]) -> str:
    return digest.of_bytes("".join(f"{member.sha256} {'x' if member.executable else '-'} {member.name}\n" for member in members).encode())


def _existing(path: Path) -> list[Path]:
    if path.is_dir():
        return digest.files_in(path)
    if not path.is_file():
        raise ConfigError([Finding(str(path), "no such file", "a file to send to the box", "name one that exists")])
    return [path]
