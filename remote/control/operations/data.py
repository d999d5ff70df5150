"""Data: a look at files on this machine, rows converted, and the plans that prepare them on a box.

Files are read by the very code that reads them on a box, in a process of its own: it needs no
library, but for some formats, and those are left to the box.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote.contract.artifacts import chat_templates, row_formats, row_kinds
from remote.contract.artifacts.rows import Row, Turn
from remote.contract.files import digest, untrusted_json
from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Status
from remote.control import project
from remote.control.backends.resolved import StageArtifact
from remote.control.errors import ConfigError, DataError, Finding, NotFound
from remote.control.runs.artifacts import pulled_path
from remote.control.runs.finish import backend_of
from remote.control.runs.ledger import Ledger
from remote.control.runs.plan import Plan, PlannedStage
from remote.control.runs.reporter import NOBODY, Reporter
from remote.control.runs.state import RunState, state_of

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry, Inventory

_END = "</s>"

MADE = ("train", "val", "rejects", "statistics", "report", "manifest")
"""What `prepare` leaves."""


@dataclass(frozen=True)
class Shown:
    """A row as it was read, and where."""

    where: str
    row: Row


@dataclass(frozen=True)
class Look:
    """What a file is taken for, by its first rows. `fits` are the kinds whose fields they have,
    `names` the columns of the first; `bad` says where and why one cannot be read. `needs_box` names
    the format where only a box can look, and nothing else is known then."""

    file: str
    files: int = 1
    format: str = ""
    packing: str = ""
    kind: str = ""
    fits: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    seen: int = 0
    rows: tuple[Shown, ...] = ()
    bad: tuple[Mapping[str, str], ...] = ()
    needs_box: str = ""

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        rows = [{"where": each.where, "row": each.row.to_json()} for each in self.rows]
        return {**vars(self), "rows": rows}


def look(path: Path, rows: int = 1, kind: str = "", columns: str = "") -> Look:
    """Look at a file, or the first of a folder. Raises DataError where none of its first rows can
    be read, with the kinds that would fit; ConfigError for `kind` or `columns` that cannot be."""
    ours = _columns(kind, columns)
    if file := _needing_library(path):
        return Look(file.name, needs_box=row_formats.name_of(file))
    request = {"path": str(path), "rows": rows, "kind": kind, "columns": ours}
    told = _asked("remote.payload.data.files.look", request)
    shown = [Shown(each["where"], row_kinds.row_of(each["row"])) for each in told.pop("rows")]
    told |= {name: tuple(told[name]) for name in ("fits", "names", "bad")}
    found = Look(rows=tuple(shown), **told)
    if not shown:
        raise _unreadable(found, kind)
    return found


def _unreadable(found: Look, kind: str) -> DataError:
    first = found.bad[0] if found.bad else None
    fitting = [each for each in found.fits if each != kind]
    remedy = (
        f"`--kind {fitting[0]}`, or leave it out"
        if kind and fitting
        else "`--columns` says which columns hold what; docs/data.md has the kinds"
    )
    return DataError(
        f"{found.file}: none of its first {found.seen} rows can be read"
        if found.seen
        else f"{found.file} holds no rows",
        where=first["where"] if first else "",
        why=first["reason"] if first else "",
        remedy=remedy,
    )


@dataclass(frozen=True)
class Converted:
    """What became of a file's rows; `bad` are the first of those that cannot be read."""

    to: Path
    rows: int
    unusable: int
    files: int = 1
    bad: tuple[Mapping[str, str], ...] = ()


ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
"""What `convert` writes."""


def convert(path: Path, to: Path, kind: str = "", columns: str = "") -> Converted:
    """Make a file of our rows of a file or folder. Raises DataError, and NeedsBox for formats that
    this machine does not read."""
    ours = _columns(kind, columns)
    check_target(to)
    if file := _needing_library(path):
        raise needs_box(file, f"./inv data.convert {path} {to}")
    request = {"path": str(path), "to": str(to), "kind": kind, "columns": ours}
    told = _asked("remote.payload.data.convert", request)
    return Converted(to, **{**told, "bad": tuple(told["bad"])})


def check_target(to: Path) -> None:
    """Raise ConfigError for a file that `convert` does not write."""
    if not to.name.endswith(ENDINGS):
        what = f"`{to}`: its ending says no format that is written"
        expected = f"one of {', '.join(ENDINGS)}"
        raise ConfigError([Finding("OUT", what, expected, f"`{to.with_suffix('.jsonl')}`")])


def needs_box(file: Path, command: str) -> DataError:
    """The error for a file that only a box reads."""
    return DataError(
        f"{file.name} is {row_formats.name_of(file)}: this machine does not read it",
        why="its library is in the box's Python environment",
        remedy=f"`{command} --on BOX`; `--on local` is this machine, with that environment",
    )


