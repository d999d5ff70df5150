"""A tiny Mistral with random weights, a small tokenizer, and job folders to run stages in."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remote.contract.files import atomic
from remote.contract.job.jobs import JobSpec
from remote.payload.job import Job
from remote.payload.training.settings import Settings

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}[INST] {{"
    " message.content }}[/INST]{% else %} {{ message.content }}{{ eos_token }}{% endif %}{%"
    " endfor %}"
)
RECIPE: dict[str, Any] = {
    "device": "cpu",
    "base": {"name": "tests/tiny", "path": None},
    "quantization": {"type": "nf4", "double": True, "compute_dtype": "float32"},
    "lora": {
        "r": 4,
        "alpha": 8,
        "dropout": 0.05,
        "rslora": False,
        "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    },
    "training": {
        "batch": 4,
        "accumulation": 1,
        "max_length": 64,
        "learning_rate": 5e-3,
        "epochs": 1,
        "max_steps": 6,
        "warmup": 0.1,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "clip": 1.0,
        "seed": 7,
        "checkpoint_every": 2,
        "validate_every": 3,
        "recompute": False,
    },
}


def make_row(number: int) -> dict[str, str]:
    generator = random.Random(number)
    numbers = [generator.randint(1, 99) for _ in range(generator.randint(1, 4))]
    return {
        "instruction": "Add up.",
        "input": " ".join(map(str, numbers)),
        "output": f"The sum is {sum(numbers)}.",
        "group": str(number),
    }


def write_rows(path: Path, count: int, start: int = 0) -> Path:
    path.write_text(
        "".join(json.dumps(make_row(number)) + "\n" for number in range(start, start + count))
    )
    return path


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model folder as transformers saves it: hidden 64, two layers, about 400 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [str(make_row(1))],
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        bos_token_id=1,
        eos_token_id=2,
        sliding_window=None,
        tie_word_embeddings=False,
    )
    MistralForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture
def make_job(tmp_path: Path, tiny_base: Path) -> Callable[..., Job]:
    """Makes `jobs/<id>/spec.json` under a box root with a train and a validation file; keywords
    override parts of the recipe's sections."""

    def make(
        name: str = "job-1",
        *,
        rows: int = 20,
        inputs: dict[str, str] | None = None,
        **sections: Any,
    ) -> Job:
        train, val = (
            write_rows(tmp_path / "train.jsonl", rows),
            write_rows(tmp_path / "val.jsonl", 6, 1000),
        )
        recipe = json.loads(json.dumps(RECIPE))
        for section, values in sections.items():
            recipe[section] = {**recipe[section], **values} if isinstance(values, dict) else values
        wiring = (
            {"base": str(tiny_base), "train": str(train), "val": str(val)}
            if inputs is None
            else inputs
        )
        folder = tmp_path / "windlass" / "jobs" / name
        atomic.write_text(
            folder / "spec.json",
            JobSpec(
                job_id=name, stage="train", release="r", inputs=wiring, recipe=recipe
            ).to_json(),
        )
        return Job(folder)

    return make


@pytest.fixture
def recipe() -> Callable[..., Settings]:
    """Makes settings; keywords override the recipe's `training`."""
    return lambda **training: Settings.of_recipe(
        {**RECIPE, "training": {**RECIPE["training"], **training}}
    )
