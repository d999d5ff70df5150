"""What a bundle may hold."""

import pytest

from remote.control.telemetry import bundle


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "a1" * 17, "ghp_" + "Z" * 36, "github_pat_" + "x" * 30, "sk-proj-" + "y" * 30, "xoxb-" + "1" * 20,
        "AKIA" + "ABCDEFGH12345678",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\nBBBB\n-----END OPENSSH PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----\ncut off",
    ],
)  # fmt: skip
def test_what_looks_like_a_key_is_masked_whoevers_it_is(secret):
    assert bundle._clean(f"before {secret}".encode()) == b"before ***"


def test_passwords_in_addresses_and_bearer_tokens_are_masked():
    content = b"https://me:pass@host/x Authorization: Bearer abcdefghijklmnop1234 s3://bucket/key"
    assert bundle._clean(content) == b"https://***@host/x Authorization: Bearer *** s3://bucket/key"


def test_the_values_of_the_environment_are_masked_and_bytes_stay(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "a value that nobody guesses")
    assert bundle._clean(b"\xff\x00 a value that nobody guesses \xfe") == b"\xff\x00 *** \xfe"


def test_of_a_long_file_the_end_is_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "KEPT_BYTES", 10)
    (tmp_path / "log").write_bytes(b"0123456789abcdef")
    assert bundle._end_of(tmp_path / "log") == b"[the first 6 bytes are left out]\n6789abcdef"
