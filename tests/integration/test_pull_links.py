"""Pulls over links that are long, slow or broken: a real sshd behind a proxy."""

import os
import socket
import threading
import time

import pytest

from remote.contract.files import digest
from remote.contract.job.jobs import Artifact
from remote.control.transport.pull import download
from remote.control.transport.pull.pull import pull
from tests.integration import boxes, links
from tests.integration.boxes import await_true

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]
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
    monkeypatch.setattr(download, "BLOCK_BYTES", 1 << 20)
    with links.proxied(sshd) as proxy:
        yield proxy


def test_a_box_that_is_near_gets_one_connection(sshd, artifact, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "FAR_SECONDS", 0.5)  # tests share their processors
    with proxy.transport_of(sshd) as box:
        box.exec("true")
        pull(box, ROOT, artifact, tmp_path / "a")
    assert digest.of_path(tmp_path / "a") == artifact.sha256 and proxy.accepted == 1


def test_a_box_that_is_far_gets_more(sshd, artifact, proxy, tmp_path):
    proxy.delay_seconds, proxy.bytes_per_second = 0.03, 40e6
    with proxy.transport_of(sshd) as box:
        pull(box, ROOT, artifact, tmp_path / "a")
    assert (
        digest.of_path(tmp_path / "a") == artifact.sha256 and proxy.accepted == download.CONNECTIONS
    )
    assert proxy.passed[links.DOWN] < SIZE * 1.1, "hardly a byte came twice"


@pytest.mark.parametrize("fault", ["reset", "black_hole", "half_open_down"])
def test_all_connections_break_and_come_back(sshd, artifact, proxy, tmp_path, fault):
    proxy.delay_seconds, proxy.bytes_per_second = 0.01, 20e6
    told, fixing = [], []

    def strike(done):
        if done > SIZE // 3 and not fixing:
            fixing.append(
                threading.Thread(
                    target=lambda: (proxy.strike(fault), time.sleep(1.0), proxy.heal())
                )
            )
            fixing[0].start()

    with proxy.transport_of(sshd, dead_after=2.0) as box:
        pull(box, ROOT, artifact, tmp_path / "a", strike, told.append)
    assert digest.of_path(tmp_path / "a") == artifact.sha256 and os.listdir(tmp_path) == ["a"]
    fixing[0].join()
    assert told and "connection lost" in told[0] and proxy.passed[links.DOWN] < SIZE * 1.7


@pytest.fixture
def two_ways(sshd, proxy, monkeypatch):
    """A box whose first connection goes through one proxy, all others through a second one; the
    proxies."""
    monkeypatch.setattr(download, "FAR_SECONDS", 0.0)
    proxy.bytes_per_second = 5e6
    with links.proxied(sshd) as beside, proxy.transport_of(sshd, dead_after=2.0) as box:
        monkeypatch.setattr(box, "another", lambda: beside.transport_of(sshd, dead_after=2.0))
        yield box, proxy, beside
    await_true(
        lambda: not [thread for thread in threading.enumerate() if thread.name == "download"]
    )


def test_a_connection_that_falls_silent_costs_only_what_it_was_asked_for(
    artifact, two_ways, tmp_path
):
    box, first, beside = two_ways
    beside.strike_after("black_hole", 2_000_000, links.DOWN)
    told = []
    pull(box, ROOT, artifact, tmp_path / "a", notice=told.append)
    assert beside.struck.is_set() and digest.of_path(tmp_path / "a") == artifact.sha256
    assert len(told) == 1 and "nothing came back for 2 s" in told[0], told
    assert first.passed[links.DOWN] + beside.passed[links.DOWN] < SIZE * 1.3


def test_the_others_go_on_where_the_first_connection_is_lost(artifact, two_ways, tmp_path):
    box, first, beside = two_ways
    beside.bytes_per_second = 5e6
    first.cut_after(2_000_000)
    told = []
    pull(box, ROOT, artifact, tmp_path / "a", notice=told.append)
    assert first.struck.is_set() and digest.of_path(tmp_path / "a") == artifact.sha256
    assert told == [] and beside.passed[links.DOWN] > SIZE / 2


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_a_server_that_takes_no_further_connections(
    sshd, artifact, two_ways, tmp_path, monkeypatch, how
):
    box, _, beside = two_ways
    tried, told, began = [], [], time.monotonic()
    beside.black_hole()
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed_port = server.getsockname()[1]
    port = beside.port if how == "silent" else closed_port
    monkeypatch.setattr(
        box, "another", lambda: tried.append(1) or sshd.transport(port=port, dead_after=2.0)
    )
    pull(box, ROOT, artifact, tmp_path / "a", notice=told.append)
    assert tried and told == [] and digest.of_path(tmp_path / "a") == artifact.sha256
    assert time.monotonic() - began < 5
