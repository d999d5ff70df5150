"""Seeded fault schedules on the rope: each work is done over a link that fails at random bytes, and
must come out as if it never had.

`WINDLASS_SCHEDULES=200` runs so many seeds of each work instead of a few,
`WINDLASS_SCHEDULES=17-18` those; a seed always draws the same faults at the same bytes. In each: no
line lost or doubled, no torn release active, no job started twice, none lost.
"""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from remote.contract.files import digest
from remote.contract.job.jobs import Artifact, Status
from remote.control.jobs.cancel import cancel
from remote.control.jobs.start import start
from remote.control.logs.follow import follow
from remote.control.project import CODE
from remote.control.retry import retry_while_unreachable
from remote.control.transport.pull.pull import pull
from remote.control.transport.push.release import Release, build_release, deploy
from tests.integration import boxes, links
from tests.integration.boxes import Sshd, await_true, children, each_line, marked, spec

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
    pytest.mark.timeout(180),
]
ROOT = "windlass"
DEAD_AFTER_SECONDS = 1.0
PATIENCE_SECONDS = 90.0
NOTES = {"manifest.json", ".ready"}
FAULTS = (*links.FAULTS, "sshd_killed", "sessions_killed")


def chosen(usual: int) -> list[int]:
    """The seeds to run."""
    first, _, last = os.environ.get("WINDLASS_SCHEDULES", str(usual)).partition("-")
    return list(range(int(first), int(last)) if last else range(int(first)))


def seeds(usual: int = 2) -> Any:
    return pytest.mark.parametrize("seed", chosen(usual), ids=lambda seed: f"seed{seed}")


STAGES = {
    "torrent": (
        """
        import os, random
        chance = random.Random(job.option("seed"))
        for _ in range(int(job.option("pieces"))):
            kind, size = chance.randrange(4), chance.randrange(1, 1 << 16)
            if kind == 0:
                os.write(1, b"x" * (1 << 20) + b"\\n")
            elif kind == 1:
                os.write(1, chance.randbytes(size))
            elif kind == 2:
                os.write(1, b"".join(b"\\r%d %%" % share for share in range(100)))
            else:
                os.write(1, b"a line\\n" * (size // 7))
    """
    )
}


