"""Pulls over links that are long, slow or broken: a real sshd behind a proxy."""

import os
import threading
import time

import pytest

from remote.contract import digest
from remote.contract.jobs import Artifact
from remote.control.transport import lanes
from remote.control.transport.pull import pull
from tests.integration import boxes, links
from tests.integration.boxes import await_true

pytestmark = [pytest.mark.sshd, pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server")]
ROOT = "windlass"
SIZE = 12 << 20


@pytest.fixture(scope="module")
def artifact(sshd):
    path = sshd.home / ROOT / "jobs/j/artifacts/large.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    return Artifact("jobs/j/artifacts/large.bin", SIZE, digest.of_path(path))


@pytest.fixture
def proxy(sshd, monkeypatch):
    monkeypatch.setattr(lanes, "PIECE_BYTES", 1 << 20)
    with links.proxied(sshd) as proxy:
        yield proxy


def test_a_box_that_is_near_gets_one_connection(sshd, artifact, proxy, tmp_path):
    with proxy.transport_of(sshd) as box:
        box.exec("true")
        pull(box, ROOT, artifact, tmp_path / "a")
    assert digest.of_path(tmp_path / "a") == artifact.sha256 and proxy.accepted == 1


def test_a_box_that_is_far_gets_more(sshd, artifact, proxy, tmp_path):
    proxy.delay_seconds, proxy.bytes_per_second = 0.03, 40e6
    with proxy.transport_of(sshd) as box:
        pull(box, ROOT, artifact, tmp_path / "a")
    assert digest.of_path(tmp_path / "a") == artifact.sha256 and proxy.accepted == 1 + lanes.SIDE_LANES
    assert proxy.passed[links.DOWN] < SIZE * 1.1, "hardly a byte came twice"


@pytest.mark.parametrize("fault", ["reset", "black_hole", "half_open_down"])
def test_all_lanes_break_and_come_back(sshd, artifact, proxy, tmp_path, fault):
    proxy.delay_seconds, proxy.bytes_per_second = 0.01, 20e6
    told, mending = [], []

    def strike(done):
        if done > SIZE // 3 and not mending:
            mending.append(threading.Thread(target=lambda: (proxy.strike(fault), time.sleep(1.0), proxy.heal())))
            mending[0].start()

    with proxy.transport_of(sshd, dead_after=2.0) as box:
        pull(box, ROOT, artifact, tmp_path / "a", strike, told.append)
    assert digest.of_path(tmp_path / "a") == artifact.sha256 and os.listdir(tmp_path) == ["a"]
    mending[0].join()
    assert told and "connection lost" in told[0] and proxy.passed[links.DOWN] < SIZE * 1.7


def test_one_lane_that_falls_silent_holds_nobody_up(sshd, artifact, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(lanes, "STRAGGLER_SECONDS", 0.2)
    monkeypatch.setattr(lanes, "FAR_SECONDS", 0.0)
    with links.proxied(sshd) as broken:
        broken.strike_after("black_hole", 2_000_000, links.DOWN)
        near = proxy.transport_of(sshd)
        proxy.bytes_per_second = 20e6
        monkeypatch.setattr(near, "another", lambda: broken.transport_of(sshd))
        told = []
        with near:
            pull(near, ROOT, artifact, tmp_path / "a", notice=told.append)
        assert broken.accepted and digest.of_path(tmp_path / "a") == artifact.sha256 and told == []
    await_true(lambda: not [thread for thread in threading.enumerate() if thread.name == "lane"])