@dataclass(frozen=True)
class Examined:
    """What is in somebody's file. `told` are its statistics, what would be dropped, and findings;
    `page` shows them."""

    told: Mapping[str, Any]
    page: Path

    @property
    def is_bad(self) -> bool:
        """Whether something in it must be corrected before a model learns from it."""
        return any(each["level"] == "bad" for each in self.told["findings"])

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {**self.told, "page": str(self.page)}


def examine(path: Path, kind: str = "", columns: str = "") -> Examined:
    """Examine a file of rows, or a folder, on this machine. Raises DataError where it cannot be
    read."""
    _columns(kind, columns)
    if file := _needing_library(path):
        raise needs_box(file, f"./inv data.doctor {path}")
    mark = digest.of_value(str(path.resolve()))[:12]
    page = project.state_folder() / "examined" / f"{path.stem[:40]}-{mark}.html"
    page.parent.mkdir(exist_ok=True)
    words = ["--kind", kind, "--columns", columns, "--json", "--html", str(page)]
    done = _run("remote.payload.data.doctor", str(path), *words)
    if done.returncode not in (Exit.OK, Exit.DATA):
        raise _failed(done)
    if not done.stdout:
        raise DataError(done.stderr.decode(errors="replace").strip(), remedy="correct the path")
    return Examined(untrusted_json.loads_object(done.stdout), page)


def examined_by(made: Path) -> Examined:
    """The same, by the files that `prepare` left in that folder."""
    return Examined(untrusted_json.read_object(made / "statistics.json"), made / "report.html")


def one_box(inventory: "Inventory", on: str) -> "BoxEntry":
    """Where rows are made. Raises ConfigError for what is no box; a group is none yet."""
    if on in inventory.groups:
        first = inventory.groups[on][0]
        what = f"`{on}` is a group of boxes"
        raise ConfigError([Finding("--on", what, "one box, for now", f"`--on {first}`")])
    return inventory.box(on or None)


def template_of(word: str) -> str:
    """The chat template behind a name, or in a file. Raises ConfigError."""
    path = project.find_file(project.typed(word)) if word else None
    try:
        text = path.read_text() if path and project.is_file(path) else word
        return chat_templates.text_of(text) if text else ""
    except (OSError, ValueError) as error:
        known = ", ".join(chat_templates.BUILT_IN)
        finding = Finding("--template", f"`{word}`: {error}", f"{known}, or a file", "correct it")
        raise ConfigError([finding]) from None


PREFERRED = ("local", "s3", "both")


def plan_preparing(
    recipe: str, inventory: "Inventory", entry: "BoxEntry", stop: bool, prefer: str = ""
) -> Plan:
    """The plan behind `inv data.prepare`; `prefer` says which is read where a corpus lies both in
    S3 and at hand, in place of what the recipe says. Raises ConfigError with every finding, like
    `inv check`."""
    from remote.control import secrets
    from remote.control.config.checks.check import check
    from remote.control.config.data_recipe import load_data_recipe
    from remote.control.config.playbook import Playbook, StageEntry
    from remote.control.runs.plan import plan_of

    loaded = load_data_recipe(recipe)
    if loaded.outputs.bucket and not inventory.storage.bucket:
        where, remedy = loaded.where("outputs", "bucket"), "name one, or write `bucket: false`"
        expected = "`storage.bucket` in inventory.yaml"
        raise ConfigError([Finding(where, "`outputs.bucket`: there is none", expected, remedy)])
    made = (*MADE, "modules") if loaded.outputs.modules else MADE
    stages = {
        "prepare": StageEntry(uses="prepare", recipe=recipe),
        "pull": StageEntry(uses="pull", with_={name: f"prepare.{name}" for name in made}),
    }
    playbook = Playbook(name=loaded.name, stages=stages, finally_=["stop"] if stop else [])
    if findings := check(playbook, inventory, entry.name):
        raise ConfigError(findings)
    secrets.values(inventory, {name: loaded.where_secret(name) for name in loaded.secret_names})
    return _preferring(plan_of(playbook), prefer)


def _preferring(plan: Plan, prefer: str) -> Plan:
    if not prefer:
        return plan
    if prefer not in PREFERRED:
        expected, remedy = f"one of {', '.join(PREFERRED)}", "leave it out, or correct it"
        raise ConfigError([Finding("--source", f"`{prefer}`", expected, remedy)])
    for source in (plan.stages[0].recipe or {}).get("sources") or ():
        if source["type"] == "corpus" and str(source["path"]).startswith("s3://"):
            source["prefer"] = prefer
    return plan


