"""Secrets are masked by value, wherever a stream is cut and however they are spelled."""

import base64
import json
import re
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.logs.masking import MASK, Masker

TOKEN = "hf_Zq9/+x'\"äW 7\\k"
KEY = "-----BEGIN KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nQyNTUxOQAAACDm9pZ5\n-----END KEY-----\n"

SPELLED = {
    "plain": TOKEN,
    "JSON": json.dumps(TOKEN)[1:-1],
    "JSON, not ASCII": json.dumps(TOKEN, ensure_ascii=False)[1:-1],
    "repr": repr(TOKEN)[1:-1],
    "URL": urllib.parse.quote(TOKEN, safe=""),
    "form": urllib.parse.quote_plus(TOKEN),
    "URL, small digits": re.sub(
        "%..", lambda found: found[0].lower(), urllib.parse.quote(TOKEN, safe="")
    ),
    "hex": TOKEN.encode().hex(),
    **{
        f"basic authorization {name}": base64.b64encode(f"{name}:{TOKEN}:{name}".encode()).decode()
        for name in ("a", "ab", "abc")
    },
    "base64 for URLs": base64.urlsafe_b64encode(f"x{TOKEN}".encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLED)
def test_every_spelling_is_masked(spelling):
    shown = Masker([TOKEN]).text(f"before {SPELLED[spelling]} after")
    assert MASK in shown and shown.startswith("before ") and shown.endswith(" after")
    inside = [SPELLED[spelling][at : at + 12] for at in range(0, len(SPELLED[spelling]) - 12, 3)]
    assert sum(part in shown for part in inside) <= len(inside) / 2


def test_each_line_of_a_key_is_masked_where_it_stands_alone():
    shown = Masker([KEY]).text("Q: b3BlbnNzaC1rZXktdjEAAAAA!\nA: QyNTUxOQAAACDm9pZ5?")
    assert shown == "Q: ***!\nA: ***?"


def test_short_values_are_left_alone():
    assert Masker(["1", "", "abcde"]).text("1 abcde") == "1 abcde"


def test_values_keep_their_shape():
    masked = Masker(["12345678", "secret-1"]).value(
        {"n": 12345678, "secret-1": ["x secret-1", None, 0.5, True]}
    )
    assert masked == {"n": 12345678, MASK: [f"x {MASK}", None, 0.5, True]}


def test_a_line_is_not_held_back_for_what_no_secret_begins_with():
    masker = Masker(["secret-1"])
    assert masker.feed(b"loss 0.5\n") == b"loss 0.5\n"
    assert masker.feed(b"a sec") == b"a " and masker.feed(b"ond") == b"second"
    assert masker.feed(b"secret-") == b"" and masker.end() == b"secret-"


LETTERS = st.sampled_from("ab-")
SECRETS = st.lists(st.text(LETTERS, min_size=6, max_size=9), min_size=1, max_size=3)


@settings(max_examples=300)
@given(data=st.data(), secrets=SECRETS, sizes=st.lists(st.integers(1, 9), min_size=1))
def test_a_stream_is_masked_like_a_text_however_it_is_cut(data, secrets, sizes):
    pieces = data.draw(
        st.lists(st.sampled_from(secrets) | st.text(LETTERS, max_size=8), max_size=6)
    )
    content = "".join(pieces).encode()
    masker, shown, at, number = Masker(secrets), b"", 0, 0
    while at < len(content):
        size = sizes[number % len(sizes)]
        shown += masker.feed(content[at : at + size])
        at, number = at + size, number + 1
    shown += masker.end()
    assert shown == Masker(secrets).content(content)
    assert not any(secret.encode() in shown for secret in secrets)


@given(content=st.binary(max_size=200), size=st.integers(1, 20))
def test_without_a_secret_every_byte_stays(content, size):
    masker = Masker(["no-such-secret"])
    assert (
        b"".join(
            [
                *(masker.feed(content[at : at + size]) for at in range(0, len(content), size)),
                masker.end(),
            ]
        )
        == content
    )
