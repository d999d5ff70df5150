"""What the exported model is asked: rows of the validation set, and texts that trip tokenizers.
Standard library only."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.artifacts.rows import BadRow

_PLAIN = (
    "Name the capital of France.",
    "Write one sentence about the sea.",
    "List three colours.",
    "What is 17 plus 25?",
    "Explain in a few words what a windlass is.",
)

_TRICKY = (
    "two  spaces",
    "three   spaces",
    " leading space",
    "  two leading",
    "trailing space ",
    "tab\there",
    "line\nbreak",
    "blank\n\nline",
    "\nfirst a break",
    "windows\r\nbreak",
    "    indented\n        more",
    "a" * 60,
    "ALL CAPS SENTENCE",
    "MixedCase camelCase snake_case kebab-case",
    "don't won't it's",
    "“curly” and ‘single’ quotes",
    "em—dash, en–dash, ellipsis…",
    "naïve café résumé",
    "Größe, Straße, Übermut",
    "façade garçon",
    "señor mañana ¿qué?",
    "Привет, мир",
    "Γειά σου Κόσμε",
    "こんにちは世界",
    "你好，世界",
    "안녕하세요 세계",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "emoji 🙂🚀",
    "family 👨‍👩‍👧‍👦 joined",
    "flags 🇫🇷🇩🇪",
    "combining e\u0301 a\u0308",
    "zero\u200bwidth",
    "no\u00a0break",
    "1234567890",
    "3.14159, -2.5e-10",
    "1,000,000",
    "2026-11-21T08:43:00Z",
    "0xDEADBEEF",
    '{"handle": "@a_b", "score": 7, "reason": "x"}',
    "[1, [2, [3]]]",
    "<b>bold</b> &amp;",
    "# Title\n- item\n1. one",
    "`code` and ```block```",
    "def f(x):\n    return x ** 2",
    "SELECT * FROM t WHERE a <> 'b';",
    "a/b\\c|d",
    "https://example.org/a?b=c&d=%20e#f",
    "user@example.org",
    "$5.00 €4 £3 ¥2",
    "50% off!!!",
    "~!@#$%^&*()_+`-={}[]:;<>?,./",
    "x² + y³ ≠ ∑√∞",
    "½ ¼ ™ ©",
    "\u4e00\u9fff rare 龘",
    "\x07bell",
    "melting 🫠 parrot 🦜 Han 漢 rune ᚠ",
    "𒀀𓂀 𝔘𝔫𝔦 \U0001f9d1\u200d\U0001f680",
    "18" + " " * 18 + "spaces",
    "47" + " " * 47 + "and 200" + " " * 200 + "spaces",
    "tabs" + "\t" * 19 + "and breaks" + "\n" * 19 + "mixed \t \n  \t\t",
)


def questions(val: Path | None, count: int) -> list[str]:
    """What the user says in up to `count` rows, evenly spread over the validation set; built-in
    questions without one."""
    messages = list(dict.fromkeys(_messages(val))) if val else []
    if not messages:
        return list(_PLAIN[:count])
    step = max(1, len(messages) // count)
    return messages[::step][:count]


def conversations(val: Path | None) -> list[list[dict[str, str]]]:
    """At least 50 chats to compare tokenizers on: tricky texts, a few of more than one turn, and
    rows of the validation set."""
    said = [*_PLAIN, *_TRICKY, *itertools.islice(_messages(val) if val else (), 64)]
    chats = [[_turn("user", text)] for text in said]
    threes = zip(_PLAIN, _TRICKY[9:], _TRICKY[40:], strict=False)
    return chats + [
        [_turn("user", first), _turn("assistant", answer), _turn("user", second)]
        for first, answer, second in threes
    ]


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _messages(val: Path) -> Iterator[str]:
    with val.open("rb") as file:
        for number, line in enumerate(file, 1):
            with contextlib.suppress(BadRow):  # `prepare` has counted and reported it
                if asked := parse_row(line, val.name, number).asked:  # a document asks nothing
                    yield asked
