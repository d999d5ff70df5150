"""llama.cpp's converter: out of the pinned llama-cpp-python source archive, checked, unpacked once.
Standard library only.

Of the archive's 77 MB only the converter's 2 MB of Python are kept; nothing is compiled or
installed.
"""

import contextlib
import fcntl
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from remote.contract.files import atomic, digest
from remote.contract.job.jobs import Cause
from remote.payload.gguf import package_index
from remote.payload.job import StageFailed

PROJECT, VERSION = "llama-cpp-python", "0.3.36"
ARCHIVE = f"llama_cpp_python-{VERSION}.tar.gz"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
"""Of the archive, as the index publishes it."""

TREE_SHA256 = "80590b280fea38cbccc0eb0286253b394dbb4311a254e3b4e1be1ccd13dc8831"
"""Of the unpacked part, by `tree_digest`: a damaged cache is unpacked again."""

LOCAL_ARCHIVE = "WINDLASS_LLAMA_CPP_ARCHIVE"
"""Environment variable: path of the archive on a box that reaches no index."""

_INSIDE = f"llama_cpp_python-{VERSION}/vendor/llama.cpp/"
_FILES = ("convert_hf_to_gguf.py", "LICENSE")
_FOLDERS = ("conversion/", "gguf-py/gguf/")
_MOST_BYTES = 64 << 20


def ensure(caches: Path) -> Path:
    """The folder that holds convert_hf_to_gguf.py; fetched and unpacked on the first call. Raises
    StageFailed with the remedy."""
    folder = caches / f"llama.cpp-{VERSION}-{SHA256[:12]}"
    caches.mkdir(parents=True, exist_ok=True)
    with _locked(caches / f".{folder.name}.lock"):
        if folder.is_dir() and tree_digest(folder) == TREE_SHA256:
            return folder
        archive, fetched = _archive(caches)
        _unpack(archive, folder)
        if fetched:
            archive.unlink()
    return folder


def tree_digest(folder: Path) -> str:
    """SHA-256 over the files of the unpacked converter; what Python compiled since does not
    count."""
    files = (path for path in digest.files_in(folder) if path.suffix != ".pyc")
    return digest.of_value(
        [[path.relative_to(folder).as_posix(), digest.of_file(path)] for path in files]
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # two exports on one box: the second waits and finds it unpacked
        yield


def _archive(caches: Path) -> tuple[Path, bool]:
    """The archive with the right digest, and whether it was fetched just now."""
    for given in (os.environ.get(LOCAL_ARCHIVE), caches / ARCHIVE):
        if given and Path(given).is_file():
            if digest.of_file(Path(given)) == SHA256:
                return Path(given), False
            raise _failed(
                caches, f"{given} has the SHA-256 {digest.of_file(Path(given))}, not {SHA256}"
            )
    partial = caches / f".{ARCHIVE}.{os.getpid()}.partial"
    try:
        package_index.fetch(PROJECT, ARCHIVE, SHA256, partial, package_index.configured_sources())
    except package_index.Unreachable as error:
        raise _failed(caches, str(error)) from None
    return partial, True


def _failed(caches: Path, why: str) -> StageFailed:
    place = f"https://pypi.org/project/{PROJECT}/{VERSION}/"
    remedy = (
        f"fetch {ARCHIVE} from {place} and put it on the box as {caches / ARCHIVE}, then `./inv"
        " resume`"
    )
    return StageFailed(Cause.CONFIG, f"the converter is not to be had: {ARCHIVE}", why, remedy)


def _unpack(archive: Path, folder: Path) -> None:
    with atomic.making(folder) as partial:
        with tarfile.open(archive, "r:gz") as members:
            _copy_members(members, partial)
        found = tree_digest(partial)
        if found != TREE_SHA256:
            why = f"the unpacked files have the digest {found}, not {TREE_SHA256}"
            raise StageFailed(
                Cause.ARTIFACT, f"{ARCHIVE} did not unpack to the expected files", why
            )


def _copy_members(members: tarfile.TarFile, target: Path) -> None:
    left = _MOST_BYTES
    for member in members:
        name = _wanted(member)
        content = members.extractfile(member) if name else None
        if name and content:
            left -= member.size
            if left < 0:
                raise StageFailed(
                    Cause.ARTIFACT, f"{ARCHIVE} unpacks to more than {_MOST_BYTES >> 20} MiB"
                )
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content.read())


def _wanted(member: tarfile.TarInfo) -> str | None:
    """The member's path below llama.cpp when it is a plain file of the converter; a path that
    climbs out is not."""
    if not member.isreg() or not member.name.startswith(_INSIDE):
        return None
    name = member.name.removeprefix(_INSIDE)
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        return None
    return name if name in _FILES or (name.startswith(_FOLDERS) and name.endswith(".py")) else None
