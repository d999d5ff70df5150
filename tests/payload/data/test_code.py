"""The source `code`, on a package of the test's own and on ours."""

import json
import re
from pathlib import Path

import pytest

from remote.contract.files import atomic
from remote.contract.job.jobs import Cause, JobSpec
from remote.payload.data.engine import Context
from remote.payload.data.sources import code
from remote.payload.data.units import Given, Reject
from remote.payload.job import Job, StageFailed
from remote.payload.stages import prepare

REMOTE = Path(code.__file__).parents[3]
PACKAGE = {
    "app/__init__.py": '"""An application."""\n',
    "app/store.py": '''"""Keeps notes."""
import json


class Store:
    """A file of notes."""

    def add(self, note):
        """Add one."""
        return json.dumps(note)


def load(path):
    """Read all notes of a file."""
    return path


def unused():
    pass
''',
    "app/ask.py": '''"""Asks a model about notes."""
import os

import ollama
from openai import OpenAI

from . import store
from .store import Store as Notes, load

MODEL = "gpt-4o-mini"
SYSTEM = "You are terse."
client = OpenAI()


class Better(Notes):
    pass


def summary(note):
    """Sum a note up."""
    load(note)
    return client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Sum up: {note}"}],
        temperature=0.2,
        max_tokens=100,
    )


def local(note):
    return ollama.chat("llama3", note, options={"seed": store.unused()})


def later(chat):
    model = os.environ["M"]
    return client.responses.create(model=model, input="Hi")


def posted(http):
    return http.post("http://x/v1/chat/completions", json={"model": "m", "prompt": "p", "top_p": 1})


def not_one(db, messages):
    db.generate(1)
    http = {}.get("post")
    return messages.get("create")
''',
    "app/cli/__init__.py": "",
    "app/cli/main.py": "import app.ask\nfrom app import store as kept\n\ndef main():\n    app.ask.summary(kept.load(1))\n",
    "script.py": "from app.ask import *\n\nsummary(1)\n",
    "old.py": "print 'this is Python 2'\n",
    "odd.py": b"\xef\xbb\xbfx = 1\\\n\0",
    "warns.py": 'x = "\\d"\n',
    "venv/pyvenv.cfg": "",
    "venv/lib.py": "import app.store",
    ".hidden/x.py": "import app.store",
}


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


@pytest.fixture
def package(tmp_path):
    return write(tmp_path / "code", PACKAGE)


def source(path, work, **entry):
    return code.open_source({"path": str(path), **entry}, Context(work, work, {}))


def by_unit(found):
    return {unit.id: list(found.read(unit)) for unit in found.units()}


def answers(results):
    return {each.row.asked: each.row.answer for each in results if isinstance(each, Given)}


def test_calls_of_language_models_with_model_prompt_and_parameters(package, tmp_path):
    found = answers(by_unit(source(package, tmp_path, kinds=["calls"]))["app/ask.py"])
    listed = found.pop("Which calls of language models does the module `app.ask` make, and where?")
    assert listed == (
        "`app.ask` makes 4 such calls:\n"
        "- app/ask.py:22: `summary` calls `client.chat.completions.create` with the model gpt-4o-mini\n"
        "- app/ask.py:31: `local` calls `ollama.chat` with the model llama3\n"
        "- app/ask.py:36: `later` calls `client.responses.create` with the model model\n"
        "- app/ask.py:40: `posted` calls `http.post` with the model m"
    )
    assert list(found.values()) == [
        "`summary` calls `client.chat.completions.create` at app/ask.py:22.\n"
        "What it does: Sum a note up.\n"
        "Model: gpt-4o-mini\n"
        "Prompt:\nmessages: system: You are terse.\nuser: Sum up: {note}\n"
        "Parameters:\n- max_tokens: 100\n- temperature: 0.2",
        "`local` calls `ollama.chat` at app/ask.py:31.\n"
        "Model: llama3\n"
        "Prompt:\nnote\n"
        "Parameters:\n- options: {'seed': store.unused()}",
        "`later` calls `client.responses.create` at app/ask.py:36.\n"
        "Model: model\nPrompt:\ninput: Hi\nIt sets no parameters.",
        "`posted` calls `http.post` at app/ask.py:40.\n"
        "Model: m\nPrompt:\nprompt: p\nParameters:\n- top_p: 1",
    ]


def test_who_imports_and_calls_whom_and_what_for(package, tmp_path):
    units = by_unit(source(package, tmp_path, kinds=["interactions"]))
    store = answers(units["app/store.py"])
    assert store["Which modules of the code base import `app.store`, and what for?"] == (
        "`app.store` is imported by:\n"
        "- `app.ask`, at app/ask.py:7: `Better` extends `Store` (line 15); `local` calls `unused`"
        " (line 31); `summary` calls `load` (line 21)\n"
        "- `app.cli.main`, at app/cli/main.py:2: `main` calls `load` (line 5)"
    )
    assert store["Who uses `load` of the module `app.store`, and what for?"] == (
        "`load`, defined at app/store.py:13, is used by:\n"
        "- `app.ask` in `summary` calls it at app/ask.py:21: Sum a note up.\n"
        "- `app.cli.main` in `main` calls it at app/cli/main.py:5\n"
        "It is there to: Read all notes of a file."
    )
    asked = answers(units["app/ask.py"])[
        "Which modules of the code base does `app.ask` import, and what for?"
    ]
    assert "- `app.store` (Keeps notes.), imported at app/ask.py:7" in asked
    assert asked.endswith("From outside it imports ollama, openai, os.")
    assert (
        "`script`, at script.py:1"
        in answers(units["app/ask.py"])[
            "Which modules of the code base import `app.ask`, and what for?"
        ]
    )


