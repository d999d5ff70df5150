import os
import subprocess
from pathlib import Path

import pytest

from remote.embedded.instances import guest
from remote.embedded.instances.guest import power


@pytest.fixture
def box(tmp_path):
    """The folder of an instance whose path a careless shell line would break."""
    folder = tmp_path / "my 'cloud' $HOME" / "instances" / "i-1"
    (folder / "disk").mkdir(parents=True)
    return folder


def enter(folder: Path, command: str) -> str:
    done = subprocess.run(
        [folder / "enter"],
        env={"SSH_ORIGINAL_COMMAND": command},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_command_runs_in_the_boxs_home_with_its_environment(box, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:it's $ecret@mirror/simple")
    monkeypatch.setenv("UNRELATED", "secret of the caller's")
    guest.prepare(box, "i-1", "us-east-1", "http://127.0.0.1:1")
    assert enter(box, "pwd") == f"{box / 'disk'}\n"
    assert enter(box, 'echo "$PIP_INDEX_URL"') == "https://user:it's $ecret@mirror/simple\n"
    assert enter(box, "echo $WINDLASS_INSTANCE $SSH_ORIGINAL_COMMAND$UNRELATED") == "i-1\n"
    assert (box / "environment").stat().st_mode & 0o077 == 0


def test_pip_keeps_the_callers_settings_and_cache(box, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PIP_CONFIG_FILE", "PIP_CACHE_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text("")
    told = guest.environment(box, "i-1", "us-east-1", "http://127.0.0.1:1")
    assert told["PIP_CONFIG_FILE"] == str(settings)
    assert told["PIP_CACHE_DIR"].startswith(str(tmp_path))
    assert told["HOME"] == str(box / "disk")


def test_all_boxes_of_a_laptop_are_told_of_the_same_environments(box, tmp_path):
    told = [
        guest.environment(box.with_name(name), name, "us-east-1", "http://127.0.0.1:1")
        for name in ("i-1", "i-2")
    ]
    assert {each["WINDLASS_COMMON_ENVIRONMENTS"] for each in told} == {
        str(tmp_path / "environments")
    }


def test_a_proxy_is_passed_on_but_never_asked_for_loopback(box, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", ".internal")
    told = guest.environment(box, "i-1", "us-east-1", "http://127.0.0.1:1")
    assert told["https_proxy"] == "http://proxy:3128"
    assert told["no_proxy"] == ".internal,127.0.0.1,localhost"


def test_the_boxs_python_makes_environments(box):
    guest.prepare(box, "i-1", "us-east-1", "http://127.0.0.1:1")
    enter(box, "python3 -m venv --without-pip env")
    assert (
        enter(box, "env/bin/python -c 'import sys; print(sys.version_info >= (3, 10), sys.prefix)'")
        == f"True {box / 'disk' / 'env'}\n"
    )


def test_sudo_is_the_user_and_systemd_is_absent(box):
    guest.prepare(box, "i-1", "us-east-1", "http://127.0.0.1:1")
    assert (
        enter(box, "sudo -n -u ubuntu NAME=value sh -c 'echo $NAME $(id -u)'")
        == f"value {os.getuid()}\n"
    )
    assert enter(box, "systemd-run true 2>&1 || echo $?").endswith("1\n")
    assert enter(
        box, "for name in shutdown poweroff halt reboot; do command -v $name; done"
    ).splitlines() == [
        str(box / "bin" / name) for name in ("shutdown", "poweroff", "halt", "reboot")
    ]


@pytest.mark.parametrize(
    ("words", "action", "minutes"),
    [
        (["shutdown"], "off", 1),
        (["shutdown", "-h", "now"], "off", 0),
        (["shutdown", "-P", "+5", "watchdog"], "off", 5),
        (["shutdown", "-r", "now"], "reboot", 0),
        (["shutdown", "-c"], "cancel", 0),
        (["reboot"], "reboot", 0),
        (["poweroff", "-f"], "off", 0),
    ],
)
def test_shutdown_understands(words, action, minutes):
    assert power.request(words[0], words[1:]) == {"action": action, "minutes": minutes}


def test_shutdown_refuses_a_time_of_day():
    with pytest.raises(ValueError):
        power.request("shutdown", ["-h", "23:00"])
