"""What a clumsy user meets: one clear error, the exit code of the docs, a remedy that works when it
is typed, and no traceback."""

import errno
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import tasks
from remote.contract.job.exits import Exit
from remote.control.cloud import boxes, embedded
from remote.control.config.inventory import load_inventory
from remote.control.project import CODE
from remote.control.runs.ledger import Ledger
from remote.control.ssh.known_hosts import pinned
from remote.control.targets import find_run
from remote.control.transport.connect import connect
from remote.control.transport.push.release import REQUIREMENTS
from tests.integration.boxes import make_key, mark_environment
from tests.integration.typed import command_of, ended, environment

GOOD = [
    json.dumps({"instruction": f"question {number}", "output": f"answer {number}"})
    for number in range(100)
]
PREPARE = "name: {name}\nstages:\n  prepare: {{uses: prepare, with: {{dataset: {name}.jsonl}}}}\n"


@pytest.fixture
def typed(capsys):
    """Types a command line; its exit code, standard output and standard error."""

    def run(line):
        code = ended(tasks.ns, *line.split())
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def refused(typed):
    """Types a command line that must end with that code and a remedy; returns what was said."""

    def run(line, code):
        found, told, said = typed(line)
        assert found == code, said
        if (
            line.split()[0] == "check" and "--json" not in line
        ):  # its findings are what it was asked for
            assert told and "\n ".join(told.splitlines()) not in said
            said = told + said
        assert re.search(r"^error: \S", said, re.M) and re.search(r"^  fix: \S", said, re.M), said
        return said

    return run


def remedy_in(said):
    """The first `./inv ...` of the remedy, as one would type it."""
    return re.search(r"^  fix: .*?\./inv ([^`\n,;]+)", said, re.M)[1].strip()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A project of its own, with an inventory and nothing that runs."""
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(
        "default_box: demo\nboxes:\n  demo: {provider: embedded}\n"
    )
    yield tmp_path
    if embedded.running():  # a command that looked for its box has started it
        embedded.down()


@pytest.fixture(scope="module")
def project(embedded_project):
    """A project whose box `demo` runs, with its Python environment marked as made."""
    entry = load_inventory().box("demo")
    with connect(boxes.ready(entry, lambda line: None)) as transport:
        mark_environment(transport, CODE / "remote" / "payload" / REQUIREMENTS)
    return embedded_project


INVENTORIES = {
    "a tab": (
        "default_box: demo\nboxes:\n\tdemo: {provider: embedded}\n",
        ["inventory.yaml:3: not YAML", "not tabs"],
    ),
    "empty": ("", ["inventory.yaml:1: the file is empty"]),
    "a list": ("- demo\n", ["inventory.yaml:1:"]),
    "not text": (b"default_box: d\xe9mo\n", ["inventory.yaml:1: a byte that is not UTF-8"]),
    "several": (
        (
            "default_box: 3\nboxes:\n  demo: {provider: embeded}\n  gpu: {provider: ec2, region:"
            " us_east, disk_gb: 1}\nwat: 1\n"
        ),
        [
            "inventory.yaml:1:",
            "did you mean `embedded`?",
            "inventory.yaml:4: `boxes.gpu.region`",
            "`boxes.gpu.disk_gb`",
            "key `wat`",
        ],
    ),
}


@pytest.mark.parametrize("name", INVENTORIES)
@pytest.mark.parametrize("line", ["check", "deploy"])
def test_a_bad_inventory_is_told_by_line(name, line, empty, refused):
    content, told = INVENTORIES[name]
    (empty / "inventory.yaml").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    said = refused(line, Exit.CONFIG)
    assert all(fragment in said for fragment in told), said


PLAYBOOK = """\
name: bad
stages:
  prepare: {uses: prepare, with: {dataset: nobody-makes-this.jsonl}}
  train: {uses: trian, recipe: nosuch.yaml}
  evaluate: {uses: evaluate, recipe: bad-recipe.yaml, with: {adapter: trane.adapter, val: prepare.val}, gates: {f1: "high"}}
