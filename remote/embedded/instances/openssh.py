"""OpenSSH's sshd as a box's SSH server, run by the calling user: no root, no PAM, no system
configuration."""

import functools
import grp
import os
import platform
import pty
import pwd
import shlex
import shutil
import subprocess
from pathlib import Path

from remote.contract.files import atomic
from remote.embedded.instances.instance_connect import keys_file

_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin"
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
)


@functools.cache
def binary() -> str | None:
    """The sshd on this machine that the calling user can run and log in to, or None."""
    found = shutil.which("sshd") or shutil.which("sshd", path=_PLACES)
    return found if found and _may_log_in() and _may_hand_out_terminals() else None


def command(folder: Path, host: str, port: int, host_key: Path, authorized_keys: Path) -> list[str]:
    """The sshd command line that serves one box in the foreground. Writes `sshd_config` into
    `folder`."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    path = folder / "sshd_config"
    atomic.write_text(path, _configuration(folder, host, port, host_key, authorized_keys))
    return [str(binary()), "-D", "-e", *_newer_options(str(binary())), "-f", str(path)]


def _configuration(
    folder: Path, host: str, port: int, host_key: Path, authorized_keys: Path
) -> str:
    """Home is set before the login shell starts, so that no rc file of the caller's is read; all
    else is set by `enter`.

    A forced command replaces subsystems too: `enter` is handed the sftp server's path as the
    command to run.
    """
    sftp = next((place for place in _SFTP_SERVERS if Path(place).exists()), _SFTP_SERVERS[0])
    files = (authorized_keys, keys_file(folder))
    keys = " ".join(_quoted(path).replace("%", "%%") for path in files)
    return f"""\
ListenAddress {host}
Port {port}
HostKey {_quoted(host_key)}
AuthorizedKeysFile {keys}
SetEnv {_quoted(f"HOME={folder / 'disk'}")}
ForceCommand exec {shlex.quote(str(folder / "enter"))}
Subsystem sftp {sftp}
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 200:30:400
MaxSessions 200
"""


def _quoted(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


@functools.cache
def _newer_options(sshd: str) -> list[str]:
    """Newer versions shut out an address after failed logins; every box and every client here is
    this one machine."""
    off = ["-o", "PerSourcePenalties=no"]
    complaint = subprocess.run(
        [sshd, "-t", *off, "-f", os.devnull], capture_output=True, text=True, check=False
    ).stderr
    return [] if "configuration option" in complaint else off


def _may_log_in() -> bool:
    """sshd refuses a user without a shell, and root with a locked password where PAM is off."""
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    shadow = Path("/etc/shadow")
    locked = (
        platform.system() == "Linux"
        and os.access(shadow, os.R_OK)
        and f"\n{user.pw_name}:!" in "\n" + shadow.read_text()
    )
    shell = user.pw_shell or "/bin/sh"
    return os.access(shell, os.X_OK) and Path(shell).name not in ("nologin", "false") and not locked


def _may_hand_out_terminals() -> bool:
    """sshd gives a terminal to the group `tty`; without root it can only where the system has done
    so (some containers have not)."""
    try:
        group = grp.getgrnam("tty").gr_gid
    except KeyError:
        return True
    ends = pty.openpty()
    try:
        return os.geteuid() == 0 or os.fstat(ends[1]).st_gid == group
    finally:
        for end in ends:
            os.close(end)
