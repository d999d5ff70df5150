"""The adapter as an artifact that PEFT loads, and the proof that it is one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remote.contract import atomic, digest
from remote.contract.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.training.checkpoint import write_tensors

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "chat_template.jinja")
"""What of the base's folder travels with the adapter, so that it can be used without guessing a template."""


def write(folder: Path, model: Any, base: Path, base_name: str, add_metadata: Callable[[Path], None]) -> None:
    """Make the folder `adapter`: weights, PEFT's config, the tokenizer's files and what `add_metadata` writes; verified, then renamed."""
    tensors = _tensors(model)
    _check(tensors, model)
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_name or str(base)
    config.inference_mode = True
    with atomic.making(folder) as partial:
        write_tensors(partial / "adapter_model.safetensors", tensors, {"format": "pt"})
        config.save_pretrained(partial)
        for name in TOKENIZER_FILES:
            if (base / name).is_file():
                shutil.copyfile(base / name, partial / name)
        _check_reload(partial / "adapter_model.safetensors", tensors)
        add_metadata(partial)


def _tensors(model: Any) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    tensors: dict[str, Any] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return tensors


def _check(tensors: dict[str, Any], model: Any) -> None:
    expected = sum(parameter.requires_grad for parameter in model.parameters())
    faults = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    moved = [name for name, tensor in tensors.items() if "lora_B" in name and tensor.any()]
    if len(tensors) != expected:
        raise _unsound(f"{len(tensors)} tensors instead of {expected}")
    if faults:
        raise _unsound(f"not finite: {', '.join(faults[:3])}")
    if not moved:
        raise _unsound("every lora_B is zero: the adapter changes nothing")


def _check_reload(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    again = load_file(path)
    if again.keys() != tensors.keys() or any(not tensors[name].cpu().equal(again[name]) for name in again):
        raise _unsound(f"{path.name} differs from memory when it is read again (SHA-256 {digest.of_file(path)[:12]})")


def _unsound(why: str) -> StageFailed:
    return StageFailed(
        Cause.ARTIFACT, "the trained adapter is not sound", why, "read the log; lower `learning_rate` if the loss rose", "the checkpoints"
    )
