"""A playbook: which stages run, in which order, wired how, and which measured conditions (gates)
must hold."""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from remote.contract.job.stages import STAGES, RecipeKind
from remote.control import project
from remote.control.config import data_recipe
from remote.control.config import recipe as training_recipe
from remote.control.config.yaml import explain
from remote.control.config.yaml.section import Name, Plain, Section
from remote.control.config.yaml.source import Keys, Source, read
from remote.control.errors import ConfigError, Finding
from remote.control.output.sanitize import number
from remote.control.output.suggestion import suggestion

FOLDER = "playbooks"
RECIPE_FOLDERS: dict[RecipeKind, str] = {
    "training": training_recipe.FOLDER,
    "data": data_recipe.FOLDER,
}

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_GATE = re.compile(r"^\s*(>=|<=|==|!=|>|<)\s*(\S.*?)\s*$")


@dataclass(frozen=True)
class Gate:
    """A measured condition: `>0.75`, `==stop`. Order is only defined for numbers."""

    comparison: str
    limit: float | bool | str

    def holds(self, value: Any) -> bool:
        """Whether the measured value passes. What was not measured, or is not a number where one is
        due, never does."""
        if isinstance(self.limit, bool) or isinstance(value, bool) or isinstance(self.limit, str):
            return type(value) is type(self.limit) and _COMPARE[self.comparison](value, self.limit)
        return (
            isinstance(value, int | float)
            and not math.isnan(value)
            and _COMPARE[self.comparison](value, self.limit)
        )

    def __str__(self) -> str:
        limit = self.limit
        if isinstance(limit, bool):
            return f"{self.comparison}{str(limit).lower()}"
        return f"{self.comparison}{limit if isinstance(limit, str) else number(limit)}"


def parse_gate(text: str) -> Gate:
    """Read `>0.75` and the like; raises ValueError with what was expected."""
    match = _GATE.match(text)
    if not match:
        raise ValueError('a comparison and a limit in quotes, such as ">0.75"')
    comparison, limit = match.groups()
    if limit in ("true", "false") and comparison in ("==", "!="):
        return Gate(comparison, limit == "true")
    try:
        number = float(limit)
    except ValueError:
        number = float("nan")
    if math.isfinite(number):
        return Gate(comparison, number)
    if comparison in ("==", "!="):
        return Gate(comparison, limit)
    raise ValueError(f'a number after `{comparison}`, such as "{comparison}0.75"')


def _gate(text: str) -> str:
    parse_gate(text)
    return text


class StageEntry(Section):
    """One stage of a playbook."""

    uses: str = Field(description="what runs: a stage of Windlass", examples=["train"])
    recipe: str | None = Field(
        default=None,
        description="the recipe's path, relative to the playbook",
        examples=["recipes/mistral-7b-golden.yaml", "data/golden.yaml"],
    )
    with_: dict[str, Plain] = Field(
        default={},
        alias="with",
        description=(
            "inputs and options: `stage.output`, a file on the laptop, `box:/a/path`, or a plain"
            " value"
        ),
    )
    gates: dict[str, Annotated[str, AfterValidator(_gate)]] = Field(
        default={}, description='conditions on what the stage measured, such as `f1_gain: ">0.1"`'
    )
    on_failure: Literal["stop", "rollback"] = Field(
        default="stop", description="what follows when the stage or a gate of it fails"
    )


class Playbook(Section):
    """A whole playbook."""

    name: Name = Field(
        description="a short name; it begins the ids of its runs", examples=["golden-path"]
    )
    box: str | None = Field(
        default=None, description="the box of the inventory; without it the default one"
    )
    stages: dict[Name, StageEntry] = Field(
        min_length=1, description="the stages in the order in which they run"
    )
    finally_: list[Literal["stop", "terminate"]] = Field(
        default=[],
        alias="finally",
        description="what is done at the end, whatever happened: `stop` or `terminate` the box",
    )

    _source: Source = PrivateAttr(default_factory=lambda: Source(Path("playbook")))

    def where(self, *keys: str | int) -> str:
        """`file:line` of a value; keys as they stand in the file. A playbook made in memory has
        none: then the keys."""
        return self._source.where(*keys)

    @property
    def path(self) -> Path:
        """The file that was loaded."""
        return self._source.path

    def recipe_path(self, label: str) -> Path | None:
        """The recipe file of a stage: relative to the playbook, else to the project, else by its
        bare name."""
        recipe = self.stages[label].recipe
        if recipe is None:
            return None
        beside = self.path.parent / recipe
        folder = RECIPE_FOLDERS[self.recipe_kind(label)]
        return beside if project.is_file(beside) else project.named_file(recipe, folder)

    def recipe_kind(self, label: str) -> RecipeKind:
        """What a recipe of that stage is about."""
        signature = STAGES.get(self.stages[label].uses)
        return signature.recipe_kind if signature else "training"


def load_playbook(path: str | Path) -> Playbook:
    """Load a playbook by path or by its bare name (`demo` is playbooks/demo.yaml). Raises
    ConfigError with every finding."""
    source = read(_find(path))
    findings = list(source.findings)
    playbook = explain.validate(Playbook, source, findings)
    if findings or playbook is None:
        raise ConfigError(explain.in_order(findings))
    playbook._source = source
    return playbook


def rest_of_playbook(path: str | Path) -> Playbook | None:
    """A faulty playbook without its faults, to look at the rest of it; None where a stage itself is
    at fault."""
    try:
        source = read(_find(path))
    except ConfigError:
        return None
    if not isinstance(source.value, dict):
        return None
    for keys in explain.faulty_keys(Playbook, source):
        if not _drop(source.value, keys):
            return None
    rest = explain.validate(Playbook, source, [])
    if rest is not None:
        rest._source = source
    return rest


def _drop(value: Any, keys: Keys) -> bool:
    """Leave a faulty value out of a playbook, if the wiring of its stages can be looked at without
    it; returns whether it can."""
    if keys and keys[0] not in ("name", "stages"):
        value.pop(keys[0], None)
        return True
    if (
        len(keys) < 3
        or keys[2] in ("uses", "with", "recipe")
        or not isinstance(value["stages"][keys[1]], dict)
    ):
        return False
    stage = value["stages"][keys[1]]
    if len(keys) > 3 and isinstance(stage.get(keys[2]), dict):
        stage[keys[2]].pop(keys[3], None)
    else:
        stage.pop(keys[2], None)
    return True


def _find(path: str | Path) -> Path:
    file = project.named_file(path, FOLDER)
    if not project.is_there(file) and not str(path).endswith((".yaml", ".yml")):
        known = project.names_in(FOLDER)
        remedy = (
            suggestion(str(path), known)
            or "name one of those, or a file such as `playbooks/mine.yaml`"
        )
        raise ConfigError(
            [Finding(str(path), f"there is no playbook `{path}`", explain.one_of(known), remedy)]
        )
    return file