def torrent(seed: int, pieces: int) -> bytes:
    """What the stage above says."""
    chance, said = random.Random(seed), bytearray()
    for _ in range(pieces):
        kind, size = chance.randrange(4), chance.randrange(1, 1 << 16)
        if kind == 0:
            said += b"x" * (1 << 20) + b"\n"
        elif kind == 1:
            said += chance.randbytes(size)
        elif kind == 2:
            said += b"".join(b"\r%d %%" % share for share in range(100))
        else:
            said += b"a line\n" * (size // 7)
    return bytes(said)


# ---- the box, the laptops, the trouble ----


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = boxes.code_tree(tmp_path_factory.mktemp("code"))
    for name, body in STAGES.items():
        boxes.write_stage(folder, name, body)
    return folder


@pytest.fixture(scope="module")
def release(sshd, code):
    with sshd.transport() as transport:
        return boxes.deploy_stages(transport, code)


@dataclass
class Laptop:
    """One who types: every connection of it goes through a proxy of its own."""

    sshd: Sshd
    proxy: links.Proxy
    told: list[str] = field(default_factory=list)

    def transport(self) -> Any:
        return self.proxy.transport_of(self.sshd, dead_after=DEAD_AFTER_SECONDS)

    def persistently(self, work: Callable[[Any], Any]) -> Any:
        """The work over one connection, and over another when that is lost."""

        def attempt() -> Any:
            with self.transport() as transport:
                return work(transport)

        return retry_while_unreachable(
            attempt, progress=lambda: 0, notice=self.told.append, patience_seconds=PATIENCE_SECONDS
        )

    def follow(self, job_id: str, folder: Path, lines: list[str]) -> Any:
        log, metrics = folder / "logs/job.log", folder / "logs/job.metrics"
        return follow(
            self.transport,
            ROOT,
            job_id,
            log,
            metrics,
            each_line(lines.append),
            lambda metric: None,
            notice=self.told.append,
            patience_seconds=PATIENCE_SECONDS,
        )


@pytest.fixture
def laptop(sshd):
    with links.proxied(sshd) as proxy:
        yield Laptop(sshd, proxy)


@contextlib.contextmanager
def trouble(laptop: Laptop, seed: int, up: int, down: int) -> Iterator[list[str]]:
    """Strikes the laptop's link one to three times while a block runs: at a random byte of the
    first `up` and `down` ones, or at a random moment. The first fault goes round with the seed, so
    that a few seeds differ. Yields what struck.
    """
    chance, over, struck = random.Random(seed), threading.Event(), []

    def strike_all() -> None:
        for number in range(chance.randint(1, 3)):
            fault = FAULTS[seed % len(FAULTS)] if number == 0 else chance.choice(FAULTS)
            direction, down_for, resume = (
                chance.choice((links.UP, links.DOWN)),
                chance.uniform(0, 1.0),
                chance.random() < 0.3,
            )
            if chance.random() < 0.75:
                _at_a_byte(
                    laptop.proxy,
                    fault,
                    chance.randrange(up if direction == links.UP else down),
                    direction,
                    over,
                )
            else:
                over.wait(chance.uniform(0, 1.0))
                laptop.proxy.strike(fault)
            if over.is_set():
                return
            struck.append(fault)
            _suffer(laptop, fault, down_for)
            laptop.proxy.heal(resume)

    striking = threading.Thread(target=strike_all)
    striking.start()
    try:
        yield struck
    finally:
        over.set()
        striking.join()
        laptop.proxy.heal()


def _at_a_byte(
    proxy: links.Proxy, fault: str, count: int, direction: str, over: threading.Event
) -> None:
    proxy.strike_after(fault, count, direction)
    while not proxy.struck.wait(0.02) and not over.is_set():
        pass


def _suffer(laptop: Laptop, fault: str, seconds: float) -> None:
    sshd = laptop.sshd
    if fault == "sessions_killed":
        kill_sessions(sshd)
    if fault != "sshd_killed":
        time.sleep(seconds)
        return
    with restarting:
        assert sshd.process is not None
        sessions = [sshd.process.pid, *children(sshd.process.pid)]
        for pid in sessions:  # and not what they run: sshd dies alone
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sshd.process.wait()
        time.sleep(seconds)
        sshd.start()


restarting = threading.Lock()


def kill_sessions(sshd: Sshd) -> None:
    with restarting:
        sshd.cut()


# ---- push ----


class Watcher:
    """Looks at the current release of a root again and again: it is always one of those known,
    whole."""

    def __init__(self, root: Path, known: list[Release]) -> None:
        self._root, self._known = root, {each.digest: each for each in known}
        self.torn: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            if problem := self.problem(os.path.getsize):
                self.torn.append(problem)

    def problem(self, look: Callable[[Path], object]) -> str:
        """What is wrong with the current release; `look` gives what is compared of each file."""
        link = self._root / "current"
        if not link.is_symlink():
            return ""
        name = link.readlink().name
        if name not in self._known:
            return f"current is {name}"
        wanted = {member.name: look(member.source) for member in self._known[name].members}
        folder = self._root / "releases" / name
        found = {
            path.relative_to(folder).as_posix(): look(path)
            for path in folder.rglob("*")
            if path.is_file() and is_of_it(path)
        }
        return "" if found == wanted else f"{name[:12]}: {set(wanted.items()) ^ set(found.items())}"


def is_of_it(path: Path) -> bool:
    """Whether a file is one of the release: not what Python leaves, nor what the box notes about
    it."""
    return "__pycache__" not in path.parts and path.name not in NOTES


@seeds()
def test_push(sshd, laptop, code, tmp_path, seed):
    chance = random.Random(seed)
    requirements = tmp_path / "none.txt"
    requirements.write_text("")
    root, large = f"push-{seed}", tmp_path / "large.bin"
    large.write_bytes(chance.randbytes(chance.randrange(1, 3_000_000)))
    before = build_release([], code)
    after = build_release([large], code)
    with sshd.transport() as transport:
        boxes.mark_environment(transport, requirements, root)
        if chance.random() < 0.5:
            deploy(transport, root, before, print, requirements=str(requirements))
    there = sshd.home / root
    with (
        Watcher(there, [before, after]) as watcher,
        trouble(laptop, seed, up=100_000 + large.stat().st_size, down=3_500) as struck,
    ):
        laptop.persistently(
            lambda transport: deploy(transport, root, after, print, requirements=str(requirements))
        )
    assert watcher.torn == [], struck
    assert (there / "current").readlink().name == after.digest
    assert watcher.problem(digest.of_file) == "", struck


# ---- pull ----


@seeds()
def test_pull(sshd, release, laptop, tmp_path, seed):
    artifact, content = made(sshd, seed)
    target = tmp_path / "got.bin"

    def work(transport):
        assert not target.exists(), "what is not whole never has its own name"
        pull(transport, ROOT, artifact, target)

    with trouble(laptop, seed, up=2_500, down=len(content) + 2_000) as struck:
        laptop.persistently(work)
    assert target.read_bytes() == content, struck
    assert os.listdir(tmp_path) == ["got.bin"]


def made(sshd: Sshd, seed: int, size: int = 6_000_000) -> tuple[Artifact, bytes]:
    """An artifact on the box."""
    content = random.Random(seed).randbytes(random.Random(seed).randrange(1, size))
    path = sshd.home / ROOT / f"jobs/pull-{seed}/artifacts/large.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return (
        Artifact(
            f"jobs/pull-{seed}/artifacts/large.bin",
            len(content),
            hashlib.sha256(content).hexdigest(),
        ),
        content,
    )


