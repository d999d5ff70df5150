"""What the laptop knows of secrets: what goes to a box, and what is never shown."""

import json

import pytest

from remote.control import console, faults, secrets
from remote.control.commands.verb import verb
from remote.control.config.inventory import load_inventory
from remote.control.errors import ConfigError, LaptopError
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
    assert secrets.masked("a tranquil sea") == "a *** sea", "one that the inventory names is masked, however much it is a word"


def test_what_is_not_set_is_a_finding_with_its_line(inventory, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("WORD", "short")
    with pytest.raises(ConfigError) as caught:
        secrets.values(inventory)
    absent, short = map(str, caught.value.findings)
    assert "inventory.yaml:5" in absent and "`HF_TOKEN` is not set" in absent and "export HF_TOKEN" in absent
    assert "inventory.yaml:6" in short and "too short" in short and "short" not in short.replace("too short", "").replace("a shorter", "")


@pytest.mark.parametrize(
    ("name", "value", "is_masked"),
    [("AWS_SECRET_ACCESS_KEY", "k" * 40, True), ("MY_API_KEY", "0123456789abcdef", True), ("DB_PASSWORD", "testing", False),
     ("TOKENIZERS_PARALLELISM", "false-but-quite-long", False), ("AWS_ACCESS_KEY_ID", "AKIA0123456789ABCDEF", False)],
)  # fmt: skip
def test_which_variables_are_secrets_without_being_named(monkeypatch, name, value, is_masked):
    monkeypatch.setenv(name, value)
    assert (secrets.masked(f"<{value}>") == "<***>") is is_masked


def test_what_a_session_learns_is_masked_from_then_on():
    assert secrets.masked("see learned-by-session") == "see learned-by-session"
    secrets.know("learned-by-session", None, "")
    assert secrets.masked("see learned-by-session") == "see ***"


def test_signatures_of_addresses_are_masked():
    url = "https://b.s3/x?X-Amz-Credential=A%2F1&X-Amz-Signature=0123abcd0123abcd&X-Amz-Security-Token=FwoGZXIvYXdzE&x=1"
    assert secrets.masked(url) == "https://b.s3/x?X-Amz-Credential=A%2F1&X-Amz-Signature=***&X-Amz-Security-Token=***&x=1"
    assert secrets.mask().content(b"\xff" + url.encode()) == b"\xff" + secrets.masked(url).encode()
    assert json.loads(json.dumps(secrets.masked_value({"url": [url], "size": 3})))["size"] == 3


def test_nothing_that_is_printed_holds_one(capsys):
    console.say(f"said {TOKEN}")
    console.print_json({"token": TOKEN, "list": [TOKEN], TOKEN: LaptopError(TOKEN)})
    console.print_table("", ["one"], [[TOKEN]])
    with console.lines_of(["name"]) as show:
        show("name", f"now {TOKEN}", None)
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err and said.err.count("***") == 3 and json.loads(said.out)["list"] == ["***"]


def test_no_error_and_no_report_holds_one(capsys, tmp_path, monkeypatch):
    @verb
    def fails(context, json=False):
        """Fails."""
        raise LaptopError(f"what {TOKEN}", where=TOKEN, why=TOKEN, remedy=TOKEN, kept=TOKEN)

    from invoke import Context, Exit

    with pytest.raises(Exit):
        fails.body(Context(), json=True)
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err and "what ***" in said.err and json.loads(said.out)["why"] == "***"
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    faults.as_error(RuntimeError(f"with {TOKEN}"))
    (report,) = (tmp_path / ".windlass/faults").iterdir()
    assert "with ***" in report.read_text() and TOKEN not in report.read_text()


def test_no_ledger_holds_one(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.append("failed", why=f"with {TOKEN}", path=tmp_path / TOKEN)["why"] == "with ***"
    assert TOKEN not in ledger.path.read_text() and ledger.events()[0]["why"] == "with ***"
