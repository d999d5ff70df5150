"""What the laptop knows of secrets: what goes to a box, and what is never shown."""

import json

import pytest

from remote.contract.job.checks import Verdict
from remote.control import faults, secrets
from remote.control.commands.program.verb import verb
from remote.control.config.checks.survey import survey
from remote.control.config.inventory import load_inventory, read_inventory
from remote.control.doctor import laptop
from remote.control.errors import ConfigError, LaptopError
from remote.control.output import console
from remote.control.runs.engine import begin, drive, prepare_run
from remote.control.runs.ledger import Ledger

TOKEN = "hf_9Zq8yTzXw7VuTsRqPoNm"
INVENTORY = """default_box: a
boxes:
  a: {provider: embedded}
secrets:
  - HF_TOKEN
  - WORD
"""


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY)
    return load_inventory(path)


def test_jobs_get_what_the_inventory_names(inventory, monkeypatch):
    monkeypatch.setenv("WORD", "tranquil")
    assert secrets.values(inventory) == {"HF_TOKEN": TOKEN, "WORD": "tranquil"}
    assert secrets.masked("a tranquil sea") == "a *** sea", (
        "one that the inventory names is masked, however much it is a word"
    )


def test_what_is_not_set_is_a_finding_with_its_line(inventory, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("WORD", "short")
    with pytest.raises(ConfigError) as caught:
        secrets.values(inventory)
    absent, short = map(str, caught.value.findings)
    assert (
        "inventory.yaml:5" in absent
        and "`HF_TOKEN` is not set" in absent
        and "export HF_TOKEN" in absent
    )
    assert (
        "inventory.yaml:6" in short
        and "too short" in short
        and "short" not in short.replace("too short", "").replace("a shorter", "")
    )


@pytest.mark.parametrize(
    ("name", "value", "is_masked"),
    [
        ("AWS_SECRET_ACCESS_KEY", "k" * 40, True),
        ("MY_API_KEY", "0123456789abcdef", True),
        ("DB_PASSWORD", "testing", False),
        ("TOKENIZERS_PARALLELISM", "false-but-quite-long", False),
        ("AWS_ACCESS_KEY_ID", "AKIA0123456789ABCDEF", False),
    ],
)
def test_which_variables_are_secrets_without_being_named(monkeypatch, name, value, is_masked):
    monkeypatch.setenv(name, value)
    assert (secrets.masked(f"<{value}>") == "<***>") is is_masked


def test_what_a_session_learns_is_masked_from_then_on():
    assert secrets.masked("see learned-by-session") == "see learned-by-session"
    secrets.know("learned-by-session", None, "")
    assert secrets.masked("see learned-by-session") == "see ***"


def test_signatures_of_addresses_are_masked():
    url = "https://b.s3/x?X-Amz-Credential=A%2F1&X-Amz-Signature=0123abcd0123abcd&X-Amz-Security-Token=FwoGZXIvYXdzE&x=1"
    assert (
        secrets.masked(url)
        == "https://b.s3/x?X-Amz-Credential=A%2F1&X-Amz-Signature=***&X-Amz-Security-Token=***&x=1"
    )
    assert secrets.mask().content(b"\xff" + url.encode()) == b"\xff" + secrets.masked(url).encode()
    assert json.loads(json.dumps(secrets.masked_value({"url": [url], "size": 3})))["size"] == 3


def test_nothing_that_is_printed_holds_one(capsys):
    console.say(f"said {TOKEN}")
    console.print_json({"token": TOKEN, "list": [TOKEN], TOKEN: LaptopError(TOKEN)})
    console.print_table("", ["one"], [[TOKEN]])
    with console.lines_of(["name"]) as show:
        show("name", f"now {TOKEN}", None)
    said = capsys.readouterr()
    assert (
        TOKEN not in said.out + said.err
        and said.err.count("***") == 2
        and said.out.count("***") == 5
    )


def test_no_error_and_no_report_holds_one(capsys, tmp_path, monkeypatch):
    @verb
    def fails(context, json=False):
        """Fails."""
        raise LaptopError(f"what {TOKEN}", where=TOKEN, why=TOKEN, remedy=TOKEN, kept=TOKEN)

    from invoke import Context, Exit

    with pytest.raises(Exit):
        fails.body(Context(), json=True)
    said = capsys.readouterr()
    assert (
        TOKEN not in said.out + said.err
        and "what ***" in said.err
        and json.loads(said.out)["why"] == "***"
    )
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    faults.as_error(RuntimeError(f"with {TOKEN}"))
    (report,) = (tmp_path / ".windlass/faults").iterdir()
    assert "with ***" in report.read_text() and TOKEN not in report.read_text()


def test_no_ledger_holds_one(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.append("failed", why=f"with {TOKEN}", path=tmp_path / TOKEN)["why"] == "with ***"
    assert TOKEN not in ledger.path.read_text() and ledger.events()[0]["why"] == "with ***"


ADDRESSES = [
    ("x?Signature=abcdefghij&y", "x?Signature=***&y"),
    ("mySignature=abcdefghij", "mySignature=abcdefghij"),
    ("sig=abcdefgh sig=abcdefg design=abcdefgh", "sig=*** sig=abcdefg design=abcdefgh"),
    ("Signature=sig=abcdefghi", "Signature=***"),
    ("token=abcdefghijkl loss=1", "token=abcdefghijkl loss=1"),
    ("x-amz-security-token=" + "t" * 900 + "\\", "x-amz-security-token=***\\"),
]


@pytest.mark.parametrize(("text", "shown"), ADDRESSES)
def test_signatures_are_found_by_their_whole_names(text, shown):
    around = "line=1\n" * 50
    assert secrets.mask().text(f"{around}{text}\n{around}") == f"{around}{shown}\n{around}"
    assert secrets.mask().content(
        f"\u00e9{text}".encode()
    ) == f"\u00e9{shown}".encode() or text.startswith("my")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "inventory.yaml").write_text(INVENTORY.removesuffix("  - WORD\n"))
    return tmp_path


def test_nothing_is_begun_for_want_of_a_secret(project):
    with pytest.raises(ConfigError) as caught:
        prepare_run("demo", load_inventory(), "a")
    told = "\n".join(caught.value.lines())
    assert (
        "1 variable of `secrets:`" in told
        and "export HF_TOKEN=..." in told
        and "the same command" in told
        and "inv check" not in told
    )
    assert not (project / "runs").exists()


def test_a_run_that_was_begun_elsewhere_does_not_fail_for_want_of_a_secret(project, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    ledger = begin(*prepare_run("demo", load_inventory(), "a"))
    monkeypatch.delenv("HF_TOKEN")
    before = ledger.path.read_bytes()
    with pytest.raises(ConfigError):
        drive(ledger, load_inventory(), "resume")
    assert ledger.path.read_bytes() == before


def test_check_and_doctor_tell_what_is_not_set(project):
    assert any(
        "`HF_TOKEN` is not set" in finding.what
        for finding in survey(*read_inventory(), "demo", "a").findings
    )
    everything = survey(*read_inventory(), None, None)
    assert everything.findings == [] and "need it: HF_TOKEN" in everything.summary
    told = next(check for check in laptop.checks(load_inventory()) if check.name == "secrets")
    assert told.verdict is Verdict.FAIL and "export HF_TOKEN" in told.remedy
