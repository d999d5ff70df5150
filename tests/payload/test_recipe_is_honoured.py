"""Every key that a recipe or a playbook may set reaches the code that runs on the box."""

import re
from pathlib import Path

import pytest

from remote.contract.job.stages import STAGES
from remote.control.config.recipe import Base, Lora, Pretraining, Quantization, Recipe, Training
from remote.payload.demo.pretraining import Shape
from remote.payload.training.settings import Settings

PAYLOAD = Path(__file__).parents[2] / "remote" / "payload"
SOURCE = "\n".join(
    path.read_text()
    for folder in ("stages", "training", "demo")
    for path in (PAYLOAD / folder).glob("*.py")
)


def test_the_trainer_knows_every_key_of_a_recipe():
    assert set(Recipe.model_fields) == {
        "device",
        "base",
        "quantization",
        "lora",
        "training",
        "pretraining",
    }
    assert set(Base.model_fields) == {"name", "path", "chat_template"}
    assert set(Quantization.model_fields) == {"type", "double", "compute_dtype"}
    keys = {
        *Lora.model_fields,
        *Training.model_fields,
        "device",
        "base_name",
        "chat_template",
        "quantization",
        "double",
        "compute_dtype",
    }
    assert set(Settings.__dataclass_fields__) == keys
    assert set(Shape.__dataclass_fields__) == set(Pretraining.model_fields)


USES = [
    f"{of}.{name}"
    for of, kind in (("settings", Settings), ("shape", Shape))
    for name in kind.__dataclass_fields__
]


@pytest.mark.parametrize("name", USES)
def test_every_setting_is_used(name):
    of, _, field = name.partition(".")
    assert re.search(
        rf"\b{of}\.{field}\b" + (rf"|self\.batch \* self\.{field}\b" if of == "settings" else ""),
        SOURCE,
    )


@pytest.mark.parametrize(
    "stage", [stage for stage in STAGES.values() if stage.is_job], ids=lambda stage: stage.name
)
def test_a_stage_reads_every_input_and_option_it_offers(stage):
    source = (PAYLOAD / "stages" / f"{stage.name}.py").read_text()
    offered = {*stage.inputs, *stage.optional, *stage.options}
    if "base_folder(job)" in source:  # which reads that input, or takes the recipe's path
        offered.remove("base")
    assert not [name for name in offered if f'"{name}"' not in source]
