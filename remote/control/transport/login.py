"""Logging in with a key: the one of the inventory, those an SSH agent holds, the user's default ones. A refusal names all it tried."""

import base64
import contextlib
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
from paramiko.ssh_exception import PasswordRequiredException, SSHException

from remote.control.errors import LoginRefused

if TYPE_CHECKING:
    from remote.control.transport.ssh import Address, Connection

DEFAULT_KEYS = tuple(Path.home() / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa"))
AGENT = "SSH agent"
_NOTICING_SECONDS = 0.5
TOUCH_SECONDS = 60.0


@dataclass(frozen=True)
class Candidate:
    """A key to try, and where it comes from."""

    key: paramiko.PKey
    origin: str

    def __str__(self) -> str:
        return f"{self.key.get_name()} {self.key.fingerprint} ({self.origin})"

    def patience_seconds(self, dead_after: float) -> float:
        """How long a login with it may take without a word: a server may ask a directory first, and an agent a person for a touch."""
        return TOUCH_SECONDS if self.origin == AGENT else dead_after * 3

    @property
    def public_line(self) -> str:
        """The public half as `ssh-ed25519 AAAA…`."""
        return f"{self.key.get_name()} {self.key.get_base64()}"


@contextlib.contextmanager
def candidates(address: "Address") -> Iterator[list[Candidate]]:
    """The keys to try, best first. The agent stays open while they are in use. Raises LoginRefused when there are none."""
    path = address.key.expanduser() if address.key else None
    own = _in_file(address, path) if path else None
    if own is not None:
        yield [own]
        return
    with _agent_keys() as held:
        found = _everyday_keys(address, held) if path is None else [_of_agent(address, path, held)]
        if not found:
            raise refused(address, "the inventory names no key, no SSH agent holds one, and there is none in ~/.ssh")
        yield found


class Lost(Exception):
    """The connection ended while a key was tried, and not because of it."""


def log_in(
    address: "Address",
    connection: "Connection",
    left: list[Candidate],
    tried: list[str],
    ahead: "Callable[[Connection], None] | None" = None,
) -> bool:
    """Whether one of the keys in `left` was taken. Moves what was refused from `left` to `tried`; stops early when the server hangs up.

    A server that means it says so, or answers first. An end without either is no refusal: then Lost is raised, or the key stays in `left`
    for the next connection. `ahead` is called behind the request with a key that is the only one.
    """
    is_first = True
    behind = partial(ahead, connection) if ahead and len(left) == 1 and not tried and connection.takes_guesses else None
    while left and connection.is_active():
        candidate = left.pop(0)
        if address.admit is not None:
            address.admit(candidate.public_line)
        connection.pulse.allow(candidate.patience_seconds(address.dead_after))
        try:
            connection.log_in(address.user, candidate.key, behind)
            return True
        except (SSHException, OSError, EOFError) as error:
            if not isinstance(error, paramiko.AuthenticationException):
                connection.join(_NOTICING_SECONDS)  # sending fails a moment before the connection knows that it has ended
            if not connection.is_active() and not connection.farewell:
                if is_first or connection.pulse.verdict:
                    raise Lost from error
                left.insert(0, candidate)
                return False
            complaint = "" if isinstance(error, paramiko.AuthenticationException) else f": {str(error) or 'the other side hung up'}"
            tried.append(f"{candidate}{complaint}")
        is_first = False
    return False


def refused(address: "Address", why: str) -> LoginRefused:
    """The box answers, but lets this user in with none of the keys."""
    name = address.name
    setting = f"check `user` and `ssh_key` under `bastion:` of {name}" if address.is_bastion else f"check `user` and `ssh_key` of {name}"
    return LoginRefused(f"{address.where} refuses the login", where=address.where, why=why, remedy=f"{setting} in inventory.yaml")


def rejected(address: "Address", tried: list[str]) -> LoginRefused:
    """Every key was tried."""
    return refused(address, f"user {address.user}; tried: {', '.join(tried)}")


def public_part(path: Path) -> bytes:
    """The public key of a private key file, also of one with a passphrase: from its unencrypted header (OpenSSH's format), else from the
    .pub beside it; empty where neither tells."""
    words = path.read_bytes().split(b"-----")
    with contextlib.suppress(ValueError, struct.error, IndexError):
        raw = base64.b64decode(b"".join(words[2].split()), validate=True)
        if raw.startswith(b"openssh-key-v1\0"):
            return _public_in(raw)
    beside = path.with_name(path.name + ".pub")
    return _blob(beside) if beside.exists() else b""


def _public_in(raw: bytes) -> bytes:
    at = 15
    for _ in range(3):  # cipher, key derivation, its options
        at += 4 + int(struct.unpack_from(">I", raw, at)[0])
    size = int(struct.unpack_from(">I", raw, at + 4)[0])
    return raw[at + 8 : at + 8 + size]


def _blob(public: Path) -> bytes:
    return base64.b64decode(public.read_text().split()[1])


def _everyday_keys(address: "Address", held: list[Candidate]) -> list[Candidate]:
    named = [candidate for path in address.identities or DEFAULT_KEYS if (candidate := _named(path, held))]
    if address.identities:  # what the user's ssh_config names goes first: a server listens to few keys only
        return _once([*named, *(() if address.identities_only else held)])
    return _once([*held, *named])


def _named(path: Path, held: list[Candidate]) -> Candidate | None:
    """The key of a file: in the file itself, or where that cannot be used alone, in the agent."""
    with contextlib.suppress(OSError, TypeError, ValueError, SSHException, paramiko.UnknownKeyType):
        return Candidate(_read(path), str(path))
    with contextlib.suppress(OSError, ValueError, IndexError):
        wanted = _blob(path) if path.suffix == ".pub" else public_part(path)
        return next((each for each in held if each.key.asbytes() == wanted), None)
    return None


def _once(found: list[Candidate]) -> list[Candidate]:
    return list({each.key.asbytes(): each for each in reversed(found)}.values())[::-1]


def _in_file(address: "Address", path: Path) -> Candidate | None:
    """The private key in a file; None where only an agent can use it: it has a passphrase, or the file is the public half."""
    if path.suffix == ".pub":
        return None
    try:
        return Candidate(_read(path), str(path))
    except FileNotFoundError:
        raise refused(address, f"there is no key file {path}") from None
    except (PasswordRequiredException, TypeError):
        return None
    except (SSHException, ValueError, OSError, paramiko.UnknownKeyType) as error:
        raise refused(address, f"{path} is not a private key that can be read ({type(error).__name__})") from None


def _read(path: Path) -> paramiko.PKey:
    """A private key; the file is read once for a fleet that is reached with it side by side."""
    now = path.stat()
    state = (now.st_mtime_ns, now.st_size, now.st_ino)
    with _reading:
        if path not in _keys or _keys[path][0] != state:
            _keys[path] = state, paramiko.PKey.from_path(path)
        return _keys[path][1]


_keys: dict[Path, tuple[tuple[int, ...], paramiko.PKey]] = {}
_reading = threading.Lock()


def _of_agent(address: "Address", path: Path, held: list[Candidate]) -> Candidate:
    is_public = path.suffix == ".pub"
    try:
        wanted = _blob(path) if is_public else public_part(path)
    except (OSError, ValueError, IndexError) as error:
        raise refused(address, f"{path} is not a public key that can be read ({type(error).__name__})") from None
    found = next((each for each in held if each.key.asbytes() == wanted), None)
    if found is None:
        holds = ", ".join(str(each) for each in held) or "no key"
        raise LoginRefused(
            f"the key of {address.where} has a passphrase, and no SSH agent holds it", where=address.where,
            why=f"{path} is {'the public half' if is_public else 'encrypted'}; the agent holds {holds}",
            remedy=f"`ssh-add {path.with_suffix('') if is_public else path}`, then run the command again",
        )  # fmt: skip
    return found


@contextlib.contextmanager
def _agent_keys() -> Iterator[list[Candidate]]:
    agent = None
    try:
        with contextlib.suppress(SSHException, OSError):  # one that does not answer holds nothing for us
            agent = paramiko.Agent()
        yield [Candidate(key, AGENT) for key in agent.get_keys()] if agent else []
    finally:
        if agent:
            agent.close()
