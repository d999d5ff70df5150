"""What must never be shown: the secrets of jobs on their way to a box, and everything that this laptop knows and prints or records.

Masked are, by value: the variables that `secrets:` of the inventory names, well-known ones of the environment (tokens, passwords, AWS's
keys), and what a session has learned (`know`); by their form: signatures and session tokens of presigned addresses.
"""

import os
import re
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from remote.contract.masking import MASK, MIN_LENGTH, Masker

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory

_WELL_KNOWN = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_KEY|SECRET_ACCESS_KEY|PRIVATE_KEY)$")
_WELL_KNOWN_LENGTH = 16
"""Shorter values of variables that nobody named are no keys, and words like any other."""

_SIGNED = re.compile(r"\b(X-Amz-Signature|X-Amz-Security-Token|Signature|x-amz-signature|x-amz-security-token|sig)=[^&\s\"'\\]{8,}")

_SIGNED_IN_BYTES = re.compile(_SIGNED.pattern.encode())
_SIGNED_WORDS = ("ignature=", "oken=", "sig=")

_learned: set[str] = set()
_named: set[str] = set()
_lock = threading.Lock()


def values(inventory: "Inventory") -> dict[str, str]:
    """What jobs get of this laptop's environment. Raises ConfigError with a finding for each variable that is not set, or too short to
    be masked."""
    from remote.control.errors import ConfigError, Finding

    findings = []
    for number, name in enumerate(inventory.secrets):
        found, where = os.environ.get(name, ""), inventory.where("secrets", number)
        if not found:
            remedy = f"`read -rs {name} && export {name}`, or remove the line"
            findings.append(Finding(where, f"`{name}` is not set in this environment", "the secret that jobs are to get", remedy))
        elif len(found.strip()) < MIN_LENGTH:
            expected = f"{MIN_LENGTH} characters at least: a shorter one cannot be masked"
            findings.append(Finding(where, f"`{name}` is too short for a secret", expected, "take a longer one, or remove the line"))
    if findings:
        raise ConfigError(findings)
    return {name: os.environ[name] for name in inventory.secrets}


def know(*secrets: str | None) -> None:
    """Mask these from now on, in this process."""
    with _lock:
        _learned.update(secret for secret in secrets if secret)


def know_names(names: list[str]) -> None:
    """Mask the values of these variables from now on, in this process."""
    with _lock:
        _named.update(names)


def masked(text: str) -> str:
    """A text as it may be shown."""
    return mask().text(text)


def masked_value(value: Any) -> Any:
    """A JSON value with every text in it as it may be shown."""
    return mask().value(value)


def mask() -> "Mask":
    """What masks all that is known now: for many texts at once."""
    with _lock:
        known, named = frozenset(_learned), frozenset(_named)
    found = (value for name, value in os.environ.items() if name in named or _is_well_known(name, value))
    return _mask_of(known.union(found))


def _is_well_known(name: str, value: str) -> bool:
    return len(value) >= _WELL_KNOWN_LENGTH and _WELL_KNOWN.search(name) is not None


class Mask(Masker):
    """Masks presigned addresses as well."""

    def content(self, content: bytes) -> bytes:
        """A whole content, masked."""
        content = super().content(content)
        if any(word.encode() in content for word in _SIGNED_WORDS):
            content = _SIGNED_IN_BYTES.sub(rb"\1=" + MASK.encode(), content)
        return content

    def text(self, text: str) -> str:
        """A whole text, masked."""
        text = super().text(text)
        is_signed = "=" in text and any(word in text for word in _SIGNED_WORDS)  # one character is found far sooner than a word
        return _SIGNED.sub(rf"\1={MASK}", text) if is_signed else text


@lru_cache(maxsize=8)
def _mask_of(secrets: frozenset[str]) -> Mask:
    return Mask(secrets)
