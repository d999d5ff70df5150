"""Windlass's own known_hosts."""

import stat
import subprocess

import pytest

from remote.control.errors import HostKeyMismatch
from remote.control.ssh import known_hosts

from .conftest import HOST_KEY, OTHER_KEY


def test_a_pin_stays_until_it_is_forgotten():
    known_hosts.pin("i-1", f"{HOST_KEY} root@box")
    known_hosts.pin("i-1", HOST_KEY)
    known_hosts.pin("i-2", OTHER_KEY)
    assert known_hosts.pinned("i-1") == [HOST_KEY]
    assert known_hosts.forget("i-1")
    assert not known_hosts.forget("i-1")
    assert known_hosts.pinned("i-1") == []
    assert known_hosts.pinned("i-2") == [OTHER_KEY]


def test_another_key_of_the_type_is_refused():
    known_hosts.pin("i-1", HOST_KEY)
    with pytest.raises(HostKeyMismatch, match="another machine"):
        known_hosts.pin("i-1", OTHER_KEY)
    assert known_hosts.pinned("i-1") == [HOST_KEY]


NO_KEYS = [
    "",
    "ssh-ed25519",
    "ssh-ed25519 !!",
    "ssh-rsa " + HOST_KEY.split()[1],
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
]


@pytest.mark.parametrize("line", NO_KEYS)
def test_what_is_no_key_is_refused(line):
    with pytest.raises(ValueError, match="not a public host key"):
        known_hosts.pin("i-1", line)


def test_openssh_reads_the_file_and_nobody_else():
    known_hosts.pin("i-1", HOST_KEY)
    found = subprocess.run(
        ["ssh-keygen", "-F", "i-1", "-f", known_hosts.path()], capture_output=True, text=True
    )
    assert HOST_KEY in found.stdout
    assert stat.S_IMODE(known_hosts.path().stat().st_mode) == 0o600