def test_every_row_names_its_line_and_its_module_is_its_group(package, tmp_path):
    for unit, results in by_unit(source(package, tmp_path)).items():
        lines = (package / unit).read_bytes().count(b"\n") + 1
        for each in results:
            if isinstance(each, Given):
                file, _, line = each.row.source.rpartition(":")
                assert file == unit and 1 <= int(line) <= lines
                assert each.row.group == unit.removesuffix(".py").removesuffix("/__init__").replace(
                    "/", "."
                )


def test_what_is_not_python_is_one_reject_with_its_line(package, tmp_path):
    units = by_unit(source(package, tmp_path))
    assert set(units) == {
        name for name in PACKAGE if name.endswith(".py") and not re.match(r"venv|\.", name)
    }
    (old,), (odd,) = units["old.py"], units["odd.py"]
    assert (
        isinstance(old, Reject)
        and str(old.origin) == "old.py:1"
        and old.reason.startswith("not Python: Missing")
    )
    assert isinstance(odd, Reject)
    assert not any(
        isinstance(each, Reject) for name in ("app/ask.py", "warns.py") for each in units[name]
    )


def test_a_file_that_breaks_the_parser_is_set_aside(tmp_path):
    package = write(
        tmp_path / "code",
        {
            "deep.py": "(" * 5000 + ")" * 5000,
            "long.py": "x = 1\n" * 900_000,
            "good.py": '"""Good."""\n',
        },
    )
    units = by_unit(source(package, tmp_path))
    assert [isinstance(each, Reject) for each in units["deep.py"] + units["long.py"]] == [
        True,
        True,
    ]
    assert isinstance(units["good.py"][0], Given)


def test_a_unit_changes_with_its_neighbours_alone(package, tmp_path):
    before = {unit.id: unit.digest for unit in source(package, tmp_path).units()}
    write(package, {"warns.py": "y = 2\n"})
    after = {unit.id: unit.digest for unit in source(package, tmp_path).units()}
    assert {name for name in before if before[name] != after[name]} == {"warns.py"}
    write(package, {"app/store.py": PACKAGE["app/store.py"] + "\n"})
    last = {unit.id: unit.digest for unit in source(package, tmp_path).units()}
    assert {name for name in after if after[name] != last[name]} == {
        "app/store.py",
        "app/ask.py",
        "app/cli/main.py",
    }


def test_a_file_that_changes_after_it_was_listed_is_not_read_as_what_it_was(package, tmp_path):
    found = source(package, tmp_path)
    unit = next(unit for unit in found.units() if unit.id == "app/ask.py")
    write(package, {"app/store.py": "x = 1\n"})
    with pytest.raises(ValueError, match=r"app/store.py was changed"):
        list(found.read(unit))


def test_names_of_a_package_under_src_and_of_one_that_is_named_itself(tmp_path):
    write(tmp_path, {"src/pkg/__init__.py": "", "src/pkg/a.py": "", "setup.py": ""})
    names = [unit.what["name"] for unit in source(tmp_path, tmp_path).units()]
    assert names == ["pkg", "pkg.a", "setup"]
    names = [unit.what["name"] for unit in source(tmp_path / "src" / "pkg", tmp_path).units()]
    assert names == ["pkg", "pkg.a"]


def test_modules_are_picked_by_pattern_and_seen_by_the_others_still(package, tmp_path):
    found = source(package, tmp_path, modules=["app.store"])
    (unit,) = found.units()
    assert "`app.ask`, at" in "".join(answers(found.read(unit)).values())


def test_links_are_not_followed(package, tmp_path):
    (package / "loop").symlink_to(package)
    (package / "passwd.py").symlink_to("/etc/passwd")
    assert not {unit.id for unit in source(package, tmp_path).units()} & {
        "passwd.py",
        "loop/old.py",
    }


@pytest.mark.parametrize("entry", [{"modules": ["nothing.*"]}, {"path": "gone"}])
def test_nothing_to_read_is_said(package, tmp_path, entry):
    with pytest.raises(StageFailed) as failed:
        list(
            code.open_source(
                {"path": str(package), **entry}, Context(tmp_path, tmp_path, {})
            ).units()
        )
    assert failed.value.cause == Cause.DATA and failed.value.remedy


def test_a_kind_that_there_is_not(tmp_path):
    with pytest.raises(StageFailed, match="no kind spells"):
        source(tmp_path, tmp_path, kinds=["spells"])


def test_ours_through_the_whole_of_prepare_twice(tmp_path):
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name / "windlass" / "jobs" / "job-1"
        told = {
            "name": "",
            "sources": [{"type": "code", "path": str(REMOTE / "payload" / "data")}],
            "steps": [{"type": "deduplicate"}],
            "split": {"validation": 0.2},
            "limits": {"max_reject_share": 0},
        }
        spec = JobSpec("job-1", "prepare", "r", inputs={}, options={}, recipe=told)
        atomic.write_text(folder / "spec.json", spec.to_json())
        job = Job(folder)
        prepare.main(job)
        made.append([job.artifact(f"{each}.jsonl").read_bytes() for each in ("train", "val")])
    assert made[0] == made[1]
    groups = [{json.loads(line)["group"] for line in side.splitlines()} for side in made[0]]
    assert all(groups) and not groups[0] & groups[1]
