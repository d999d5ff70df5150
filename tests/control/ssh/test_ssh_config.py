"""What is taken from the user's ssh_config and known_hosts, and that nothing is written there."""

import contextlib
import getpass
import shlex
import shutil
import subprocess

import pytest

from remote.control.cloud import boxes as cloud
from remote.control.cloud.access import openssh
from remote.control.config.inventory import StaticEntry, load_inventory
from remote.control.errors import BoxUnreachable, ConfigError, HostKeyMismatch, LoginRefused
from remote.control.ssh import config as ssh_config
from remote.control.ssh import known_hosts
from remote.control.transport.connect import connect
from tests.integration import boxes
from tests.integration.boxes import make_key

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGz0ZZOkZ9VnPK2uFQj0eWv8gkN5Z7mXqWz1s6f1bq2d"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder whose `.ssh/config` a test writes; afterwards nothing in it has changed by
    itself."""
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "project"))
    (tmp_path / "project").mkdir()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    written = {}

    def write(name, text):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        written[name] = text

    yield write
    assert {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    } == written


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_key(folder / "id_lab")
    return folder


@pytest.fixture(params=["asked of ssh", "read without an ssh program"])
def way(request, monkeypatch):
    """Both ways to read the file; the second is that of a laptop on which no ssh program is
    installed."""
    if request.param == "asked of ssh":
        if not shutil.which("ssh"):
            pytest.skip("needs ssh: apt-get install openssh-client")
    else:
        monkeypatch.setenv("PATH", "/nonexistent")
    return request.param


def refusal(alias):
    with pytest.raises(ConfigError) as caught:
        ssh_config.lookup(alias)
    return caught.value.findings[0].what


needs_ssh = pytest.mark.skipif(
    shutil.which("ssh") is None, reason="needs ssh: apt-get install openssh-client"
)


def test_without_a_file_nothing_is_said(home, way):
    assert ssh_config.lookup("lab") == ssh_config.HostConfig("lab", "lab")


def test_what_is_read(home, keys, way):
    home(
        "config",
        f"""
Host lab
  HostName lab.example.org
  Port 2222
  User ada
  IdentityFile {keys}/id_lab
  IdentityFile {keys}/absent
  IdentitiesOnly yes
  ServerAliveInterval 5
  HostKeyAlias lab-key
Host *
  User everyone
""",
    )
    told = ssh_config.lookup("lab")
    assert (told.host, told.port, told.user, told.known_as) == (
        "lab.example.org",
        2222,
        "ada",
        "lab-key",
    )
    assert (told.identities, told.identities_only, told.dead_after) == (
        (keys / "id_lab",),
        True,
        15,
    )
    assert ssh_config.lookup("other").user == "everyone"
    given = ssh_config.lookup("lab", 22, "me")
    assert (given.port, given.user) == (22, "me"), "what the inventory says goes first"


def test_inclusions_keep_to_their_block(home, way):
    home(
        "config",
        "Host lab\n  Include conf.d/*.conf\n  Port 3\nInclude absent\nHost *\n  User last\n",
    )
    home("conf.d/a.conf", "  HostName inner\n")
    assert (
        ssh_config.lookup("lab").host,
        ssh_config.lookup("lab").port,
        ssh_config.lookup("lab").user,
    ) == ("inner", 3, "last")
    assert (ssh_config.lookup("other").host, ssh_config.lookup("other").port) == ("other", None)


def test_a_block_in_an_included_file_holds_only_within_the_block_that_includes_it(home, way):
    home("config", "Host lab\n  Include a.conf\nHost *\n  User last\n")
    home("a.conf", "Host other\n  HostName elsewhere\n")
    if way == "asked of ssh":
        assert ssh_config.lookup("other").host == "other"
    else:
        assert "blocks of its own" in refusal("other")


def test_an_inclusion_of_itself_ends(home, way):
    home("config", "Include config\n")
    with pytest.raises(ConfigError) as caught:
        ssh_config.lookup("lab")
    assert "deep" in caught.value.findings[0].what or "recursive" in caught.value.findings[0].what


@pytest.mark.parametrize("text", ["Port many\n", "Nonsense\n", "Host lab\n  Match\n"])
def test_a_file_that_cannot_be_read_is_told(home, way, text):
    home("config", text)
    with pytest.raises(ConfigError) as caught:
        ssh_config.lookup("lab")
    assert "config: false" in caught.value.findings[0].remedy


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("b", (None, "b", None)),
        ("me@b:23", ("me", "b", 23)),
        ("ssh://me@b:23", ("me", "b", 23)),
        ("me@[::1]:23", ("me", "::1", 23)),
        ("::1", (None, "::1", None)),
    ],
)
def test_jump_hosts(word, meant):
    assert ssh_config.jump_of(word) == meant


def test_the_words_of_a_proxy_command(home, way):
    home("config", "Host lab\n  HostName far\n  ProxyCommand relay %h %p %r %n 100%%\n")
    assert ssh_config.lookup("lab", 2222, "me").proxy == "relay far 2222 me lab 100%"


def test_a_user_that_a_shell_would_read_stands_in_quotes(home, way):
    home("config", "Host lab\n  HostName far\n  ProxyCommand relay %r@%h\n")
    told = ssh_config.lookup("lab", None, "DOM\\user")
    assert (told.user, shlex.split(told.proxy)) == ("DOM\\user", ["relay", "DOM\\user@far"])


FIRST_PROXY = {
    "ProxyCommand none\nHost * !gate\n  ProxyJump gate": ("", ()),
    "ProxyJump gate\nHost * !gate\n  ProxyCommand /bin/false %h": ("", ("gate",)),
    "ProxyCommand relay %h\nHost * !gate\n  ProxyJump gate": ("relay far", ()),
}
"""`ProxyJump none` before a ProxyCommand is not among them: OpenSSH's versions differ about it."""


