"""Plans without a playbook: one training, or one more step for a run that has trained."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from remote.contract.artifacts.gguf import DEFAULT_QUANTIZATION, QUANTIZATIONS
from remote.contract.job.jobs import Status
from remote.control.errors import ConfigError, Finding, NotFound
from remote.control.runs.ledger import Ledger
from remote.control.runs.plan import Plan, PlannedStage
from remote.control.runs.state import RunState, state_of
from remote.control.runs.wiring import base_by_name, base_of_recipe

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry, Inventory


def plan_training(
    recipe: str,
    data: str,
    base: str,
    inventory: "Inventory",
    entry: "BoxEntry",
    stop: bool = False,
    reading: Mapping[str, str] | None = None,
) -> Plan:
    """The plan behind `inv train`; `reading` has the `kind` and `columns` of the data where they
    are not to be found out. Raises ConfigError with every finding, like `inv check`."""
    from remote.control import secrets
    from remote.control.config.checks.check import check
    from remote.control.config.playbook import Playbook, StageEntry
    from remote.control.runs.plan import plan_of

    # Without a base or its path the recipe's name: which model of that name lies on the box, the
    # box knows, and preflight tells.
    named = _plain(recipe).get("base") or {}
    given = base_by_name(base or (str(named.get("name") or "") if not named.get("path") else ""))
    wired = {"base": given} if given else {}
    rows = {"train": "prepare.train", "val": "prepare.val"}
    stages = {
        "prepare": StageEntry(uses="prepare", with_={"dataset": data, **(reading or {})}),
        "preflight": StageEntry(uses="preflight", recipe=recipe, with_=rows | wired),
        "train": StageEntry(uses="train", recipe=recipe, with_=rows | wired),
        "pull": StageEntry(
            uses="pull", with_={name: f"train.{name}" for name in ("adapter", "metrics", "curve")}
        ),
    }
    playbook = Playbook(name="train", stages=stages, finally_=["stop"] if stop else [])
    if findings := check(playbook, inventory, entry.name):
        raise ConfigError(findings)
    secrets.values(inventory)
    return plan_of(playbook)


def _plain(recipe: str) -> dict[str, Any]:
    """A recipe as JSON values; empty where it is off, which `check` tells."""
    from remote.control.config.recipe import load_recipe
    from remote.control.errors import ConfigError

    try:
        return load_recipe(recipe).plain()
    except ConfigError:
        return {}


def plan_export(ledger: Ledger, quantize: str) -> tuple[PlannedStage, ...]:
    """The stages that export what a run has trained, and pull it: only the pull where that was
    exported before.

    Raises NotFound, and ConfigError for an unknown `quantize`.
    """
    quantize = quantize.lower()
    if quantize not in QUANTIZATIONS:
        remedy = f"`./inv export {ledger.run_id} --quantize {DEFAULT_QUANTIZATION}`"
        raise ConfigError(
            [
                Finding(
                    "--quantize",
                    f"`{quantize}` is not known",
                    f"one of {', '.join(QUANTIZATIONS)}",
                    remedy,
                )
            ]
        )
    run = state_of(ledger)
    training = _stage_using(run, ledger, "train", "./inv train")
    wiring = {"adapter": f"{training.label}.adapter", "quantize": quantize}
    if "val" in training.wiring:
        wiring["val"] = training.wiring["val"]
    recipe_base = base_of_recipe(training.recipe)
    base = training.wiring.get("base") or (f"box:{recipe_base}" if recipe_base else None)
    made = next((stage for stage in run.plan.stages if _has_exported(run, stage, wiring)), None)
    export = made or _further(run, "export", "export", wiring | ({"base": base} if base else {}))
    bring = _further(
        run, "bring", "pull", {name: f"{export.label}.{name}" for name in ("gguf", "parity")}
    )
    return (bring,) if made else (export, bring)


def plan_install(ledger: Ledger, name: str) -> tuple[PlannedStage, ...]:
    """The stage that installs what a run has exported last. Raises NotFound."""
    run = state_of(ledger)
    exported = _stage_using(run, ledger, "export", f"./inv export {ledger.run_id}")
    wiring = {"gguf": f"{exported.label}.gguf", "parity": f"{exported.label}.parity", "name": name}
    return (_further(run, "install", "install", wiring),)


def model_name(ledger: Ledger) -> str:
    """What a run's model is called in Ollama: as its playbook says, else `windlass`."""
    named = (
        stage.wiring.get("name")
        for stage in state_of(ledger).plan.stages
        if stage.uses == "install"
    )
    return str(next(filter(None, named), "windlass"))


def _further(run: RunState, word: str, uses: str, wiring: dict[str, str]) -> PlannedStage:
    """The run's own stage of that wiring, to run again; else a new one called `word`, or `word-2`
    and so on where that label is taken."""
    taken = {stage.label for stage in run.plan.stages}
    labels = (word if number == 1 else f"{word}-{number}" for number in count(1))
    same = (stage for stage in run.plan.stages if (stage.uses, stage.wiring) == (uses, wiring))
    return next(same, None) or PlannedStage(
        next(label for label in labels if label not in taken), uses, wiring
    )


def _has_exported(run: RunState, stage: PlannedStage, wiring: dict[str, str]) -> bool:
    is_same = all(stage.wiring.get(name) == wiring[name] for name in ("adapter", "quantize"))
    return stage.uses == "export" and is_same and run.stages[stage.label].status is Status.SUCCEEDED


def extend(ledger: Ledger, stages: Sequence[PlannedStage], purpose: str) -> None:
    """Add `stages` to a run's plan; one that is there already is to run again. Raises Busy while
    another command drives the run."""
    with ledger.locked(purpose):  # not under the feet of a command that drives the run
        ledger.append("run_extended", stages=[vars(stage) for stage in stages])


def _stage_using(run: RunState, ledger: Ledger, uses: str, remedy: str) -> PlannedStage:
    for stage in reversed(
        run.plan.stages
    ):  # the newest: what was exported last is what gets installed
        if stage.uses == uses and run.stages[stage.label].status is Status.SUCCEEDED:
            return stage
    raise NotFound(
        f"run {ledger.run_id} has no finished `{uses}` stage",
        where=str(ledger.folder),
        remedy=f"{remedy}, or ./inv resume {ledger.run_id}",
    )
