"""Plans without a playbook: one training, or one more step for a run that has trained."""

from typing import TYPE_CHECKING

from remote.contract.jobs import Status
from remote.control.errors import NotFound
from remote.control.runs.ledger import Ledger
from remote.control.runs.plan import Plan, PlannedStage
from remote.control.runs.state import state_of

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry


def plan_training(recipe: str, data: str, base: str, entry: "BoxEntry", stop: bool = False) -> Plan:
    """The plan behind `inv train`. Raises ConfigError with every finding, like `inv check`."""
    from remote.control.config.check import check
    from remote.control.config.inventory import load_inventory
    from remote.control.config.playbook import Playbook, StageEntry
    from remote.control.errors import ConfigError
    from remote.control.runs.plan import plan_of

    wired = {"base": base} if base else {}
    rows = {"train": "prepare.train", "val": "prepare.val"}
    stages = {
        "prepare": StageEntry(uses="prepare", with_={"dataset": data}),
        "preflight": StageEntry(uses="preflight", recipe=recipe, with_=rows | wired),
        "train": StageEntry(uses="train", recipe=recipe, with_=rows | wired),
        "pull": StageEntry(uses="pull", with_={name: f"train.{name}" for name in ("adapter", "metrics", "curve")}),
    }
    playbook = Playbook(name="train", stages=stages, finally_=["stop"] if stop else [])
    if findings := check(playbook, load_inventory(), entry.name):
        raise ConfigError(findings)
    return plan_of(playbook)


def plan_export(ledger: Ledger, quantize: str) -> None:
    """Extend a run that has trained by `export` and `pull`."""
    training = _stage_using(ledger, "train", "./inv train")
    wiring = {"adapter": f"{training.label}.adapter", "quantize": quantize}
    if "val" in training.wiring:
        wiring["val"] = training.wiring["val"]
    recipe_base = ((training.recipe or {}).get("base") or {}).get("path")
    base = training.wiring.get("base") or (f"box:{recipe_base}" if recipe_base else None)
    stages = [
        PlannedStage("export", "export", wiring | ({"base": base} if base else {})),
        PlannedStage("bring", "pull", {"gguf": "export.gguf", "parity": "export.parity"}),
    ]
    ledger.append("run_extended", stages=[vars(stage) for stage in stages])


def plan_install(ledger: Ledger, name: str) -> None:
    """Extend a run that has exported by `install`."""
    exported = _stage_using(ledger, "export", f"./inv export {ledger.run_id}")
    wiring = {"gguf": f"{exported.label}.gguf", "parity": f"{exported.label}.parity", "name": name}
    ledger.append("run_extended", stages=[vars(PlannedStage("install", "install", wiring))])


def _stage_using(ledger: Ledger, uses: str, remedy: str) -> PlannedStage:
    run = state_of(ledger)
    for stage in run.plan.stages:
        if stage.uses == uses and run.stages[stage.label].status is Status.SUCCEEDED:
            return stage
    raise NotFound(
        f"run {ledger.run_id} has no finished `{uses}` stage", where=str(ledger.folder), remedy=f"{remedy}, or ./inv resume {ledger.run_id}"
    )
