"""What must never be shown: the secrets of jobs on their way to a box, and everything that this
laptop knows and prints or records.

Masked are, by value: the variables that `secrets:` of the inventory names, well-known ones of the
environment (tokens, passwords, AWS's keys), and what a session has learned (`know`); by their form:
signatures and session tokens of presigned addresses.
"""

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, AnyStr

from remote.contract.logs.masking import MASK, MIN_LENGTH, Masker
from remote.control.output.sanitize import counted

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory
    from remote.control.errors import Finding

_WELL_KNOWN = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_KEY|SECRET_ACCESS_KEY|PRIVATE_KEY)$")
_WELL_KNOWN_LENGTH = 16
"""Shorter values of variables that nobody named are no keys, and words like any other."""

_SIGNED_NAMES = (
    "Signature=",
    "x-amz-signature=",
    "X-Amz-Security-Token=",
    "x-amz-security-token=",
    "sig=",
)
_SIGNED_MARKS = ("ignature=", "ecurity-", "sig=")
"""One of these is in each of the names: few searches tell that a text has none."""
_SIGNED = re.compile(rf"\b(?:{'|'.join(_SIGNED_NAMES)})([^&\s\"'\\]{{8,}})")
_SIGNED_IN_BYTES = re.compile(_SIGNED.pattern.encode())

_learned: set[str] = set()
_named: set[str] = set()
_lock = threading.Lock()


def values(inventory: "Inventory", recipes: Mapping[str, str] | None = None) -> dict[str, str]:
    """What jobs get of this laptop's environment: what the inventory names, and `recipes`, which
    says where each is named. All are masked from then on. Raises ConfigError with a finding for
    each variable that is not set, or too short to be masked."""
    from remote.control.errors import ConfigError

    know_names([*(recipes or ())])
    if lacking := findings(inventory, recipes):
        error = ConfigError(lacking)
        error.what = (
            f"{counted(len(lacking), 'variable')} of `secrets:` cannot be given to jobs; nothing"
            " was begun, and nothing is billed"
        )
        error.remedy = "`export NAME=...` as the lines above say, then the same command"
        raise error
    return {name: os.environ[name] for name in (*inventory.secrets, *(recipes or ()))}


def findings(inventory: "Inventory", recipes: Mapping[str, str] | None = None) -> "list[Finding]":
    """What is wrong with the variables that `secrets:` of the inventory or of recipes names: they
    are not set here, or too short to be masked."""
    from remote.control.errors import Finding

    named = {
        name: inventory.where("secrets", number) for number, name in enumerate(inventory.secrets)
    }
    found = []
    for name, where in {**(recipes or {}), **named}.items():
        value = os.environ.get(name, "")
        if not value:
            remedy = (
                f"`export {name}=...` (`read -rs {name} && export {name}` keeps it off the screen),"
                " or remove the line"
            )
            found.append(
                Finding(
                    where,
                    f"`{name}` is not set in this environment",
                    "the secret that jobs are to get",
                    remedy,
                )
            )
        elif len(value.strip()) < MIN_LENGTH:
            expected = f"{MIN_LENGTH} characters at least: a shorter one cannot be masked"
            found.append(
                Finding(
                    where,
                    f"`{name}` is too short for a secret",
                    expected,
                    "take a longer one, or remove the line",
                )
            )
    return found


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
    found = (
        value for name, value in os.environ.items() if name in named or _is_well_known(name, value)
    )
    return _mask_of(known.union(found))


def _is_well_known(name: str, value: str) -> bool:
    return len(value) >= _WELL_KNOWN_LENGTH and _WELL_KNOWN.search(name) is not None


class Mask(Masker):
    """Masks presigned addresses as well."""

    def content(self, content: bytes) -> bytes:
        """A whole content, masked."""
        content = super().content(content)
        # One character is found far sooner than a word, and words far sooner than an expression:
        # logs are long, and hold no addresses.
        if b"=" not in content or not any(word.encode() in content for word in _SIGNED_MARKS):
            return content
        starts = sorted(at for name in _SIGNED_NAMES for at in _places(content, name.encode()))
        return _without(
            content,
            (found.span(1) for at in starts if (found := _SIGNED_IN_BYTES.match(content, at))),
            MASK.encode(),
        )

    def text(self, text: str) -> str:
        """A whole text, masked."""
        text = super().text(text)
        if "=" not in text or not any(word in text for word in _SIGNED_MARKS):
            return text
        starts = sorted(at for name in _SIGNED_NAMES for at in _places(text, name))
        return _without(
            text, (found.span(1) for at in starts if (found := _SIGNED.match(text, at))), MASK
        )


def _places(text: AnyStr, word: AnyStr) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + 1)


def _without(text: AnyStr, spans: Iterable[tuple[int, int]], mask: AnyStr) -> AnyStr:
    """The text with the spans masked, which come in their order; of those that overlap only the
    first."""
    parts: list[AnyStr] = []
    done = 0
    for start, end in spans:
        if start >= done:
            parts += [text[done:start], mask]
            done = end
    parts.append(text[done:])
    return text[:0].join(parts)


@lru_cache(maxsize=8)
def _mask_of(secrets: frozenset[str]) -> Mask:
    return Mask(secrets)
