"""Port 22 closed on the way: packets vanish, the door is opened once, and the same command goes
on."""

import socket

import pytest

from remote.control.cloud.box import Box
from remote.control.errors import BoxUnreachable
from remote.control.transport import connect
from tests.integration import boxes

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server"),
]


@pytest.fixture
def closed():
    """A port where packets vanish, as behind a firewall: the queue of a listener that takes nobody
    is full."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(listener.getsockname())

    def open_up():
        for each in (*waiting, listener):
            each.close()

    yield listener.getsockname()[1], open_up
    open_up()


def test_a_closed_port_is_opened_once_and_tried_again(closed, tmp_path):
    port, open_up = closed
    server = boxes.Sshd(tmp_path / "box", port=port).prepare()
    healed = []

    def heal():
        healed.append(True)
        open_up()
        server.start()
        return True

    try:
        with server.transport(heal=heal, dead_after=2) as box:
            assert box.exec("echo in").text == "in\n"
    finally:
        server.stop()
    assert healed == [True]


def test_what_cannot_be_healed_says_what_would(closed, tmp_path):
    server = boxes.Sshd(tmp_path / "box", port=closed[0]).prepare()
    asked = []
    with pytest.raises(BoxUnreachable, match="does not answer") as caught:
        server.transport(heal=lambda: asked.append(True), dead_after=0.3).exec("true")
    assert asked == [True] and "`./inv start demo`" in caught.value.remedy


def test_a_server_that_is_down_is_not_healed(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    asked = []
    server = boxes.Sshd(tmp_path / "box", port=port).prepare()
    with pytest.raises(BoxUnreachable):
        server.transport(heal=lambda: asked.append(True)).exec("true")
    assert not asked


def test_a_transport_asks_for_the_port_once(monkeypatch):
    asked = []
    monkeypatch.setattr(
        connect, "_admit_this_laptop", lambda box, say: asked.append(box.name) or True
    )
    box = Box(
        "gpu",
        "ec2",
        "i-1",
        "running",
        "127.0.0.1",
        22,
        "ubuntu",
        None,
        "i-1",
        "",
        "",
        "windlass",
        None,
        None,
        None,
    )
    heal = connect.connect(box).address.heal
    assert [heal(), heal()] == [True, False] and asked == ["gpu"]
