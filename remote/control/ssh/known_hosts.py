"""Windlass's own known_hosts: `.windlass/known_hosts`, one line a key, under an alias that no other
machine can have.

The user's `~/.ssh/known_hosts` is never written; `ssh_config.py` reads it for hosts of the user's
own. The file is OpenSSH's own format, so that `ssh -o UserKnownHostsFile=… -o HostKeyAlias=…` and
paramiko both read it.
"""

import base64
import binascii
import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from remote.contract.files import atomic
from remote.control import project
from remote.control.errors import HostKeyMismatch


def path() -> Path:
    """The file."""
    return project.state_folder() / "known_hosts"


def pin(alias: str, key_line: str) -> None:
    """Trust `key_line` (`ssh-ed25519 AAAA…`) for `alias` from now on.

    A key that is pinned already is left; another key of the same type under that alias raises
    HostKeyMismatch; a line that is no public key raises ValueError.
    """
    key = normal(key_line)
    with _locked():
        known = pinned(alias)
        if key in known:
            return
        if any(kind(other) == kind(key) for other in known):
            raise mismatch(alias, f"pinned is {known}, shown was {key}")
        _write([*_lines(), f"{alias} {key}"])


def pinned(alias: str) -> list[str]:
    """The keys trusted for `alias`, as `ssh-ed25519 AAAA…`; empty when there are none. A damaged
    line is none: its key is read anew."""
    return [key for name, key in map(_split, _lines()) if name == alias and _is_key(key)]


def forget(alias: str) -> bool:
    """Trust nothing for `alias` any more; returns whether there was anything."""
    with _locked():
        lines = _lines()
        kept = [line for line in lines if _split(line)[0] != alias]
        if len(kept) < len(lines):
            _write(kept)
        return len(kept) < len(lines)


def normal(key_line: str) -> str:
    """`ssh-ed25519 AAAA…` without a comment. Raises ValueError when it is no public key: the blob
    must name the type before it."""
    fields = key_line.split()
    try:
        blob = base64.b64decode(fields[1], validate=True)
        length = int.from_bytes(blob[:4], "big")
        if blob[4 : 4 + length].decode() != fields[0] or len(blob) <= 4 + length:
            raise ValueError("the blob holds another type")
    except (IndexError, UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise ValueError(f"not a public host key: {key_line!r} ({error})") from None
    return f"{fields[0]} {fields[1]}"


def kind(key: str) -> str:
    """The type of a key: `ssh-ed25519`."""
    return key.split(" ", 1)[0]


def mismatch(alias: str, why: str, box_name: str = "NAME") -> HostKeyMismatch:
    """The error for a host that shows another key than the pinned one, with the command that fixes
    it."""
    return HostKeyMismatch(
        "another machine may be answering in the box's place",
        where=f"host key of {alias}",
        why=why,
        remedy=(
            f"only if you know why the key changed: `./inv box.forget {box_name}`, then `./inv"
            f" start {box_name}`, which reads it anew"
        ),
        kept="nothing was sent to it",
    )


def _is_key(line: str) -> bool:
    try:
        return normal(line) == line
    except ValueError:
        return False


def _split(line: str) -> tuple[str, str]:
    name, _, key = line.partition(" ")
    return name, key


def _lines() -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return [line for line in path().read_text(errors="replace").splitlines() if line.strip()]
    return []


def _write(lines: list[str]) -> None:
    atomic.write_text(path(), "".join(f"{line}\n" for line in lines), mode=0o600)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with open(path().with_name("known_hosts.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