# ---- logs ----


@seeds()
def test_follow(sshd, release, laptop, tmp_path, seed):
    job_id, lines = f"follow-{seed}", []
    count = random.Random(seed).randrange(20, 120)
    with sshd.transport() as transport:
        start(transport, ROOT, spec(release, "count", job_id, lines=count, pause=0.01))
    with trouble(laptop, seed, up=2_500, down=10_000) as struck:
        state = laptop.follow(job_id, tmp_path, lines)
    assert state.status is Status.SUCCEEDED, struck
    assert lines == [f"line {number} äöü" for number in range(count)], struck
    assert len((tmp_path / "logs/job.metrics").read_bytes().splitlines()) == count, struck


@seeds(1)
def test_follow_a_torrent(sshd, release, laptop, tmp_path, seed):
    job_id, pieces = f"torrent-{seed}", 30
    with sshd.transport() as transport:
        start(transport, ROOT, spec(release, "torrent", job_id, seed=seed, pieces=pieces))
    said = torrent(seed, pieces)
    with trouble(laptop, seed, up=2_800, down=len(said)) as struck:
        state = laptop.follow(job_id, tmp_path, [])
    assert state.status is Status.SUCCEEDED, struck
    assert (tmp_path / "logs/job.log").read_bytes() == said, struck


@pytest.mark.skipif(bool(links.why_no_wire()), reason=links.why_no_wire() or "there is a wire")
def test_packets_are_late_and_vanish(code, tmp_path):
    with links.wire(round_trip=0.02) as wire, links.sshd_behind(wire, tmp_path / "sshd") as far:
        with far.transport() as transport:
            digest_there, lines = boxes.deploy_stages(transport, code), []
            start(transport, ROOT, spec(digest_there, "count", "late", lines=300, pause=0.01))
        artifact, content = made(far, 7)
        losing = threading.Thread(target=lambda: lose_packets(wire))
        losing.start()
        open_box = lambda: far.transport(dead_after=DEAD_AFTER_SECONDS)  # noqa: E731
        state = follow(
            open_box,
            ROOT,
            "late",
            tmp_path / "logs/log",
            tmp_path / "logs/metrics",
            each_line(lines.append),
            lambda metric: None,
        )
        losing.join()
        wire.loss(0.01)
        with far.transport() as transport:
            pull(transport, ROOT, artifact, tmp_path / "got.bin")
    assert (state.status, lines) == (
        Status.SUCCEEDED,
        [f"line {number} äöü" for number in range(300)],
    )
    assert (tmp_path / "got.bin").read_bytes() == content


def lose_packets(wire: links.Wire) -> None:
    """All of them, for longer than a peer may be silent; then those of one direction."""
    for lose in (wire.black_hole, wire.half_open):
        time.sleep(0.5)
        lose()
        time.sleep(1.5)
        wire.heal()


