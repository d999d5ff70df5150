"""Base models in the box's shared place: fetched once and verified, or adopted where they lie.
Standard library only.

`python3 -m remote.payload.model find` answers `{name: manifest or null}` for a JSON list of names
on standard input; `fetch` takes a `ModelFetch`, secrets and all, on standard input;
`adopt NAME FOLDER` links a folder after a look at it.
"""

import contextlib
import fcntl
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.artifacts import base_models
from remote.contract.artifacts.base_models import ModelFetch, ModelFile
from remote.contract.files import atomic, disk, untrusted_json
from remote.contract.job.checks import Verdict
from remote.contract.job.jobs import Cause
from remote.contract.job.paths import BoxPaths
from remote.payload import command, fingerprint
from remote.payload.job import StageFailed
from remote.payload.preflight.model import tokenizer_files
from remote.payload.transfer import download

AT_ONCE = 4
SPARE_BYTES = 2 << 30
"""What a disk must have left after a fetch: logs and checkpoints come next."""

_TELL_SECONDS = 5.0

Say = Callable[[str], None]
Manifest = dict[str, Any]


def find(models: Path, name: str) -> Manifest | None:
    """The manifest of a model that is there, each file as long as it says; else None."""
    folder = models / base_models.folder_name(name)
    try:
        manifest: Manifest = untrusted_json.read_object(_manifest_path(folder))
        whole = all(
            (folder / path).stat().st_size == facts["size"]
            for path, facts in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def fetch(asked: ModelFetch, models: Path, say: Say) -> Manifest:
    """Bring a model into the shared place, whole or not at all; one that is there as asked is left
    as it is. Raises StageFailed."""
    folder = models / base_models.folder_name(asked.name)
    models.mkdir(parents=True, exist_ok=True)
    with _alone(models / f".{folder.name}.lock", say):
        found = find(models, asked.name)
        if found and found["revision"] == asked.revision:
            return {**found, "was_there": True, "fetched_bytes": 0}
        partial = models / f".{folder.name}.partial"
        _start_over_if_other(partial, asked)
        there = sum(download.have(file, partial) for file in asked.files)
        _check_room(models, asked, there)
        _bring_all(asked, partial, say)
        check(partial, asked.name)
        manifest = _manifest(asked)
        _put_in_place(partial, folder, manifest)
        return {**manifest, "was_there": False, "fetched_bytes": asked.size - there}


def adopt(name: str, folder: Path, models: Path) -> Manifest:
    """Link a folder that lies on the box into the shared place, after a look at every header;
    nothing in it is changed."""
    source = folder.expanduser().absolute()
    if not source.is_dir():
        raise StageFailed(
            Cause.MODEL_MISSING,
            f"there is no folder {source} on the box",
            remedy="name a folder that is on the box",
        )
    check(source, name)
    link = models / base_models.folder_name(name)
    if link.exists() and not link.is_symlink():
        what = f"{name} is in the shared place already, as a folder of its own"
        raise StageFailed(
            Cause.CONFIG,
            what,
            str(link),
            f"on the box: `rm -r {link} {_manifest_path(link)}`, then adopt it",
        )
    models.mkdir(parents=True, exist_ok=True)
    files = [
        path for path in source.iterdir() if path.is_file() and base_models.is_wanted(path.name)
    ]
    sizes = {path.name: {"size": path.stat().st_size} for path in sorted(files)}
    manifest = {
        "name": name,
        "asked": "",
        "source": str(source),
        "revision": fingerprint.of_model(source),
        "files": sizes,
    }
    beside = link.with_name(f".{link.name}.link")
    beside.unlink(missing_ok=True)
    beside.symlink_to(source)
    os.replace(beside, link)
    atomic.write_json(_manifest_path(link), manifest)
    return manifest


def check(folder: Path, name: str) -> None:
    """Prove that a folder holds a whole, unquantised model with its tokenizer. Raises
    StageFailed."""
    fingerprint.require_base(folder)
    tokenizer = tokenizer_files(folder)
    if tokenizer.verdict is Verdict.FAIL:
        why = f"tokenizer files: {tokenizer.measured}; needed: {tokenizer.expected}"
        raise StageFailed(Cause.MODEL_MISSING, f"{name} lacks its tokenizer", why, tokenizer.remedy)


@dataclass
class _Tally:
    """Bytes on the disk so far, counted by all threads."""

    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        with self.lock:
            self.done += count


def _bring_all(asked: ModelFetch, partial: Path, say: Say) -> None:
    todo: queue.SimpleQueue[ModelFile] = queue.SimpleQueue()
    for file in sorted(
        asked.files, key=lambda file: file.size
    ):  # what is refused is refused before the long ones begin
        todo.put(file)
    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    tally, workers = _Tally(), min(AT_ONCE, len(asked.files))
    for _ in range(workers):
        # Daemons: an error in one, or a laptop that went away, ends the process at once. Their
        # parts stay, for the next time.
        threading.Thread(
            target=_work, args=(asked, partial, todo, tally, ended), daemon=True
        ).start()
    rate = _Rate(asked, tally, say)
    while workers:
        try:
            error = ended.get(timeout=_TELL_SECONDS)
        except queue.Empty:
            rate.tell()
            continue
        if error:
            raise error
        workers -= 1


def _work(asked: ModelFetch, partial: Path, todo: Any, tally: _Tally, ended: Any) -> None:
    try:
        with contextlib.suppress(queue.Empty):
            while True:
                download.bring(todo.get_nowait(), partial, asked.authorization, tally.add)
        ended.put(None)
    except Exception as error:
        ended.put(error)


class _Rate:
    """Says how far it is, and how fast it goes."""

    def __init__(self, asked: ModelFetch, tally: _Tally, say: Say) -> None:
        self._asked, self._tally, self._say = asked, tally, say
        self._at, self._done = time.monotonic(), 0

    def tell(self) -> None:
        now, done = time.monotonic(), self._tally.done
        speed = max(0, done - self._done) / (now - self._at) / 1e6
        self._at, self._done = now, done
        self._say(
            f"{self._asked.name}: {done / 1e9:.2f} of {self._asked.size / 1e9:.2f} GB, {speed:.0f}"
            " MB/s"
        )


@contextlib.contextmanager
def _alone(lock: Path, say: Say) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another setup is fetching this model: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start_over_if_other(partial: Path, asked: ModelFetch) -> None:
    """Parts of another revision are of no use."""
    mark = partial.with_name(f"{partial.name}.json")
    source = {"source": asked.source, "revision": asked.revision}
    try:
        is_same = untrusted_json.read_object(mark) == source
    except (OSError, ValueError):
        is_same = False
    if not is_same:
        shutil.rmtree(partial, ignore_errors=True)
        atomic.write_json(mark, source)
    partial.mkdir(exist_ok=True)


def _check_room(models: Path, asked: ModelFetch, there: int) -> None:
    free, needed = shutil.disk_usage(models).free, asked.size - there
    if needed + SPARE_BYTES > free:
        coming, left, spare = disk.apart(needed, free, SPARE_BYTES)
        why = f"{coming} are to come, {left} are free, and {spare} must stay free"
        remedy = (
            f"free space on the box (`df -h {models}`), or launch it anew with a larger `disk_gb:`"
        )
        raise StageFailed(
            Cause.DISK_FULL,
            f"the box's disk has no room for {asked.name}",
            why,
            remedy,
            "nothing was fetched",
        )


def _manifest(asked: ModelFetch) -> Manifest:
    files = {
        file.path: {"size": file.size, **({"sha256": file.sha256} if file.sha256 else {})}
        for file in asked.files
    }
    return {
        "name": asked.name,
        "asked": asked.asked,
        "source": asked.source,
        "revision": asked.revision,
        "files": files,
    }


def _put_in_place(partial: Path, folder: Path, manifest: Manifest) -> None:
    """The manifest goes first and comes last: a model without one is not there."""
    _manifest_path(folder).unlink(missing_ok=True)
    for path in (*partial.iterdir(), partial):
        atomic.sync_folder(path)  # fsync asks a file the same way
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    atomic.sync_folder(folder.parent)
    atomic.write_json(_manifest_path(folder), manifest)
    partial.with_name(f"{partial.name}.json").unlink(missing_ok=True)


def _manifest_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _do(words: list[str], models: Path) -> dict[str, Any]:
    match words:
        case ["find"]:
            return {
                "models": {
                    name: find(models, name) for name in untrusted_json.loads_list(sys.stdin.read())
                }
            }
        case ["fetch"]:
            return fetch(ModelFetch.from_json(sys.stdin.read()), models, command.say)
        case ["adopt", name, folder]:
            return adopt(name, Path(folder), models)
        case _:
            raise StageFailed(Cause.CONFIG, f"model: no such command: {words}")


def main() -> None:
    """The command line."""
    command.answer(lambda: _do(sys.argv[1:], BoxPaths.of_release().models), "`./inv box.setup`")


if __name__ == "__main__":
    main()
