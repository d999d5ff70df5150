"""What the user's `~/.ssh/config` and known_hosts say about a host. They are read, and never written.

`Include` is followed as OpenSSH does; `Match exec` runs its command, as with ssh itself.
"""

import contextlib
import fnmatch
import getpass
import glob
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from remote.control.errors import ConfigError, Finding

_DEEPEST = 16
_PLAIN = re.compile(r"[A-Za-z0-9_.@-]+")
_KEEPALIVES = 3  # OpenSSH's ServerAliveCountMax


@dataclass(frozen=True)
class Told:
    """One host as ssh_config has it. `host` is what stands behind the alias; what is not said is None or empty.

    `proxy` is a shell command whose standard input and output lead to the host; `jumps` are the hosts on the way, the first one first.
    `dead_after` in seconds, from ServerAliveInterval.
    """

    alias: str
    host: str
    port: int | None = None
    user: str | None = None
    identities: tuple[Path, ...] = ()
    identities_only: bool = False
    proxy: str = ""
    jumps: tuple[str, ...] = ()
    dead_after: float | None = None
    known_as: str = ""
    known_hosts: tuple[Path, ...] = ()


def path() -> Path:
    """The file."""
    return Path.home() / ".ssh" / "config"


def lookup(alias: str, port: int | None = None, user: str | None = None) -> Told:
    """What the user's ssh_config says about `alias`; `port` and `user` go before it, also within a ProxyCommand.

    Without such a file nothing is said. Raises ConfigError for one that cannot be read.
    """
    import paramiko

    # A ProxyCommand is a line of shell, and `%r` in it the user's name: one that the shell would read stands there in quotes.
    stand_in = user if user is None or _PLAIN.fullmatch(user) else f"windlass-{user.encode().hex()}"
    given = [f"{key} {value}" for key, value in (("Port", port), ("User", stand_in)) if value is not None]
    try:
        found = paramiko.SSHConfig.from_text("\n".join([*given, "Host *", *_lines(path(), 0)])).lookup(alias)
        told = _told(alias, {key: value for key, value in found.items() if value is not None})
        return told if user is None or stand_in == user else _with_user(told, str(stand_in), user)
    except (OSError, ValueError, KeyError, UnicodeError, paramiko.SSHException) as error:
        what = f"it cannot be read: {error or type(error).__name__}"
        remedy = f"`ssh -G {alias}` tells what ssh makes of it; or leave it aside: `ssh: {{config: false}}` in inventory.yaml"
        raise ConfigError([Finding(str(path()), what, "an ssh configuration", remedy)]) from None


def _with_user(told: Told, stand_in: str, user: str) -> Told:
    return replace(told, user=user if told.user == stand_in else told.user, proxy=told.proxy.replace(stand_in, shlex.quote(user)))


def jump_of(word: str) -> tuple[str | None, str, int | None]:
    """User, host and port of one `[user@]host[:port]` of ProxyJump; also as `ssh://user@host:port` and `[v6::address]:port`."""
    user, _, place = word.removeprefix("ssh://").rpartition("@")
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = place.partition(":") if place.count(":") == 1 else (place, "", "")
    return user or None, host, int(port) if port else None


def host_keys(told: Told, port: int) -> list[str]:
    """The host keys that the user's known_hosts files hold for a host, as `ssh-ed25519 AAAA…`; those marked revoked are left out.

    Certificate authorities are passed over: a key must stand there itself.
    """
    import paramiko

    name = told.known_as or (told.host if port == 22 else f"[{told.host}]:{port}")
    found, revoked = [], set()
    for words in _known_lines(told.known_hosts or _default_known_hosts()):
        marker, line = words.split(None, 1) if words.startswith("@") and " " in words else ("", words)
        with contextlib.suppress(Exception):  # ssh too passes over what is no key
            entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
            if entry is None or not (_is_meant(name, entry.hostnames) or marker == "@revoked"):
                continue
            key = f"{entry.key.get_name()} {entry.key.get_base64()}"
            if marker == "@revoked":
                revoked.add(key)
            elif not marker:
                found.append(key)
    return [key for key in dict.fromkeys(found) if key not in revoked]


def _told(alias: str, found: dict[str, object]) -> Told:
    said = {key: str(value) for key, value in found.items() if isinstance(value, str)}
    files = found.get("identityfile")
    identities = [Path(name).expanduser() for name in files] if isinstance(files, list) else []
    jump = said.get("proxyjump", "none")
    interval = float(said.get("serveraliveinterval", 0))
    return Told(
        alias=alias,
        host=said.get("hostname", alias),
        port=int(said["port"]) if "port" in said else None,
        user=said.get("user"),
        identities=tuple(each for each in identities if each.exists()),
        identities_only=said.get("identitiesonly") == "yes",
        proxy=said.get("proxycommand", "").replace("%n", alias).replace("%%", "%"),
        jumps=() if jump == "none" or said.get("proxycommand") else tuple(word.strip() for word in jump.split(",")),
        dead_after=interval * int(said.get("serveralivecountmax", _KEEPALIVES)) or None,
        known_as=said.get("hostkeyalias", ""),
        known_hosts=tuple(Path(name).expanduser() for name in shlex.split(said.get("userknownhostsfile", ""))),
    )


def _lines(file: Path, depth: int) -> Iterator[str]:
    """The lines of a file and of those it includes. After an inclusion the block goes on in which it stands."""
    if depth > _DEEPEST:
        raise ValueError(f"{file} is included more than {_DEEPEST} deep")
    try:
        text = file.read_text()
    except FileNotFoundError:
        return
    block = "Host *"
    for line in text.splitlines():
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if word.lower() == "include":
            for name in shlex.split(rest):
                for included in sorted(glob.glob(str(Path(name).expanduser()), root_dir=path().parent)):  # noqa: PTH207 - also absolute ones
                    yield from _lines(path().parent / included, depth + 1)
            yield block
            continue
        if word.lower() in ("host", "match"):
            block = line
        yield line


def _default_known_hosts() -> tuple[Path, ...]:
    own = Path.home() / ".ssh"
    return own / "known_hosts", own / "known_hosts2", Path("/etc/ssh/ssh_known_hosts")


def _known_lines(files: tuple[Path, ...]) -> Iterator[str]:
    for file in files:
        with contextlib.suppress(OSError):
            yield from (line for line in file.read_text(errors="replace").splitlines() if line.strip() and not line.startswith("#"))


def _is_meant(name: str, patterns: list[str]) -> bool:
    import paramiko

    if any(each.startswith("!") and _fits(name, each[1:]) for each in patterns):
        return False
    hashed = [each for each in patterns if each.startswith("|1|")]
    return any(_fits(name, each) for each in patterns) or any(paramiko.HostKeys.hash_host(name, each) == each for each in hashed)


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.lower(), pattern.lower().replace("[", "[[]"))


def is_honoured() -> bool:
    """Whether the inventory lets the user's ssh_config say anything: `ssh: {config: false}` does not."""
    from remote.control.config.inventory import load_inventory

    try:
        return load_inventory().ssh.config
    except ConfigError:  # told elsewhere, with all its findings
        return True


def local_user() -> str:
    """The name ssh logs in with where none is said."""
    return getpass.getuser()
