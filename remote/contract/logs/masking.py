"""Secrets are masked by their values, wherever they appear: in a stream cut anywhere, in a text, in
a JSON value.

Masked are a value itself and what it becomes in JSON, in Python's `repr`, in a URL, in base64 (in
the midst of other bytes too) and in hexadecimal digits; of a value of several lines, such as a
private key, each long line as well. A value spelled in any other way, or cut by a line break that
it did not have, is not recognised.
"""

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

MASK = "***"
MIN_LENGTH = 6
"""Shorter values are not masked: they would be found everywhere."""

_LONG_LINE = 16
_SHORT_START = 4

Span = tuple[int, int]


class Masker:
    """Masks a stream of bytes, piece by piece; also whole texts and JSON values. What may be the
    beginning of a secret is held back until the next piece tells."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms = list(
            {
                form
                for secret in secrets
                if len(secret.strip()) >= MIN_LENGTH
                for form in forms(secret)
            }
        )
        self._reach = max(map(len, self._forms), default=1) - 1
        self._rest = b""
        self._masked = 0

    def feed(self, piece: bytes) -> bytes:
        """What of the stream is certain after `piece`."""
        if not self._forms:
            return piece
        content = self._rest + piece
        held = self._begun_at(content)
        spans = self._spans(content)
        safe, self._masked = _replaced(content, spans, self._masked, held)
        self._rest = content[held:]
        return safe

    def end(self) -> bytes:
        """What was held back: the stream has ended, and no secret is complete in it."""
        rest, self._rest = self._rest, b""
        safe, self._masked = _replaced(rest, self._spans(rest), self._masked, len(rest))
        return safe

    def content(self, content: bytes) -> bytes:
        """A whole content, masked."""
        spans = self._spans(content)
        return _replaced(content, spans, 0, len(content))[0] if spans else content

    def text(self, text: str) -> str:
        """A whole text, masked."""
        if not self._forms:
            return text
        return self.content(text.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it masked; numbers stay, so that it remains JSON."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(each) for key, each in value.items()}
        return [self.value(each) for each in value] if isinstance(value, list | tuple) else value

    def _spans(self, content: bytes) -> list[Span]:
        """Where secrets are, in order; those that touch or overlap are one."""
        found = sorted(
            chain.from_iterable(
                _occurrences(content, form) for form in self._forms if form in content
            )
        )
        merged: list[Span] = []
        for start, end in found:
            if merged and start < merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged

    def _begun_at(self, content: bytes) -> int:
        """Where the longest end of `content` begins that a secret might begin with; its length when
        none does."""
        tail = content[max(0, len(content) - self._reach) :]
        longest = max((_begun(tail, form) for form in self._forms), default=0)
        return len(content) - longest


def forms(secret: str) -> set[bytes]:
    """Every way in which a secret is recognised."""
    spelled = {
        secret.strip(),
        *(line.strip() for line in secret.splitlines() if len(line.strip()) >= _LONG_LINE),
    }
    return {
        form
        for each in spelled
        for form in chain(_as_text(each), _encoded(each.encode(errors="surrogateescape")))
    }


def _as_text(secret: str) -> Iterator[bytes]:
    ways = [
        (quote, safe)
        for quote in (urllib.parse.quote, urllib.parse.quote_plus)
        for safe in ("", "/")
    ]
    quoted = [quote(secret, safe=safe, errors="surrogateescape") for quote, safe in ways]
    in_json = [json.dumps(secret, ensure_ascii=is_plain)[1:-1] for is_plain in (True, False)]
    for text in (
        secret,
        repr(secret)[1:-1],
        *in_json,
        *quoted,
        *(re.sub("%..", lambda found: found[0].lower(), each) for each in quoted),
    ):
        yield text.encode(errors="surrogateescape")


def _encoded(secret: bytes) -> Iterator[bytes]:
    yield from (secret.hex().encode(), secret.hex().upper().encode())
    for before in range(3):  # base64 depends on how many bytes stand before, modulo three
        whole = base64.b64encode(b"\0" * before + secret)
        bits = 8 * (before + len(secret))
        certain = whole[-(-8 * before // 6) : bits // 6]
        yield from (certain, certain.translate(bytes.maketrans(b"+/", b"-_")))


def _occurrences(content: bytes, form: bytes) -> Iterator[Span]:
    at = content.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = content.find(form, at + 1)


def _begun(tail: bytes, form: bytes) -> int:
    """The length of the longest end of `tail` that is a beginning of `form`, and not all of it."""
    at = tail.find(form[:_SHORT_START], max(0, len(tail) - len(form) + 1))
    while at >= 0:
        if form.startswith(tail[at:]):
            return len(tail) - at
        at = tail.find(form[:_SHORT_START], at + 1)
    return next(
        (
            size
            for size in range(min(_SHORT_START, len(form)) - 1, 0, -1)
            if tail.endswith(form[:size])
        ),
        0,
    )


def _replaced(content: bytes, spans: list[Span], masked: int, until: int) -> tuple[bytes, int]:
    """`content` up to `until` with its spans masked, where the first `masked` bytes have been told
    as a mask already; and how many bytes after `until` have been told so now."""
    safe, at = [], masked
    for start, end in spans:
        if start >= until:
            break
        if start >= at:
            safe += [content[at:start], MASK.encode()]
        at = max(at, end)
    safe.append(content[at:until])
    return b"".join(safe), max(0, at - until)