@pytest.mark.parametrize(("text", "meant"), FIRST_PROXY.items())
def test_of_two_ways_to_a_host_the_first_in_the_file_counts(home, way, text, meant):
    home("config", f"Host lab\n  HostName far\n  {text}\n")
    if way == "asked of ssh":
        told = ssh_config.lookup("lab")
        assert (told.proxy, told.jumps) == meant
    else:  # paramiko does not say which came first
        assert "ProxyJump" in refusal("lab")


def test_none_in_one_block_ends_what_a_later_one_says(home, way):
    home("config", "Host lab\n  ProxyJump none\nHost *\n  ProxyJump gate\n")
    assert ssh_config.lookup("lab").jumps == ()


@pytest.mark.parametrize(
    ("value", "seconds"), [("1m", 180), ("90", 270), ("1m30s", 270), ("1M", 180), ("0", None)]
)
def test_times(home, way, value, seconds):
    home("config", f"Host lab\n  ServerAliveInterval {value}\n")
    assert ssh_config.lookup("lab").dead_after == seconds


def test_true_is_yes(home, way):
    home("config", "Host lab\n  IdentitiesOnly true\n")
    assert ssh_config.lookup("lab").identities_only


def test_what_stands_for_something_else_in_a_value(home, keys, way, monkeypatch):
    monkeypatch.setenv("WORK_KEYS", str(keys))
    files = f"  IdentityFile ${{WORK_KEYS}}/id_%n\n  UserKnownHostsFile {keys}/%k\n"
    home("config", f"Host lab\n  HostName 10.0.0.9\n  HostKeyAlias rack-3\n{files}")
    told = ssh_config.lookup("lab")
    assert (told.identities, told.known_hosts, told.known_as) == (
        (keys / "id_lab",),
        (keys / "rack-3",),
        "rack-3",
    )


def test_a_variable_that_is_not_set_is_named(home, way):
    home("config", "Host lab\n  IdentityFile ${NOT_SET_ANYWHERE}/key\n")
    assert "NOT_SET_ANYWHERE" in refusal("lab")


def test_a_comment_of_another_encoding_is_passed_over(home, way, tmp_path):
    home("config", "Host lab\n  HostName 10.0.0.9\n")
    file = tmp_path / "home" / ".ssh" / "config"
    file.write_bytes(b"# M\xfcllers Rechner\n" + file.read_bytes())
    try:
        assert ssh_config.lookup("lab").host == "10.0.0.9"
    finally:
        home("config", "")


def test_a_comment_behind_a_value(home, way):
    home("config", "Host lab\n  HostName 10.0.0.9 # rack 3\n  Port 2200 # odd\n  User jane # me\n")
    if way == "asked of ssh":
        told = ssh_config.lookup("lab")
        assert (told.host, told.port, told.user) == ("10.0.0.9", 2200, "jane")
    else:
        assert "comment" in refusal("lab")


def test_a_match_that_is_not_understood_is_never_applied(home, way):
    home("config", "Match localnetwork 203.0.113.0/24\n  User wrong\nHost lab\n  User right\n")
    try:
        assert ssh_config.lookup("lab").user == "right"  # OpenSSH from 9.4 on understands it
    except ConfigError as error:
        assert "Match" in error.findings[0].what


