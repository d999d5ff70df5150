"""What a bundle may hold."""

import tarfile

import pytest

from remote.contract.job.jobs import JobState, Status
from remote.contract.telemetry.evidence import Evidence
from remote.control.config.inventory import load_inventory
from remote.control.observe import bundle
from remote.control.observe.find import Found


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "a1" * 17,
        "ghp_" + "Z" * 36,
        "github_pat_" + "x" * 30,
        "sk-proj-" + "y" * 30,
        "xoxb-" + "1" * 20,
        "AKIA" + "ABCDEFGH12345678",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\nBBBB\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\ncut off",
    ],
)
def test_what_looks_like_a_key_is_masked_whoevers_it_is(secret):
    assert bundle._clean(f"before {secret}".encode()) == b"before ***"


def test_passwords_in_addresses_and_bearer_tokens_are_masked():
    content = b"https://me:pass@host/x Authorization: Bearer abcdefghijklmnop1234 s3://bucket/key"
    assert bundle._clean(content) == b"https://***@host/x Authorization: Bearer *** s3://bucket/key"


def test_the_values_of_the_environment_are_masked_and_bytes_stay(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "a value that nobody guesses")
    assert bundle._clean(b"\xff\x00 a value that nobody guesses \xfe") == b"\xff\x00 *** \xfe"


def test_of_a_long_file_the_last_lines_are_packed(tmp_path, monkeypatch):
    """Half of a secret, as a cut leaves it, would not be masked."""
    monkeypatch.setattr(bundle, "KEPT_BYTES", 10)
    (tmp_path / "log").write_bytes(b"a secret\n9abcd\n")
    assert bundle._end_of(tmp_path / "log") == b"[the first 9 bytes are left out]\n9abcd\n"
    (tmp_path / "log").write_bytes(b"0123456789abcdef")
    assert bundle._end_of(tmp_path / "log") == b"[the first 16 bytes are left out]\n"


def test_what_a_box_calls_its_run_leads_to_no_other_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "here").mkdir()
    wild = "../../out/../run"
    evidence = Evidence(JobState(wild, wild, Status.FAILED), wild, 1.0, 1.0)
    monkeypatch.setattr(bundle.find, "find", lambda *words: Found(evidence, "", wild))
    packed = bundle.pack("", tmp_path / "here", load_inventory(), lambda line: None)
    assert packed.path == tmp_path / "here/windlass-__.._out_.._run.tar.gz" and packed.path.exists()
    with tarfile.open(packed.path) as archive:
        assert not [name for name in archive.getnames() if ".." in name.split("/")]


def test_where_it_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (bundle.place_of(""), bundle.place_of("a/b.tar.gz")) == (
        tmp_path,
        tmp_path / "a/b.tar.gz",
    )
    assert bundle.place_of("new/folder/").is_dir(), "a slash at the end means a folder"
