"""Pull of a large artifact: 170 MB, and 4 GB where asked for, which everybody pulls once: five
times would take an hour."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from remote.contract.job.jobs import Artifact
from remote.control.transport.pull.pull import pull
from remote.control.transport.push.release import build_release, deploy
from rope import peers
from rope.contest import Contestant, Row, Terms, compete
from rope.ground import ROOT, Ground, seconds

SIZES = {"170 MB": 170_000_000}
FULL_SIZES = {"4 GB": 4_000_000_000}


def rows(ground: Ground, terms: Terms) -> Iterator[Row]:
    """A row for each size."""
    ground.mark(ROOT, "windlass")
    with ground.transport() as transport:
        deploy(transport, "windlass", build_release([]), lambda line: None)
    for title, size in SIZES.items():
        yield _row(ground, terms, title, size)
    for title, size in FULL_SIZES.items() if terms.full else ():
        yield _row(ground, replace(terms, rounds=1), title, size)


def _row(ground: Ground, terms: Terms, title: str, size: int) -> Row:
    artifact = _made(ground, size)
    source, target = ground.home / "windlass" / artifact.path, ground.folder / "got.bin"

    def cleared(work: object) -> float:
        target.unlink(missing_ok=True)
        taken = work()  # type: ignore[operator]
        assert target.stat().st_size == size
        return float(taken)

    def shell(line: str) -> float:
        return cleared(lambda: seconds(lambda: peers.shell(line, terms.patience)))

    def ours() -> float:
        with ground.transport() as transport:
            return seconds(lambda: pull(transport, "windlass", artifact, target))

    def fabric() -> float:
        return peers.fabric(ground, f"c.get({str(source)!r}, {str(target)!r})", terms.patience)

    config, ssh = ground.config, " ".join(ground.ssh)
    contestants = [
        Contestant("connect, pull, verify, sync", lambda _: cleared(ours), ours=True),
        Contestant("scp", lambda _: shell(f"scp -q -F {config} box:{source} {target}")),
        Contestant("rsync", lambda _: shell(f"rsync -e '{ssh}' box:{source} {target}")),
        Contestant(
            "sftp", lambda _: shell(f"echo 'get {source} {target}' | sftp -q -F {config} -b - box")
        ),
        Contestant("Fabric get", lambda _: cleared(fabric)),
    ]
    samples = compete(f"pull of {title}, {ground.title}", contestants, terms)
    source.unlink()
    target.unlink(missing_ok=True)
    factor = 1.0 if ground.rtt == 0 else 2.0
    return Row(
        f"pull of {title}",
        ground.title,
        ground.floor(1, size),
        f"≥ {factor:.1f} × the best",
        lambda mine, best, floor: best >= factor * mine,
        samples,
        [contestants[0].name],
        size,
    )


def _made(ground: Ground, size: int) -> Artifact:
    path: Path = ground.home / "windlass/jobs/pulled/artifacts/weights.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    sha = hashlib.sha256()
    with path.open("wb") as file:
        left = size
        while left:
            piece = os.urandom(min(left, 8 << 20))
            sha.update(piece)
            file.write(piece)
            left -= len(piece)
        file.flush()
        os.fsync(file.fileno())  # else whoever syncs what has come waits for this too
    return Artifact("jobs/pulled/artifacts/weights.bin", size, sha.hexdigest())
