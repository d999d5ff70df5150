"""Puts placeholders where a text has e-mail addresses, phone numbers, IP addresses, secrets, card
numbers, or names of a given list.

Entry: `kinds` (`[secret, email, card, ip, phone]`, that is all but `name`, which needs `names`),
`names` (a file, one name a line, or a list; whole words, as written), `placeholders` (`{email:
"someone@example.org"}`; by default `[EMAIL]`, `[PHONE]`, `[IP]`, `[SECRET]`, `[CARD]`, `[NAME]`).

What is found: secrets by the shape that their makers gave them (AWS, GitHub, GitLab, Slack, OpenAI,
Anthropic, Hugging Face, Google, Stripe, SendGrid, PyPI, npm, JWT, private keys), behind a word such
as `password=`, in an address (`https://user:this@`), and by their entropy (32 characters or more);
cards by Luhn's check; phone numbers with a country's or area's code, or behind `tel`; IP addresses
that are not this machine's own. Nothing is set aside; `counts` has how many of each were put.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from remote.payload.data.engine import Context
from remote.payload.data.steps import options
from remote.payload.data.units import Given, Result

_Find = Callable[[str], Iterator[tuple[int, int]]]
"""The stretches of a text to replace, in order, none over another."""

_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9](?:[\w.+%-]{0,63})@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)"
    r"{1,8}[A-Za-z]{2,24}(?![\w-])"
)
_SHAPES = {
    "PRIVATE KEY": (
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
        r"(?:.*?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\]*)"
    ),
    **{name: rf"\b{name}[A-Z0-9]{{16}}\b" for name in ("AKIA", "ASIA", "AGPA", "AIDA", "AROA")},
    **{f"gh{kind}_": rf"\bgh{kind}_[A-Za-z0-9]{{36,255}}\b" for kind in "pousr"},
    "github_pat_": r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b",
    "glpat-": r"\bglpat-[\w-]{20,}",
    "xox": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "xapp-": r"\bxapp-[A-Za-z0-9-]{20,}",
    "sk-": r"\bsk-(?:ant-|proj-|svcacct-|or-v1-)?[A-Za-z0-9_-]{20,}",
    "hf_": r"\bhf_[A-Za-z0-9]{30,}\b",
    "AIza": r"\bAIza[\w-]{35}",
    "ya29.": r"\bya29\.[\w-]{20,}",
    "GOCSPX-": r"\bGOCSPX-[\w-]{28}",
    "k_live_": r"\b[sr]k_live_[A-Za-z0-9]{16,}\b",
    "k_test_": r"\b[sr]k_test_[A-Za-z0-9]{16,}\b",
    "whsec_": r"\bwhsec_[A-Za-z0-9]{24,}\b",
    "SG.": r"\bSG\.[\w-]{22}\.[\w-]{43}",
    "pypi-AgE": r"\bpypi-AgE[\w-]{50,}",
    "npm_": r"\bnpm_[A-Za-z0-9]{36}\b",
    "dop_v1_": r"\bdop_v1_[a-f0-9]{64}\b",
    "eyJ": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
}
"""What makers of keys gave them to be known by, under what each has in it."""
_ASSIGNED = re.compile(
    r"(?i)(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|auth[_-]?key"
    r"|credential|mot de passe|passwort|kennwort|contraseña|senha)s?[\"']?\s{0,3}(?::=|=>|[:=])"
    r"\s{0,3}(?:Bearer\s)?[\"'`]?(?P<value>[^\s\"'`,;<>(){}\[\]]{6,200})"
)
_BEARER = re.compile(r"(?i)\bauthorization:\s*(?:bearer|basic|token)\s+(?P<value>[\w.~+/=-]{8,})")
_IN_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,100}:(?P<value>[^\s/@]{1,200})@")
_BLOB = re.compile(r"(?<![\w+/=.-])[A-Za-z0-9+/_-]{32,200}={0,2}(?![\w+/=-])")
_NO_VALUE = re.compile(
    r"[A-Z_]+|(?i:none|null|true|false|undefined|required|optional|string|str|pass(?:word)?|secret\w*"
    r"|\$.*|%.*|<.*|\*+|x+|\.+|(?:os|process|env|self|config|settings)\..*|your[_-].*"
    r"|(?:\w+_)?(?:key|token|secret|password))"
)
_REFERENCE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_BLOB_BITS = 4.2
"""Entropy of a character in what is taken for a key: of 32 random ones in base64 it is about 4.6,
of English words run together below 4."""

_CARD = re.compile(r"(?<![\w.,:-])(?:[3-6]\d{3}|2[2-7]\d{2})(?:[ -]?\d){9,15}(?![\w]|[.,-]\d)")
_IP4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IP6 = re.compile(
    r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:\d{1,3}\.){3}\d{1,3})?"
    r"(?![\w:])"
)
_VERSION = re.compile(r"(?i)(?:\bv(?:ersion)?\.?|\brelease|\bsection|§|[<>=]=)\s*$")
_SEPARATED = r"(?:[ \t.\-/\u00a0]?\(?\d{1,4}\)?){2,6}"
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:"
    r"(?:\+|00(?=[1-9]\d{0,2}[ .\-/(]))[1-9]\d{0,2}[ \t.\-/\u00a0]?(?:\(0?\d{1,4}\))?"
    + _SEPARATED
    + r""
    r"|(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4}"
    r"|0[1-9](?:[ .-]?\d{2}){4}"
    r"|\(0[1-9]\d{1,4}\)[ /-]?\d{3,8}(?:[ -]\d{1,5})?"
    r"|0[1-9]\d{1,4}[/ -]\d{3,4}[ -]?\d{2,5}"
    r")(?![\w]|[-.]\d)"
)
_LABELLED = re.compile(
    r"(?i)(?:\b(?:tel|tél|phone|telephone|téléphone|telefon|teléfono|telefone|mobile|mobil|handy|cell"
    r"|fax|whatsapp)\b\.?|☎|📞)(?: (?:no|nr|number|nummer)\.?)?[ \t]*[:.=]?[ \t]*"
    r"(?P<value>\+?\(?\d[\d \t().\-/]{5,20}\d)"
)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check of the others."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def entropy(text: str) -> float:
    """Bits a character, by how often each stands in the text itself."""
    counts, size = Counter(text), len(text)
    return -sum(count / size * math.log2(count / size) for count in counts.values())


def _spans(
    pattern: "re.Pattern[str]", is_one: Callable[["re.Match[str]"], bool], needs: str = ""
) -> _Find:
    """Finds by an expression, in texts that have what it `needs`: that is looked for quicker."""
    group = "value" if "value" in pattern.groupindex else 0

    def find(text: str) -> Iterator[tuple[int, int]]:
        if needs not in text:
            return
        for found in pattern.finditer(text):
            if is_one(found):
                yield found.span(group)

    return find


def _any(_found: "re.Match[str]") -> bool:
    return True


def _is_value(found: "re.Match[str]") -> bool:
    """Whether what is assigned is a secret, and no word, variable, call or placeholder."""
    value, follows = found["value"], found.string[found.end("value") :][:1]
    if _NO_VALUE.fullmatch(value) or follows == "(" or _REFERENCE.fullmatch(value):
        return False
    if re.search(r"\d", value):
        return bool(re.search(r"[^\d_.:/%-]", value))  # no date, size or address
    return bool(re.search(r"[!@#$%^&*+=~?]", value)) and entropy(value) >= 3


def _is_blob(found: "re.Match[str]") -> bool:
    """Whether letters and digits are mixed as in keys. In a title or a path digits stand
    together."""
    blob = found[0]
    if not all(re.search(kind, blob) for kind in ("[a-z]", "[A-Z]")):
        return False
    turns = len(re.findall(r"(?<=\d)[A-Za-z]|(?<=[A-Za-z])\d", blob))
    return turns >= 5 and entropy(blob) >= _BLOB_BITS


def _is_card(found: "re.Match[str]") -> bool:
    digits = re.sub(r"\D", "", found[0])
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def _is_ip(found: "re.Match[str]") -> bool:
    """Whether it is an address of some machine, and no version, heading, slice or path in code."""
    try:
        address = ipaddress.ip_address(found[0])
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or found[0].startswith(("255.", "::")):
        return False
    before = found.string[max(0, found.start() - 12) : found.start()]
    if address.version == 6:  # a::b and 1::2 are addresses, too
        return any(map(str.isdigit, found[0])) and len([*filter(None, found[0].split(":"))]) >= 3
    is_heading = not before.rpartition("\n")[2].strip() and all(
        byte < 30 for byte in address.packed
    )
    return not is_heading and not _VERSION.search(before)


def _is_phone(found: "re.Match[str]") -> bool:
    digits = re.sub(r"\D", "", found["value"] if "value" in found.re.groupindex else found[0])
    is_row = digits in "01234567890123456789"
    return 7 <= len(digits) <= 15 and len(set(digits)) > 2 and not is_row


_FIND: dict[str, tuple[_Find, ...]] = {
    "secret": (
        *(_spans(re.compile(each, re.DOTALL), _any, needs) for needs, each in _SHAPES.items()),
        _spans(_IN_ADDRESS, lambda found: not _NO_VALUE.fullmatch(found["value"]), "://"),
        _spans(_BEARER, _is_value),
        _spans(_ASSIGNED, _is_value),
        _spans(_BLOB, _is_blob),
    ),
    "email": (_spans(_EMAIL, _any, "@"),),
    "card": (_spans(_CARD, _is_card),),
    "ip": (_spans(_IP4, _is_ip), _spans(_IP6, _is_ip, ":")),
    "phone": (_spans(_LABELLED, _is_phone), _spans(_PHONE, _is_phone)),
}


class Redact:
    """Kinds to look for, in order; `counts` by kind."""

    def __init__(self, find: Mapping[str, tuple[_Find, ...]], put: Mapping[str, str]) -> None:
        self._find, self._put = find, put
        self.counts: Counter[str] = Counter()

    def __call__(self, given: Given) -> Iterator[Result]:
        """The row with placeholders."""
        row = options.with_texts(given.row, self.text)
        yield given if row is given.row else Given(row, given.origin)

    def text(self, text: str) -> str:
        """One text with placeholders."""
        for kind, finders in self._find.items():
            for find in finders:
                text = self._replaced(text, kind, find)
        return text

    def _replaced(self, text: str, kind: str, find: _Find) -> str:
        pieces, at = [], 0
        for start, end in find(text):
            pieces += [text[at:start], self._put[kind]]
            at = end
            self.counts[kind] += 1
        return "".join((*pieces, text[at:])) if pieces else text


def make_step(entry: Mapping[str, Any], context: Context) -> Redact:
    """The step of an entry."""
    find = dict(_FIND)
    if names := _names(entry, context.root):
        find["name"] = (names_in(names),)
    kinds = options.names(entry, "kinds") or tuple(find)
    if unknown := sorted({*kinds} - {*find}):
        known = ", ".join(find) + ("" if names else "; `name` with a list under `names`")
        raise options.wrong(entry, f"no kind {unknown[0]!r}", f"expected of {known}")
    put = {kind: f"[{kind.upper()}]" for kind in find} | dict(entry.get("placeholders") or {})
    if any(name not in find or not isinstance(text, str) for name, text in put.items()):
        raise options.wrong(entry, "`placeholders`", f"expected texts for {', '.join(find)}")
    return Redact({kind: find[kind] for kind in find if kind in kinds}, put)


def _names(entry: Mapping[str, Any], root: Path) -> list[str]:
    found = entry.get("names")
    if isinstance(found, str):
        path = options.path_in(entry, "names", root)
        assert path
        found = path.read_text(encoding="utf-8").splitlines()
    return [name.strip() for name in found or () if str(name).strip()]


def names_in(names: list[str]) -> _Find:
    """Finds whole words of a list, the longest where several begin at one place. A dictionary by
    first word: an expression of 100,000 names would try each of them everywhere."""
    by_first: dict[str, list[str]] = {}
    for name in sorted(set(names), key=lambda name: (-len(name), name)):
        if first := re.match(r"\w+", name):
            by_first.setdefault(first[0], []).append(name)

    def find(text: str) -> Iterator[tuple[int, int]]:
        at = 0
        for word in re.finditer(r"\w+", text):
            if word.start() < at or word[0] not in by_first:
                continue
            for name in by_first[word[0]]:
                end = word.start() + len(name)
                if text.startswith(name, word.start()) and not text[end : end + 1].isalnum():
                    yield word.start(), end
                    at = end
                    break

    return find
