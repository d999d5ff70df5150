"""The files that a newcomer begins with: an inventory, a recipe, a playbook, each annotated.

Each is made as text out of `templates/`, checked as `inv check` would, and only then written. A
file that is there already is never written over.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from remote.contract.files import atomic
from remote.contract.job.exits import Exit
from remote.control import project
from remote.control.errors import ConfigError, WindlassError
from remote.control.output import console
from remote.control.text import render

PROVIDERS = {
    "embedded": "on this machine, to try things out: no account, no cost",
    "ec2": "a GPU box on AWS, launched on request",
    "static": "a machine that I can already reach over SSH",
}
"""Where a box can be, as `inv init` asks."""

RECIPE, PLAYBOOK = "recipe", "playbook"
FOLDERS = {RECIPE: "playbooks/recipes", PLAYBOOK: "playbooks"}
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}"
_OWN_FOLDERS = ("/.windlass/", "/runs/")


class NotWritten(WindlassError):
    """A file was asked for that cannot be written."""

    exit_code = Exit.USAGE


@dataclass(frozen=True)
class Answers:
    """What is asked about the first box; each provider uses what it knows."""

    provider: str
    name: str
    region: str = ""
    instance_type: str = ""
    host: str = ""
    user: str = ""


@dataclass(frozen=True)
class NewFile:
    """A file that can be written: nothing is there, and its text has no findings."""

    path: Path
    text: str

    def write(self) -> None:
        """Write it, with the folders that it needs."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        refuse_existing(self.path)
        atomic.write_text(self.path, self.text)


def refuse_existing(path: Path) -> None:
    """Raise NotWritten where something is at `path`."""
    if not project.is_there(path):
        return
    remedy = f"edit it, or move it away first: `mv {path} {path}.before`"
    raise NotWritten(f"{path} exists; nothing was written", remedy=remedy)


def inventory(answers: Answers) -> NewFile:
    """The inventory with that first box. Raises ConfigError for answers that make no box."""
    from remote.control.config.inventory import findings_of

    path = project.root() / project.INVENTORY
    refuse_existing(path)
    text = console.as_typed(render("inventory.yaml.j2", **vars(answers)))
    if findings := findings_of(path, text):
        raise ConfigError(findings)
    return NewFile(path, text)


def recipe(name: str, extends: str) -> NewFile:
    """A recipe that extends another one."""
    if not any(
        project.is_file(folder / FOLDERS[RECIPE] / extends)
        for folder in (project.root(), project.SHIPPED)
    ):
        remedy = "a path from playbooks/recipes, such as `base/mistral-7b.yaml`"
        raise NotWritten(f"there is no recipe `{extends}` to extend", remedy=remedy)
    return _named(RECIPE, name, extends=extends)


def playbook(name: str, recipe: str, data: str) -> NewFile:
    """A playbook from rows to Ollama. Raises NotWritten where recipe or rows are not there."""
    if not project.is_file(project.named_file(recipe, FOLDERS[RECIPE])):
        known = ", ".join(project.names_in(FOLDERS[RECIPE]))
        remedy = f"one of {known}, or write it first: `./inv new recipe NAME`"
        raise NotWritten(f"there is no recipe `{recipe}`", remedy=remedy)
    if not data.startswith("box:") and not project.is_there(project.find_file(data)):
        remedy = (
            "a file of JSON lines with instruction, input and output, or `box:/path/on/the/box`"
        )
        raise NotWritten(f"there is no file `{data}`", remedy=remedy)
    return _named(PLAYBOOK, name, recipe=recipe, data=data)


def ignore_own_folders() -> bool:
    """Have git ignore Windlass's keys and runs in this project; whether anything was missing."""
    path = project.root() / ".gitignore"
    before = path.read_text() if path.is_file() else ""
    missing = [line for line in _OWN_FOLDERS if line not in before.split()]
    if missing:
        atomic.write_text(path, "\n".join([*before.splitlines(), *missing, ""]))
    return bool(missing)


def _named(kind: str, name: str, **facts: str) -> NewFile:
    if not re.fullmatch(_NAME, name):
        remedy = f"for example `./inv new {kind} my-{kind}`"
        expected = "a name has letters, digits, `-` and `_`, and begins with a letter or digit"
        raise NotWritten(f"`{name}` is no name of a {kind}", why=expected, remedy=remedy)
    path = project.root() / FOLDERS[kind] / f"{name}.yaml"
    refuse_existing(path)
    if name in project.names_in(FOLDERS[kind]):
        why = f"the {kind} `{name}` ships with Windlass, and would be hidden by yours"
        raise NotWritten(f"the name `{name}` is taken", why=why, remedy="choose another name")
    return NewFile(path, console.as_typed(render(f"{kind}.yaml.j2", name=name, **facts)))