# ---- jobs ----


@seeds()
def test_start(sshd, release, laptop, seed):
    job_id = f"start-{seed}"
    with trouble(laptop, seed, up=2_600, down=2_800) as struck:
        state = laptop.persistently(
            lambda transport: start(transport, ROOT, spec(release, "endless", job_id))
        )
    assert state.status is Status.RUNNING, struck
    assert_runs_once(sshd, job_id)
    with sshd.transport() as transport:
        assert cancel(transport, ROOT, job_id, 20).status is Status.CANCELLED


@seeds()
def test_cancel(sshd, release, laptop, seed):
    job_id = f"cancel-{seed}"
    with sshd.transport() as transport:
        start(transport, ROOT, spec(release, "endless", job_id))
    await_true(lambda: starts(sshd, job_id) == 1)
    with trouble(laptop, seed, up=2_600, down=2_800) as struck:
        state = laptop.persistently(lambda transport: cancel(transport, ROOT, job_id, 20))
    assert (state.status, state.kept) == (Status.CANCELLED, "checkpoint step-7"), struck
    assert_nothing_runs(sshd, job_id)
    assert starts(sshd, job_id) == 1


def starts(sshd: Sshd, job_id: str) -> int:
    """How often the stage `endless` began: it says so each time."""
    log = sshd.home / ROOT / "jobs" / job_id / "log"
    return log.read_bytes().count(b"worker ") if log.exists() else 0


def processes(sshd: Sshd, job_id: str) -> list[str]:
    """The command lines of what runs of a job."""
    found = []
    for pid in marked(f"WINDLASS_TEST_BOX={sshd.folder}"):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if f"jobs/{job_id} " in words:
                found.append(words)
    return found


def assert_runs_once(sshd: Sshd, job_id: str) -> None:
    await_true(lambda: starts(sshd, job_id) >= 1)
    supervisors = [words for words in processes(sshd, job_id) if "supervise run" in words]
    assert (starts(sshd, job_id), len(supervisors)) == (1, 1), supervisors


def assert_nothing_runs(sshd: Sshd, job_id: str) -> None:
    await_true(
        lambda: not processes(sshd, job_id)
    )  # the supervisor itself may take a moment longer than its job


# ---- a laptop that dies, and a second one ----

SCRIPT = """
import sys
from pathlib import Path
from remote.contract.job.jobs import Artifact
from remote.control.logs.follow import follow
from remote.control.transport.pull.pull import pull
from remote.control.transport.push.release import build_release, deploy
from remote.control.ssh.connection import Address
from remote.control.transport.over_ssh import SshTransport
port, user, key, host_key, work, root, folder, *rest = sys.argv[1:]
folder = Path(folder)
open_box = lambda: SshTransport(Address("demo", "i", "127.0.0.1", int(port), user, Path(key), "i"), lambda alias: [host_key])
if work == "follow":
    follow(open_box, root, rest[0], folder / "logs/job.log", folder / "logs/job.metrics", lambda line: None, lambda metric: None)
with open_box() as box:
    if work == "pull":
        pull(box, root, Artifact(rest[0], int(rest[1]), rest[2]), folder / "got.bin")
    if work == "push":
        deploy(box, root, build_release([Path(rest[0])], Path(rest[1])), print, requirements=rest[2])
"""


