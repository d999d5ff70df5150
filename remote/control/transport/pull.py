"""Bring an artifact home: verified by SHA-256 and safetensors header, resumed where it broke off, never taken half for whole."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from remote.contract import atomic, digest, disk, safetensors
from remote.contract.jobs import Artifact, Cause
from remote.control.errors import ArtifactCorrupt, BoxUnreachable, JobFailed
from remote.control.transport.base import Stream, Transport, last_lines
from remote.control.transport.payload import NOT_DEPLOYED, payload_command

PIECE_BYTES = 1 << 20
SILENCE_SECONDS = 60.0

OnBytes = Callable[[int], None]


def pull(transport: Transport, box_root: str, artifact: Artifact, destination: Path, on_bytes: OnBytes | None = None) -> Path:
    """Pull `artifact` to the path `destination`, its final name (a file put into an existing folder keeps its own name).

    What is already there and whole is not sent again; what broke off goes on. `on_bytes` gets the bytes that are here so far. Raises
    ArtifactCorrupt when it does not verify, BoxUnreachable when the connection is lost (the part is kept).
    """
    if destination.is_dir() and not artifact.is_folder:
        destination = destination / PurePosixPath(artifact.path).name
    if is_whole(destination, artifact):
        return destination
    partial = destination.with_name(f".{destination.name}.{artifact.sha256[:12]}.partial")
    resumed = partial.exists()
    destination.parent.mkdir(parents=True, exist_ok=True)
    _fetch(transport, box_root, artifact, partial, on_bytes or (lambda done: None))
    problem = _problem(partial, artifact)
    if problem and resumed:  # what an earlier attempt left may be damaged: once more, from the start
        _remove(partial)
        _fetch(transport, box_root, artifact, partial, on_bytes or (lambda done: None))
        problem = _problem(partial, artifact)
    if problem:
        _remove(partial)
        raise _corrupt(transport, artifact, problem)
    _settle(partial, destination)
    return destination


def is_whole(path: Path, artifact: Artifact) -> bool:
    """Whether `path` is that artifact, bit for bit."""
    if not path.exists() or path.is_dir() != artifact.is_folder or digest.size_of(path) != artifact.size:
        return False
    return digest.of_path(path) == artifact.sha256


def _fetch(transport: Transport, box_root: str, artifact: Artifact, partial: Path, on_bytes: OnBytes) -> None:
    have = _have(partial, artifact)
    missing = artifact.size - sum(have.values())
    _need_space(partial, missing)
    question = json.dumps({"path": artifact.path, "have": have}).encode()
    command = payload_command(box_root, "send")
    try:
        with transport.open(command, question, silence=SILENCE_SECONDS, expect=missing) as stream:
            _take_all(_Incoming(stream, transport), artifact, partial, on_bytes)
    except BoxUnreachable as error:
        done = digest.size_of(partial) if partial.exists() else 0
        error.kept = f"{done:,} of {artifact.size:,} bytes are kept; the same command goes on there"
        raise
    except OSError as error:
        if not disk.is_full(error):
            raise
        raise _no_space(partial, artifact.size) from None


def _take_all(incoming: "_Incoming", artifact: Artifact, partial: Path, on_bytes: OnBytes) -> None:
    done = 0
    if artifact.is_folder:
        partial.mkdir(exist_ok=True)
    while not (header := incoming.header()).get("end"):
        target = partial / _safe(header["name"]) if artifact.is_folder else partial
        done += header["offset"]
        if done + header["size"] > artifact.size:
            raise _corrupt(incoming.transport, artifact, f"the box sends more than the {artifact.size:,} bytes it spoke of")
        for piece in _write(incoming, target, header["offset"], header["size"]):
            done += piece
            on_bytes(done)


def _write(incoming: "_Incoming", target: Path, offset: int, size: int) -> Iterator[int]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("r+b" if target.exists() else "w+b") as file:
        file.truncate(offset)
        file.seek(offset)
        for piece in incoming.content(size):
            file.write(piece)
            yield len(piece)
        file.flush()
        os.fsync(file.fileno())


class _Incoming:
    """Headers and contents out of a stream of chunks."""

    def __init__(self, stream: Stream, transport: Transport) -> None:
        self.transport = transport
        self._stream, self._chunks, self._rest = stream, iter(stream), b""

    def header(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            self._rest += self._next()
        line, self._rest = self._rest.split(b"\n", 1)
        header: dict[str, Any] = json.loads(line)
        if "error" in header:
            words = header["error"]
            raise ArtifactCorrupt(words["what"], where=self.transport.where, remedy=words["remedy"])
        return header

    def content(self, size: int) -> Iterator[bytes]:
        while size:
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            if piece:
                yield piece
            if size:
                self._rest = self._next()

    def _next(self) -> bytes:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise _broken_off(self.transport.where, self._stream)
        return chunk


def _broken_off(where: str, stream: Stream) -> BoxUnreachable | JobFailed:
    why = f"exit code {stream.exit_code}: {last_lines(stream.stderr)}"
    if stream.exit_code in (NOT_DEPLOYED, 1):
        remedy = "`./inv deploy`, then the same command"
        return JobFailed("the box cannot send artifacts", cause=Cause.CODE, where=where, why=why, remedy=remedy)
    return BoxUnreachable(f"the artifact from {where} broke off", where=where, why=why, remedy="run the same command again")


def _have(partial: Path, artifact: Artifact) -> dict[str, int]:
    if not partial.exists():
        return {}
    if not artifact.is_folder:
        return {"": partial.stat().st_size}
    return {file.relative_to(partial).as_posix(): file.stat().st_size for file in digest.files_in(partial)}


def _problem(partial: Path, artifact: Artifact) -> str:
    found = digest.of_path(partial)
    if found != artifact.sha256:
        return f"SHA-256 is {found}, expected {artifact.sha256}"
    for file in digest.files_in(partial) if partial.is_dir() else [partial]:
        if PurePosixPath(file.name if partial.is_dir() else artifact.path).suffix == ".safetensors":
            try:
                safetensors.check(file)
            except ValueError as error:
                return f"{file.name}: {error}"
    return ""


def _settle(partial: Path, destination: Path) -> None:
    if destination.is_dir():
        aside = destination.with_name(f".{destination.name}.{os.getpid()}.old")
        destination.rename(aside)
        partial.rename(destination)
        shutil.rmtree(aside)
    else:
        partial.replace(destination)
    atomic.sync_folder(destination.parent)


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ArtifactCorrupt(f"the box names a file that leads out of the artifact: {name!r}")
    return name


def _need_space(partial: Path, size: int) -> None:
    if shutil.disk_usage(partial.parent).free < size:
        raise _no_space(partial, size)


def _no_space(partial: Path, size: int) -> JobFailed:
    return JobFailed(
        "this laptop's disk is full", cause=Cause.DISK_FULL, where=str(partial.parent), why=f"{size:,} bytes are needed",
        remedy="free space, then run the same command again", kept="what has arrived",
    )  # fmt: skip


def _corrupt(transport: Transport, artifact: Artifact, why: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(
        f"{artifact.path} does not verify", where=transport.where, why=why,
        remedy="run the same command again; should it stay so, it is damaged on the box: `./inv run PLAYBOOK` makes it anew",
        kept="nothing bears its name",
    )  # fmt: skip


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
