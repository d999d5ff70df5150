"""A log of any kind, from the stage's mouth to the laptop's copy: over a real sshd, rotated on the
way, cut on the way.

`WINDLASS_LOG_MB` scales it: 5000 for the 5 GB log that nobody waits for in CI.
"""

import hashlib
import os
import re
import threading
from collections import deque

import pytest

from remote.contract.files import digest
from remote.contract.job.jobs import Status
from remote.contract.job.paths import BoxPaths
from remote.contract.logs import job_log
from remote.control.jobs.start import start
from remote.control.logs.follow import follow
from remote.control.logs.mirror import holes
from tests.integration.boxes import (
    SSHD,
    code_tree,
    deploy_stages,
    each_line,
    spec,
    with_small_parts,
    write_stage,
)

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]
ROOT = "windlass"
MEGABYTES = int(os.environ.get("WINDLASS_LOG_MB", "24"))
SECRET = "hf_" + "Zq9Xw8" * 5

SHOUTING = """
    import os, random, sys
    rng, out, size = random.Random(int(job.option("seed", 1))), sys.stdout.buffer, int(job.option("size"))
    kinds = {
        "lines": lambda n: b"step %d loss 0.25 the quick brown fox jumps over the lazy dog\\n" % n * 100,
        "long": lambda n: b"x" * 1_000_000 + b"\\n",
        "binary": lambda n: rng.randbytes(50_000),
        "bar": lambda n: b"\\r%3d%% of it" % (n % 100) + b"\\n" * (n % 100 == 99),
    }
    said = n = 0
    while said < size:
        said, n = said + out.write(kinds[job.option("kind")](n)), n + 1
    out.flush()
"""
TELLING = """
    import os, sys, time
    token = os.environ["HF_TOKEN"]
    for piece in (token[:9], token[9:], "\\n", token, "\\n"):
        sys.stdout.write(piece)
        sys.stdout.flush()
        time.sleep(0.05)
    raise RuntimeError(f"with {token}")
"""


@pytest.fixture(scope="module")
def release(sshd, tmp_path_factory):
    code = with_small_parts(code_tree(tmp_path_factory.mktemp("code")), MEGABYTES * 100_000)
    write_stage(code, "shouting", SHOUTING)
    write_stage(code, "telling", TELLING)
    with sshd.transport() as box:
        return deploy_stages(box, code)


def folder_of(sshd, job_id):
    return BoxPaths(sshd.home / ROOT).job(job_id).folder


def is_exact(copy, sshd, job_id):
    parts = job_log.parts(folder_of(sshd, job_id))
    whole = hashlib.sha256()
    for part in parts:
        with part.path.open("rb") as file:
            while content := file.read(1 << 20):
                whole.update(content)
    return (
        digest.of_file(copy) == whole.hexdigest()
        and copy.stat().st_size == parts[-1].end
        and not holes(copy)
    )


@pytest.mark.parametrize(
    ("kind", "share"), [("lines", 1.0), ("long", 0.5), ("binary", 0.5), ("bar", 0.05)]
)
def test_every_byte_arrives_whatever_it_is(sshd, release, tmp_path, kind, share):
    lines, size = deque(maxlen=1000), int(MEGABYTES * 1_000_000 * share)
    with sshd.transport() as box:
        start(box, ROOT, spec(release, "shouting", f"shout-{kind}", kind=kind, size=size))
    state = follow(
        sshd.transport,
        ROOT,
        f"shout-{kind}",
        tmp_path / "log",
        tmp_path / "metrics",
        each_line(lines.append),
        print,
    )
    assert state.status is Status.SUCCEEDED and (tmp_path / "log").stat().st_size >= size
    assert is_exact(tmp_path / "log", sshd, f"shout-{kind}")
    assert len(job_log.parts(folder_of(sshd, f"shout-{kind}"))) > (1 if share > 0.1 else 0)
    if kind == "bar":
        assert set(list(lines)[:-1]) == {" 99% of it"}
    if kind == "long":
        assert {len(line) for line in lines} == {1_000_000}


def test_a_fast_log_is_exact_over_cut_connections(sshd, release, tmp_path):
    with sshd.transport() as box:
        start(
            box,
            ROOT,
            spec(release, "shouting", "shout-cut", kind="lines", size=MEGABYTES * 1_000_000),
        )
    ended, notices = threading.Event(), []

    def cut():
        for share in (0.1, 0.3, 0.7):
            while (
                not ended.wait(0.005)
                and (tmp_path / "log").stat().st_size < share * MEGABYTES * 1_000_000
            ):
                pass
            sshd.cut()

    (tmp_path / "log").touch()
    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        follow(
            sshd.transport,
            ROOT,
            "shout-cut",
            tmp_path / "log",
            tmp_path / "metrics",
            None,
            print,
            notice=notices.append,
        )
    finally:
        ended.set()
        cutting.join()
    assert is_exact(tmp_path / "log", sshd, "shout-cut") and notices


def test_a_secret_of_the_laptop_is_known_to_the_stage_and_to_no_file(sshd, release, tmp_path):
    with sshd.transport() as box:
        start(box, ROOT, spec(release, "telling", "tell"), secrets={"HF_TOKEN": SECRET})
    lines = []
    state = follow(
        sshd.transport,
        ROOT,
        "tell",
        tmp_path / "log",
        tmp_path / "metrics",
        each_line(lines.append),
        print,
    )
    assert state.status is Status.FAILED and lines[:2] == ["***", "***"] and "with ***" in state.why
    root = sshd.home / ROOT
    assert list((root / "secrets").iterdir()) == []
    holding = [
        path
        for path in root.rglob("*")
        if path.is_file() and re.search(SECRET.encode(), path.read_bytes())
    ]
    assert holding == []
