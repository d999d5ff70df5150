"""A bare moto server as the cloud: the wire API without instances behind it. SSH is a socket that
greets."""

import socket
import threading
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from moto.ec2.models import amis
from moto.ec2.responses import general
from moto.server import ThreadedMotoServer

from remote.control.cloud.access import keys
from remote.control.cloud.account import credentials, endpoint
from remote.control.cloud.account.endpoint import Address, EmbeddedEndpoint, Patience
from remote.control.cloud.ec2 import provider as ec2_module
from remote.control.config.inventory import Ec2Entry


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "my project"))
    (tmp_path / "my project").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "my project"
    endpoint._aws_client.cache_clear()
    credentials.forget()


IMAGE = "ami-12c6146b"


@pytest.fixture(scope="session")
def moto():
    """Its one image is IMAGE: of the hundreds that moto knows, it would make each anew for every
    cloud, and keep them."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amis, "AMIS", [each for each in amis.AMIS if each["ami_id"] == IMAGE])
        patch.setattr(amis, "environ", {"MOTO_AMIS_PATH": "these"})
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(scope="session")
def greeter():
    """The port of something that says what an SSH server says first."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"SSH-2.0-greeter\r\n")

    thread = threading.Thread(target=greet, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


SHORT = Patience(state=2, ssh=0.3, host_key=0.3, poll=0.01)


@dataclass(frozen=True)
class Moto(EmbeddedEndpoint):
    """Moto as if it were AWS: billed, with the caller's address and the SSH port of the test's
    choice."""

    ssh_port: int = 22
    cidr: str = "192.0.2.7/32"
    is_billed: bool = True
    patience: Patience = SHORT

    def caller_cidr(self) -> str:
        return self.cidr

    def address_of(self, instance):
        return Address("127.0.0.1", self.ssh_port, "ubuntu")


class Console:
    """What every instance's console shows."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self.shows(HOST_KEY)

    def shows(self, *key_lines):
        block = "".join(f"{line} root@box\n" for line in key_lines)
        self.says(
            f"boot\n-----BEGIN SSH HOST KEY KEYS-----\n{block}-----END SSH HOST KEY"
            " KEYS-----\ndone\n"
        )

    def says(self, text):
        self._monkeypatch.setattr(general, "SAMPLE_CONSOLE_OUTPUT", text)


def new_public_key(folder, name):
    path = folder / name
    path.write_bytes(keys._new_key())
    return keys.public_line(path, "test")


HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEJkPSmkNVAbtOEBV9dFI9Nw2mFD4hDvz5PhnLlBvaxT"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJcZ3sHbNXkvDlyYZR7XqH5wtNbL9Wk6cfVwMSbDTlb"


@pytest.fixture
def console(monkeypatch):
    return Console(monkeypatch)


@pytest.fixture
def cloud(moto, greeter, console, monkeypatch):
    """A fresh cloud; `cloud.entry` is a box that `boxes` finds there."""
    import httpx

    httpx.post(f"{moto}/moto-api/reset")
    there = Moto(moto, ssh_port=greeter)
    entry = Ec2Entry(
        name="trainer", region="us-east-1", ami=IMAGE, disk_gb=40, tags={"team": "research"}
    )
    fixture = SimpleNamespace(
        endpoint=there, entry=entry, ec2=there.client("ec2"), console=console, said=[], undo=[]
    )
    fixture.say = fixture.said.append
    fixture.box = lambda entry=entry: ec2_module.Ec2(entry, fixture.endpoint)
    monkeypatch.setattr(endpoint, "of_entry", lambda entry, start=True: fixture.endpoint)
    yield fixture
    for undo in fixture.undo:
        undo()
