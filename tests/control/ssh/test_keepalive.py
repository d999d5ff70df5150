"""Dead peers are noticed in every state, and slow ones are left alone: a real sshd behind a proxy
that fails on purpose."""

import io
import os
import signal
import threading
import time

import pytest

from remote.control.errors import BoxUnreachable, LoginRefused
from remote.control.retry import retry_while_unreachable
from tests.integration import boxes, links

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]

DEAD_AFTER = 0.6
LATE = 6  # a busy machine may be late; what is looked for is dead long before


@pytest.fixture
def proxy(sshd):
    with links.proxied(sshd) as between:
        yield between


@pytest.fixture
def box(sshd, proxy):
    with proxy.transport_of(sshd, dead_after=DEAD_AFTER) as transport:
        yield transport


class Endless(io.RawIOBase):
    """Standard input that never ends."""

    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = bytes(len(buffer))
        return len(buffer)


@pytest.mark.parametrize("fault", ["black_hole", "half_open_up", "half_open_down", "box_gone"])
@pytest.mark.parametrize("state", ["reading", "uploading", "idle"])
def test_silence_is_death(box, proxy, fault, state):
    assert box.exec("echo in").text == "in\n"
    began = time.monotonic()
    if state == "idle":
        proxy.strike(fault)
        new_ones_work = threading.Timer(DEAD_AFTER / 2, proxy.heal)
        new_ones_work.start()
        assert box.exec("echo again").text == "again\n", (
            "the dead connection is noticed before the command is sent: another takes it"
        )
        new_ones_work.join()
    else:
        command, stdin = (
            ("echo on; sleep 60", b"")
            if state == "reading"
            else ("echo on; cat > /dev/null", Endless())
        )
        with (
            pytest.raises(BoxUnreachable, match="was lost") as caught,
            box.open(command, stdin) as stream,
        ):
            for _ in stream:
                proxy.strike(fault)
        assert (
            "nothing came back for 0.6 s" in caught.value.why
            or "closed the connection" in caught.value.why
        )
    assert time.monotonic() - began < LATE


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        ("black_hole", 0),
        ("half_open_down", 30),
        ("reset", 30),
        ("black_hole", 1500),
        ("reset", 1500),
        ("half_open_down", 1800),
        ("reset", 1800),
    ],
)
def test_silence_while_connecting_is_death_and_never_a_refused_login(box, proxy, fault, at):
    proxy.strike_after(fault, at, links.DOWN)
    began = time.monotonic()
    with pytest.raises(BoxUnreachable) as caught:
        box.exec("true")
    assert not isinstance(caught.value, LoginRefused), caught.value.why
    assert time.monotonic() - began < LATE


def test_a_frozen_server_is_dead_though_its_kernel_answers(box, sshd):
    with (
        pytest.raises(BoxUnreachable, match="was lost") as caught,
        box.open("echo $PPID; sleep 60") as stream,
    ):
        session = int(next(iter(stream)))
        os.kill(session, signal.SIGSTOP)
        list(stream)
    os.kill(session, signal.SIGCONT)
    assert "nothing came back" in caught.value.why