def plan_reading(path: str, kind: str, columns: str, as_it_is: bool) -> Plan:
    """A plan that prepares one file on a box, whatever share of it is bad; `as_it_is`: in order,
    with what repeats, in one file."""
    ours = _columns(kind, columns)
    source = {"type": "corpus", "path": "input:rows", "kind": kind, "columns": ours}
    recipe = {
        "name": "",
        "sources": [source],
        "steps": [] if as_it_is else [{"type": "deduplicate"}],
        "split": {"validation": 0 if as_it_is else 0.2},
        "limits": {"max_reject_share": 1},
        "seed": 42,
    }
    prepare = PlannedStage("prepare", "prepare", {"rows": path}, recipe)
    made = {name: f"prepare.{name}" for name in MADE}
    name = "convert" if as_it_is else "doctor"
    return Plan(name, (prepare, PlannedStage("pull", "pull", made)))


def has_prepared(run: RunState) -> bool:
    """Whether a run has made rows."""
    return _prepared(run) is not None


def made_by(ledger: Ledger, name: str, inventory: "Inventory", reporter: Reporter = NOBODY) -> Path:
    """A file that the run's `prepare` left, on this laptop: brought from its box where it is not
    here yet. Raises NotFound, BoxStopped."""
    run = state_of(ledger)
    label = _prepared(run)
    output = run.stages[label].outputs.get(name) if label else None
    if not (label and isinstance(output, StageArtifact)):
        raise NotFound(
            f"run {run.run_id} has no {name} of its data",
            remedy=f"./inv resume {run.run_id}, or name another run: `./inv runs`",
        )
    path = pulled_path(ledger, label, output)
    if path.exists():
        return path
    with (
        ledger.locked("pull"),
        backend_of(ledger, inventory, run.box, reporter, may_launch=False) as backend,
    ):
        return backend.fetch(output, path.parent)


def _prepared(run: RunState) -> str | None:
    done = [
        stage.label
        for stage in run.plan.stages
        if stage.uses == "prepare" and run.stages[stage.label].status is Status.SUCCEEDED
    ]
    return done[-1] if done else None


Piece = tuple[str, bool]
"""Some text, and whether it is learnt."""


def as_read(row: Row, template: str = "") -> list[list[Piece]]:
    """A row as the text that the model reads, in the sequences that the trainer makes of it; the
    assistant's words are learnt with the end of sequence. `template` is a chat template, Mistral's
    by default. Raises DataError for one that cannot be filled."""
    if row.is_document:
        return [[("<s>", False), (f"{row.text}{_END}", True)]]
    from jinja2 import TemplateError

    render = _renderer(template)
    found: list[list[Piece]] = []
    told = ""
    try:
        for number, turn in enumerate(row.messages):
            if turn.role != "assistant":
                continue
            asked, whole = render(row.messages[:number]), render(row.messages[: number + 1])
            question = row.messages[number - 1].content
            answer = chat_templates.answer_in(whole, asked, question, turn.content, _END)
            if not (found and asked.startswith(told)):  # the template moved what stands before
                found.append([])
                told = ""
            found[-1] += [(asked[len(told) :], False), (answer, turn.is_learnt)]
            told = asked + answer
    except TemplateError as error:
        raise DataError("the chat template cannot be filled", why=str(error)) from None
    return [pieces for pieces in found if any(is_learnt for _, is_learnt in pieces)]


def _renderer(template: str) -> Callable[[Sequence[Turn]], str]:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    filled = made.from_string(chat_templates.text_of(template or "mistral-v3"))
    names = {"bos_token": "<s>", "eos_token": _END, "raise_exception": _refuse}

    def render(turns: Sequence[Turn]) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        is_asked = messages[-1]["role"] != "assistant"
        return filled.render(messages=messages, add_generation_prompt=is_asked, **names)

    return render


def _refuse(why: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(why)


def _columns(kind: str, columns: str) -> dict[str, str]:
    if kind and kind not in row_kinds.KINDS:
        expected = f"one of {', '.join(row_kinds.KINDS)}"
        raise ConfigError([Finding("--kind", f"`{kind}`", expected, "leave it out, or correct it")])
    try:
        return row_kinds.columns_of(columns)
    except ValueError as error:
        what, remedy = f"`{columns}`", "`--columns instruction=question,output=answer`"
        raise ConfigError([Finding("--columns", what, str(error), remedy)]) from None


def _needing_library(path: Path) -> Path | None:
    try:
        return row_formats.first_with_library(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read", why=error.strerror or str(error), remedy="correct the path"
        ) from None


def _asked(module: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """What a module of the box's code answers, run on this machine. Raises DataError with its
    words."""
    done = _run(module, json.dumps(request))
    if done.returncode:
        raise _failed(done)
    told = untrusted_json.loads_object(done.stdout)
    if "error" in told:
        raise DataError(
            told["error"],
            why=told.get("why", ""),
            remedy=told.get("remedy") or "`./inv data.doctor FILE` examines it",
        )
    return told


def _run(module: str, *words: str) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(project.CODE)}
    command = [sys.executable, "-P", "-m", module, *words]
    return subprocess.run(command, env=environment, capture_output=True, check=False)


def _failed(done: "subprocess.CompletedProcess[bytes]") -> Exception:
    """A fault of the box's code: its last words."""
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
    return RuntimeError(last[0])
