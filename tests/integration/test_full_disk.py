"""A disk that is full at each write in turn: the work is tried with a little more room each time,
on a small disk of its own.

`WINDLASS_ROOMS=1` tries every room, page by page, instead of a few: whatever is written, in some
room it is the first that does not fit. In each: what was whole stays whole and current, nothing
torn is taken for whole, and with room again the same command gets it done.
"""

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote.contract.files import digest
from remote.contract.job.jobs import Artifact, Cause, Status
from remote.contract.job.paths import BoxPaths
from remote.control.errors import JobFailed
from remote.control.jobs.start import start
from remote.control.jobs.state import read_state
from remote.control.logs.follow import follow
from remote.control.transport.pull.pull import pull
from remote.control.transport.push.release import build_release, deploy
from tests.integration import boxes
from tests.integration.boxes import await_true, each_line, spec

ROOT, PAGE = "windlass", 4096
EVERY = bool(os.environ.get("WINDLASS_ROOMS"))


def rooms(first: int, end: int, usual: int):
    """How many pages are left: every number up to where all fits for sure, or some of them."""
    chosen = (
        range(first, end) if EVERY else sorted(random.Random(end).sample(range(first, end), usual))
    )
    return pytest.mark.parametrize("room", chosen)


class SmallDisk:
    """A file system in memory of a few megabytes."""

    def __init__(self, place: Path) -> None:
        self.place, self._filling = place, place / "filling"

    @contextlib.contextmanager
    def left(self, pages: int) -> Iterator[None]:
        """Full but for so many pages, for the length of a block."""
        free = os.statvfs(self.place).f_bavail - pages
        assert free > 0, "something was left behind"
        try:
            self._filling.write_bytes(bytes(free * PAGE))
            yield
        finally:
            self._filling.unlink()


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    place = tmp_path_factory.mktemp("small")
    words = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield SmallDisk(place)
    subprocess.run(
        ["umount", "-l", str(place)], check=True
    )  # the sampler looks at it for some seconds more


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return boxes.code_tree(tmp_path_factory.mktemp("code"))


@pytest.fixture(scope="module")
def box(disk):
    return boxes.folder_box(disk.place / "home")


@pytest.fixture(scope="module")
def release(box, code):
    return boxes.deploy_stages(box, code)


def content_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): digest.of_file(path)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@rooms(0, 40, usual=5)
def test_a_push(disk, box, code, release, room):
    requirements = code / "no-requirements.txt"
    new = code.parent / f"new-{room}.bin"
    new.write_bytes(random.Random(room).randbytes(20 * PAGE))
    current = box.home / ROOT / "current"
    before = content_of(current.resolve())
    with disk.left(room):
        try:
            deploy(
                box,
                ROOT,
                build_release([new], code),
                lambda line: None,
                requirements=str(requirements),
            )
        except JobFailed as full:
            assert full.cause is Cause.DISK_FULL and "df -h" in full.remedy
            assert content_of(current.resolve()) == before, "what was current stays so, whole"
    deploy(box, ROOT, build_release([new], code), lambda line: None, requirements=str(requirements))
    assert [path.read_bytes() for path in current.resolve().rglob("*.bin")] == [new.read_bytes()]
    deploy(box, ROOT, build_release([], code), lambda line: None, requirements=str(requirements))
    assert content_of(current.resolve()) == before


@rooms(250, 300, usual=6)
def test_a_job(disk, box, release, tmp_path, room):
    job_id = f"job-{room}"
    paths = BoxPaths(box.home / ROOT).job(job_id)
    with disk.left(room):
        try:
            start(box, ROOT, spec(release, "count", job_id, lines=40))
        except JobFailed as full:
            assert full.cause is Cause.DISK_FULL
        else:
            await_true(lambda: read_state(box, ROOT, job_id).status.is_final)
            state = read_state(box, ROOT, job_id)
            assert state.status is Status.SUCCEEDED or state.cause is Cause.DISK_FULL, state
    start(box, ROOT, spec(release, "count", job_id, lines=40), again=True)
    lines: list[str] = []
    log = tmp_path / "job.log"
    state = follow(
        lambda: box,
        ROOT,
        job_id,
        log,
        tmp_path / "job.metrics",
        each_line(lines.append),
        lambda metric: None,
    )
    assert state.status is Status.SUCCEEDED
    made = state.artifacts["made"]
    assert digest.of_file(box.home / ROOT / made.path) == made.sha256
    assert log.read_bytes() == paths.log.read_bytes() and lines[-1] == "line 39 äöü"


@rooms(0, 60, usual=5)
def test_a_pull(disk, box, release, tmp_path, room):
    source = tmp_path / "home/windlass/weights.bin"
    source.parent.mkdir(parents=True)
    source.write_bytes(random.Random(room).randbytes(50 * PAGE))
    artifact = Artifact("weights.bin", source.stat().st_size, digest.of_file(source))
    there, target = boxes.folder_box(tmp_path / "home"), disk.place / "laptop" / "weights.bin"
    target.parent.mkdir(exist_ok=True)
    with disk.left(room):
        try:
            pull(there, ROOT, artifact, target)
        except JobFailed as full:
            assert full.cause is Cause.DISK_FULL and not target.exists()
    pull(there, ROOT, artifact, target)
    assert digest.of_file(target) == artifact.sha256 and [
        path.name for path in target.parent.iterdir()
    ] == [target.name]
    target.unlink()
