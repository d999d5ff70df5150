"""The SSH key with which a box is entered: the user's, or one of Windlass's own."""

import base64
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote.contract.files import atomic, digest
from remote.control import project
from remote.control.config.inventory import CloudEntry
from remote.control.errors import ConfigError, Finding
from remote.control.project import identity

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry


@dataclass(frozen=True)
class Identity:
    """A login. `key` is the private key (None: the SSH agent); `name` is its EC2 key pair, empty
    where EC2 Instance Connect admits the key; `public` is what to import under that name, or None
    where there is nothing to import."""

    key: Path | None
    name: str
    public: str | None


def identity_of(entry: "BoxEntry") -> Identity:
    """The login of an entry of the inventory. Makes Windlass's own key where it is needed. Raises
    ConfigError for a bad key file."""
    key = private_key(entry)
    key_name = getattr(entry, "key_name", None)
    if key_name:
        return Identity(key, key_name, None)
    key = key or own_key()
    if isinstance(entry, CloudEntry) and entry.instance_connect:
        return Identity(key, "", None)
    public = public_line(key, entry.name)
    return Identity(key, _pair_name(public), public)


def private_key(entry: "BoxEntry") -> Path | None:
    """Like `key_path`, checked: raises ConfigError when the file is missing, unreadable, open to
    others, or no private key."""
    path = key_path(entry)
    if path and (finding := _finding(path, entry.name)):
        raise ConfigError([finding])
    return path


def key_path(entry: "BoxEntry") -> Path | None:
    """The private key that the inventory names, or Windlass's own where it exists; None: the SSH
    agent. Not looked into."""
    if named := getattr(entry, "ssh_key", None):
        return project.find_file(named)
    own = own_key_path()
    is_ours = (
        isinstance(entry, CloudEntry) and not getattr(entry, "key_name", None) and own.exists()
    )
    return own if is_ours else None


def own_key_path() -> Path:
    """Where Windlass's own key lies, made or not."""
    return project.state_folder() / "keys" / "windlass_ed25519"


def own_key() -> Path:
    """Windlass's own Ed25519 key, made on the first call; 0600, one for each project."""
    path = own_key_path()
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # Never replaced: it opens the boxes that run.
        atomic.create(path, _new_key(), mode=0o600)
    return path


def public_line(key: Path, box_name: str) -> str:
    """The public half as `ssh-ed25519 AAAA…`. Raises ConfigError when a passphrase hides it and no
    `.pub` lies beside."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
        load_ssh_private_key,
    )

    beside = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    if beside.exists():
        return _written_line(beside, key, box_name)
    content = key.read_bytes()
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        public = load(content, password=None).public_key()
    except TypeError:
        return _hidden_line(key, beside, box_name)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError([_no_key(key, box_name, str(error))]) from None
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _written_line(public: Path, key: Path, box_name: str) -> str:
    """What a `.pub` file says. Raises ConfigError where that is no public key."""
    from remote.control.ssh.known_hosts import normal

    try:
        return normal(public.read_text())
    except (ValueError, OSError) as error:
        why = getattr(error, "strerror", None) or "it holds no public key, or half of one"
        makes = (
            f"`ssh-keygen -y -f {shlex.quote(str(key))} > {shlex.quote(str(public))}` writes it"
            " anew"
        )
        remedy = "name the private half, or a public key that is whole" if public == key else makes
        raise ConfigError(
            [
                Finding(
                    _place_of(box_name),
                    f"{public} cannot be used: {why}",
                    "a public SSH key",
                    remedy,
                )
            ]
        ) from None


def _hidden_line(key: Path, beside: Path, box_name: str) -> str:
    """The public half of a key with a passphrase: OpenSSH's own format shows it, PEM does not."""
    from remote.control.ssh.keys import public_part

    if blob := public_part(key):
        kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode(errors="replace")
        return f"{kind} {base64.b64encode(blob).decode()}"
    remedy = (
        f"`ssh-keygen -y -f {key} > {beside}` writes it; `ssh-add {key}` opens the key for Windlass"
    )
    raise ConfigError(
        [
            Finding(
                _place_of(box_name),
                f"{key} has a passphrase",
                f"its public half in {beside.name}",
                remedy,
            )
        ]
    )


def ensure_pair(ec2: Any, login: Identity, tags: dict[str, str]) -> None:
    """Import the public key as an EC2 key pair, unless it is there."""
    from botocore.exceptions import ClientError

    if login.public is None:
        return
    specification = [
        {
            "ResourceType": "key-pair",
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
    ]
    try:
        ec2.import_key_pair(
            KeyName=login.name,
            PublicKeyMaterial=login.public.encode(),
            TagSpecifications=specification,
        )
    except ClientError as error:
        # The name holds the key's own hash: a pair of that name is this key.
        if error.response["Error"]["Code"] != "InvalidKeyPair.Duplicate":
            raise


def remove_pairs(ec2: Any, in_use: set[str]) -> None:
    """Delete the key pairs that this project imported and no instance names any more."""
    filters = [{"Name": f"tag:{identity.PROJECT_TAG}", "Values": [identity.project_mark()]}]
    for pair in ec2.describe_key_pairs(Filters=filters)["KeyPairs"]:
        if pair["KeyName"] not in in_use:
            ec2.delete_key_pair(KeyName=pair["KeyName"])


def _pair_name(public: str) -> str:
    return f"windlass-{digest.of_bytes(public.encode())[:12]}"


def _new_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )


def _finding(path: Path, box_name: str) -> Finding | None:
    where = _place_of(box_name)
    if not path.is_file():
        remedy = (
            _own_remedy(path, box_name)
            or "correct the path, or remove the line: Windlass then makes a key of its own"
        )
        return Finding(where, f"no file {path}", "a private SSH key", remedy)
    try:
        content = path.read_bytes()
    except PermissionError:
        return Finding(
            where,
            f"{path} can't be read",
            "a private SSH key that you may read",
            f"`sudo chown $USER {path}`",
        )
    if (
        path.suffix == ".pub"
        and not path.with_suffix("").exists()
        and content.startswith((b"ssh-", b"ecdsa-", b"sk-"))
    ):
        # the private half is where only the SSH agent gets at it: a hardware key, a password
        # manager
        return None
    if b"PRIVATE KEY-----" not in content:
        return _no_key(
            path,
            box_name,
            "it is a public key" if path.suffix == ".pub" else "it has no PRIVATE KEY line",
        )
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding(
            where,
            f"{path} is open to others",
            "a key that only you may read",
            f"`chmod 600 {path}`",
        )
    return None


def _no_key(path: Path, box_name: str, why: str) -> Finding:
    remedy = _own_remedy(path, box_name) or "name the private half, or remove the line"
    return Finding(
        _place_of(box_name), f"{path} is no private key: {why}", "a private SSH key", remedy
    )


def _own_remedy(path: Path, box_name: str) -> str:
    """What to do about Windlass's own key where it is damaged: no line of the inventory names
    it."""
    if path != own_key_path():
        return ""
    anew = (
        f"`rm -r {shlex.quote(str(path))}`, `./inv terminate {box_name}` and `./inv launch"
        f" {box_name}`"
    )
    return (
        "bring it back from a backup, for it opens the boxes that were launched with it; without"
        f" one {anew}, which makes a new key"
    )


def _place_of(box_name: str) -> str:
    from remote.control.config.inventory import place

    return place("boxes", box_name, "ssh_key")
