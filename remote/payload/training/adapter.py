"""The adapter as an artifact that PEFT loads, and the proof that it is one."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, digest, untrusted_json
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.training.checkpoint import write_tensors
from remote.payload.training.settings import Settings

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""What of the base's folder travels with the adapter, so that it can be used without guessing a
template."""


def write(
    folder: Path, model: Any, base: Path, settings: Settings, add_metadata: Callable[[Path], None]
) -> None:
    """Make the folder `adapter`: weights, PEFT's config, the tokenizer's files and what
    `add_metadata` writes; verified, then renamed.

    Weights and config are the same bytes whenever the same training is done, so that their digests
    can be compared.
    """
    tensors = _tensors(model)
    _check(tensors, model)
    config = model.peft_config["default"]
    config.base_model_name_or_path = settings.base_name or base.name
    config.inference_mode = True
    config.target_modules = sorted(
        config.target_modules
    )  # PEFT keeps a set, whose order is another in each process
    with atomic.making(folder) as partial:
        write_tensors(partial / "adapter_model.safetensors", tensors)
        config.save_pretrained(partial)
        _copy_tokenizer(base, partial, settings.chat_template)
        _check_reload(partial / "adapter_model.safetensors", tensors)
        add_metadata(partial)


def _copy_tokenizer(base: Path, folder: Path, chat_template: str | None) -> None:
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    if not chat_template:
        return
    atomic.write_text(folder / "chat_template.jinja", chat_template)
    settings = folder / "tokenizer_config.json"
    if settings.is_file():  # its own template would go before the file's in llama.cpp's converter
        values = untrusted_json.read_object(settings)
        atomic.write_json(
            settings, {name: value for name, value in values.items() if name != "chat_template"}
        )


def _tensors(model: Any) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    tensors: dict[str, Any] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return tensors


def _check(tensors: dict[str, Any], model: Any) -> None:
    expected = sum(parameter.requires_grad for parameter in model.parameters())
    faults = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    dead = [
        name
        for name, tensor in tensors.items()
        if ("lora_A" in name or "lora_B" in name) and not tensor.any()
    ]
    modules = sorted(
        {re.split(r"\.lora_[AB]\b", name)[0].removeprefix("base_model.model.") for name in dead}
    )
    if len(tensors) != expected:
        raise _unsound(f"{len(tensors)} tensors instead of {expected}")
    if faults:
        raise _unsound(f"not finite: {', '.join(faults[:3])}")
    if modules:
        count = sum("lora_B" in name for name in tensors)
        more = f" and {len(modules) - 3} more" if len(modules) > 3 else ""
        raise _unsound(
            f"{len(modules)} of {count} modules change nothing, for a factor of them is zero:"
            f" {', '.join(modules[:3])}{more}"
        )


def _check_reload(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    again = load_file(path)
    if again.keys() != tensors.keys() or any(
        not tensors[name].cpu().equal(again[name]) for name in again
    ):
        raise _unsound(
            f"{path.name} differs from memory when it is read again (SHA-256"
            f" {digest.of_file(path)[:12]})"
        )


def _unsound(why: str) -> StageFailed:
    return StageFailed(
        Cause.ARTIFACT,
        "the trained adapter is not sound",
        why,
        "read the log; lower `learning_rate` if the loss rose",
        "the checkpoints",
    )
