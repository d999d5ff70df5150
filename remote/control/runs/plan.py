"""A run's plan: the playbook with its recipes composed, as plain JSON that the ledger keeps.

A run follows the plan it began with: editing the playbook later changes new runs only.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote.contract.files import typed
from remote.contract.job.stages import STAGES, RecipeKind, Stage

if TYPE_CHECKING:
    from remote.control.config.playbook import Playbook


@dataclass(frozen=True)
class PlannedStage:
    """One stage. `wiring` maps the names under `with:` to what stands there; `recipe` is composed
    and plain."""

    label: str
    uses: str
    wiring: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    gates: dict[str, str] = field(default_factory=dict)
    on_failure: str = "stop"

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "PlannedStage":
        """Read a stage out of the ledger. Raises ValueError or TypeError for what is none, and for
        one that this Windlass does not know."""
        stage = typed.read(cls, raw)
        if stage.uses not in STAGES:
            raise ValueError(f"there is no stage `{stage.uses}`")
        return stage

    @property
    def signature(self) -> Stage:
        """What such a stage takes and gives."""
        return STAGES[self.uses]

    def names_input(self, name: str) -> bool:
        """Whether `name` in the wiring is an input rather than an option. A data recipe brings
        inputs of its own."""
        signature = self.signature
        if signature.any_input or (signature.recipe_kind == "data" and self.recipe):
            return True
        return name in signature.inputs + signature.optional

    @property
    def secrets(self) -> list[str]:
        """The variables that its recipe names, which its job gets."""
        return list((self.recipe or {}).get("secrets") or ())


@dataclass(frozen=True)
class Plan:
    """The stages of a run in order, and what is done at its end."""

    name: str
    stages: tuple[PlannedStage, ...]
    finally_: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Plan":
        """Read a plan out of the ledger. Raises ValueError, KeyError or TypeError where that is
        none."""
        finally_ = typed.value(list[str], raw["finally_"], "finally")
        stages = tuple(PlannedStage.from_json(stage) for stage in raw["stages"])
        return cls(typed.value(str, raw["name"], "name"), stages, tuple(finally_))


def plan_of(playbook: "Playbook") -> Plan:
    """The plan of a playbook; raises ConfigError when a recipe is off."""
    stages = []
    for label, entry in playbook.stages.items():
        recipe, files = _recipe(playbook.recipe_path(label), playbook.recipe_kind(label))
        wiring = {**entry.with_, **files}
        stages.append(
            PlannedStage(label, entry.uses, wiring, recipe, dict(entry.gates), entry.on_failure)
        )
    return Plan(playbook.name, tuple(stages), tuple(playbook.finally_))


def _recipe(path: Path | None, kind: RecipeKind) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """A recipe as plain JSON, and the files of the laptop that it brings as inputs."""
    if path is None:
        return None, {}
    if kind == "training":
        from remote.control.config.recipe import load_recipe

        return load_recipe(path).plain(), {}
    from remote.control.config.data_recipe import load_data_recipe

    recipe = load_data_recipe(path)
    return recipe.plain(), {file.name: file.word for file in recipe.files}
