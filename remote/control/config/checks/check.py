"""`inv check`: everything about a playbook that can be known before anything starts."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from remote.contract.artifacts.chat_templates import WITHOUT
from remote.contract.artifacts.dataset_file import EXPECTED, READABLE, Refusal, first_refusal
from remote.contract.job.stages import STAGES, Stage
from remote.control import project
from remote.control.config import base_model
from remote.control.config.checks.capacity import fits
from remote.control.config.data_recipe import DataRecipe, load_data_recipe
from remote.control.config.inventory import BoxEntry, Inventory
from remote.control.config.options import Options
from remote.control.config.playbook import RECIPE_FOLDERS, Playbook, StageEntry
from remote.control.config.recipe import Recipe, load_recipe
from remote.control.config.yaml import explain
from remote.control.config.yaml.source import Keys, Source, shown
from remote.control.errors import ConfigError, Finding
from remote.control.output.suggestion import suggestion

_REFERENCE = re.compile(r"([a-z0-9][a-z0-9-]*)\.([A-Za-z0-9_]+)")
ROWS = ("dataset", "held_out", "train", "val")
"""Inputs of stages that are rows."""

_FILE_ENDINGS = {
    "json",
    "jsonl",
    "csv",
    "yaml",
    "yml",
    "txt",
    "gguf",
    "safetensors",
    "gz",
    "zip",
    "tar",
}


def check(
    playbook: Playbook, inventory: Inventory, box: str | None = None, fit: bool = True
) -> list[Finding]:
    """Everything wrong with the playbook on that box (else its own, else the default one), in the
    order of its lines.

    With `fit=False` only the playbook itself is looked at, not whether its recipes fit the box.
    """
    findings: list[Finding] = []
    entry = _box(playbook, inventory, box, findings)
    models = frozenset(spec.name for spec in base_model.of_entry(entry)) if entry else frozenset()
    for label in playbook.stages:
        findings += _Stage(playbook, label, models).findings()
    if entry is not None:
        findings += _key_findings(inventory, entry)
    if entry is not None and fit:
        findings += _fit_findings(playbook, entry)
    return explain.in_order(dict.fromkeys(findings))


def _box(
    playbook: Playbook, inventory: Inventory, box: str | None, findings: list[Finding]
) -> BoxEntry | None:
    wanted = box or playbook.box or inventory.default_box
    if wanted in inventory.boxes or inventory.means_this_machine(wanted):
        return inventory.box(wanted)
    known = list(inventory.boxes)
    where = "--box" if box else playbook.where("box")
    remedy = suggestion(wanted, known) or "name one of those, or add it to inventory.yaml"
    findings.append(
        Finding(where, f"no box `{wanted}` in the inventory", f"one of {', '.join(known)}", remedy)
    )
    return None


def _key_findings(inventory: Inventory, entry: BoxEntry) -> list[Finding]:
    key = entry.ssh_key
    if key is None or (project.is_there(key) and key.is_file()):
        return []
    where = inventory.where("boxes", entry.name, "ssh_key")
    return [
        Finding(
            where,
            f"`ssh_key`: there is no file {key}",
            "a private key",
            "correct the path, or remove the line",
        )
    ]


@dataclass
class _Stage:
    """One stage of a playbook under examination."""

    playbook: Playbook
    label: str
    models: frozenset[str] = frozenset()
    found: list[Finding] = field(default_factory=list)

    @cached_property
    def entry(self) -> StageEntry:
        return self.playbook.stages[self.label]

    @cached_property
    def signature(self) -> Stage | None:
        return STAGES.get(self.entry.uses)

    @cached_property
    def recipe(self) -> Recipe | None:
        recipe = load(self.playbook, self.label)
        return recipe if isinstance(recipe, Recipe) else None

    def findings(self) -> list[Finding]:
        if self.signature is None:
            known = sorted(STAGES)
            remedy = suggestion(self.entry.uses, known) or "name one of those"
            self._find(
                ("uses",),
                f"`{self.label}` uses `{self.entry.uses}`, which does not exist",
                f"one of {', '.join(known)}",
                remedy,
            )
            return self.found
        self._check_recipe(self.signature)
        self._check_wiring(self.signature)
        self._check_options(self.signature)
        self._check_missing(self.signature)
        self._check_gates(self.signature)
        return self.found

    def _find(self, keys: tuple[str, ...], what: str, expected: str, remedy: str) -> None:
        self.found.append(
            Finding(self.playbook.where("stages", self.label, *keys), what, expected, remedy)
        )

    def _check_recipe(self, signature: Stage) -> None:
        loaded = load(self.playbook, self.label)
        if isinstance(loaded, ConfigError):
            path = self.playbook.recipe_path(self.label)
            if path is not None and project.is_there(path) and path.is_file():
                self.found += loaded.findings
            else:
                known = project.names_in(RECIPE_FOLDERS[signature.recipe_kind])
                remedy = suggestion(str(self.entry.recipe), known) or "correct the path"
                expected = f"a recipe: a path, relative to the playbook, or {explain.one_of(known)}"
                self._find(
                    ("recipe",), f"there is no recipe `{self.entry.recipe}`", expected, remedy
                )
        elif loaded is None and signature.needs_recipe:
            self._find(
                (),
                f"`{self.label}` has no recipe",
                f"`recipe:`, for {signature.name} needs one",
                "add `recipe: recipes/mistral-7b-golden.yaml`",
            )
        elif isinstance(loaded, DataRecipe):
            self._check_data_recipe(signature, loaded)
        elif loaded and not signature.needs_recipe and "base" not in signature.inputs:
            self._find(
                ("recipe",),
                f"`{self.label}` has a recipe",
                f"none, for {signature.name} takes none",
                "remove the line",
            )
        elif loaded and signature.name == "pretrain" and loaded.pretraining is None:
            self._find(
                ("recipe",),
                f"`{self.entry.recipe}` has no `pretraining:`",
                "the shape of the model to pre-train",
                "add the section",
            )
        elif (
            loaded
            and signature.name in ("preflight", "train", "evaluate")
            and "base" not in self.entry.with_
        ):
            self._check_template(loaded)

    def _check_data_recipe(self, signature: Stage, recipe: DataRecipe) -> None:
        """The recipe says all; and a file of it that holds no rows is found here."""
        for key in self.entry.with_:
            if key in (*signature.inputs, *signature.optional, *signature.options):
                self._find(
                    ("with", key),
                    f"`{key}` beside a recipe",
                    f"one of them: {shown(recipe.path)} says which sources, split and limits",
                    "remove the line, or the recipe",
                )
        for file in recipe.files:
            if refused := refusal_of(file.path, READABLE) if file.is_rows else None:
                what = f"`{file.keys[-1]}: {file.value}`: {refused}"
                self.found.append(Finding(recipe.where(*file.keys), what, EXPECTED, refused.remedy))

    def _check_template(self, recipe: Recipe) -> None:
        if recipe.base.name in WITHOUT and not (recipe.base.path or recipe.base.chat_template):
            what = f"`base.name: {recipe.base.name}` brings no chat template"
            remedy = "add `chat_template: mistral-v3` below `base:`"
            self.found.append(
                Finding(
                    recipe.where("base", "name"), what, "`base.chat_template` in the recipe", remedy
                )
            )

    def _check_wiring(self, signature: Stage) -> None:
        known = (*signature.inputs, *signature.optional, *signature.options)
        for key, value in self.entry.with_.items():
            if signature.any_input or key in (*signature.inputs, *signature.optional):
                self._check_input(signature, key, value)
            elif key not in known:
                remedy = suggestion(key, known) or "remove it"
                self._find(
                    ("with", key),
                    f"`{self.label}` has the unknown input `{key}`",
                    f"one of {', '.join(known)}",
                    remedy,
                )

    def _check_input(self, signature: Stage, key: str, value: Any) -> None:
        keys, shown_value = ("with", key), f"`{key}: {value}`"
        if not isinstance(value, str):
            self._find(
                keys,
                shown_value,
                "`stage.output`, a file, or `box:/a/path`",
                "name a file or an output",
            )
        elif value.startswith("s3://"):
            self._find(
                keys,
                f"{shown_value} lies in S3",
                "a file on the laptop or the box: this version does not fetch from S3",
                f"copy it first, then name it: `{key}: box:/path/on/the/box`",
            )
        elif value.startswith("box:"):
            self._check_box_path(signature, key, value)
        elif (match := _REFERENCE.fullmatch(value)) and self._is_reference(match, value):
            self._check_reference(signature, key, match[1], match[2])
        elif not project.is_there(project.find_file(value)):
            self._find(
                keys,
                f"{shown_value}: no file of that name, and no stage makes it",
                "a file in the project, or `stage.output`",
                self._makers(key),
            )
        elif key in ROWS:
            self._check_rows(key, value)

    def _check_rows(self, key: str, value: str) -> None:
        """A file that is no JSON Lines at all is found here, before a box costs anything."""
        readable = READABLE if key != "train" else ()
        if refused := refusal_of(project.find_file(value), readable):
            self._find(("with", key), f"`{key}: {value}`: {refused}", EXPECTED, refused.remedy)

    def _is_reference(self, match: re.Match[str], value: str) -> bool:
        """What an earlier stage makes is a reference; else a file that exists is a file, and so is
        what is called like one."""
        producer, output = match[1], match[2]
        if producer in self.playbook.stages and output in outputs_of(self.playbook, producer):
            return True
        is_file = project.is_there(project.find_file(value))
        return not is_file and (producer in self.playbook.stages or output not in _FILE_ENDINGS)

    def _check_box_path(self, signature: Stage, key: str, value: str) -> None:
        if not value.removeprefix("box:").strip():
            self._find(
                ("with", key),
                f"`{key}: {value}`",
                "a path after `box:`",
                "write `box:/home/ubuntu/...`, or `box:~/...`",
            )
        elif signature.runs_on == "laptop":
            what = f"`{key}: {value}` lies on the box, but {signature.name} runs on the laptop"
            self._find(
                ("with", key),
                what,
                "an output of a stage, or a file on the laptop",
                self._makers(key),
            )

    def _check_reference(self, signature: Stage, key: str, producer: str, output: str) -> None:
        keys, shown_value, labels = (
            ("with", key),
            f"`{key}: {producer}.{output}`",
            list(self.playbook.stages),
        )
        if producer not in labels:
            remedy = suggestion(producer, labels) or self._makers(key)
            self._find(
                keys,
                f"{shown_value}: there is no stage `{producer}`",
                f"one of {', '.join(self._earlier()) or 'none yet'}",
                remedy,
            )
        elif producer not in self._earlier():
            what = f"{shown_value}: " + (
                "a stage cannot use its own output"
                if producer == self.label
                else f"`{producer}` runs later"
            )
            self._find(
                keys,
                what,
                f"an output of an earlier stage ({', '.join(self._earlier()) or 'there is none'})",
                "put the stages in order",
            )
        elif output not in (made := outputs_of(self.playbook, producer)):
            remedy = suggestion(output, made) or self._makers(key)
            self._find(
                keys,
                f"{shown_value}: `{producer}` makes no `{output}`",
                f"one of {', '.join(made) or 'nothing'}",
                remedy,
            )

    def _check_options(self, signature: Stage) -> None:
        given = {
            key: value
            for key, value in self.entry.with_.items()
            if key in signature.options and key in Options.model_fields
        }
        lines: dict[Keys, str] = {
            (key,): self.playbook.where("stages", self.label, "with", key) for key in given
        }
        explain.validate(Options, Source(self.playbook.path, given, lines), self.found)

    def _check_missing(self, signature: Stage) -> None:
        from_recipe = (
            {"base"}
            if self.recipe is not None
            and (self.recipe.base.path or self.recipe.base.name in self.models)
            else set()
        )
        if signature.recipe_kind == "data" and self.entry.recipe:
            return
        for name in signature.inputs:
            if name not in self.entry.with_ and name not in from_recipe:
                self._find(
                    (),
                    f"`{self.label}` has no `{name}`",
                    f"`{name}` under `with:`, for {signature.name} needs it",
                    self._makers(name),
                )
        if signature.any_input and not self.entry.with_:
            self._find(
                (),
                f"`{self.label}` names nothing",
                "at least one artifact under `with:`",
                "add, for example, `adapter: train.adapter`",
            )

    def _check_gates(self, signature: Stage) -> None:
        for name in self.entry.gates:
            if name not in signature.values:
                remedy = suggestion(name, signature.values) or "name one of those"
                measured = ", ".join(signature.values) or "nothing: remove the gate"
                self._find(
                    ("gates", name),
                    f"a gate on `{name}`, which {signature.name} does not measure",
                    f"one of {measured}",
                    remedy,
                )
        if self.entry.on_failure == "rollback" and "model" not in signature.inputs:
            expected = "`rollback` only on a stage that takes an installed `model`"
            self._find(
                ("on_failure",),
                f"`{self.label}` cannot roll back",
                expected,
                "write `on_failure: stop`",
            )

    def _earlier(self) -> list[str]:
        labels = list(self.playbook.stages)
        return labels[: labels.index(self.label)]

    def _makers(self, name: str) -> str:
        """The line that would wire `name`, where an earlier stage makes something of that name."""
        makers = [label for label in self._earlier() if name in outputs_of(self.playbook, label)]
        if makers:
            return f"add `{name}: {makers[-1]}.{name}`"
        if name == "base":
            return (
                "set `base.path` in the recipe, list its `base.name` under `models:` of the box, or"
                " add `base: box:/path/of/the/model`"
            )
        return f"name a file, or put a stage that makes `{name}` before"


def refusal_of(path: Path, readable: Collection[str] = ()) -> Refusal | None:
    """Why a file of the laptop can be no dataset, nor one of the `readable` kinds. One that cannot
    be read is a matter for the push, which says so."""
    try:
        return first_refusal(path, readable=readable)
    except OSError:
        return None


def load(playbook: Playbook, label: str) -> Recipe | DataRecipe | ConfigError | None:
    """The recipe of a stage, or what is wrong with it; None for a stage without one."""
    path = playbook.recipe_path(label)
    try:
        if path is None:
            return None
        is_of_data = playbook.recipe_kind(label) == "data"
        return load_data_recipe(path) if is_of_data else load_recipe(path)
    except ConfigError as error:
        return error


def outputs_of(playbook: Playbook, label: str) -> list[str]:
    """What a stage makes. A stage that takes any input hands on what it took."""
    entry = playbook.stages[label]
    signature = STAGES.get(entry.uses)
    if signature is None:
        return []
    return list(entry.with_ if signature.any_input else signature.outputs)


def _fit_findings(playbook: Playbook, entry: BoxEntry) -> list[Finding]:
    found: list[Finding] = []
    uses = {stage.uses for stage in playbook.stages.values()}
    for label, stage in playbook.stages.items():
        recipe = load(playbook, label)
        if isinstance(recipe, Recipe):
            found += fits(recipe, entry, trains=stage.uses == "train", exports="export" in uses)
    return found
