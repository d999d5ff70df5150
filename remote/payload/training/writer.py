"""Checkpoints written beside the training: it goes on with the next step while a copy of this one
is written.

A step of 7B's LoRA is some 2 GB, many seconds of a cloud disk. Only where the training ends, is
asked to end, or is told that the box may go, does it wait until the disk has it.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from remote.payload.gguf.proof.reference import free_memory
from remote.payload.training import checkpoint
from remote.payload.training.trainer import Trainer, is_out_of_memory

Tensors = dict[str, Any]

_ROOM = 1.2
"""A copy of a checkpoint, and a fifth more of the host's memory, must be free for it to be written
beside the training."""


class Writer:
    """Writes one checkpoint at a time. What goes wrong in the background is raised by the next
    call."""

    def __init__(self, checkpoints: Path, identity: dict[str, Any]) -> None:
        self._checkpoints, self._identity = checkpoints, identity
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[Path] | None = None
        self._on_disk: int | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=True)

    def begin(self, trainer: Trainer) -> None:
        """Have a checkpoint of the last whole step written. Waits for the one before it, and for
        this one too where memory has no room for a copy."""
        self._wait()
        tensors = (trainer.parameters, trainer.optimizer_tensors())
        size = sum(tensor.nbytes for group in tensors for tensor in group.values())
        copies = _copies(*tensors) if _ROOM * size <= free_memory()[1] else None
        if copies is None:
            self.write(trainer)
            return
        adapter, optimizer = copies
        position = replace(trainer.position)
        self._pending = self._thread.submit(
            checkpoint.save, self._checkpoints, position, adapter, optimizer, self._identity
        )

    def check(self) -> None:
        """Raise what the checkpoint in the background died of, if it did."""
        if self._pending and self._pending.done():
            self._wait()

    def write(self, trainer: Trainer) -> Path:
        """A checkpoint of the last whole step, on the disk when this returns; nothing is written
        where it is there already."""
        self._wait()
        if trainer.position.step not in (trainer.restored_step, self._on_disk):
            checkpoint.save(
                self._checkpoints,
                trainer.position,
                trainer.parameters,
                trainer.optimizer_tensors(),
                self._identity,
            )
            self._on_disk = trainer.position.step
        return checkpoint.folder_of(self._checkpoints, trainer.position.step)

    def newest(self) -> Path | None:
        """The newest whole checkpoint, once the one in the background is on the disk too."""
        self._wait()
        found = checkpoint.newest(self._checkpoints, self._identity)
        return found.folder if found else None

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending:
            self._on_disk = checkpoint.step_of(pending.result())


def _copies(*groups: Tensors) -> list[Tensors] | None:
    """Copies in the host's memory, or None when it ran out all the same."""
    try:
        return [
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in group.items()}
            for group in groups
        ]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None