def killed_again_and_again(sshd: Sshd, seed: int, *words: object) -> None:
    """Run a laptop's work in a process of its own, kill it twice at random moments of its life,
    then let it end."""
    chance = random.Random(seed)
    address = sshd.address()
    facts = [address.port, address.user, address.key, sshd.host_key_line, *words]
    command = [sys.executable, "-c", SCRIPT, *map(str, facts)]
    surroundings = {**os.environ, "PYTHONPATH": str(CODE)}
    for _ in range(2):
        client = subprocess.Popen(
            command, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(chance.uniform(0.2, 1.2))
        client.kill()
        client.wait()
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@seeds(1)
def test_the_laptop_is_killed_while_it_follows(sshd, release, tmp_path, seed):
    job_id, pieces = f"killed-{seed}", 20
    with sshd.transport() as transport:
        start(transport, ROOT, spec(release, "torrent", job_id, seed=seed, pieces=pieces))
    killed_again_and_again(sshd, seed, "follow", ROOT, tmp_path, job_id)
    assert (tmp_path / "logs/job.log").read_bytes() == torrent(seed, pieces)


@seeds(1)
def test_the_laptop_is_killed_while_it_pulls(sshd, release, tmp_path, seed):
    artifact, content = made(sshd, seed, 60_000_000)
    killed_again_and_again(
        sshd, seed, "pull", ROOT, tmp_path, artifact.path, artifact.size, artifact.sha256
    )
    assert (tmp_path / "got.bin").read_bytes() == content
    assert os.listdir(tmp_path) == ["got.bin"]


@seeds(1)
def test_the_laptop_is_killed_while_it_pushes(sshd, code, tmp_path, seed):
    requirements, large, root = tmp_path / "none.txt", tmp_path / "large.bin", f"killed-{seed}"
    requirements.write_text("")
    large.write_bytes(random.Random(seed).randbytes(30_000_000))
    wanted = build_release([large], code)
    with sshd.transport() as transport:
        boxes.mark_environment(transport, requirements, root)
    with Watcher(sshd.home / root, [wanted]) as watcher:
        killed_again_and_again(sshd, seed, "push", root, tmp_path, large, code, requirements)
    assert watcher.torn == []
    assert (sshd.home / root / "current").readlink().name == wanted.digest
    assert watcher.problem(digest.of_file) == ""


@seeds(1)
def test_two_laptops_start_and_cancel_one_job(sshd, release, laptop, seed):
    job_id = f"two-{seed}"
    with links.proxied(sshd) as proxy:
        both = [laptop, Laptop(sshd, proxy)]
        with (
            trouble(both[0], seed, up=2_600, down=2_800),
            trouble(both[1], seed + 1, up=2_600, down=2_800),
        ):
            states = at_once(
                [
                    lambda each=each: each.persistently(
                        lambda box: start(box, ROOT, spec(release, "endless", job_id))
                    )
                    for each in both
                ]
            )
        assert {state.status for state in states} == {Status.RUNNING}
        assert len({(state.pid, state.start_ticks) for state in states}) == 1
        assert_runs_once(sshd, job_id)
        with (
            trouble(both[0], seed + 2, up=2_600, down=2_800),
            trouble(both[1], seed + 3, up=2_600, down=2_800),
        ):
            states = at_once(
                [
                    lambda each=each: each.persistently(lambda box: cancel(box, ROOT, job_id, 20))
                    for each in both
                ]
            )
    assert {state.status for state in states} == {Status.CANCELLED}
    assert_nothing_runs(sshd, job_id)


@seeds(1)
def test_two_laptops_push_two_releases(sshd, code, laptop, tmp_path, seed):
    root, requirements = f"two-{seed}", tmp_path / "none.txt"
    requirements.write_text("")
    releases = []
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(random.Random(f"{seed} {name}").randbytes(500_000))
        releases.append(build_release([tmp_path / name], code))
    with sshd.transport() as transport:
        boxes.mark_environment(transport, requirements, root)
    there = sshd.home / root
    with links.proxied(sshd) as proxy, Watcher(there, releases) as watcher:
        both = [laptop, Laptop(sshd, proxy)]
        with (
            trouble(both[0], seed, up=700_000, down=3_500),
            trouble(both[1], seed + 1, up=700_000, down=3_500),
        ):
            at_once(
                [
                    lambda each=each, one=one: each.persistently(
                        lambda box: deploy(box, root, one, print, requirements=str(requirements))
                    )
                    for each, one in zip(both, releases, strict=True)
                ]
            )
    assert watcher.torn == []
    assert (there / "current").readlink().name in {one.digest for one in releases}
    assert watcher.problem(digest.of_file) == ""
    for one in releases:
        assert (there / "releases" / one.digest).is_dir()


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """Do them side by side; what each gave, or the first error."""
    done: dict[int, Any] = {}

    def do(number: int, work: Callable[[], Any]) -> None:
        try:
            done[number] = work()
        except Exception as error:
            done[number] = error

    threads = [threading.Thread(target=do, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in done.values():
        if isinstance(each, Exception):
            raise each
    return [done[number] for number in range(len(works))]
