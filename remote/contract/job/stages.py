"""What each stage takes and gives: the vocabulary after `uses:` in a playbook.

`inv check` wires playbooks by this table before anything starts; the engine runs by it. A job NAME
is the module `remote/payload/stages/NAME.py`; any other stage NAME is a function in
`remote/control/runs/verbs.py`. A test keeps them alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

RunsOn = Literal["backend", "laptop"]
RecipeKind = Literal["training", "data"]


@dataclass(frozen=True)
class Stage:
    """A stage's signature.

    `runs_on` says where it works: on the backend of the run, as a detached job (`is_job`) or in a
    question that the command waits for; or on the laptop. `inputs` name files or folders (of an
    earlier stage, on the laptop, or on the box); those in `optional` may be left out. `options`
    name plain values. `outputs` name artifacts; `values` name measured numbers that gates may look
    at. `recipe_kind` says what a recipe of the stage is about; one of data brings its own inputs,
    under names of its own, in place of those that must be given.
    """

    name: str
    about: str
    runs_on: RunsOn
    inputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    needs_recipe: bool = False
    recipe_kind: RecipeKind = "training"
    environment: str | None = None
    any_input: bool = False
    is_job: bool = True

    @property
    def is_exclusive(self) -> bool:
        """Whether it needs the box's GPU, or all of a box without one, to itself: whatever always
        works in the box's Python environment loads torch."""
        return self.environment is not None


REQUIREMENTS = "requirements.txt"
"""The box's Python environment, by the file that it is made from."""

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "pretrain",
            "pre-trains the demo's small Mistral on shipped text",
            "backend",
            inputs=("corpus",),
            outputs=("model",),
            values=("loss",),
            needs_recipe=True,
            environment=REQUIREMENTS,
        ),
        Stage(
            "prepare",
            "makes rows of a dataset, or by a data recipe, and splits them by group",
            "backend",
            inputs=("dataset",),
            optional=("held_out",),
            options=("validation_share", "max_reject_share", "seed", "kind", "columns"),
            outputs=("train", "val", "rejects", "statistics", "report", "manifest", "modules"),
            values=("rows", "rejected", "train_rows", "val_rows"),
            recipe_kind="data",  # its environment depends on it: see `control/runs/wiring.py`
        ),
        Stage(
            "preflight",
            "every check before training, in one round trip",
            "backend",
            is_job=False,
            inputs=("base", "train"),
            optional=("val",),
            values=("failures", "warnings"),
            needs_recipe=True,
        ),
        Stage(
            "train",
            "trains a LoRA adapter on an nf4 base (QLoRA)",
            "backend",
            inputs=("base", "train"),
            optional=("val",),
            outputs=("adapter", "metrics", "curve"),
            values=("loss", "val_loss", "steps", "tokens_per_second", "peak_memory_gb"),
            needs_recipe=True,
            environment=REQUIREMENTS,
        ),
        Stage(
            "evaluate",
            "scores base and tuned model on the held-out rows",
            "backend",
            inputs=("base", "adapter", "val"),
            options=("max_rows", "max_new_tokens"),
            outputs=("report",),
            values=(
                "rows",
                "base_exact_match",
                "exact_match",
                "exact_match_gain",
                "base_f1",
                "f1",
                "f1_gain",
            ),
            needs_recipe=True,
            environment=REQUIREMENTS,
        ),
        Stage(
            "export",
            "merges the adapter, converts to GGUF, quantises, and proves parity",
            "backend",
            inputs=("base", "adapter"),
            optional=("val",),
            options=("quantize",),
            outputs=("gguf", "f16", "parity"),
            values=("max_logp_delta",),
            environment=REQUIREMENTS,
        ),
        Stage(
            "pull",
            "brings artifacts to the laptop, verified",
            "laptop",
            any_input=True,
            is_job=False,
        ),
        Stage(
            "install",
            "installs a GGUF in Ollama and tries it with one prompt",
            "laptop",
            is_job=False,
            inputs=("gguf", "parity"),
            options=("name",),
            outputs=("model",),
            values=("done_reason", "answer_differs"),
        ),
        Stage(
            "validate",
            "asks the installed model the held-out rows",
            "laptop",
            is_job=False,
            inputs=("model", "val"),
            optional=("report",),
            options=("max_rows",),
            outputs=("answers",),
            values=(
                "rows",
                "exact_match",
                "f1",
                "exact_match_gain",
                "f1_gain",
                "stopped_share",
                "latency_p50",
                "latency_p95",
            ),
        ),
    )
}
"""Every stage by name."""


def needs_base(uses: str, wiring: Mapping[str, Any]) -> bool:
    """Whether a stage takes its base model by its name: it needs one, and nothing under `with:`
    gives it but a name."""
    stage, given = STAGES.get(uses), wiring.get("base")
    return (
        stage is not None
        and "base" in stage.inputs
        and (given is None or str(given).startswith("box:shared/models/"))
    )
