"""Commands to a host that stands, behind a jump host of the user's ssh_config: what they say of it,
and what they say of the way there."""

import getpass
import shutil

import pytest

import tasks
from remote.contract.job.exits import Exit
from tests.integration import boxes
from tests.integration.boxes import make_key
from tests.integration.typed import in_process

pytestmark = pytest.mark.skipif(
    boxes.SSHD is None or shutil.which("ssh") is None,
    reason="needs ssh and sshd: apt-get install openssh-client openssh-server",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with boxes.running_sshd(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def gate(tmp_path):
    with boxes.running_sshd(tmp_path / "gate") as server:
        yield server


@pytest.fixture
def known(lab, gate, tmp_path, monkeypatch):
    """A project whose one box is `lab`, reached through `gate` alone; the user's known_hosts."""
    (tmp_path / "inventory.yaml").write_text(
        "default_box: lab\nboxes:\n  lab: {provider: static, host: mylab}\n"
    )
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr("remote.control.cloud.static._PATIENCE_SECONDS", 0)
    file = tmp_path / "home/.ssh/known_hosts"
    file.parent.mkdir(parents=True)
    hosts = {"mylab": (lab, "  ProxyJump gate\n"), "gate": (gate, "")}
    (file.parent / "config").write_text(
        "".join(
            f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {server.key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {file}\n{more}"
            for name, (server, more) in hosts.items()
        )
    )
    file.write_text(
        "".join(f"[127.0.0.1]:{server.port} {server.host_key_line}" for server, _ in hosts.values())
    )
    return file


@pytest.fixture
def says(known, capsys):
    """Type a command; its exit code, and all that it said."""

    def typed(line):
        code, out, err = in_process(capsys, tasks.ns, line)
        return code, out + err

    return typed


def test_nothing_is_promised_of_a_host_that_stands(says):
    code, said = says("stop lab")
    assert code == 0 and "lab is left running" in said and "disk" not in said
    for line in ("stop lab -n", "reboot lab -n", "terminate lab -n"):
        code, said = says(line)
        assert code == 0 and "is a host that stands, and never" in said, line
    code, said = says("terminate lab --yes")
    assert code == Exit.CLOUD and "never terminated" in said and "lost" not in said
    for line in ("box.clocks lab", "box.extend lab --lifetime 2h"):
        code, said = says(line)
        assert code == Exit.CLOUD and "has no clocks" in said and "inv start" not in said, line


def test_one_that_lets_this_laptop_in(says):
    code, said = says("doctor lab")
    assert code == 0 and "lets you in" in said
    assert "inv launch" not in said and "--box lab" in said
    code, said = says("start lab")
    assert code == 0 and "lab is up" in said


def test_a_jump_host_that_is_down_is_what_is_told(says, gate):
    gate.stop()
    for line, code in (("start lab", Exit.BOX_UNREACHABLE), ("doctor lab", Exit.PREFLIGHT)):
        ended, said = says(line)
        assert ended == code and "jump host gate of box lab" in said, line
    ended, said = says("top")
    assert ended == 0 and "no box tells of its jobs" in said


def test_a_host_that_is_down_behind_a_jump_host_that_is_up(says, known, lab):
    config = known.parent / "config"
    config.write_text(config.read_text().replace(f"Port {lab.port}\n", "Port 1\n"))
    known.write_text(known.read_text() + f"[127.0.0.1]:1 {lab.host_key_line}")
    for line, code in (("start lab", Exit.BOX_UNREACHABLE), ("ps lab", Exit.BOX_UNREACHABLE)):
        ended, said = says(line)
        assert ended == code and "jump host gate does not get through to box lab" in said, line
        assert "Exception" not in said and "bastion" not in said, line


def test_one_with_another_host_key_is_not_up(says, known, lab, tmp_path):
    make_key(tmp_path / "other")
    true = lab.host_key_line.split()[1]
    false = (tmp_path / "other.pub").read_text().split()[1]
    known.write_text(known.read_text().replace(true, false))
    code, said = says("start lab")
    assert code == Exit.HOST_KEY_MISMATCH and "known_hosts" in said