def test_a_match_by_command(home, way):
    home("config", 'Match originalhost lab exec "test %n = lab"\n  User asked\n')
    if way == "asked of ssh":
        assert ssh_config.lookup("lab").user == "asked"
        assert ssh_config.lookup("other").user is None


def test_a_way_that_hands_over_a_socket_is_refused_by_name(home, way):
    home("config", "Host lab\n  ProxyCommand relay\n  ProxyUseFdpass yes\n")
    assert "ProxyUseFdpass" in refusal("lab")


@needs_ssh
@pytest.mark.parametrize("alias", ["-oProxyCommand=touch x", "--", "-V"])
def test_a_name_is_never_taken_for_a_flag(home, alias, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home("config", "")
    with contextlib.suppress(ConfigError):
        ssh_config.lookup(alias)
    assert not (tmp_path / "x").exists()


def test_known_hosts_as_ssh_reads_them(home, tmp_path):
    make_key(tmp_path / "one")
    make_key(tmp_path / "two")
    one, two = (
        " ".join((tmp_path / f"{name}.pub").read_text().split()[:2]) for name in ("one", "two")
    )
    home(
        "known_hosts",
        f"# a comment\nlab.example.org,10.0.0.1 {one} who\n*.wild.org,!not.wild.org"
        f" {one}\n[lab.example.org]:2222 {two}\n@revoked * {two}\n@cert-authority *.example.org"
        f" {ED25519}\nbroken\n",
    )

    def keys(host, port=22):
        return ssh_config.host_keys(ssh_config.HostConfig(host, host), port)

    assert keys("lab.example.org") == keys("10.0.0.1") == keys("a.wild.org") == [one]
    assert keys("not.wild.org") == keys("else.org") == keys("lab.example.org", 2222) == []


def test_hashed_known_hosts(home, tmp_path):
    make_key(tmp_path / "one")
    key = " ".join((tmp_path / "one.pub").read_text().split()[:2])
    plain = tmp_path / "plain"
    plain.write_text(f"lab {key}\n[lab]:2222 {key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(plain)], check=True, capture_output=True)
    home("known_hosts", plain.read_text())
    assert "lab" not in plain.read_text()
    places = (("lab", 22), ("lab", 2222), ("other", 22))
    assert [
        ssh_config.host_keys(ssh_config.HostConfig("lab", host), port) for host, port in places
    ] == [[key], [key], []]


# ---- real servers ----


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with boxes.running_sshd(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="module")
def jump(tmp_path_factory):
    with boxes.running_sshd(tmp_path_factory.mktemp("jump"), "LogLevel VERBOSE") as server:
        yield server


def known(server, name="127.0.0.1"):
    return f"[{name}]:{server.port} {server.host_key_line}"


def entry(**more):
    return StaticEntry(name="lab", host="mylab", **more)


def says_in(box):
    with connect(box) as transport:
        return transport.exec("echo in").text


def block(server, name="mylab", more=""):
    return (
        f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n  User {getpass.getuser()}\n "
        f" IdentityFile {server.key}\n{more}"
    )


sshd = pytest.mark.skipif(boxes.SSHD is None, reason="needs sshd: apt-get install openssh-server")


@sshd
def test_an_alias_is_enough(home, lab):
    home("config", block(lab, more="  ServerAliveInterval 2\n  ServerAliveCountMax 2\n"))
    home("known_hosts", known(lab))
    box = cloud.running(entry())
    assert (box.address, box.user) == (f"127.0.0.1:{lab.port}", getpass.getuser())
    assert says_in(box) == "in\n" and connect(box).address.dead_after == 4
    done = subprocess.run(
        [*openssh.command(box), "echo in"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.stdout == "in\n", done.stderr


@sshd
def test_a_key_that_left_known_hosts_is_believed_no_more(home, lab, tmp_path):
    home("config", block(lab))
    home("known_hosts", known(lab))
    assert says_in(cloud.running(entry())) == "in\n"
    make_key(tmp_path / "other")
    home("known_hosts", f"[127.0.0.1]:{lab.port} {(tmp_path / 'other.pub').read_text()}")
    with pytest.raises(HostKeyMismatch):
        says_in(cloud.running(entry()))
    home("known_hosts", "")
    with pytest.raises(ConfigError):
        cloud.running(entry())
    assert known_hosts.pinned("static-lab") == []


@sshd
def test_what_the_inventory_says_goes_first(home, lab, jump):
    home("config", block(jump, more="  IdentitiesOnly yes\n"))
    box = cloud.running(
        entry(
            port=lab.port,
            ssh_key=lab.key,
            user=getpass.getuser(),
            host_key=" ".join(lab.host_key_line.split()[:2]),
        )
    )
    assert box.port == lab.port and says_in(box) == "in\n"


@sshd
def test_it_is_left_aside_where_the_inventory_says_so(home, lab, tmp_path):
    home("config", block(lab))
    home("known_hosts", known(lab))
    (tmp_path / "project" / "inventory.yaml").write_text(
        "default_box: lab\nssh: {config: false}\nboxes:\n  lab: {provider: static, host: mylab,"
        " user: me}\n"
    )
    with pytest.raises(ConfigError):
        cloud.running(load_inventory().box())


@sshd
@pytest.mark.parametrize("way", ["proxy", "jump", "two jumps", "a jump that has one"])
def test_roads(home, lab, jump, way):
    before = (jump.folder / "sshd.log").read_text().count("Accepted publickey")
    relay = (
        f"ssh -F none -oUserKnownHostsFile={jump.folder}/known -i {jump.key} -p {jump.port}"
        " 127.0.0.1 -W %h:%p"
    )
    (jump.folder / "known").write_text(known(jump))
    ways = {
        "proxy": f"ProxyCommand {relay}",
        "jump": "ProxyJump gate",
        "two jumps": "ProxyJump gate,inner",
    }
    more = f"  {ways.get(way, 'ProxyJump inner')}\n"
    believed = f"  UserKnownHostsFile {jump.folder}/known\n"
    inner = block(
        jump, "inner", believed + ("  ProxyJump gate\n" if way == "a jump that has one" else "")
    )
    home("config", block(lab, more=more) + block(jump, "gate", believed) + inner)
    home("known_hosts", known(lab))
    box = cloud.running(entry())
    assert says_in(box) == "in\n"
    logins = (jump.folder / "sshd.log").read_text().count("Accepted publickey") - before
    assert logins == (1 if way in ("proxy", "jump") else 2)
    assert cloud.ready(entry(), lambda line: None).address == box.address
    done = subprocess.run(
        [*openssh.command(box), "echo in"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.stdout == "in\n", done.stderr


@sshd
def test_a_jump_host_whose_key_nobody_knows_is_not_entered(home, lab, jump):
    home("config", block(lab, more="  ProxyJump gate\n") + block(jump, "gate"))
    home("known_hosts", known(lab))
    with pytest.raises(HostKeyMismatch, match="jump host gate") as caught:
        says_in(cloud.running(entry()))
    assert "`ssh gate`" in caught.value.remedy


@sshd
def test_what_is_wrong_with_a_jump_host_is_mended_where_it_is_described(home, lab, jump):
    believed = f"  UserKnownHostsFile {jump.folder}/known\n"
    (jump.folder / "known").write_text(known(jump) + "gate " + jump.host_key_line)
    place = f"gate in {ssh_config.path()}"

    def error(kind, more=""):
        # ssh takes what is said first
        first = f"Host gate\n{more}" if more else ""
        over = block(lab, more="  ProxyJump gate\n")
        home("config", first + over + block(jump, "gate", believed))
        with pytest.raises(kind, match="jump host gate of box lab") as caught:
            says_in(cloud.running(entry()))
        return caught.value

    home("known_hosts", known(lab))
    down = error(BoxUnreachable, "  Port 1\n  HostKeyAlias gate\n")
    assert f"`HostName` and `Port` of {place}" in down.remedy
    refused = error(LoginRefused, "  User nobody\n")
    assert f"`User` and `IdentityFile` of {place}" in refused.remedy
    hidden = jump.key.rename(jump.folder / "hidden")
    none = error(LoginRefused)
    hidden.rename(jump.key)
    assert none.why.startswith(f"{ssh_config.path()} names no key that is there")
    (jump.folder / "known").write_text(known(jump).split()[0] + f" {ED25519}\n")
    impostor = error(HostKeyMismatch)
    assert "known_hosts" in impostor.remedy and "inventory" not in impostor.remedy


@sshd
def test_jump_hosts_in_a_ring_end(home, lab, jump):
    home(
        "config",
        block(lab, more="  ProxyJump a\n")
        + block(jump, "a", "  ProxyJump b\n")
        + block(jump, "b", "  ProxyJump a\n"),
    )
    home("known_hosts", known(lab) + known(jump))
    with pytest.raises(ConfigError) as caught:
        says_in(cloud.running(entry()))
    assert "leads to itself" in caught.value.findings[0].remedy


@sshd
def test_a_proxy_command_that_fails_says_why(home, lab):
    home("config", block(lab, more="  ProxyCommand echo no way there >&2; exit 1\n"))
    home("known_hosts", known(lab))
    with pytest.raises(BoxUnreachable) as caught:
        says_in(cloud.running(entry()))
    assert "no way there" in caught.value.why
