"""One optimizer step, the same whatever the micro-batch: the loss is divided by the tokens of the whole step."""

import math
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from remote.contract.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.stages.prompt import Encoded
from remote.payload.training import batches, model
from remote.payload.training.checkpoint import Checkpoint, Position
from remote.payload.training.settings import Settings


class NotANumber(Exception):
    """Loss or gradient is no number; the weights are still those of the step before."""


@dataclass(frozen=True)
class Step:
    """What a step measured: mean loss in nats per supervised token, and all its tokens. `note` tells of a shrunk micro-batch."""

    loss: float
    tokens: int
    note: str | None = None


class Trainer:
    """Model, optimizer and random state, and the steps that move them."""

    def __init__(self, tuned: Any, settings: Settings, pad: int, check: Callable[[], None]) -> None:
        import torch

        self.model, self.settings, self.pad, self.check = tuned, settings, pad, check
        self.parameters = model.trainable(tuned)
        self.position = Position(step=0, micro_batch=settings.batch)
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=0.0, weight_decay=settings.weight_decay, fused=True)
        self.scaler = torch.amp.GradScaler(settings.device, enabled=settings.compute_dtype == "float16")
        self.random = self._random_state()
        self.saved_step: int | None = None

    def step(self, rows: list[Encoded], rate: float) -> Step:
        """Move the weights once. Out of memory: halves the micro-batch, which doubles the accumulation, and does the same step again."""
        note = None
        while (loss := self._gradients(rows)) is None:
            note = self._shrink()
        self._move(rate)
        self.position.step += 1
        self.random = self._random_state()
        tokens = sum(len(row.ids) for row in rows)
        self.position.tokens += tokens
        return Step(loss, tokens, note)

    def validate(self, rows: list[Encoded]) -> float:
        """Mean loss over `rows` in nats per supervised token, without dropout."""
        import torch

        model.set_dropout(self.model, False)
        total, count = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(rows), self.position.micro_batch):
                self.check()
                batch = batches.collate(rows[start : start + self.position.micro_batch], self.pad, self.settings.device)
                loss, _ = model.head_loss(self.model, self._hidden(batch), batch.labels, with_gradient=False)
                total, count = total + loss, count + len(batch.labels)
        model.set_dropout(self.model, True)
        return float(total) / count

    def optimizer_tensors(self) -> dict[str, Any]:
        """AdamW's moments, the loss scale and the random state as of the last whole step, by name."""
        state = {
            f"{name}/{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        return {**state, **self.random, "scale": _scale_tensor(self.scaler)}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where `checkpoint` was made."""
        import torch

        self.position = checkpoint.position
        adapter, saved = checkpoint.tensors("adapter"), checkpoint.tensors("optimizer")
        state: dict[int, dict[str, Any]] = {}
        with torch.no_grad():
            for index, (name, parameter) in enumerate(self.parameters.items()):
                parameter.copy_(adapter[name])
                state[index] = {key.rsplit("/", 1)[1]: value for key, value in saved.items() if key.rsplit("/", 1)[0] == name}
        if any(state.values()):
            self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        # A checkpoint made on a CPU has no random state of a GPU: the GPU's own start serves.
        self.random = {name: saved.get(name, fresh) for name, fresh in self.random.items()}
        self.saved_step = self.position.step
        self._set_random_state(self.random)
        _restore_scale(self.scaler, saved["scale"])

    def _gradients(self, rows: list[Encoded]) -> float | None:
        """The step's mean loss with its gradients in place, or None when memory ran out (nothing has changed then)."""
        self.optimizer.zero_grad(set_to_none=True)
        try:
            return self._accumulate(rows)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        self.optimizer.zero_grad(set_to_none=True)
        self._set_random_state(self.random)
        return None

    def _accumulate(self, rows: list[Encoded]) -> float:
        denominator = sum(row.supervised for row in rows)
        total: Any = 0.0
        for start in range(0, len(rows), self.position.micro_batch):
            self.check()
            batch = batches.collate(rows[start : start + self.position.micro_batch], self.pad, self.settings.device)
            hidden = self._hidden(batch)
            loss, gradient = model.head_loss(self.model, hidden, batch.labels, with_gradient=True)
            hidden.backward(self.scaler.scale(gradient.float() / denominator).to(hidden.dtype))
            total = total + loss
        self.check()
        return float(total) / denominator if math.isfinite(float(total)) else self._no_number("the loss")

    def _move(self, rate: float) -> None:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip or math.inf)
        if not self.scaler.is_enabled() and not math.isfinite(float(norm)):
            self._no_number("the gradient")
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _hidden(self, batch: batches.Batch) -> Any:
        with model.computing(self.settings):
            return model.hidden_states(self.model, batch)

    def _no_number(self, what: str) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        raise NotANumber(f"{what} is not a finite number")

    def _shrink(self) -> str:
        import torch

        before = self.position.micro_batch
        if before == 1:
            raise StageFailed(
                Cause.OUT_OF_MEMORY,
                "memory ran out with a single row",
                f"step {self.position.step + 1}, max_length {self.settings.max_length}, recompute {self.settings.recompute}",
                "set `recompute: true`, lower `max_length` or `lora.r`, or take a box with more memory",
            )
        self.position.micro_batch = (before + 1) // 2
        if self.settings.device == "cuda":
            torch.cuda.empty_cache()
        return f"memory ran out: micro-batch {before} -> {self.position.micro_batch}, accumulation grows to match; the step is done again"

    def _random_state(self) -> dict[str, Any]:
        import torch

        state = {"random/cpu": torch.get_rng_state()}
        return {**state, "random/cuda": torch.cuda.get_rng_state()} if self.settings.device == "cuda" else state

    def _set_random_state(self, state: dict[str, Any]) -> None:
        import torch

        torch.set_rng_state(state["random/cpu"])
        if "random/cuda" in state:
            torch.cuda.set_rng_state(state["random/cuda"])


def peak_memory_gb(device: str) -> float:
    """The highest memory so far in GB (1e9 bytes): the GPU's where one trains, else this process's."""
    import torch

    if device == "cuda":
        return float(torch.cuda.max_memory_allocated()) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _is_out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words


def _scale_tensor(scaler: Any) -> Any:
    import torch

    return torch.tensor([scaler.get_scale(), scaler.state_dict().get("_growth_tracker", 0)], dtype=torch.float64)


def _restore_scale(scaler: Any, saved: Any) -> None:
    if scaler.is_enabled():
        scaler.load_state_dict({**scaler.state_dict(), "scale": float(saved[0]), "_growth_tracker": int(saved[1])})
