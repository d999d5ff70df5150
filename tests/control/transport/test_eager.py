"""What goes ahead of its answer: fewer round trips, and never a command that runs twice, or that nobody hears of."""

import hashlib
import io
import os
import socket
import threading

import paramiko
import pytest

from remote.control.errors import BoxUnreachable, LoginRefused
from remote.control.transport import eager
from tests.integration import boxes, links
from tests.integration.boxes import await_true, make_key

pytestmark = [pytest.mark.sshd, pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server")]


class Counting(links.Proxy):
    """Counts how often the laptop spoke after the box had: the round trips behind TCP's own."""

    flights, last = 0, links.DOWN

    async def passed_on(self, direction, size):
        self.flights += self.last == links.DOWN and direction == links.UP
        self.last = direction
        await super().passed_on(direction, size)


@pytest.fixture
def far(sshd):
    proxy = Counting(sshd.port)
    proxy.delay_seconds = 0.1  # a busy machine's pauses within a flight are shorter
    yield proxy
    proxy.close()


def flights(far, work):
    before = far.flights
    assert work() == "in"
    return far.flights - before


def test_round_trips(sshd, far, monkeypatch):
    with far.transport_of(sshd) as box:
        assert flights(far, lambda: box.exec("cat", b"in").text) <= 4, "the greeting, the offers, the keys, all the rest"
        assert flights(far, lambda: box.exec("cat", b"in").text) <= 2, "the channel; the command with its input"
    monkeypatch.setattr(eager, "knows", lambda version: False)
    with far.transport_of(sshd) as box:
        assert flights(far, lambda: box.exec("cat", b"in").text) == 6
        assert flights(far, lambda: box.exec("echo -n in").text) == 2


@pytest.mark.parametrize("size", [0, 1, eager.LENT_BYTES, eager.LENT_BYTES + 1, 5_000_000])
@pytest.mark.parametrize("kind", [bytes, io.BytesIO])
def test_input_is_whole_whether_it_goes_ahead_or_not(sshd, size, kind):
    content = os.urandom(size)
    with sshd.transport() as box:
        for _ in range(2):
            assert box.exec("sha256sum", kind(content)).text.split()[0] == hashlib.sha256(content).hexdigest()


def test_what_is_lent_is_paid_back(sshd):
    """A command that reads late: no more is under way than the server has room for, or it would drop what is too much."""
    with sshd.transport() as box:
        content = os.urandom(6_000_000)
        assert box.exec("sleep 0.5; sha256sum", content).text.split()[0] == hashlib.sha256(content).hexdigest()
    assert "too much data" not in (sshd.folder / "sshd.log").read_text()


@pytest.mark.parametrize("kind", [bytes, io.BytesIO])
@pytest.mark.parametrize("size", [2, 300_000])
def test_a_wrong_guess_costs_a_connection_and_runs_nothing_twice(sshd, monkeypatch, tmp_path, kind, size):
    monkeypatch.setattr(eager, "FIRST_NUMBER", 3)
    content = os.urandom(size)
    with sshd.transport() as box:
        assert box.exec(f"echo ran >> {tmp_path}/runs; cat", kind(content)).stdout == content
        assert box.exec(f"cat {tmp_path}/runs").text == "ran\n"
        assert box.round_trips == 2
    await_true(lambda: not any(thread.name == "stdin" for thread in threading.enumerate()))
    assert "unknown channel 3" in (sshd.folder / "sshd.log").read_text()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_signature_that_takes_long_is_asked_for_once(sshd, tmp_path, monkeypatch, kind):
    """An agent may ask a person for a touch; meanwhile the answer comes that others wait for."""
    make_key(tmp_path / "key", kind)
    with (sshd.folder / "authorized").open("a") as file:
        file.write((tmp_path / "key.pub").read_text())
    key = paramiko.PKey.from_path(tmp_path / "key")
    sign, signed, logins = type(key).sign_ssh_data, [], []

    def slowly(*of_what):
        signed.append(threading.Event().wait(0.2))
        return sign(*of_what)

    def send(connection, message):
        logins.append(message.asbytes()[:1] == paramiko.common.cMSG_USERAUTH_REQUEST)
        paramiko.Transport._send_message(connection, message)

    monkeypatch.setattr(type(key), "sign_ssh_data", slowly)
    monkeypatch.setattr(eager.EagerTransport, "_send_message", send, raising=False)
    with sshd.transport(key=tmp_path / "key") as box:
        assert box.exec("cat", b"in").text == "in"
    assert (len(signed), sum(logins)) == (1, 1)


def test_a_refused_key_runs_nothing(sshd, tmp_path):
    make_key(tmp_path / "stranger")
    with pytest.raises(LoginRefused, match="refuses the login"):
        sshd.transport(key=tmp_path / "stranger").exec(f"touch {tmp_path}/ran", b"in")
    with sshd.transport() as box:
        assert box.exec("true").exit_code == 0
    assert not (tmp_path / "ran").exists()


def test_a_server_that_gives_no_session_is_told(tmp_path):
    with boxes.running_sshd(tmp_path / "none", "MaxSessions 0") as none, none.transport() as box:
        with pytest.raises(BoxUnreachable, match="no further command") as caught:
            box.exec(f"touch {tmp_path}/ran", bytes(300_000))
        assert "MaxSessions" in caught.value.remedy
    await_true(lambda: not any(thread.name == "stdin" for thread in threading.enumerate()))
    assert not (tmp_path / "ran").exists()


def test_a_key_that_is_not_enough_is_told(tmp_path):
    options = ("AuthenticationMethods publickey,password", "PasswordAuthentication yes")
    with boxes.running_sshd(tmp_path / "more", *options) as more, pytest.raises(LoginRefused) as caught:
        more.transport().exec("true")
    assert "password as well" in caught.value.why


class Refusing(paramiko.ServerInterface):
    """Lets in whom it knows, and runs nothing."""

    def check_auth_publickey(self, username, key):
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username):
        return "publickey"

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED


def test_a_server_of_another_make_that_runs_no_command(sshd):
    served = []

    def serve(listener):
        served.append(paramiko.Transport(listener.accept()[0]))
        served[0].add_server_key(paramiko.PKey.from_path(sshd.folder / "host"))
        served[0].start_server(threading.Event(), Refusing())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        with sshd.transport(port=listener.getsockname()[1]) as box, pytest.raises(BoxUnreachable, match="no further command"):
            box.exec("true", b"in")
        serving.join()
        served[0].close()


@pytest.mark.parametrize(
    ("version", "takes"),
    [
        ("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7", True),
        ("SSH-2.0-OpenSSH_10.0", True),
        ("SSH-2.0-OpenSSH_for_Windows_9.5", False),
        ("SSH-2.0-AsyncSSH_2.21.0", False),
        ("SSH-2.0-dropbear_2022.83", False),
    ],
)
def test_who_is_sent_a_command_ahead(version, takes):
    assert eager.knows(version) is takes
