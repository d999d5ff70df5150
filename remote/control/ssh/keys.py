"""Which keys a login tries, best first: the one of the inventory, those an SSH agent holds, the
user's default ones.

They are handed to paramiko as an `AuthStrategy`; a refusal names all that were tried.
"""

import base64
import contextlib
import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.auth_strategy import AuthStrategy, InMemoryPrivateKey
from paramiko.ssh_exception import PasswordRequiredException, SSHException

from remote.control.errors import LoginRefused
from remote.control.ssh import config as ssh_config

if TYPE_CHECKING:
    from remote.control.ssh.connection import Address

DEFAULT_KEYS = tuple(Path.home() / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa"))
AGENT = "SSH agent"
_NOTICING_SECONDS = 0.5
TOUCH_SECONDS = 60.0
"""How long a login with a key of an agent may take without a word: it may ask a person for a
touch."""


class Candidate(InMemoryPrivateKey):  # type: ignore[misc]
    """A key to try for a user, and where it comes from. `was_cut_off`: the connection ended while
    it was tried."""

    was_cut_off = False

    def __init__(self, address: "Address", key: paramiko.PKey, origin: str) -> None:
        super().__init__(address.user, key)
        self.origin, self._admit = origin, address.admit
        self.patience_seconds = TOUCH_SECONDS if origin == AGENT else address.dead_after * 3

    def __str__(self) -> str:
        return f"{self.pkey.get_name()} {self.pkey.fingerprint} ({self.origin})"

    def authenticate(self, transport: paramiko.Transport) -> Any:
        """Log in with it, after the cloud was told of it where that is needed. Raises as paramiko
        does."""
        if self._admit is not None:
            transport.sock.allow(
                math.inf
            )  # which may take the cloud longer than a peer may be silent
            self._admit(f"{self.pkey.get_name()} {self.pkey.get_base64()}")
        transport.sock.allow(self.patience_seconds)
        try:
            further = super().authenticate(transport)
        except (SSHException, OSError, EOFError) as error:
            if not isinstance(error, paramiko.AuthenticationException):
                transport.join(
                    _NOTICING_SECONDS
                )  # sending fails a moment before the connection knows that it has ended
            self.was_cut_off = not transport.is_active()
            raise
        if further:
            raise SSHException(f"the server asks for {' or '.join(further)} as well")
        return further


class Keys(AuthStrategy):  # type: ignore[misc]
    """The keys to try over one connection or several: a server hangs up after some, and the next
    connection goes on with the others.

    They are looked for once the host key has proved right, and the agent stays open until the block
    is left. `left` are those not tried yet, `tried` those refused, in words.
    """

    def __init__(self, address: "Address") -> None:
        super().__init__(ssh_config=None)
        self._address = address
        self._open = contextlib.ExitStack()
        self._transport: paramiko.Transport | None = None
        self._found: list[Candidate] | None = None
        self.tried: list[str] = []

    def __enter__(self) -> "Keys":
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    @property
    def left(self) -> list[Candidate]:
        """The keys not tried yet. Raises LoginRefused when there are none at all."""
        if self._found is None:
            self._found = self._open.enter_context(_candidates(self._address))
        return self._found

    def authenticate(self, transport: paramiko.Transport) -> Any:
        """Try them in their order, for as long as the server listens. Raises AuthFailure, which
        holds how each one ended."""
        self._transport = transport
        transport.sock.allow(math.inf)  # the peer has nothing to say before a login begins
        return super().authenticate(transport)

    def get_sources(self) -> Iterator[Candidate]:
        """The next key, while the connection stands."""
        while self.left and self._transport is not None and self._transport.is_active():
            yield self.left.pop(0)


@contextlib.contextmanager
def _candidates(address: "Address") -> Iterator[list[Candidate]]:
    """The keys for a box, best first. The agent stays open while they are in use. Raises
    LoginRefused when there are none."""
    path = address.key.expanduser() if address.key else None
    own = _in_file(address, path) if path else None
    if own is not None:
        yield [own]
        return
    with _agent_keys(address) as held:
        found = _everyday_keys(address, held) if path is None else [_of_agent(address, path, held)]
        if not found:
            raise refused(address, _none_at_all(address))
        yield found


def refused(address: "Address", why: str) -> LoginRefused:
    """The box answers, but lets this user in with none of the keys."""
    setting = (
        f"check `User` and `IdentityFile` of {address.jump} in {ssh_config.path()}"
        if address.jump
        else f"check `user` and `ssh_key` {'under' if address.is_bastion else 'of'}"
        f" {address.section} in inventory.yaml"
    )
    return LoginRefused(
        f"{address.where} refuses the login", where=address.where, why=why, remedy=setting
    )


def public_part(path: Path) -> bytes:
    """The public key of a private key file, also of one with a passphrase: from its unencrypted
    header (OpenSSH's format), else from the .pub beside it; empty where neither tells."""
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


def _none_at_all(address: "Address") -> str:
    if address.jump:
        named = f"{ssh_config.path()} names no key that is there"
    elif address.is_static and not address.is_bastion:
        named = f"the inventory names no key, and {ssh_config.path()} none that is there"
    else:
        named = "the inventory names no key"
    return f"{named}, no SSH agent holds one, and there is none in ~/.ssh"


def _everyday_keys(address: "Address", held: list[Candidate]) -> list[Candidate]:
    named = [
        candidate
        for path in address.identities or DEFAULT_KEYS
        if (candidate := _named(address, path, held))
    ]
    if (
        address.identities
    ):  # what the user's ssh_config names goes first: a server listens to few keys only
        return _once([*named, *(() if address.identities_only else held)])
    return _once([*held, *named])


def _named(address: "Address", path: Path, held: list[Candidate]) -> Candidate | None:
    """The key of a file: in the file itself, or where that cannot be used alone, in the agent."""
    with contextlib.suppress(OSError, TypeError, ValueError, SSHException, paramiko.UnknownKeyType):
        return Candidate(address, _read(path), str(path))
    with contextlib.suppress(OSError, ValueError, IndexError):
        wanted = _blob(path) if path.suffix == ".pub" else public_part(path)
        return next((each for each in held if each.pkey.asbytes() == wanted), None)
    return None


def _once(found: list[Candidate]) -> list[Candidate]:
    return list({each.pkey.asbytes(): each for each in reversed(found)}.values())[::-1]


def _in_file(address: "Address", path: Path) -> Candidate | None:
    """The private key in a file; None where only an agent can use it: it has a passphrase, or the
    file is the public half."""
    if path.suffix == ".pub":
        return None
    try:
        return Candidate(address, _read(path), str(path))
    except FileNotFoundError:
        raise refused(address, f"there is no key file {path}") from None
    except (PasswordRequiredException, TypeError):
        return None
    except (SSHException, ValueError, OSError, paramiko.UnknownKeyType) as error:
        raise refused(
            address, f"{path} is not a private key that can be read ({type(error).__name__})"
        ) from None


def _read(path: Path) -> paramiko.PKey:
    now = path.stat()
    return _loaded(path, (now.st_mtime_ns, now.st_size, now.st_ino))


@lru_cache(maxsize=8)
def _loaded(path: Path, state: tuple[int, ...]) -> paramiko.PKey:
    """A private key; a file that stays as it is is read once for a fleet."""
    return paramiko.PKey.from_path(path)


def _of_agent(address: "Address", path: Path, held: list[Candidate]) -> Candidate:
    is_public = path.suffix == ".pub"
    try:
        wanted = _blob(path) if is_public else public_part(path)
    except (OSError, ValueError, IndexError) as error:
        raise refused(
            address, f"{path} is not a public key that can be read ({type(error).__name__})"
        ) from None
    found = next((each for each in held if each.pkey.asbytes() == wanted), None)
    if found is None:
        holds = ", ".join(str(each) for each in held) or "no key"
        raise LoginRefused(
            f"the key of {address.where} has a passphrase, and no SSH agent holds it",
            where=address.where,
            why=(
                f"{path} is {'the public half' if is_public else 'encrypted'}; the agent holds"
                f" {holds}"
            ),
            remedy=(
                f"`ssh-add {path.with_suffix('') if is_public else path}`, then run the command"
                " again"
            ),
        )
    return found


@contextlib.contextmanager
def _agent_keys(address: "Address") -> Iterator[list[Candidate]]:
    agent = None
    try:
        with contextlib.suppress(
            SSHException, OSError
        ):  # one that does not answer holds nothing for us
            agent = paramiko.Agent()
        yield [Candidate(address, key, AGENT) for key in agent.get_keys()] if agent else []
    finally:
        if agent:
            agent.close()
