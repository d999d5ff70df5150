"""Reading host keys from a console."""

from remote.control.cloud.access import host_keys

from .conftest import HOST_KEY, OTHER_KEY


def block(*lines):
    return "\n".join(
        ["-----BEGIN SSH HOST KEY KEYS-----", *lines, "-----END SSH HOST KEY KEYS-----"]
    )


def test_the_last_whole_block_counts():
    text = (
        f"boot\n{block(OTHER_KEY)}\nreboot\n{block(HOST_KEY + ' root@ip-10-0-0-1')}\n-----BEGIN SSH"
        f" HOST KEY KEYS-----\n{OTHER_KEY}"
    )
    assert host_keys.in_console(text) == [HOST_KEY]


def test_prefixes_and_noise_are_passed_over():
    text = block(
        "[   17.3] cloud-init[901]: " + HOST_KEY + " root@box",
        "ssh-rsa AAAAgarbage",
        "login: ",
        "ssh-ed25519 AAAAB3NzaC1yc2E=",
    )
    assert host_keys.in_console(text) == [HOST_KEY]


def test_carriage_returns_of_a_serial_console_do_no_harm():
    assert host_keys.in_console(block(HOST_KEY + " root@box").replace("\n", "\r\n")) == [HOST_KEY]


def test_no_block_no_key():
    assert host_keys.in_console("") == []
    assert host_keys.in_console(HOST_KEY) == []
    assert host_keys.in_console(f"-----BEGIN SSH HOST KEY KEYS-----\n{HOST_KEY}") == []