def test_a_frozen_listener_is_dead(box, sshd):
    os.kill(sshd.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(BoxUnreachable, match="does not answer") as caught:
            box.exec("true")
    finally:
        os.kill(sshd.process.pid, signal.SIGCONT)
    assert "nothing came back" in caught.value.why and caught.value.until_back is not None


def test_a_silent_command_is_not_a_dead_peer(box):
    assert box.exec(f"sleep {DEAD_AFTER * 3}; echo done").text == "done\n"


def test_a_command_that_does_not_read_is_not_a_dead_peer(box):
    assert box.exec(f"sleep {DEAD_AFTER * 3}; wc -c", bytes(24 << 20)).text.split() == [
        str(24 << 20)
    ]


def test_a_slow_relay_is_not_a_dead_peer(sshd, proxy):
    """What lies in the buffers of a relay takes longer than `dead_after`: signs that the box reads
    come all the same."""
    with proxy.transport_of(sshd, dead_after=DEAD_AFTER) as box:
        box.exec("true")
        proxy.bytes_per_second = 500_000
        began = time.monotonic()
        assert box.exec("wc -c", bytes(400_000)).text.split() == ["400000"]
        assert len(box.exec("head -c 400000 /dev/zero").stdout) == 400_000
        assert time.monotonic() - began > DEAD_AFTER * 2 and proxy.accepted == 1


@pytest.mark.skipif(bool(links.why_no_wire()), reason=links.why_no_wire() or "there is one")
def test_a_slow_link_is_not_a_dead_peer(tmp_path):
    """A question waits for seconds behind what was sent before it."""
    with (
        links.wire(round_trip=0.02, rate=60_000) as wire,
        links.sshd_behind(wire, tmp_path / "box") as far,
        far.transport(dead_after=DEAD_AFTER) as box,
    ):
        connected = box.exec("echo $PPID").text
        began = time.monotonic()
        assert box.exec("wc -c", os.urandom(130_000)).text.split() == ["130000"]
        assert time.monotonic() - began > DEAD_AFTER * 2
        assert box.exec("echo $PPID").text == connected
        with (
            pytest.raises(BoxUnreachable, match="was lost"),
            box.open("echo on; cat > /dev/null", Endless()) as stream,
        ):
            for _ in stream:
                wire.black_hole()


def test_a_stopped_laptop_hears_first_what_came_meanwhile(box, monkeypatch):
    from remote.control.ssh import keepalive

    box.exec("true")
    monkeypatch.setattr(keepalive.time, "monotonic", lambda real=time.monotonic: real() + 3600)
    assert box.exec("sleep 0.3; echo in").text == "in\n"
    assert box.exec(f"sleep {DEAD_AFTER}; echo still").text == "still\n"


def test_a_command_whose_request_was_sent_is_never_sent_again(box, proxy, sshd):
    """The request gets there, its confirmation does not: the command runs once, and that is all."""
    box.exec("true")
    proxy.half_open(links.DOWN)
    # A channel's own confirmation would be missing first: let that through, and lose the command's.
    proxy.heal(resume=True)
    channel = box._channel
    box._channel = lambda: (channel(), proxy.half_open(links.DOWN))[0]
    with pytest.raises(BoxUnreachable, match="was lost"):
        box.exec(f"echo ran >> {sshd.home}/runs")
    box._channel = channel
    proxy.heal()
    boxes.await_true(
        lambda: (sshd.home / "runs").exists() and (sshd.home / "runs").read_text() == "ran\n"
    )
    assert box.exec(f"cat {sshd.home}/runs").text == "ran\n"


def test_one_command_too_many_is_told_and_the_others_go_on(tmp_path):
    with (
        boxes.running_sshd(tmp_path / "narrow", "MaxSessions 1") as narrow,
        narrow.transport() as box,
    ):
        with box.open("echo on; sleep 2; echo off") as stream:
            assert next(iter(stream)) == b"on\n"
            with pytest.raises(BoxUnreachable, match="no further command"):
                box.exec("true")
            assert b"".join(stream) == b"off\n"
        assert box.exec("echo in").text == "in\n"


def test_a_lost_connection_is_found_again_the_moment_the_link_is_back(sshd, proxy):
    back = []

    def heal():
        back.append(time.monotonic())
        proxy.heal()

    def attempt():
        with proxy.transport_of(sshd, dead_after=DEAD_AFTER) as box:
            return box.exec("echo in").text, time.monotonic()

    proxy.black_hole()
    timer = threading.Timer(1.5, heal)
    timer.start()
    told = []
    text, at = retry_while_unreachable(attempt, progress=lambda: 0, notice=told.append)
    timer.join()
    assert text == "in\n" and told and at - back[0] < LATE


def test_links_of_one_connection_to_a_bastion_end_with_it(sshd, proxy):
    from remote.control.ssh.proxy import over_bastion

    bastion = sshd.address(port=proxy.port, dead_after=DEAD_AFTER, is_bastion=True)
    road = lambda: over_bastion(bastion, [sshd.host_key_line], "127.0.0.1", sshd.port)  # noqa: E731
    with (
        sshd.transport(proxy=road, dead_after=DEAD_AFTER) as box,
        pytest.raises(BoxUnreachable, match="was lost"),
        box.open("echo on; cat > /dev/null", Endless()) as stream,
    ):
        for _ in stream:
            proxy.black_hole()


def test_a_frozen_box_behind_a_living_bastion_is_dead(sshd):
    from remote.control.ssh.proxy import over_bastion

    bastion = sshd.address(dead_after=DEAD_AFTER, is_bastion=True)
    road = lambda: over_bastion(bastion, [sshd.host_key_line], "127.0.0.1", sshd.port)  # noqa: E731
    with sshd.transport(proxy=road, dead_after=DEAD_AFTER) as box:
        with (
            pytest.raises(BoxUnreachable, match="was lost"),
            box.open("echo $PPID; sleep 60") as stream,
        ):
            session = int(next(iter(stream)))
            os.kill(session, signal.SIGSTOP)
            list(stream)
        os.kill(session, signal.SIGCONT)
        assert box.exec("echo again").text == "again\n", "the bastion's connection lives on"
