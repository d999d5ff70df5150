"""One optimizer step, the same whatever the micro-batch: the loss is divided by the tokens of the
whole step."""

import math
import resource
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from remote.payload.stages.prompt import Encoded
from remote.payload.training import batches, model
from remote.payload.training.checkpoint import Checkpoint, Position
from remote.payload.training.settings import Settings

_LESS_ADAPTER = "lower `lora.r` or train fewer `lora.targets`, or take a box with more memory"
"""What helps where the optimizer's own numbers do not fit: rows and their length are no part of
those."""


class NotANumber(Exception):
    """Loss or gradient is no number; the weights are still those of the last whole step."""


class OutOfMemory(Exception):
    """Memory ran out and no smaller micro-batch helps. `is_whole`: the weights are still those of
    the last whole step."""

    def __init__(self, what: str, why: str, remedy: str, is_whole: bool = True) -> None:
        super().__init__(what)
        self.what, self.why, self.remedy, self.is_whole = what, why, remedy, is_whole


@dataclass(frozen=True)
class Step:
    """What a step measured: mean loss in nats per supervised token, and all its tokens. `note`
    tells of a shrunk micro-batch."""

    loss: float
    tokens: int
    note: str | None = None


class Trainer:
    """Model, optimizer and random state, and the steps that move them."""

    def __init__(self, tuned: Any, settings: Settings, pad: int, check: Callable[[], None]) -> None:
        import torch

        self.model, self.settings, self.pad, self.check = tuned, settings, pad, check
        self.parameters = model.trainable(tuned)
        self.position = Position(step=0, micro_batch=settings.batch, batch=settings.batch)
        self.validation_batch: int | None = None
        self.moving = False
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=0.0, weight_decay=settings.weight_decay, fused=True
        )
        self.scaler = self._new_scaler()
        self.random = self._random_state()
        self.restored_step: int | None = None

    def step(self, rows: list[Encoded], rate: float) -> Step:
        """Move the weights once. Out of memory: halves the micro-batch, which doubles the
        accumulation, and does the same step again."""
        note = None
        while (loss := self._attempt(rows, rate)) is None:
            note = self._shrink()
        self.position.step += 1
        self.random = self._random_state()
        tokens = sum(len(row.ids) for row in rows)
        self.position.tokens += tokens
        return Step(loss, tokens, note)

    def validate(self, rows: list[Encoded]) -> float:
        """Mean loss over `rows` in nats per supervised token, without dropout. Out of memory:
        halves the rows it looks at together, which no weight depends on."""
        model.set_dropout(self.model, False)
        try:
            while (loss := self._mean_loss(rows)) is None:
                self._shrink_validation()
        finally:
            model.set_dropout(self.model, True)
        return loss if math.isfinite(loss) else self._no_number("the validation loss")

    @property
    def guess(self) -> float:
        """The loss of a model that knows nothing, in nats a token."""
        return math.log(self.model.get_output_embeddings().weight.shape[0])

    def is_sound(self) -> bool:
        """Whether every weight of the adapter is a finite number."""
        return all(bool(parameter.isfinite().all()) for parameter in self.parameters.values())

    def optimizer_tensors(self) -> dict[str, Any]:
        """AdamW's moments, the loss scale and the random state as of the last whole step, by
        name."""
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
        if (
            self.position.batch != self.settings.batch
        ):  # chosen anew since then; else what memory taught holds
            self.position.micro_batch = self.position.batch = self.settings.batch
        adapter, saved = checkpoint.tensors("adapter"), checkpoint.tensors("optimizer")
        state: dict[int, dict[str, Any]] = {}
        with torch.no_grad():
            for index, (name, parameter) in enumerate(self.parameters.items()):
                parameter.copy_(adapter[name])
                state[index] = {
                    key.rsplit("/", 1)[1]: value
                    for key, value in saved.items()
                    if key.rsplit("/", 1)[0] == name
                }
        if any(state.values()):
            self.optimizer.load_state_dict(
                {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
            )
        # A checkpoint made on a CPU has no random state of a GPU: the GPU's own start serves.
        self.random = {name: saved.get(name, fresh) for name, fresh in self.random.items()}
        self.restored_step = self.position.step
        self._set_random_state(self.random)
        _restore_scale(self.scaler, saved["scale"])

    def _attempt(self, rows: list[Encoded], rate: float) -> float | None:
        """The step's mean loss once the weights have moved, or None when memory ran out and nothing
        has changed."""
        self.optimizer.zero_grad(set_to_none=True)
        scale, moves = self.scaler.state_dict(), self._moves(1)
        self.moving = False
        try:
            loss = self._accumulate(rows)
            self.moving = True
            self._move(rate)
            return loss
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            words = str(error)
        self.optimizer.zero_grad(set_to_none=True)
        if self._moves() - (moves or {0.0}):
            what = "memory ran out while the optimizer was moving the weights"
            raise OutOfMemory(
                what, f"step {self.position.step + 1}: {words}", _LESS_ADAPTER, is_whole=False
            )
        if not moves:
            self.optimizer.state.clear()  # of its first step it may have made some and not others
        self.scaler = self._new_scaler()
        self.scaler.load_state_dict(scale)
        self._set_random_state(self.random)
        return None

    def _moves(self, parameters: int | None = None) -> set[float]:
        """How often the optimizer has moved its first `parameters`: counts that differ tell of a
        move that was cut off."""
        return {
            float(state["step"])
            for state in islice(self.optimizer.state.values(), parameters)
            if "step" in state
        }

    def _accumulate(self, rows: list[Encoded]) -> float:
        denominator = sum(row.supervised for row in rows)
        total: Any = 0.0
        for start in range(0, len(rows), self.position.micro_batch):
            self.check()
            batch = batches.collate(
                rows[start : start + self.position.micro_batch], self.pad, self.settings.device
            )
            hidden = self._hidden(batch)
            loss, gradient = model.head_loss(self.model, hidden, batch.labels, with_gradient=True)
            hidden.backward(self.scaler.scale(gradient.float() / denominator).to(hidden.dtype))
            total = total + loss
        self.check()
        return (
            float(total) / denominator
            if math.isfinite(float(total))
            else self._no_number("the loss")
        )

    def _mean_loss(self, rows: list[Encoded]) -> float | None:
        """Over all rows, or None when memory ran out."""
        import torch

        at_once = self.validation_batch or self.position.micro_batch
        total, count = 0.0, 0
        try:
            with torch.no_grad():
                for start in range(0, len(rows), at_once):
                    self.check()
                    batch = batches.collate(
                        rows[start : start + at_once], self.pad, self.settings.device
                    )
                    loss, _ = model.head_loss(
                        self.model, self._hidden(batch), batch.labels, with_gradient=False
                    )
                    total, count = total + loss, count + len(batch.labels)
                return float(total) / count
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _move(self, rate: float) -> None:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            list(self.parameters.values()), self.settings.clip or math.inf
        )
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
        before, settings = self.position.micro_batch, self.settings
        if before == 1:
            what = (
                "memory ran out with a single"
                f" row{', in the step of the optimizer' if self.moving else ''}"
            )
            why = (
                f"step {self.position.step + 1}, max_length {settings.max_length}, recompute"
                f" {settings.recompute}, lora.r {settings.r}"
            )
            less_length = (
                "set `recompute: true`, lower `max_length` or `lora.r`, or take a box with more"
                " memory"
            )
            raise OutOfMemory(what, why, _LESS_ADAPTER if self.moving else less_length)
        self.position.micro_batch = (before + 1) // 2
        self._free_cache()
        return (
            f"memory ran out: micro-batch {before} -> {self.position.micro_batch}, accumulation"
            " grows to match; the step is done again"
        )

    def _shrink_validation(self) -> None:
        before = self.validation_batch or self.position.micro_batch
        if before == 1:
            why = f"after step {self.position.step}, max_length {self.settings.max_length}"
            raise OutOfMemory(
                "memory ran out while validating a single row",
                why,
                "lower `max_length`, or take a box with more memory",
            )
        self.validation_batch = (before + 1) // 2
        self._free_cache()

    def _free_cache(self) -> None:
        import torch

        if self.settings.device == "cuda":
            torch.cuda.empty_cache()

    def _new_scaler(self) -> Any:
        import torch

        return torch.amp.GradScaler(
            self.settings.device, enabled=self.settings.compute_dtype == "float16"
        )

    def _random_state(self) -> dict[str, Any]:
        import torch

        state = {"random/cpu": torch.get_rng_state()}
        return (
            {**state, "random/cuda": torch.cuda.get_rng_state()}
            if self.settings.device == "cuda"
            else state
        )

    def _set_random_state(self, state: dict[str, Any]) -> None:
        import torch

        torch.set_rng_state(state["random/cpu"])
        if "random/cuda" in state:
            torch.cuda.set_rng_state(state["random/cuda"])


def peak_memory_gb(device: str) -> float:
    """The highest memory so far in GB (1e9 bytes): the GPU's where one trains, else this
    process's."""
    import torch

    if device == "cuda":
        return float(torch.cuda.max_memory_allocated()) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the GPU's or the host's memory ran out: torch has several words for it, and libraries
    below it have others."""
    words = str(error).lower()
    known = (
        "out of memory",
        "can't allocate memory",
        "cublas_status_alloc_failed",
        "cudnn_status_alloc_failed",
    )
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(word in words for word in known)
    )


def _scale_tensor(scaler: Any) -> Any:
    import torch

    return torch.tensor(
        [scaler.get_scale(), scaler.state_dict().get("_growth_tracker", 0)], dtype=torch.float64
    )


def _restore_scale(scaler: Any, saved: Any) -> None:
    if scaler.is_enabled():
        scaler.load_state_dict(
            {**scaler.state_dict(), "scale": float(saved[0]), "_growth_tracker": int(saved[1])}
        )
