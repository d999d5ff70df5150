"""The peers: pinned, each in an environment of its own, installed on first use."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rope.ground import ROOT, Ground
from tests.integration import boxes

PINNED = {
    "ansible": "ansible-core==2.19.14",
    "pyinfra": "pyinfra==3.10.0",
    "fabric": "fabric==3.2.3",
}
PROGRAMS = {
    "rsync": "rsync",
    "scp": "openssh-client",
    "sftp": "openssh-client",
    "ssh": "openssh-client",
}
PLACE = ROOT / ".windlass/peers"
PLAIN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("ANSIBLE_", "WINDLASS_", "PYTHON"))
}


class Failed(Exception):
    """A command did not come to a good end."""


class TooSlow(Exception):
    """A peer did not end within the patience."""


def install() -> list[str]:
    """See to it that every peer is here; returns a line about each."""
    for name in PINNED:
        _environment(name)
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            subprocess.run(
                ["apt-get", "install", "-y", "-q", package], check=True, stdout=subprocess.DEVNULL
            )
    rsync = (
        subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=True)
        .stdout.split("\n")[0]
        .split("protocol")[0]
    )
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.strip()
    return [*PINNED.values(), " ".join(rsync.split()), ssh]


def program(peer: str, name: str) -> str:
    """A program of a peer from PyPI."""
    return str(_environment(peer) / "bin" / name)


def _environment(peer: str) -> Path:
    folder = PLACE / PINNED[peer].replace("==", "-")
    if not (folder / "whole").exists():
        print(f"installing {PINNED[peer]}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        words = [
            str(folder / "bin/pip"),
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PINNED[peer],
        ]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (folder / "whole").touch()
    return folder


def run(words: list[str], patience: float, **more: Any) -> str:
    """Run a command to its good end, or raise TooSlow; its standard output."""
    environment = PLAIN | more.pop("environment", {})
    more = {"stdin": subprocess.DEVNULL} | more
    process = subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        for pid in (
            *boxes.descendants(process.pid),
            process.pid,
        ):  # Ansible's workers are in sessions of their own
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
        raise TooSlow from None
    if process.returncode:
        raise Failed(
            f"{' '.join(words)} ended with {process.returncode}: {out[-1500:]} {err[-1500:]}"
        )
    return out


def shell(line: str, patience: float) -> str:
    """The same for a line of the shell."""
    return run(["bash", "-o", "pipefail", "-c", line], patience)


def ansible(
    ground: Ground, module: str, arguments: str, patience: float, hosts: Sequence[str] = ("box",)
) -> None:
    """One module on hosts, pipelining on, with connections that later modules share as it does by
    default."""
    inventory = ground.folder / "ansible.ini"
    inventory.write_text("\n".join(hosts) + "\n")
    words = [
        program("ansible", "ansible"),
        "all",
        "-i",
        str(inventory),
        "-f",
        "64",
        "-m",
        module,
        "-a",
        arguments,
    ]
    run(words, patience, environment=_of_ansible(ground))


def playbook(ground: Ground, tasks: str, patience: float, hosts: Sequence[str] = ("box",)) -> None:
    """A playbook of those tasks, without the gathering of facts."""
    inventory, book = ground.folder / "ansible.ini", ground.folder / "book.yml"
    inventory.write_text("\n".join(hosts) + "\n")
    book.write_text(f"- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}")
    words = [program("ansible", "ansible-playbook"), "-i", str(inventory), "-f", "64", str(book)]
    run(words, patience, environment=_of_ansible(ground))


def _of_ansible(ground: Ground) -> dict[str, str]:
    return {
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_SSH_ARGS": f"-F {ground.config} -o ControlMaster=auto -o ControlPersist=3",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(ground.folder),
        "ANSIBLE_LOCAL_TEMP": str(ground.folder),
        "ANSIBLE_HOME": str(ground.folder),
        "ANSIBLE_PYTHON_INTERPRETER": (
            "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
        ),
        "ANSIBLE_SFTP_EXTRA_ARGS": f"-F {ground.config}",
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }


def pyinfra(
    ground: Ground, operations: str, patience: float, hosts: Sequence[str] = ("box",)
) -> None:
    """A deploy of those operations."""
    inventory, deploy = ground.folder / "hosts.py", ground.folder / "operations.py"
    address = ground.sshd.address()
    data = {
        "ssh_hostname": address.host,
        "ssh_port": address.port,
        "ssh_user": address.user,
        "ssh_key": str(address.key),
        "ssh_known_hosts_file": str(ground.folder / "known_hosts"),
        "ssh_look_for_keys": False,
        "ssh_allow_agent": False,
    }
    inventory.write_text(f"hosts = {[(host, data) for host in hosts]!r}\n")
    deploy.write_text(f"from pyinfra.operations import files, server\n{operations}\n")
    run(
        [program("pyinfra", "pyinfra"), "-y", "--parallel", "64", str(inventory), str(deploy)],
        patience,
        cwd=ground.folder,
    )


def fabric(ground: Ground, body: str, patience: float, before: str = "") -> float:
    """Lines of Python with a Connection `c`, not open unless a line `before` opens it; the seconds
    they took, Python's start left out."""
    script = f"""
import time
from fabric import Config, Connection
from paramiko import RejectPolicy
c = Connection({ground.sshd.host!r}, user={ground.sshd.address().user!r}, port={ground.sshd.port},
               connect_kwargs={{"key_filename": {str(ground.sshd.key)!r}, "look_for_keys": False,
                               "allow_agent": False}},
               config=Config(overrides={{"load_ssh_configs": False}}))
c.client.set_missing_host_key_policy(RejectPolicy)
c.client.load_host_keys({str(ground.folder / "known_hosts")!r})
{before}
began = time.perf_counter()
{body}
print("seconds", time.perf_counter() - began)
"""
    told = run([program("fabric", "python"), "-c", script], patience)
    return float(told.rsplit("seconds", 1)[1])
