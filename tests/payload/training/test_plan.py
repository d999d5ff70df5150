"""The parts of the trainer that need no torch: schedule, plan, settings, and that all of it loads
in a bare Python."""

import subprocess
import sys
from pathlib import Path

import pytest

from remote.contract.telemetry.events import Metric
from remote.payload.job import StageFailed
from remote.payload.training import curve
from remote.payload.training.batches import Plan
from remote.payload.training.schedule import learning_rate
from remote.payload.training.settings import Settings

PROJECT = Path(__file__).resolve().parents[3]
RECIPE = {
    "device": "cuda",
    "base": {"name": "m", "path": None},
    "quantization": {"type": "nf4", "double": True, "compute_dtype": "bfloat16"},
    "lora": {
        "r": 64,
        "alpha": 16,
        "dropout": 0.1,
        "rslora": False,
        "targets": ["q_proj", "v_proj"],
    },
    "training": {
        "batch": 4,
        "accumulation": 2,
        "max_length": 1024,
        "learning_rate": 2e-4,
        "epochs": 1,
        "max_steps": None,
        "warmup": 0.03,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "clip": 1.0,
        "seed": 42,
        "checkpoint_every": 50,
        "validate_every": 50,
        "recompute": True,
    },
}


def rates(kind, warmup=0.2, total=10):
    return [learning_rate(step, total, 1.0, warmup, kind) for step in range(1, total + 1)]


def test_the_rate_rises_then_falls_towards_nothing():
    assert rates("constant") == [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert rates("linear") == pytest.approx(
        [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )
    cosine = rates("cosine")
    assert cosine[:3] == [0.5, 1, 1] and cosine[6] == pytest.approx(0.5) and 0 < cosine[9] < 0.05
    assert cosine == [*cosine[:2], *sorted(cosine[2:], reverse=True)]


def test_warmup_is_a_share_or_a_number_of_steps():
    assert rates("constant", warmup=4)[:5] == [0.25, 0.5, 0.75, 1, 1]
    assert rates("constant", warmup=0)[0] == 1
    assert rates("cosine", warmup=10, total=5)[-1] == 0.5


def plan(rows=50, total=100, per_step=8, seed=1):
    return Plan(tuple(10 + number * 7 % 40 for number in range(rows)), per_step, seed, total)


def test_an_epoch_holds_every_row_once():
    made = plan()
    steps = [made.rows(step) for step in range(1, 8)]
    assert sorted(row for rows in steps for row in rows) == list(range(50))
    assert {len(rows) for rows in steps} == {8, 2}


def test_the_plan_depends_on_seed_epoch_and_nothing_else():
    assert [plan().rows(step) for step in range(20, 0, -1)] == [
        plan().rows(step) for step in range(1, 21)
    ][::-1]
    assert plan().rows(1) != plan().rows(8)
    assert plan().rows(1) != plan(seed=2).rows(1)


def test_rows_of_one_step_are_of_like_length():
    made = plan(rows=512, per_step=8)
    real = sum(made.lengths)
    padded = sum(
        len(rows) * max(made.lengths[row] for row in rows) for rows in map(made.rows, range(1, 65))
    )
    assert padded < 1.1 * real


def test_settings_hold_the_recipe():
    settings = Settings.of_recipe(RECIPE)
    assert (settings.r, settings.rows_per_step, settings.targets) == (64, 8, ("q_proj", "v_proj"))


def test_what_decides_the_weights_makes_the_identity():
    def identity(**training):
        return Settings.of_recipe(
            {**RECIPE, "training": {**RECIPE["training"], **training}}
        ).identity()

    assert identity(batch=2, accumulation=4, recompute=False, checkpoint_every=1) == identity()
    assert identity(batch=2) != identity()
    assert identity(seed=1) != identity()


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        (None, "got no recipe"),
        ({}, "got no recipe"),
        ({**RECIPE, "lora": {"r": 4}}, "lacks a value"),
        ({**RECIPE, "training": {**RECIPE["training"], "speed": 3}}, "lacks a value"),
        ({**RECIPE, "device": "tpu"}, "device: 'tpu'"),
        ({**RECIPE, "training": {**RECIPE["training"], "batch": 0}}, "batch: 0"),
        ({**RECIPE, "lora": {**RECIPE["lora"], "targets": []}}, "lora.targets"),
    ],
)
def test_a_recipe_that_is_none_is_refused(recipe, what):
    with pytest.raises(StageFailed, match=what) as caught:
        Settings.of_recipe(recipe)
    assert caught.value.remedy


def test_the_history_merges_what_was_written_twice(tmp_path):
    lines = [
        Metric(1, 9, 1.0, loss=3.0),
        Metric(1, 9, 2.0, val_loss=2.5),
        Metric(2, 9, 3.0, loss=2.0),
        Metric(1, 9, 4.0, loss=2.9),
    ]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(line.to_line() for line in lines) + '{"step": 3, "tot'
    )
    first, second = curve.history(tmp_path / "metrics.jsonl")
    assert (first.loss, first.val_loss, second.loss) == (2.9, 2.5, 2.0)


def test_every_module_loads_without_torch():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; import"
        " remote.payload.stages.train"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
