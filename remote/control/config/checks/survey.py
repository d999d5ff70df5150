"""All that `inv check` looks at, in one go: the inventory, and one playbook or all of them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from remote.contract.job.stages import STAGES, needs_base
from remote.control import project, secrets
from remote.control.config import base_model
from remote.control.config.checks.check import check, load
from remote.control.config.data_recipe import DataRecipe
from remote.control.config.inventory import Inventory, LocalEntry
from remote.control.config.playbook import Playbook, load_playbook, rest_of_playbook
from remote.control.config.recipe import Recipe
from remote.control.config.yaml.explain import in_order
from remote.control.config.yaml.source import shown
from remote.control.errors import ConfigError, Finding
from remote.control.output.sanitize import counted

_LOCAL = (
    "this machine: no clock stops it, and neither does `finally:`; no checkpoint goes to a bucket",
    "this machine: whether recipes fit its memory and GPU is for the `preflight` stage to measure",
)
"""What a run there does without."""


@dataclass(frozen=True)
class Survey:
    """What was found, what was looked at, one line that says so, and what is to be done before a
    run that no file can tell."""

    findings: list[Finding]
    checked: list[str]
    summary: str
    steps: tuple[str, ...] = ()


def survey(
    inventory: Inventory | None, unread: Sequence[Finding], playbook: str | None, box: str | None
) -> Survey:
    """Check `playbook` on `box`. Without a playbook, check each; whether it fits a box, only where
    one is named.

    `inventory` and `unread` are what `read_inventory` returned: an inventory, or the findings why
    there is none.
    """
    findings = list(unread)
    names: list[str | Path] = [playbook] if playbook else list(_playbooks())
    loaded = [book for name in names if (book := _playbook(name, findings))]
    for book in loaded if inventory else ():
        assert inventory is not None
        findings += check(book, inventory, box, fit=bool(playbook or box or book.box))
    if (
        inventory and playbook and any(_needs_box(book) for book in loaded)
    ):  # somebody is about to run it, and from here
        findings += secrets.findings(inventory, _secrets_of(loaded))
    checked = [shown(project.find_file("inventory.yaml")), *(shown(book.path) for book in loaded)]
    steps = (
        _steps(inventory, loaded, box) if inventory and not findings and (playbook or box) else ()
    )
    return Survey(
        in_order(dict.fromkeys(findings)),
        checked,
        _summary(inventory, loaded, box, bool(playbook)),
        tuple(dict.fromkeys(steps)),
    )


def _steps(inventory: Inventory, playbooks: list[Playbook], box: str | None) -> Iterator[str]:
    for book in playbooks:
        entry = inventory.box(box or book.box)
        if isinstance(entry, LocalEntry):
            yield from _LOCAL
        recipes = [
            load(book, label)
            for label, stage in book.stages.items()
            if needs_base(stage.uses, stage.with_)
        ]
        bases = [recipe.base.model_dump() for recipe in recipes if isinstance(recipe, Recipe)]
        yield from base_model.steps(bases, entry) if entry else ()


def _secrets_of(playbooks: list[Playbook]) -> dict[str, str]:
    """The variables that the data recipes of playbooks name, and where."""
    recipes = [load(book, label) for book in playbooks for label in book.stages]
    return {
        name: recipe.where_secret(name)
        for recipe in recipes
        if isinstance(recipe, DataRecipe)
        for name in recipe.secret_names
    }


def _needs_box(book: Playbook) -> bool:
    return any(STAGES[stage.uses].is_job for stage in book.stages.values() if stage.uses in STAGES)


def _playbook(name: str | Path, findings: list[Finding]) -> Playbook | None:
    try:
        return load_playbook(name)
    except ConfigError as error:
        findings += error.findings
        return rest_of_playbook(name)


def _playbooks() -> list[Path]:
    """The project's playbooks and the shipped ones; the project's win."""
    found = {
        path.name: path
        for folder in (project.SHIPPED, project.root())
        for path in sorted((folder / "playbooks").glob("*.yaml"))
    }
    return list(found.values())


def _summary(
    inventory: Inventory | None, playbooks: list[Playbook], box: str | None, named: bool
) -> str:
    if inventory is None:
        return ""
    if named and playbooks:
        book = playbooks[0]
        return (
            f"{shown(book.path)} fits: {counted(len(book.stages), 'stage')} on box"
            f" {box or book.box or inventory.default_box}"
        )
    names = ", ".join(book.name for book in playbooks)
    unset = ", ".join(name for name in inventory.secrets if not os.environ.get(name))
    lacking = f" Not set in this environment, and runs on a box need it: {unset}." if unset else ""
    return (
        f"boxes {', '.join(inventory.boxes)}; playbooks {names}.{lacking} Whether one fits a box:"
        " `./inv check PLAYBOOK --box NAME`"
    )
