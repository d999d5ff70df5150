"""What the user's ssh_config and known_hosts say about a host. They are read, and never written.

OpenSSH itself is asked (`ssh -G`), so that a host is reached as `ssh HOST` reaches it. Without an
ssh program paramiko's parser reads the file, and what that would take in another way than OpenSSH
is an error that names the line. `Match exec` runs its command, as with ssh.
"""

import contextlib
import fnmatch
import getpass
import glob
import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from remote.control.errors import ConfigError, Finding

_DEEPEST = 16
_PLAIN = re.compile(r"[A-Za-z0-9_.@-]+")
_KEEPALIVES = 3  # OpenSSH's ServerAliveCountMax
_SECONDS = 30.0
"""How long `ssh -G` may take: a `Match exec` may ask a network."""
_TIME = re.compile(r"(\d+)([smhdw]?)", re.IGNORECASE)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class HostConfig:
    """One host as ssh_config has it. `host` is what stands behind the alias; what is not said is
    None or empty.

    `proxy` is a shell command whose standard input and output lead to the host; `jumps` are the
    hosts on the way, the first one first. `dead_after` in seconds, from ServerAliveInterval.
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


def lookup(alias: str, port: int | None = None, user: str | None = None) -> HostConfig:
    """What the user's ssh_config says about `alias`; `port` and `user` go before it, also within a
    ProxyCommand.

    Without such a file nothing is said. Raises ConfigError for one that cannot be read.
    """
    try:
        said = (
            _ask_ssh(alias, port, user) if shutil.which("ssh") else _ask_paramiko(alias, port, user)
        )
        return _told(alias, said)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        what = f"it cannot be read: {error or type(error).__name__}"
        remedy = (
            f"`ssh -G {shlex.quote(alias)}` tells what ssh makes of it; or leave it aside: `ssh:"
            " {config: false}` in inventory.yaml"
        )
        raise ConfigError([Finding(str(path()), what, "an ssh configuration", remedy)]) from None


def file_option() -> tuple[str, ...]:
    """The flags that have ssh read the user's file, and the system's behind it."""
    # OpenSSH looks in the home folder of the password database, whatever HOME says; with -F it
    # leaves the system's file aside.
    if path().parent.parent == Path(pwd.getpwuid(os.getuid()).pw_dir):
        return ()
    return "-F", str(path()) if path().exists() else "none"


def jump_of(word: str) -> tuple[str | None, str, int | None]:
    """User, host and port of one `[user@]host[:port]` of ProxyJump; also as `ssh://user@host:port`
    and `[v6::address]:port`."""
    user, _, place = word.removeprefix("ssh://").rpartition("@")
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = place.partition(":") if place.count(":") == 1 else (place, "", "")
    return user or None, host, int(port) if port else None


def host_keys(told: HostConfig, port: int) -> list[str]:
    """The host keys that the user's known_hosts files hold for a host, as `ssh-ed25519 AAAA…`;
    those marked revoked are left out.

    Certificate authorities are passed over: a key must stand there itself.
    """
    import paramiko

    name = told.known_as or (told.host if port == 22 else f"[{told.host}]:{port}")
    found, revoked = [], set()
    for words in _known_lines(told.known_hosts or _default_known_hosts()):
        marker, line = (
            words.split(None, 1) if words.startswith("@") and " " in words else ("", words)
        )
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


def _ask_ssh(alias: str, port: int | None, user: str | None) -> dict[str, list[str]]:
    """By keyword in small letters, what `ssh -G` prints and does not print of a host about which
    nothing is said."""
    given = [
        *(["-p", str(port)] if port is not None else []),
        *(["-l", user] if user is not None else []),
    ]
    found = _run_ssh((*file_option(), *given), alias)
    is_given = {"port": port is not None, "user": user is not None}
    return {
        key: values
        for key, values in found.items()
        if is_given.get(key) or values != _usual().get(key)
    }


@cache
def _usual() -> dict[str, list[str]]:
    """What ssh does where no file says anything: the same for every host but for its name."""
    return {
        key: values
        for key, values in _run_ssh(("-F", "none"), "localhost").items()
        if key != "hostname"
    }


def _run_ssh(options: tuple[str, ...], alias: str) -> dict[str, list[str]]:
    words = ["ssh", *options, "-G", "--", alias]
    done = subprocess.run(
        words, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False
    )
    if done.returncode:
        raise ValueError(
            " | ".join(done.stderr.decode(errors="replace").splitlines())
            or f"ssh -G: exit code {done.returncode}"
        )
    found: dict[str, list[str]] = {}
    for line in done.stdout.decode(errors="surrogateescape").splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def _ask_paramiko(alias: str, port: int | None, user: str | None) -> dict[str, list[str]]:
    import paramiko

    # A ProxyCommand is a line of shell, and paramiko puts the user's name into it as it is: one
    # that the shell would read stands in quotes.
    stand_in = user if user is None or _PLAIN.fullmatch(user) else f"windlass-{user.encode().hex()}"
    given = [
        f"{key} {value}" for key, value in (("Port", port), ("User", stand_in)) if value is not None
    ]
    lines = list(_lines(path(), 0))
    _refuse_what_paramiko_misreads(lines)
    try:
        found = paramiko.SSHConfig.from_text("\n".join([*given, "Host *", *lines])).lookup(alias)
    except (KeyError, paramiko.SSHException) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    said = {
        key: value if isinstance(value, list) else [str(value)]
        for key, value in found.items()
        if value is not None
    }
    if user is not None and stand_in != user:
        said["user"] = [user]
        said["proxycommand"] = [
            line.replace(str(stand_in), shlex.quote(user))
            for line in said.get("proxycommand", ["none"])
        ]
    return {key: value for key, value in said.items() if (key, value) != ("hostname", [alias])}


_MATCHES = ("all", "canonical", "exec", "final", "host", "localuser", "originalhost", "user")


def _refuse_what_paramiko_misreads(lines: list[str]) -> None:
    """Raise ValueError for what paramiko's parser would apply in another way than OpenSSH, or not
    at all."""
    proxies: set[str] = set()
    for line in lines:
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        word = word.lower()
        if word in ("proxyjump", "proxycommand"):
            proxies.add(word)
        if word == "match" and (
            unknown := [
                each for each in rest.split()[::2] if each.lstrip("!").lower() not in _MATCHES
            ]
        ):
            raise ValueError(
                f"`{line.strip()}`: {unknown[0]} is understood by an ssh program alone, and none is"
                " installed"
            )
        if word and not word.startswith("#") and re.search(r"\s#", rest) and word != "proxycommand":
            raise ValueError(
                f"`{line.strip()}`: a comment behind a value is understood by an ssh program alone,"
                " and none is installed"
            )
    if len(proxies) > 1:
        raise ValueError(
            "which of ProxyJump and ProxyCommand goes first, an ssh program alone can tell, and"
            " none is installed"
        )


def _told(alias: str, said: dict[str, list[str]]) -> HostConfig:
    first = {key: values[0] for key, values in said.items() if values}
    if _is_yes(first.get("proxyusefdpass", "no")):
        raise ValueError(
            "ProxyUseFdpass: Windlass takes the standard input and output of a ProxyCommand, not an"
            " open socket"
        )
    expand = _Expansion(alias, first)
    jump, proxy = first.get("proxyjump", "none"), first.get("proxycommand", "none")
    interval = _seconds(first.get("serveraliveinterval", "0"))
    identities = [
        expand.file(name) for name in said.get("identityfile", ()) if name.lower() != "none"
    ]
    return HostConfig(
        alias=alias,
        host=first.get("hostname", alias),
        port=int(first["port"]) if "port" in first else None,
        user=first.get("user"),
        identities=tuple(each for each in identities if each.exists()),
        identities_only=_is_yes(first.get("identitiesonly", "no")),
        proxy="" if proxy.lower() == "none" else expand.line(proxy),
        jumps=(
            ()
            if jump.lower() == "none" or proxy.lower() != "none"
            else tuple(word.strip() for word in jump.split(","))
        ),
        dead_after=interval * int(first.get("serveralivecountmax", _KEEPALIVES)) or None,
        known_as=first.get("hostkeyalias", ""),
        known_hosts=tuple(
            expand.file(name)
            for name in shlex.split(first.get("userknownhostsfile", ""))
            if name.lower() != "none"
        ),
    )


class _Expansion:
    """What ssh_config(5) calls tokens, `~` and `${NAME}`, in values that `ssh -G` prints as they
    stand in the file."""

    def __init__(self, alias: str, first: dict[str, str]) -> None:
        host, port = first.get("hostname", alias), first.get("port", "22")
        own = getpass.getuser()
        node = os.uname().nodename
        self._words = {
            "%": "%",
            "d": str(Path.home()),
            "h": host,
            "i": str(os.getuid()),
            "j": first.get("proxyjump", ""),
            "k": first.get("hostkeyalias", alias),
            "L": node.split(".")[0],
            "l": node,
            "n": alias,
            "p": port,
            "r": first.get("user", own),
            "u": own,
        }

    def line(self, value: str) -> str:
        """A line of shell with its tokens: what the shell would read stands there in quotes. What
        is no token stays."""
        return re.sub(
            r"%(.)",
            lambda found: (
                shlex.quote(self._words[found[1]]) if found[1] in self._words else found[0]
            ),
            value,
        )

    def file(self, value: str) -> Path:
        """The file that a value names. Raises ValueError where a variable of the environment is not
        set."""
        named = re.sub(r"\$\{(\w+)\}", _variable, value)
        return Path(
            re.sub(r"%(.)", lambda found: self._words.get(found[1], found[0]), named)
        ).expanduser()


def _variable(found: re.Match[str]) -> str:
    if found[1] not in os.environ:
        raise ValueError(f"${{{found[1]}}} is not set in the environment")
    return os.environ[found[1]]


def _is_yes(value: str) -> bool:
    return value.lower() in ("yes", "true")


def _seconds(value: str) -> float:
    """A time as sshd_config(5) writes it: `90`, `1m`, `1h30m`. Raises ValueError."""
    if not re.fullmatch(rf"(?:{_TIME.pattern})+", value, re.IGNORECASE):
        raise ValueError(f"{value!r} is no time")
    return sum(int(number) * _UNITS[unit.lower()] for number, unit in _TIME.findall(value))


def _lines(file: Path, depth: int) -> Iterator[str]:
    """The lines of a file and of those it includes. After an inclusion the block goes on in which
    it stands."""
    if depth > _DEEPEST:
        raise ValueError(f"{file} is included more than {_DEEPEST} deep")
    try:
        text = file.read_text(
            errors="replace"
        )  # OpenSSH minds no encoding: a comment may be of any
    except FileNotFoundError:
        return
    block = "Host *"
    for line in text.splitlines():
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if word.lower() == "include":
            for name in shlex.split(rest):
                pattern = str(Path(name).expanduser())
                for included in sorted(glob.glob(pattern, root_dir=path().parent)):  # noqa: PTH207
                    yield from _within(block, list(_lines(path().parent / included, depth + 1)))
            yield block
            continue
        if word.lower() in ("host", "match"):
            block = line
        yield line


def _within(block: str, included: list[str]) -> list[str]:
    """The lines of an included file. Its blocks hold for OpenSSH only where the one that includes
    it does, and paramiko cannot say that."""
    has_blocks = any(re.match(r"\s*(host|match)\b", line, re.IGNORECASE) for line in included)
    if block != "Host *" and has_blocks:
        what = (
            "includes a file with blocks of its own, which an ssh program alone understands, and"
            " none is installed"
        )
        raise ValueError(f"`{block.strip()}` {what}")
    return included


def _default_known_hosts() -> tuple[Path, ...]:
    own = Path.home() / ".ssh"
    return own / "known_hosts", own / "known_hosts2", Path("/etc/ssh/ssh_known_hosts")


def _known_lines(files: tuple[Path, ...]) -> Iterator[str]:
    for file in files:
        with contextlib.suppress(OSError):
            yield from (
                line
                for line in file.read_text(errors="replace").splitlines()
                if line.strip() and not line.startswith("#")
            )


def _is_meant(name: str, patterns: list[str]) -> bool:
    import paramiko

    if any(each.startswith("!") and _fits(name, each[1:]) for each in patterns):
        return False
    hashed = [each for each in patterns if each.startswith("|1|")]
    return any(_fits(name, each) for each in patterns) or any(
        paramiko.HostKeys.hash_host(name, each) == each for each in hashed
    )


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.lower(), pattern.lower().replace("[", "[[]"))
