"""The SSH key of a box: what is wrong with a file is said before AWS or SSH refuses it."""

import os
import subprocess

import pytest

from remote.control.cloud.access import keys
from remote.control.config.inventory import Ec2Entry, StaticEntry
from remote.control.errors import ConfigError


@pytest.fixture
def made(tmp_path):
    def make(*arguments, name="id"):
        subprocess.run(["ssh-keygen", "-q", "-f", tmp_path / name, *arguments], check=True)
        return tmp_path / name

    return make


def entry(path=None, **more):
    return Ec2Entry(name="trainer", region="us-east-1", ssh_key=path, **more)


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
@pytest.mark.parametrize("layout", ["RFC4716", "PEM"])
def test_the_public_half_is_derived(made, kind, layout):
    if (kind, layout) == ("ed25519", "PEM"):
        pytest.skip("OpenSSH writes no Ed25519 key as PEM")
    path = made("-t", kind, "-N", "", "-m", layout)
    wanted = path.with_suffix(".pub").read_text().split()[:2]
    path.with_suffix(".pub").unlink()
    assert keys.public_line(path, "trainer").split() == wanted
    assert keys.identity_of(entry(path)).key == path


def finding_of(path, **more):
    with pytest.raises(ConfigError) as caught:
        keys.identity_of(entry(path, **more))
    (finding,) = caught.value.findings
    assert "boxes.trainer.ssh_key" in finding.where
    return f"{finding.what} | {finding.remedy}"


def test_a_missing_key(tmp_path):
    assert "no file" in finding_of(tmp_path / "none")


def test_a_public_key_in_place_of_the_private(made):
    assert "it is a public key" in finding_of(made("-t", "ed25519", "-N", "").with_suffix(".pub"))


def test_a_key_open_to_others(made):
    path = made("-t", "ed25519", "-N", "")
    path.chmod(0o644)
    assert f"chmod 600 {path}" in finding_of(path)


def test_a_damaged_key(tmp_path):
    path = tmp_path / "id"
    path.write_text(
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
    )
    path.chmod(0o600)
    assert "is no private key" in finding_of(path)


def test_an_unreadable_key(made):
    path = made("-t", "ed25519", "-N", "")
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path.chmod(0)
    assert "can't be read" in finding_of(path)


def test_a_passphrase_hides_the_private_half_alone(made):
    path = made("-t", "ed25519", "-N", "secret")
    beside = keys.identity_of(entry(path)).public
    path.with_suffix(".pub").unlink()
    assert keys.identity_of(entry(path)).public == beside


def test_a_passphrase_in_pem_needs_the_public_half_beside(made):
    path = made("-t", "rsa", "-N", "secret", "-m", "PEM")
    assert keys.identity_of(entry(path)).public.startswith("ssh-rsa ")
    path.with_suffix(".pub").unlink()
    assert "has a passphrase" in finding_of(path)


def test_a_key_that_only_the_agent_has_is_named_by_its_public_half(made):
    path = made("-t", "ed25519", "-N", "")
    path.unlink()
    public = path.with_suffix(".pub")
    assert keys.identity_of(entry(public)) == keys.identity_of(entry(public))
    assert keys.identity_of(entry(public)).public == " ".join(public.read_text().split()[:2])


def test_with_instance_connect_there_is_no_key_pair(made):
    path = made("-t", "ed25519", "-N", "")
    assert keys.identity_of(entry(path, instance_connect=True)) == keys.Identity(path, "", None)


def test_a_key_pair_of_the_users_is_not_imported(made):
    path = made("-t", "ed25519", "-N", "")
    assert keys.identity_of(entry(path, key_name="mine")) == keys.Identity(path, "mine", None)
    assert keys.identity_of(entry(key_name="mine")) == keys.Identity(None, "mine", None)


def test_a_standing_host_gets_the_users_keys_not_ours():
    keys.own_key()
    assert keys.private_key(StaticEntry(name="lab", host="lab", user="me")) is None
    assert keys.private_key(entry()) == keys.own_key_path()
