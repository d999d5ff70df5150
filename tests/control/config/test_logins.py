"""`user:` and `host:` take what sshd takes; none of it becomes shell text or another word for
ssh."""

import shutil
import subprocess

import pytest

from remote.control.cloud.access import openssh, reach
from remote.control.cloud.box import Box
from remote.control.config.inventory import Bastion, Inventory
from remote.control.errors import WindlassError
from remote.control.ssh import config as ssh_config
from remote.control.ssh import known_hosts

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEJkPSmkNVAbtOEBV9dFI9Nw2mFD4hDvz5PhnLlBvaxT"
USERS = [
    "ubuntu",
    "DOM\\user",
    "user@dom",
    "1abc",
    "007",
    "host$",
    "DOM+user",
    "a.b-c_d",
    "Üser",
    "user@dom@x",
    "A~b",
    "first,last",
]
NO_USERS = [
    "",
    "-oProxyCommand=x",
    "a b",
    "a\tb",
    "a\nb",
    "a;b",
    "a'b",
    'a"b',
    "a`b`",
    "$(x)",
    "a|b",
    "a&b",
    "a>b",
    "a{b}",
    "a\\",
    "#a",
    "a%b",
    "a\x00",
]
HOSTS = [
    "gpu.example.org",
    "192.0.2.7",
    "2001:db8::7",
    "fe80::1%eth0",
    "fe80::1%wg-0.1",
    "::ffff:192.0.2.7",
    "my_host",
    "alias",
]
NO_HOSTS = [
    "",
    "-v",
    "a b",
    "a;b",
    "$(x)",
    "a%eth0",
    "fe80::1%",
    "fe80::1%e;x",
    "fe80::1%%eth0",
    "a\n",
    "user@host",
    "fe80::1%eth0%x",
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "100% mine"))
    (tmp_path / "100% mine").mkdir()
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def inventory(**facts):
    boxes = {"lab": {"provider": "static", "host": "192.0.2.7", "host_key": KEY, **facts}}
    return Inventory.model_validate({"default_box": "lab", "boxes": boxes})


def entries(user="ubuntu", host="h"):
    """The user and the host in each place of the inventory that has one."""
    bastion = {"host": host, "user": user, "host_key": KEY}
    yield {"provider": "static", "host": host, "user": user}
    yield {
        "provider": "ec2",
        "region": "us-east-1",
        "user": user,
        "reach": "bastion",
        "bastion": bastion,
    }


@pytest.mark.parametrize("user", USERS)
def test_users_that_sshd_takes(user):
    for entry in entries(user=user):
        assert (
            Inventory.model_validate({"default_box": "b", "boxes": {"b": entry}}).boxes["b"].user
            == user
        )


@pytest.mark.parametrize("user", NO_USERS)
def test_users_that_it_does_not(user):
    for entry in entries(user=user):
        with pytest.raises(ValueError, match="login name"):
            Inventory.model_validate({"default_box": "b", "boxes": {"b": entry}})


@pytest.mark.parametrize("host", HOSTS)
def test_hosts(host):
    assert (
        inventory(host=host).boxes["lab"].host == host
        and Bastion(host=host, user="u", host_key=KEY).host == host
    )


@pytest.mark.parametrize("host", NO_HOSTS)
def test_no_hosts(host):
    for entry in [{"provider": "static", "host": host}, next(entries(host=host))]:
        with pytest.raises(ValueError, match="name or an address"):
            Inventory.model_validate({"default_box": "b", "boxes": {"b": entry}})


def box(user, host, bastion=None):
    return Box(
        "lab",
        "static",
        "",
        "running",
        host,
        2222,
        user,
        None,
        "static-lab",
        "",
        "",
        "windlass",
        None,
        None,
        None,
        reach="bastion" if bastion else "public",
        bastion=bastion,
    )


def understood(words):
    """What the system's ssh makes of its words, without connecting."""
    done = subprocess.run([words[0], "-G", *words[1:]], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


needs_ssh = pytest.mark.skipif(not shutil.which("ssh"), reason="OpenSSH's client is not there")


@needs_ssh
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("host", ["192.0.2.7", "fe80::1%eth0"])
def test_ssh_understands_the_very_user_and_host(home, user, host):
    found = understood(openssh.command(box(user, host)))
    assert (found["user"], found["hostname"], found["port"]) == (user, host, "2222")
    assert found["userknownhostsfile"] in (str(known_hosts.path()), f'"{known_hosts.path()}"')
    (home / "block").write_text(openssh.config_block(box(user, host)))
    found = understood(["ssh", "-F", str(home / "block"), "windlass-lab"])
    assert (found["user"], found["hostname"]) == (user, host)


@needs_ssh
@pytest.mark.parametrize("user", ["DOM\\user", "user@dom", "host$"])
def test_the_way_over_a_bastion_is_a_line_of_shell_that_means_it(home, user):
    bastion = Bastion(host="fe80::1%eth0", user=user, host_key=KEY)
    line = reach.proxy_command(box("ubuntu", "2001:db8::7", bastion))
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert f"User={user}" in words and "[2001:db8::7]:2222" in words
    found = understood([words[0], *words[1:]])
    assert (found["user"], found["hostname"]) == (user, "fe80::1%eth0")
    assert known_hosts.pinned(f"bastion-fe80::1%eth0-{bastion.port}") == [KEY]


@pytest.mark.parametrize("user", ["DOM\\user", "host$HOME", "$USER", "a~b", "a*b", "a!b"])
def test_a_user_within_a_proxy_command_of_ones_own_is_one_word(home, user):
    (home / ".ssh/config").write_text("Host *\n  ProxyCommand printf '%%s' %r\n")
    told = ssh_config.lookup("gpu", 22, user)
    assert told.user == user
    assert (
        subprocess.run(["sh", "-c", told.proxy], capture_output=True, text=True, check=True).stdout
        == user
    )


def test_the_error_says_what_a_name_is(tmp_path, home):
    from remote.control.config.inventory import load_inventory

    path = tmp_path / "inventory.yaml"
    path.write_text(
        "default_box: lab\nboxes:\n  lab:\n    provider: static\n    host: 192.0.2.7\n    user:"
        " a b\n"
    )
    with pytest.raises(WindlassError) as caught:
        load_inventory(path)
    (finding,) = caught.value.findings
    assert finding.where.endswith(":6") and "login name" in finding.expected
