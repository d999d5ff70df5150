"""TCP over networks that come and go."""

import errno
import socket
import threading
import time

import pytest

from remote.control.ssh import dial as dialling
from remote.control.ssh.dial import dial, until_greeted


@pytest.fixture
def full():
    """A port whose SYNs are dropped, and what opens it: the queue of its listener is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())

        def open_up():
            for _ in waiting:
                listener.settimeout(0.2)
                try:
                    listener.accept()[0].close()
                except TimeoutError:
                    return

        yield listener.getsockname()[1], open_up
        for each in waiting:
            each.close()


def greeting(listener, word=b"SSH-2.0-x\r\n"):
    def greet():
        while True:
            try:
                with listener.accept()[0] as link:
                    link.sendall(word)
            except OSError:
                return

    threading.Thread(target=greet, daemon=True).start()


def test_it_connects_and_blocks():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        dial("127.0.0.1", listener.getsockname()[1], 5) as link,
    ):
        assert link.gettimeout() is None and link.getpeername() == listener.getsockname()
        assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_refusal_is_told_at_once():
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        dial("127.0.0.1", 1, 60)
    assert time.monotonic() - began < 30


def test_silence_ends_in_time(full):
    with pytest.raises(TimeoutError, match="no answer within"):
        dial("127.0.0.1", full[0], 0.3)


def test_a_network_that_comes_back_is_used_by_an_attempt_of_its_own(full):
    """The first attempts are lost; the one that gets through is young."""
    port, open_up = full
    began = []
    timer = threading.Timer(0.5, lambda: (began.append(time.monotonic()), open_up()))
    timer.start()
    with dial("127.0.0.1", port, 20, patience_seconds=0.1) as link:
        assert link.getpeername()[1] == port
        assert time.monotonic() - began[0] < 10
    timer.join()


def test_of_several_addresses_the_one_that_answers_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = [
            (socket.AF_INET6, 1, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, 1, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(dialling.socket, "getaddrinfo", lambda *_, **__: found)
        with dial("two.example.org", port, 10) as link:
            assert link.getpeername()[0] == "127.0.0.1"


def test_a_name_that_is_none():
    with pytest.raises(OSError, match=r"(?i)name|resol|known"):
        dial("no-such-host.invalid", 22, 20)


def test_a_resolver_that_does_not_answer(monkeypatch):
    asked = threading.Event()

    def slow(*_, flags=0, **__):
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror("a name")
        return [asked.wait(5)][:0]

    monkeypatch.setattr(dialling.socket, "getaddrinfo", slow)
    with pytest.raises(TimeoutError, match="is not resolved"):
        dial("slow.example.org", 22, 0.2)
    asked.set()


def test_a_silent_address_does_not_stand_before_one_that_answers(full, monkeypatch):
    with socket.create_server(("127.0.0.2", full[0])) as listener:
        found = [
            (socket.AF_INET, 1, 6, "", ("127.0.0.1", full[0])),
            (socket.AF_INET, 1, 6, "", listener.getsockname()),
        ]
        monkeypatch.setattr(dialling.socket, "getaddrinfo", lambda *_, **__: found)
        with dial("two.example.org", full[0], 10) as link:
            assert link.getpeername()[0] == "127.0.0.2"


def test_until_greeted_returns_when_a_server_greets(monkeypatch):
    monkeypatch.setattr(dialling, "_LOOK_SECONDS", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    until_greeted("127.0.0.1", port)(0.2)
    assert time.monotonic() - began >= 0.2
    with socket.create_server(("127.0.0.1", port)) as listener:
        greeting(listener)
        began = time.monotonic()
        until_greeted("127.0.0.1", port)(60)
        assert time.monotonic() - began < 30


def test_a_greeting_of_something_else_is_none(monkeypatch):
    monkeypatch.setattr(dialling, "_LOOK_SECONDS", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeting(listener, b"Not allowed at this time\r\n")
        began = time.monotonic()
        until_greeted("127.0.0.1", listener.getsockname()[1])(0.3)
        assert time.monotonic() - began >= 0.3


def test_the_error_of_the_last_address_is_told(monkeypatch):
    found = [
        (socket.AF_INET, 1, 6, "", ("127.0.0.1", 1)),
        (socket.AF_INET, 1, 6, "", ("127.0.0.2", 1)),
    ]
    monkeypatch.setattr(dialling.socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(OSError) as caught:
        dial("two.example.org", 1, 10)
    assert caught.value.errno == errno.ECONNREFUSED
