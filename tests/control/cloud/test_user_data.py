"""The first-boot script, run for real by bash."""

import os
import subprocess

import pytest

from remote.control.cloud import host_keys, user_data

from .conftest import HOST_KEY


def run(script, home, path):
    path.write_text(script)
    return subprocess.run(["bash", path], env={"HOME": str(home), "PATH": os.environ["PATH"]}, capture_output=True, text=True)


@pytest.mark.parametrize("root", ["windlass", "deep/er", "$(touch gotcha) 'x'"])
def test_it_makes_the_root_in_the_home(tmp_path, root):
    home = tmp_path / "ho me"
    home.mkdir()
    done = run(user_data.render("demo", root, None), home, tmp_path / "script")
    assert (done.returncode, done.stderr) == (0, "")
    assert (home / root).is_dir()
    assert done.stdout == f"windlass: box demo is set up in {home / root}\n"
    assert [path.name for path in home.rglob("gotcha")] == []


def test_it_makes_an_absolute_root_and_may_run_again(tmp_path):
    script = user_data.render("demo", str(tmp_path / "data"), None)
    for _ in range(2):
        assert run(script, tmp_path, tmp_path / "script").returncode == 0
    assert (tmp_path / "data").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders away")
def test_as_root_the_folder_belongs_to_the_user(tmp_path):
    done = run(user_data.render("demo", str(tmp_path / "data"), "nobody"), tmp_path, tmp_path / "script")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data").owner() == "nobody"


def test_under_cloud_init_the_host_keys_are_shown_on_every_boot(tmp_path):
    """With cloud-init's folder, the console and sshd's folder moved to where a test may write."""
    console, ssh = tmp_path / "console", tmp_path / "ssh"
    ssh.mkdir()
    (ssh / "ssh_host_ed25519_key.pub").write_text(f"{HOST_KEY} root@box\n")
    script = user_data.render("demo", "windlass", None)
    for real, here in (("/var/lib/cloud", tmp_path / "cloud"), ("/dev/console", console), ("/etc/ssh", ssh)):
        assert real in script
        script = script.replace(real, str(here))
    part = tmp_path / "cloud" / "instance" / "scripts" / "part-001"
    part.parent.mkdir(parents=True)
    assert run(script, tmp_path, part).returncode == 0
    (hook,) = (tmp_path / "cloud" / "scripts" / "per-boot").iterdir()
    subprocess.run([hook], check=True)
    assert host_keys.in_console(console.read_text()) == [HOST_KEY]


def test_bash_accepts_it_whole(tmp_path):
    (tmp_path / "script").write_text(user_data.render("demo", "windlass", "ubuntu"))
    subprocess.run(["bash", "-n", tmp_path / "script"], check=True)
