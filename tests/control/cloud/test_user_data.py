"""The script of every boot, run for real by sh with stand-ins for what would touch this machine."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from remote.contract.job.clocks import Limits
from remote.control.cloud.access import host_keys
from remote.control.cloud.ec2 import user_data

from .conftest import HOST_KEY

LIMITS = Limits(
    idle=1800,
    lifetime=43200,
    dollars=25,
    stopped=86400,
    stuck=1800,
    stuck_grace=3600,
    grace=600,
    hourly_usd=1.2,
)
COMMANDS = ("shutdown", "poweroff", "systemctl", "setsid")
LONGEST = "x" * 40


def entry(name="demo", root="windlass", user=""):
    return SimpleNamespace(name=name, root=root, user=user)


@pytest.fixture
def machine(tmp_path):
    """A home, a folder in place of each of the system's, and stand-ins that write down how they
    were called."""
    machine = SimpleNamespace(
        home=tmp_path / "ho me",
        system=tmp_path / "system",
        bin=tmp_path / "bin",
        log=tmp_path / "calls",
    )
    for folder in (
        machine.home,
        machine.bin,
        machine.system / "etc/ssh",
        machine.system / "etc/systemd/system",
    ):
        folder.mkdir(parents=True)
    machine.fails = {"systemctl"}

    def run(script, path=None, **environment):
        for name in COMMANDS:
            stand_in = machine.bin / name
            stand_in.write_text(
                f'#!/bin/sh\necho "{name} $*" >> "{machine.log}"\nexit'
                f" {int(name in machine.fails)}\n"
            )
            stand_in.chmod(0o755)
        path = path or tmp_path / "script"
        for real in ("/var/lib", "/etc/systemd/system", "/etc/ssh", "/dev/console"):
            script = script.replace(real, f"{machine.system}{real}")
        (machine.system / "dev").mkdir(exist_ok=True)
        path.write_text(script)
        surroundings = {
            "HOME": str(machine.home),
            "PATH": f"{machine.bin}:{os.path.dirname(sys.executable)}:/usr/bin:/bin",
            **environment,
        }
        return subprocess.run(
            ["sh", path], env=surroundings, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    machine.run = run
    machine.calls = lambda: machine.log.read_text().splitlines()
    return machine


def test_without_systemd_the_watchdog_is_the_users_own(machine):
    done = machine.run(user_data.render(entry(), LIMITS), INSTANCE_ID="i-1")
    assert (done.returncode, done.stderr) == (0, "")
    folder = machine.home / ".windlass-box"
    assert Limits.from_json((folder / "limits.json").read_text()) == LIMITS
    assert json.loads((folder / "config.json").read_text()) == {
        "box": "demo",
        "root": "windlass",
        "user": "",
        "forced": False,
    }
    calls = machine.calls()
    assert calls.index("shutdown --no-wall +15") < calls.index(
        f"setsid python3 -I {folder}/watchdog.pyz run"
    )
    assert (
        done.stdout == "windlass: box demo is watched: it stops by itself when a clock runs out\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is root")
def test_with_systemd_it_is_the_systems_and_belongs_to_root(machine):
    machine.fails = set()
    done = machine.run(user_data.render(entry(user="ubuntu"), LIMITS), INSTANCE_ID="i-1")
    assert (done.returncode, done.stderr) == (0, "")
    folder = machine.system / "var/lib/windlass"
    assert json.loads((folder / "config.json").read_text()) == {
        "box": "demo",
        "root": "windlass",
        "user": "ubuntu",
        "forced": True,
    }
    assert (
        (machine.system / "etc/systemd/system/windlass-watchdog.service")
        .read_text()
        .startswith("[Unit]\n")
    )
    assert machine.calls()[-4:] == [
        "shutdown --no-wall +15",
        "systemctl daemon-reload",
        "systemctl --quiet enable windlass-watchdog.service",
        "systemctl --no-block start windlass-watchdog.service",
    ]
    assert (
        "ClientAliveInterval"
        in (machine.system / "etc/ssh/sshd_config.d/60-windlass.conf").read_text()
    )
    assert "is watched" in (machine.system / "dev/console").read_text()


def test_a_later_boot_leaves_what_was_armed_since(machine):
    script = user_data.render(entry(), LIMITS)
    machine.run(script, INSTANCE_ID="i-1")
    folder = machine.home / ".windlass-box"
    for name in ("limits.json", "config.json", "watchdog.pyz", "clock.json", "notify"):
        (folder / name).write_text("of later")
    machine.run(script, INSTANCE_ID="i-1")
    assert {
        name: (folder / name).read_text()
        for name in ("limits.json", "config.json", "watchdog.pyz", "clock.json", "notify")
    } == (
        dict.fromkeys(
            ("limits.json", "config.json", "watchdog.pyz", "clock.json", "notify"), "of later"
        )
    )
    assert machine.calls().count("shutdown --no-wall +15") == 2


def test_a_box_made_from_anothers_image_takes_nothing_over(machine):
    script = user_data.render(entry(), LIMITS)
    machine.run(script, INSTANCE_ID="i-1")
    folder = machine.home / ".windlass-box"
    for name in (
        "limits.json",
        "config.json",
        "watchdog.pyz",
        "clock.json",
        "extra.json",
        "notify",
    ):
        (folder / name).write_text("of the other")
    machine.run(script, INSTANCE_ID="i-2")
    assert not [path.name for path in folder.iterdir() if path.read_bytes() == b"of the other"]
    assert Limits.from_json((folder / "limits.json").read_text()) == LIMITS


def test_without_python_the_box_stops_by_itself(machine):
    (machine.bin / "python3").write_text("#!/bin/sh\nexit 127\n")
    (machine.bin / "python3").chmod(0o755)
    done = machine.run(user_data.render(entry(), LIMITS), INSTANCE_ID="i-1")
    assert "the watchdog cannot be unpacked: this box stops by itself" in done.stdout
    assert machine.calls()[0] == "systemctl show --property=Version" if os.geteuid() == 0 else True
    assert "shutdown --no-wall +15" in machine.calls()


@pytest.mark.parametrize("root", ["$(touch gotcha)", "a'b\"c", "`touch gotcha`"])
def test_nothing_of_the_inventory_is_run(machine, root):
    machine.run(user_data.render(entry(root=root), LIMITS), INSTANCE_ID="i-1")
    assert json.loads((machine.home / ".windlass-box/config.json").read_text())["root"] == root
    assert [path.name for path in machine.home.rglob("gotcha")] == []


def test_under_cloud_init_the_host_keys_are_shown_on_every_boot(machine, tmp_path):
    (machine.system / "etc/ssh/ssh_host_ed25519_key.pub").write_text(f"{HOST_KEY} root@box\n")
    part = machine.system / "var/lib/cloud/instance/boothooks/part-001"
    part.parent.mkdir(parents=True)
    assert machine.run(user_data.render(entry(), LIMITS), part, INSTANCE_ID="i-1").returncode == 0
    (hook,) = (machine.system / "var/lib/cloud/scripts/per-boot").iterdir()
    subprocess.run([hook], check=True)
    assert host_keys.in_console((machine.system / "dev/console").read_text()) == [HOST_KEY]


def test_it_fits_into_user_data_with_room_to_spare():
    longest = entry(LONGEST, "/" + "x" * 200, "x" * 32)
    assert len(user_data.render(longest, LIMITS).encode()) < user_data.LARGEST_BYTES - 300


def test_it_is_a_boothook_and_the_same_each_time():
    script = user_data.render(entry(), LIMITS)
    assert script.startswith("#cloud-boothook\n#!/bin/sh\n")
    assert user_data.render(entry(), LIMITS) == script


def test_the_watchdogs_code_is_whole_and_small():
    code = json.loads(user_data.watchdog())
    assert {
        "__main__.py",
        "remote/payload/watchdog/rounds.py",
        "remote/contract/job/clocks.py",
    } < code.keys()
    for name, source in code.items():
        compile(source, name, "exec")


def test_only_what_readers_need_is_taken_away():
    source = '''"""Module."""

def f(a: int, *rest: str, key: "dict[str, int]" = {}) -> str:
    """Says
    much."""
    return "# no comment"  # a comment
'''
    stripped = user_data.stripped(source)
    assert stripped.splitlines() == [
        "pass",
        "def f(a, *rest, key = {}):",
        "    pass",
        '    return "# no comment"',
    ]


def test_a_secret_address_goes_over_standard_input_alone():
    script = user_data.arming(LIMITS, "https://hooks.example.org/secret", "demo", "windlass")
    assert script.count("https://hooks.example.org/secret") == 1
    assert "secret" not in user_data.render(entry(), LIMITS)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path):
    from remote.control import text

    unit = tmp_path / "windlass-watchdog.service"
    unit.write_text(text.render("windlass-watchdog.service.j2", minutes="15"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "script",
    [
        user_data.render(entry(user="ubuntu"), LIMITS),
        user_data.arming(LIMITS, "https://x", "demo", None),
    ],
)
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_shells_accept_it_whole(tmp_path, script, shell):
    (tmp_path / "script").write_text(script)
    subprocess.run([shell, "-n", tmp_path / "script"], check=True)
