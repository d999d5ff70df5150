import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.artifacts.rows import Row
from remote.payload.data.steps import redact
from remote.payload.job import StageFailed

# Put together here, so that no scanner takes this file for a leak.
GITHUB = "ghp_" + "aB3dE6gH9" * 4
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
KEY = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow\nabc=\n-----END RSA " + "PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N"
RANDOM = "q7Zx1Pv9K2" + "mR4tY8sWb3" + "Nc6Jd5Hf0L" + "gA7u"


def redacted(text, **options):
    return redact.make_step({"type": "redact", **options}, _context()).text(text)


def _context():
    from pathlib import Path

    from remote.payload.data.engine import Context

    return Context(Path("/"), Path("/"), {})


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("write to Ann.Lee+x@mail.example.co.uk.", "write to [EMAIL]."),
        ("<a@b.org>", "<[EMAIL]>"),
        ("call +49 (0)30 901820 now", "call [PHONE] now"),
        ("call +1 415 555 2671", "call [PHONE]"),
        ("(415) 555-2671 or 415-555-2671", "[PHONE] or [PHONE]"),
        ("au 06 12 34 56 78, merci", "au [PHONE], merci"),
        ("Tel.: 030/901820", "Tel.: [PHONE]"),
        ("from 93.184.216.34:8080", "from [IP]:8080"),
        ("at 2001:db8:85a3::8a2e:370:7334", "at [IP]"),
        ("paid with 4111 1111 1111 1111.", "paid with [CARD]."),
        ("amex 378282246310005", "amex [CARD]"),
        (f"token {GITHUB}!", "token [SECRET]!"),
        (f"key={AWS}", "key=[SECRET]"),
        (f"before\n{KEY}\nafter", "before\n[SECRET]\nafter"),
        (f"jwt {JWT}", "jwt [SECRET]"),
        (f"it is {RANDOM}.", "it is [SECRET]."),
        ("password: hunter2!", "password: [SECRET]"),
        ('"api_key": "abc123def456"', '"api_key": "[SECRET]"'),
        ("postgres://app:s3cr3t@db/x", "postgres://app:[SECRET]@db/x"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [SECRET]"),
    ],
)
def test_what_is_private_becomes_a_placeholder(text, clean):
    assert redacted(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "on 2024-01-15 at 12:30:45",
        "in 1990-2000, 1,234,567.89 of them",
        "Python 3.11.7, version 1.2.3.4 and v1.2.3.4",
        "1.2.3.4 Methods",
        "127.0.0.1 and 0.0.0.0 and ::1",
        "std::vector<int> a::b x[1::2]",
        "ISBN 978-3-16-148410-0",
        "order 4111111111111112",  # Luhn says no
        "timestamp 1700000000000",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        "id 123e4567-e89b-12d3-a456-426614174000",
        "password = getpass()",
        "token: str = settings.api_token",
        "password: required",
        "https://USER:PASSWORD@host and s3://access_key_id:secret_access_key@bucket/key",
        "BATCH_TOKENS = 16_384_000",
        "InvalidS3UsEast1RegionalEndpointConfigError",
        "digits = '0123456789'",
        "the secret: Freedom",
        "tokenizer = AutoTokenizer.from_pretrained(name)",
        "max_tokens=4096, temperature=0.7",
        "The-Quick-Brown-Fox-Jumps-Over-The-Lazy-Dog-2024",
        "/usr/lib/python3/dist-packages/SomePackage/module1.py",
        "@handle and user@host",
        "1 + 1 = 2; 3.14159265358979",
        "0.123456789012345",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert redacted(text) == text


def test_names_of_a_list_are_whole_words(make_step, tmp_path):
    (tmp_path / "names.txt").write_text("Ann Lee\nAnn\n\nO'Neil\n")
    step = make_step("redact", names="names.txt")
    assert step.text("Ann Lee met Ann, Anna and Mr O'Neil.") == (
        "[NAME] met [NAME], Anna and Mr [NAME]."
    )
    assert step.counts == {"name": 3}


def test_kinds_and_placeholders_are_chosen():
    text = "a@b.org +1 415 555 2671"
    assert redacted(text, kinds=["email"]) == "[EMAIL] +1 415 555 2671"
    assert redacted(text, kinds="email", placeholders={"email": "x@example.org"}).startswith(
        "x@example.org "
    )


def test_all_turns_are_redacted_and_counted(make_step, through):
    step = make_step("redact")
    kept, aside = through(step, [Row.of("I am a@b.org", "Hello a@b.org"), Row(text="nothing")])
    assert [turn.content for turn in kept[0].messages] == ["I am [EMAIL]", "Hello [EMAIL]"]
    assert (kept[1], aside, step.counts) == (Row(text="nothing"), [], {"email": 2})


@pytest.mark.parametrize(
    "options",
    [
        {"kinds": ["iban"]},
        {"kinds": ["name"]},
        {"names": "nowhere.txt"},
        {"placeholders": {"mail": "x"}},
    ],
)
def test_a_wrong_entry_is_named(make_step, options):
    with pytest.raises(StageFailed, match="step redact"):
        make_step("redact", **options)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aB1@.:-+() /_=\n0e%")), st.text(max_size=20))
def test_what_is_clean_stays_clean(text, more):
    once = redacted(f"password={text} {more}")
    assert redacted(once) == once


@pytest.mark.parametrize(
    "piece", ["1", "a", "1 ", "a.", "-", ":", "(1", "0:", "a@", "+1", "A1", "/"]
)
def test_no_text_takes_for_ever(piece):
    redacted(piece * (200_000 // len(piece)))  # where time grows with the square: the suite's limit
