"""`inv data.*` and `inv train --data`, as they are typed."""

import csv
import json

import pytest

from remote.control.commands.tree import ns
from remote.control.config.inventory import LOCAL, load_inventory
from remote.control.project import CODE
from remote.control.transport.local import of_this_machine
from tests.integration.boxes import mark_environment
from tests.integration.typed import in_process, typed

INVENTORY = """\
default_box: lab
boxes:
  lab: {provider: static, host: 192.0.2.1, host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA}
"""
RECIPE = """\
name: mine
sources:
  - {type: corpus, path: alpaca.jsonl}
  - {type: corpus, path: faq.csv, columns: {instruction: question, output: answer}}
steps: [{type: deduplicate}]
limits: {workers: 2, max_reject_share: 0.1}
secrets: [OWN_SECRET]
"""
COLUMNS = "--columns instruction=question,output=answer"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with files of each kind; this machine's Python environment is believed to be
    there."""
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    (tmp_path / "playbooks/data").mkdir(parents=True)
    (tmp_path / "playbooks/data/mine.yaml").write_text(RECIPE)
    numbers = range(20)
    rows = {
        "alpaca": [{"instruction": f"Add {each}.", "output": str(each)} for each in numbers],
        "completion": [{"prompt": f"Add {each}.", "completion": f" {each}"} for each in numbers],
        "text": [{"text": f"Document {each}."} for each in numbers],
        "chat": [
            {
                "messages": [
                    {"role": "user", "content": f"Add {each}."},
                    {"role": "assistant", "content": str(each)},
                ]
            }
            for each in numbers
        ],
        "foreign": [{"a": 1} for each in numbers],
    }
    for name, each in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in each))
    shared = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]
    (tmp_path / "sharegpt.json").write_text(json.dumps(shared))
    with (tmp_path / "faq.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("question", "answer"))
        table.writerows((f"How much is {each}?", each) for each in numbers)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1" + bytes(20))
    requirements = CODE / "remote/payload/requirements.txt"
    root = load_inventory().box(LOCAL).root
    mark_environment(of_this_machine("this machine"), requirements, root)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "taken", "learnt"),
    [
        ("alpaca.jsonl", "JSON Lines, taken for instruction rows (Alpaca)", ">  0</s>"),
        ("chat.jsonl", "JSON Lines, taken for conversations", ">  0</s>"),
        ("sharegpt.json", "JSON, taken for conversations (ShareGPT)", ">  b</s>"),
        ("completion.jsonl", "taken for prompts with their completions", ">  0</s>"),
        ("text.jsonl", "taken for documents", "> Document 0.</s>"),
        (f"faq.csv {COLUMNS}", "faq.csv: CSV, taken for instruction rows", ">  0</s>"),
        ("rows.parquet", "rows.parquet is Parquet: its rows are looked at on the box", ""),
    ],
)
def test_train_says_what_it_took_and_shows_a_row_before_anything_starts(
    project, capsys, words, taken, learnt
):
    line = f"train --recipe demo --base box:/base --on local --dry-run --data {words}"
    code, out, err = in_process(capsys, ns, line)
    assert code == 0, err
    assert taken in err and learnt in err
    assert "nothing was started" in out and ">" not in out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("faq.csv", "`--columns instruction=question,output=answer` would take it"),
        ("foreign.jsonl", "holds `a`: it needs `messages`"),
        ("alpaca.jsonl --kind chat", "what would fit: `instruction`"),
    ],
)
def test_a_wrong_guess_is_told_with_what_would_fit(project, capsys, words, reason):
    line = f"train --recipe demo --base box:/base --on local --data {words}"
    code, _, err = in_process(capsys, ns, line)
    assert code == 11 and reason in err
    assert not (project / "runs").exists()
    code, _, err = in_process(capsys, ns, f"data.show {words}")
    assert code == 11 and reason in err


def test_a_word_that_cannot_be_is_a_finding(project, capsys):
    for words in ("--kind rows", "--columns instruction", "--columns question=instruction"):
        code, _, err = in_process(capsys, ns, f"data.show alpaca.jsonl {words}")
        assert code == 10 and words.split()[0] in err


def test_rows_are_shown_as_they_are_read(project, capsys):
    code, out, _ = in_process(capsys, ns, "data.show alpaca.jsonl --rows 2")
    assert code == 0
    assert out.splitlines()[1:] == [
        *("", "alpaca.jsonl:1", "| <s>[INST] Add 0.[/INST]", ">  0</s>"),
        *("", "alpaca.jsonl:2", "| <s>[INST] Add 1.[/INST]", ">  1</s>"),
    ]
    code, out, _ = in_process(capsys, ns, "data.show text.jsonl --rows 1 --json")
    assert json.loads(out)["rows"][0]["row"] == {"text": "Document 0."}


def test_converted_and_examined_here(project, capsys):
    code, out, _ = in_process(capsys, ns, f"data.convert faq.csv out.jsonl.gz {COLUMNS}")
    assert code == 0 and "20 rows in out.jsonl.gz" in out
    code, out, _ = in_process(capsys, ns, "data.doctor out.jsonl.gz --json")
    told = json.loads(out)
    assert code == 0 and told["train"]["rows"] == 20
    assert "<html" in (project / told["page"]).read_text()
    code, out, _ = in_process(capsys, ns, "data.doctor foreign.jsonl")
    assert code == 11 and "bad: no row can be used" in out


def test_what_this_machine_does_not_read_names_the_place(project, capsys):
    for words in ("data.convert rows.parquet out.jsonl", "data.doctor rows.parquet"):
        code, _, err = in_process(capsys, ns, words)
        assert code == 11 and f"`./inv {words.split()[0]} " in err and "--on BOX" in err
    code, _, err = in_process(capsys, ns, "data.convert alpaca.jsonl out.csv")
    assert code == 10 and "one of .jsonl" in err


def test_rows_are_made_by_a_recipe_and_come_home(project, monkeypatch):
    assert typed("data.prepare", "mine", "--on", "local", project=project).returncode == 10
    monkeypatch.setenv("OWN_SECRET", "a-secret-of-ones-own")
    done = typed("data.prepare", "mine", "--on", "local", project=project)
    assert done.returncode == 0, done.stderr
    (run,) = (project / "runs").iterdir()
    made = run / "artifacts/prepare"
    told = json.loads((made / "manifest.json").read_text())
    assert told["counts"] == {"rows": 40, "rejected": 0, "train_rows": 32, "val_rows": 8}
    assert [each["kept"] for each in told["sources"]] == [20, 20]
    done = typed("data.report", project=project)
    assert done.stdout.strip() == str(made / "report.html")
    assert "<html" in (made / "report.html").read_text()
    # The same once more: under another name of the run, and nothing is read again.
    assert typed("data.prepare", "mine", "--on", "local", project=project).returncode == 0
    first, second = sorted((project / "runs").iterdir())
    assert (second / "artifacts/prepare/train.jsonl").read_bytes() == (
        first / "artifacts/prepare/train.jsonl"
    ).read_bytes()


def test_a_file_is_converted_and_examined_where_the_libraries_are(project, capsys):
    line = f"data.convert faq.csv out.jsonl --on local {COLUMNS}"
    code, out, err = in_process(capsys, ns, line)
    assert code == 0 and "20 rows in" in out, err
    rows = [json.loads(line) for line in (project / "out.jsonl").read_text().splitlines()]
    assert [row["messages"][1]["content"] for row in rows] == [str(each) for each in range(20)]
    code, out, err = in_process(capsys, ns, f"data.doctor faq.csv --on local --json {COLUMNS}")
    assert code == 0 and json.loads(out)["train"]["rows"] == 16, err
