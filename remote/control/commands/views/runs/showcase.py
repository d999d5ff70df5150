"""What came of a run, for a person: answers side by side, the gain, the loss curve, and how to talk
to the model."""

import json
import shlex
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json
from remote.contract.job.jobs import Status
from remote.contract.telemetry.events import Metric
from remote.control.backends.resolved import LaptopFile, StageArtifact
from remote.control.output.console import print_table, tell
from remote.control.runs.artifacts import pulled_path
from remote.control.runs.ledger import Ledger
from remote.control.runs.state import RunState, StageState

_BARS = "▁▂▃▄▅▆▇█"


def show_result(ledger: Ledger, run: RunState) -> None:
    """Print what the finished stages of a run have to show, how to talk to the model last; silent
    about what it did not do."""
    for uses, show in _SHOWN.items():
        for stage in run.plan.stages:
            if stage.uses == uses and run.stages[stage.label].status is Status.SUCCEEDED:
                show(ledger, run.stages[stage.label])


def sparkline(values: list[float], width: int = 60) -> str:
    """A curve in one line of text, highest value tallest."""
    if not values:
        return ""
    picked = [
        values[index * len(values) // min(width, len(values))]
        for index in range(min(width, len(values)))
    ]
    low, high = min(picked), max(picked)
    return "".join(
        _BARS[round((value - low) / ((high - low) or 1) * (len(_BARS) - 1))] for value in picked
    )


def _show_training(ledger: Ledger, state: StageState) -> None:
    path = ledger.folder / "metrics" / f"{state.label}.jsonl"
    losses: list[float] = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        with suppress(ValueError, TypeError):
            if (loss := Metric.from_line(line).loss) is not None and isfinite(loss):
                losses.append(loss)
    if losses:
        tell(f"\nloss  {losses[0]:.3f} {sparkline(losses)} {losses[-1]:.3f}", "bold")
    curve = state.outputs.get("curve")
    if isinstance(curve, StageArtifact):
        picture = pulled_path(ledger, state.label, curve)
        if picture.exists():
            tell(f"      picture: {picture}")


def _asked(answer: dict[str, Any]) -> str:
    """The end of the question: what comes before it is the same for many."""
    return str(answer["prompt"][-1]["content"]).rpartition("\n\n")[2]


def _show_answers(ledger: Ledger, state: StageState) -> None:
    made = state.outputs["answers"]
    assert isinstance(made, LaptopFile), "validate leaves its answers on the laptop"
    answers = _load_answers(made.local_path)
    rows = [
        (_asked(row), row["expected"], row.get("base") or "", row["tuned"]) for row in answers[:3]
    ]
    print_table(
        "\nheld-out rows, answered by the base and by the tuned model in Ollama",
        ("asked", "expected", "base", "tuned"),
        rows,
        lines=True,
    )
    values = state.values
    for name, title in (("exact_match", "exact match"), ("f1", "F1")):
        gain = values.get(f"{name}_gain")
        before = "" if gain is None else f"{values[name] - gain:.2f} -> "
        tell(
            f"{title:>12}: {before}{values[name]:.2f}  over {values['rows']} held-out rows",
            "bold green",
        )


def _show_model(ledger: Ledger, state: StageState) -> None:
    name, prompt = str(state.outputs["model"].identity), state.values["prompt"]
    body = json.dumps({"model": name, "prompt": prompt, "stream": False})
    tell("\nthe model stands in Ollama; talk to it:", "bold")
    tell(f"  ./inv model.ask {name} {shlex.quote(prompt)}", whole=True)
    tell(f"  curl {state.values['url']}/api/generate -d {shlex.quote(body)}", whole=True)


def _load_answers(path: Path) -> list[dict[str, Any]]:
    return list(untrusted_json.read_object(path)["answers"])


_SHOWN = {"train": _show_training, "validate": _show_answers, "install": _show_model}
