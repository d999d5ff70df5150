"""The model as transformers and PEFT compute it, base and adapter apart: an answer that owes
nothing to our merge or to llama.cpp."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.files import disk
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed

_ROOM = 1.2  # weights, and a fifth for activations and what else is in the way
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Precision:
    """Where and in which dtype the reference is computed."""

    dtype: str
    device: str


def choose_precision(parameters: int, gpu_bytes: int, host_bytes: int) -> Precision:
    """The most precise that fits: float32 wherever there is room, else half precision; raises
    StageFailed when nothing fits."""
    candidates = [
        (Precision("float32", "cuda"), gpu_bytes),
        (Precision("float32", "cpu"), host_bytes),
        (Precision("float16", "cuda"), gpu_bytes),
        (Precision("bfloat16", "cpu"), host_bytes),
    ]
    for precision, free in candidates:
        if parameters * _BYTES[precision.dtype] * _ROOM < free:
            return precision
    needed, there = disk.apart(parameters * 2 * _ROOM, max(gpu_bytes, host_bytes))
    raise StageFailed(
        Cause.OUT_OF_MEMORY,
        "not enough memory to prove parity",
        f"the reference needs {needed}, {there} are free",
        "use a box with more memory; what was converted so far is kept",
    )


def free_memory() -> tuple[int, int]:
    """Free bytes on the GPU (0 without one), and on the host."""
    import torch

    gpu = int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return gpu, int(line.split()[1]) * 1024
    return gpu, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Reference:
    """Base and adapter, loaded once; the adapter can be left out for an answer of the base."""

    def __init__(self, base: Path, adapter: Path, precision: Precision) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        dtype = getattr(torch, precision.dtype)
        model = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=dtype,
            device_map={"": precision.device},
            local_files_only=True,
            use_safetensors=True,
        )
        self._model: Any = PeftModel.from_pretrained(model, adapter).eval()
        self._device = precision.device

    def base_answer(self, prompt: list[int], most_tokens: int, end: int) -> list[int]:
        """The base's greedy continuation, as token ids, up to and without the end of sequence
        `end`."""
        import torch

        answer: list[int] = []
        inputs, cache = torch.tensor([prompt], device=self._device), None
        with torch.inference_mode(), self._model.disable_adapter():
            while len(answer) < most_tokens:
                output = self._model(input_ids=inputs, past_key_values=cache, use_cache=True)
                token = int(output.logits[0, -1].argmax())
                if token == end:
                    break
                answer.append(token)
                inputs, cache = torch.tensor([[token]], device=self._device), output.past_key_values
        return answer

    def log_probabilities(self, prompt: list[int], continuation: list[int]) -> Any:
        """A row of log-probabilities over the vocabulary for each token of `continuation`, with the
        adapter."""
        import torch

        with torch.inference_mode():
            inputs = torch.tensor([prompt + continuation[:-1]], device=self._device)
            logits = self._model(input_ids=inputs, use_cache=False).logits[0, len(prompt) - 1 :]
            return logits.float().log_softmax(-1).cpu()
