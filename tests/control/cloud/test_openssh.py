"""What the system's ssh makes of our options."""

import subprocess
from pathlib import Path

from remote.control.cloud.access import openssh
from remote.control.cloud.box import Box
from remote.control.ssh import known_hosts

BOX = Box(
    "demo",
    "ec2",
    "i-1",
    "running",
    "127.0.0.1",
    2222,
    "me",
    Path("/keys/my key"),
    "i-1",
    "g5.2xlarge",
    "us-east-1",
    "windlass",
    shared=None,
    launched_at=None,
    hourly_usd=None,
)
WANTED = {
    "hostname": "127.0.0.1",
    "port": "2222",
    "user": "me",
    "identityfile": "/keys/my key",
    "identitiesonly": "yes",
    "hostkeyalias": "i-1",
    "stricthostkeychecking": "true",
    "globalknownhostsfile": "/dev/null",
    "forwardagent": "no",
    "updatehostkeys": "false",
}


def understood(arguments):
    told = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in told.splitlines() if " " in line)


def test_the_session_is_strict_and_ours(project):
    command = openssh.command(BOX)
    settings = understood([command[0], "-G", *command[1:]])
    assert {key: settings[key] for key in WANTED} == WANTED
    assert settings["userknownhostsfile"] == str(known_hosts.path())
    assert settings["connecttimeout"] == "30", "else a frozen server or jump host holds it for ever"


def test_a_line_is_the_last_word_and_no_option_of_ssh(project):
    assert openssh.command(BOX, "ls -la")[-3:] == ["windlass-demo", "--", "ls -la"]
    assert openssh.command(BOX, "top", terminal=True)[:2] == [
        "ssh",
        "-t",
    ] and "-t" not in openssh.command(BOX, "top")
    settings = understood(["ssh", "-G", *openssh.command(BOX, "-V")[1:]])
    assert settings["hostname"] == "127.0.0.1"


def test_the_block_means_the_same(tmp_path, project):
    (tmp_path / "config").write_text(openssh.config_block(BOX))
    settings = understood(["ssh", "-G", "-F", tmp_path / "config", "windlass-demo"])
    assert {key: settings[key] for key in WANTED} == WANTED
    assert settings["userknownhostsfile"] == str(known_hosts.path())


def test_without_a_key_the_agent_is_asked():
    from dataclasses import replace

    assert not {"IdentityFile", "IdentitiesOnly"} & set(openssh.options(replace(BOX, key=None)))