finally: [dance]
"""
RECIPE = "device: gpu\nbase: {name: x}\nlora: {r: 0, aplha: 3}\n"


def test_everything_wrong_in_playbook_and_recipe_is_told_at_once(empty, typed):
    (empty / "bad.yaml").write_text(PLAYBOOK)
    (empty / "bad-recipe.yaml").write_text(RECIPE)
    code, out, said = typed("check bad.yaml --json")
    assert code == Exit.CONFIG
    findings = json.loads(out)["findings"]
    for where, what in (
        ("bad.yaml:3", "nobody-makes-this.jsonl"),
        ("bad.yaml:4", "trian"),
        ("bad.yaml:5", "trane"),
        ("bad.yaml:5", "'high'"),
        ("bad.yaml:6", "dance"),
        ("bad-recipe.yaml:1", "gpu"),
        ("bad-recipe.yaml:3", "lora.r"),
        ("bad-recipe.yaml:3", "aplha"),
    ):
        assert any(found["where"] == where and what in found["what"] for found in findings), (
            where,
            what,
            said,
        )
    assert all(found["expected"] and found["remedy"] for found in findings)


def test_a_recipe_that_does_not_fit_the_box_is_found(empty, refused):
    said = refused("check golden-path", Exit.CONFIG)
    assert "mistral-7b.yaml:2" in said and "has no GPU" in said


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nosuch", Exit.USAGE),
        ("deploy --nosuch", Exit.USAGE),
        ("cancel --patience soon", Exit.USAGE),
        ("run", Exit.USAGE),
        ("check nosuch", Exit.CONFIG),
        ("run nosuch.yaml", Exit.CONFIG),
        ("deploy nosuch", Exit.CONFIG),
        ("train nosuch.yaml nosuch.jsonl", Exit.CONFIG),
        ("preflight --recipe demo.yaml --data nosuch.jsonl", Exit.CONFIG),
        ("logs", Exit.NOT_FOUND),
        ("resume", Exit.NOT_FOUND),
        ("cancel --json", Exit.NOT_FOUND),
        ("pull nosuch", Exit.NOT_FOUND),
        ("deploy", Exit.BOX_STOPPED),
        ("ssh", Exit.BOX_STOPPED),
    ],
)
def test_what_is_not_there(line, code, empty, refused):
    refused(line, code)


@pytest.mark.parametrize(
    "host",
    [
        "http://127.0.0.1:9",
        "127.0.0.1:port",
        "http://[::1",
        "ftp://127.0.0.1",
        "http://127.0.0.1:99999",
    ],
)
def test_no_ollama_there(host, empty, refused, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert "OLLAMA_HOST" in refused("model.list", Exit.OLLAMA)


def test_without_credentials_nothing_is_launched(empty, refused, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (empty / "inventory.yaml").write_text(
        "default_box: gpu\nboxes:\n  gpu: {provider: ec2, region: us-east-1}\n"
    )
    assert "aws configure" in refused("launch", Exit.CREDENTIALS)


def test_a_stopped_box_is_started_by_its_remedy(project, typed, refused):
    assert typed("deploy")[0] == 0
    assert typed("stop")[0] == 0
    said = refused("deploy", Exit.BOX_STOPPED)
    assert "its disk" in said
    assert typed(remedy_in(said))[0] == 0
    assert typed("deploy")[0] == 0


def test_a_standing_host_that_is_not_what_the_inventory_says(
    project, typed, refused, tmp_path, monkeypatch
):
    box = boxes.running(load_inventory().box("demo"))
    make_key(tmp_path / "other")
    shown, other = (
        pinned(box.host_key_alias)[0],
        " ".join((tmp_path / "other.pub").read_text().split()[:2]),
    )
    right = {
        "host": box.host,
        "port": box.port,
        "user": box.user,
        "ssh_key": box.key,
        "host_key": shown,
        "root": box.root,
    }
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))

    def is_told(code, *fragments, **changes):
        facts = ", ".join(
            f"{key}: {json.dumps(str(value))}"
            for key, value in (right | changes).items()
            if value and key != "port"
        )
        port = changes.get("port", box.port)
        (tmp_path / "inventory.yaml").write_text(
            f"default_box: lab\nboxes:\n  lab: {{provider: static, port: {port}, {facts}}}\n"
        )
        if code == Exit.OK:
            assert typed("deploy")[0] == 0
            return
        said = refused("deploy", code)
        assert all(fragment in said for fragment in fragments), said

    is_told(Exit.OK)
    is_told(
        Exit.HOST_KEY_MISMATCH, "correct `host_key:` of lab", "nothing was sent", host_key=other
    )
    is_told(Exit.CONFIG, "inventory.yaml:3: boxes.lab.host_key", "ssh-keyscan", host_key="")
    is_told(Exit.LOGIN_REFUSED, "`ssh_key` of lab", ssh_key=tmp_path / "other")
    is_told(
        Exit.CONFIG,
        "inventory.yaml:3: boxes.lab.ssh_key",
        "correct the path",
        ssh_key=tmp_path / "nowhere",
    )
    is_told(Exit.CONFIG, "PRIVATE KEY", ssh_key=tmp_path / "inventory.yaml")
    is_told(Exit.BOX_UNREACHABLE, "correct `host:` and `port:`", port=9)
    is_told(Exit.BOX_UNREACHABLE, "correct `host:` and `port:`", host="no-such-host.invalid")
    is_told(Exit.CONFIG, "/proc/windlass", "`shared:`", root="/proc/windlass")


@pytest.fixture
def playbook(project):
    """Writes a playbook that prepares such rows; returns its name and the file of its rows."""

    def make(name, rows):
        (project / f"{name}.yaml").write_text(PREPARE.format(name=name))
        data = project / f"{name}.jsonl"
        data.write_bytes(
            b"".join((row if isinstance(row, bytes) else row.encode()) + b"\n" for row in rows)
        )
        return f"{name}.yaml", data

    return make


def test_a_few_bad_rows_are_set_aside_and_brought_home(playbook, typed):
    name, _ = playbook(
        "few", [*GOOD[:60], "{not json", *GOOD[60:], b'{"instruction": "\xe9", "output": "x"}']
    )
    code, _, said = typed(f"run {name}")
    assert (
        code == 0
        and "few.jsonl:61: not JSON" in said
        and "few.jsonl:102:" in said
        and "rejected 2" in said
    )
    assert typed(re.search(r"`\./inv (pull [^`]+)`", said)[1])[0] == 0
    rejects = (
        (find_run("").folder / "artifacts" / "prepare" / "rejects.jsonl").read_text().splitlines()
    )
    assert [json.loads(line)["where"] for line in rejects] == ["few.jsonl:61", "few.jsonl:102"]


def test_too_many_bad_rows_stop_and_a_resume_takes_the_mended_file(playbook, typed, refused):
    name, data = playbook(
        "many",
        [
            *GOOD,
            "[]",
            '{"instruction": "x"}',
            '{"instruction": "x", "output": ""}',
            '{"instruction": 3}',
        ],
    )
    said = refused(f"run {name}", Exit.DATA)
    assert (
        "4 of 104 rows" in said
        and "many.jsonl:101: not an object" in said
        and "many.jsonl:103: `output` is empty" in said
    )
    data.write_text("\n".join(GOOD) + "\n")
    assert typed(remedy_in(said))[0] == 0


@pytest.mark.parametrize("rows", [[], ["", "  "]])
def test_a_dataset_that_holds_nothing_is_named(rows, playbook, refused):
    assert "void.jsonl holds no rows" in refused(f"run {playbook('void', rows)[0]}", Exit.DATA)


def test_a_base_model_that_is_not_there_fails_preflight_in_one_document(project, playbook, typed):
    _, data = playbook("based", GOOD)
    recipe = (
        f"extends: {CODE}/playbooks/recipes/demo.yaml\nbase: {{name: x, path:"
        " /nowhere/base}\npretraining: null\n"
    )
    (project / "recipe.yaml").write_text(recipe)
    code, out, _ = typed(f"preflight --recipe recipe.yaml --data {data.name} --json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == Exit.PREFLIGHT
    assert (
        checks["base model"]["verdict"] == "fail"
        and "/nowhere/base" in checks["base model"]["remedy"]
    )


@pytest.fixture
def done(playbook, typed):
    """A run that has prepared and pulled."""
    assert typed(f"run {playbook('whole', GOOD)[0]}")[0] == 0
    ledger = find_run("")
    assert typed(f"pull {ledger.run_id}")[0] == 0
    return ledger


def test_a_damaged_artifact_is_found_and_mended_by_the_remedy(done, typed, refused):
    train = done.folder / "artifacts" / "prepare" / "train.jsonl"
    whole = train.read_bytes()
    train.write_bytes(whole[:-1] + b"?")
    said = refused(f"verify {done.run_id}", Exit.ARTIFACT)
    assert said.count(str(train)) == 1
    assert typed(remedy_in(said))[0] == 0
    assert train.read_bytes() == whole
    assert typed(f"verify {done.run_id}")[0] == 0


def test_what_a_run_cannot_do_yet(done, typed, refused):
    assert f"./inv export {done.run_id}" in refused(f"install {done.run_id}", Exit.NOT_FOUND)
    refused(f"export {done.run_id}", Exit.NOT_FOUND)
    refused(f"logs {done.run_id} --stage nosuch", Exit.NOT_FOUND)
    refused(f"pull {done.run_id} --only nosuch", Exit.NOT_FOUND)
    refused(f"preflight {done.run_id}", Exit.NOT_FOUND)
    code, said, _ = typed(f"cancel {done.run_id}")
    assert code == 0 and "nothing was cancelled" in said


def test_a_run_that_another_command_drives_is_left_alone(done, refused):
    with done.locked("a test"):
        said = refused(f"resume {done.run_id}", Exit.BUSY)
    assert "a test by" in said and remedy_in(said).startswith("logs")


def test_damaged_lines_of_a_ledger_cost_no_more_than_themselves(done, typed, refused):
    with done.path.open("ab") as file:
        file.write(b'garbage{\n\xff\xfe\n[]\n{"event": 3}\n{"event": "stage_finished"}\n')
        file.write(b'{"event": "run_finished", "status": "?", "time": 1}\n')
    for line in (
        f"resume {done.run_id}",
        "runs",
        "status",
        f"receipt {done.run_id}",
        f"verify {done.run_id}",
        f"logs {done.run_id}",
    ):
        assert typed(line)[0] == 0, line
    done.path.write_bytes(b"".join(done.path.read_bytes().splitlines(keepends=True)[1:]))
    assert "which holds the plan" in refused(f"resume {done.run_id}", Exit.ARTIFACT)
    assert typed("runs")[0] == 0


def test_ambiguous_ids_name_the_runs(project, refused):
    for name in ("one", "two"):
        Ledger.create(name).append("run_created", plan={"name": name, "stages": []}, box="demo")
    assert "runs match `2`" in refused("logs 2", Exit.NOT_FOUND)


def test_a_runs_folder_that_is_none(empty, typed, refused):
    (empty / "rows.jsonl").write_text("\n".join(GOOD))
    (empty / "rows.yaml").write_text(PREPARE.format(name="rows"))
    (empty / "runs").write_text("not a folder")
    said = refused("run rows.yaml", Exit.LAPTOP)
    assert str(empty / "runs") in said


def test_a_full_disk_leaves_no_run_without_a_plan(empty, refused, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (empty / "rows.jsonl").write_text("\n".join(GOOD))
    (empty / "rows.yaml").write_text(PREPARE.format(name="rows"))
    monkeypatch.setattr(Ledger, "append", full)
    assert "disk is full" in refused("run rows.yaml", Exit.DISK_FULL)
    assert list((empty / "runs").iterdir()) == []


def test_a_fault_of_windlass_ends_in_a_report(empty, refused, monkeypatch):
    monkeypatch.setattr("remote.control.runs.ledger.all_runs", lambda: {}["nothing"])
    said = refused("runs", Exit.UNEXPECTED)
    report = Path(re.search(r"(/\S+\.txt)", said)[1])
    assert "Traceback" in report.read_text() and report.is_relative_to(empty)


def test_ctrl_c_says_how_to_go_on(done, typed, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("remote.control.runs.engine.drive", interrupted)
    code, _, said = typed(f"resume {done.run_id}")
    assert (
        code == Exit.INTERRUPTED
        and f"./inv resume {done.run_id}" in said
        and "nothing was undone" in said
    )


def test_a_reader_that_leaves_is_no_error(empty):
    words = command_of("config", "--docs")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as gone:
        left = subprocess.run(
            words,
            stdout=gone,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=CODE,
            text=True,
            check=False,
        )
    assert (left.returncode, left.stderr) == (0, "")
