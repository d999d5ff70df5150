import json
import os
import socket
import subprocess

import pytest

from remote.control.cloud import embedded as client
from remote.control.daemon import start_time_of
from remote.control.errors import CloudError
from remote.embedded.cloud import peer
from remote.embedded.instances import machine, openssh


def test_host_key_block_is_what_ssh_keygen_says(tmp_path):
    key = tmp_path / "key"
    machine.make_host_key(key)
    assert key.stat().st_mode & 0o077 == 0
    public = key.with_suffix(".pub").read_text()
    block = machine.host_key_block(public, "i-1")
    between = block.partition("-----BEGIN SSH HOST KEY KEYS-----\n")[2].partition(
        "-----END SSH HOST KEY KEYS-----"
    )[0]
    assert between.split()[:2] == public.split()
    said = subprocess.run(
        ["ssh-keygen", "-y", "-f", key], capture_output=True, text=True, check=True
    ).stdout
    assert said.split()[:2] == public.split()
    fingerprint = subprocess.run(
        ["ssh-keygen", "-l", "-f", key], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert fingerprint in block


def test_an_address_is_loopback_and_free():
    host, port = machine.free_address("i-1")
    assert host.startswith("127.")
    with socket.socket() as probe:
        probe.bind((host, port))
    assert machine.free_address("i-1")[0] == host


def test_a_reused_pid_is_not_taken_for_the_server():
    own = machine.Record(server_pid=os.getpid(), server_start=start_time_of(os.getpid()))
    assert own.server_alive()
    assert not machine.Record(server_pid=os.getpid(), server_start="0").server_alive()
    assert not machine.Record().server_alive()


def test_a_torn_record_counts_as_none(tmp_path):
    path = tmp_path / "machine.json"
    assert machine.Record.read(path) == machine.Record()
    path.write_text('{"host": "127.0')
    assert machine.Record.read(path) == machine.Record()
    path.write_text(json.dumps({"unheard": "of"}))
    assert machine.Record.read(path) == machine.Record()


@pytest.mark.sshd
def test_sshd_accepts_the_configuration(tmp_path):
    folder = tmp_path / 'a "b" %c'
    (folder / "disk").mkdir(parents=True)
    machine.make_host_key(folder / "key")
    command = openssh.command(
        folder, "127.0.0.1", 22022, folder / "key", folder / "authorized %keys"
    )
    done = subprocess.run(
        [command[0], "-T", *command[3:]], capture_output=True, text=True, check=True
    )
    told = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert told["setenv"] == f"HOME={folder / 'disk'}"
    assert told["hostkey"] == str(folder / "key")
    assert told["listenaddress"] == "127.0.0.1:22022"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_peer_is_known_by_its_socket(family):
    with socket.create_server(("127.0.0.1", 0)) as server:
        visitor = socket.socket(family)
        host, number = server.getsockname()
        visitor.connect((f"::ffff:{host}" if family == socket.AF_INET6 else host, number))
        accepted, (address, port) = server.accept()
        with accepted:
            assert peer.is_own(address, port, (host, number))
            visitor.close()
        assert not peer._can_tell() or not peer.is_own(address, port, (host, number)), (
            "a closed socket belongs to nobody"
        )


def test_the_kernel_and_its_table_say_the_same():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as visitor,
    ):
        host, port = visitor.getsockname()
        if not peer._can_tell():
            pytest.skip("this machine does not tell")
        assert peer._from_table(host, port) == os.getuid()
        assert peer._owner(host, port, server.getsockname()) == os.getuid()


def test_without_a_cloud_the_remedy_is_told():
    with pytest.raises(CloudError) as caught:
        client.endpoint(start=False)
    assert "cloud.up" in caught.value.remedy
    assert client.down() is False


def test_a_boot_without_any_ssh_server_says_why(tmp_path, monkeypatch):
    def broken(folder, host, port, host_key, authorized_keys):
        return ["sh", "-c", "echo no such luck >&2; exit 3"]

    monkeypatch.setenv(machine.SSH_SERVER, "library")
    monkeypatch.setattr(machine.asyncssh_server, "command", broken)
    box = machine.Machine(
        "i-1", tmp_path / "cloud" / "instances" / "i-1", "us-east-1", "http://127.0.0.1:1"
    )
    with pytest.raises(CloudError) as caught:
        box.boot("ssh-ed25519 AAAA", b"")
    assert "exit code 3: no such luck" in caught.value.why
    box.halt(0)
