"""Checkpoints: whole or absent, verified when read, never a pickle.

```
checkpoints/step-40/  adapter.safetensors  optimizer.safetensors  position.json  manifest.json
```
manifest.json holds the SHA-256 of the others and the identity of the run (recipe, data, base): a
checkpoint of another run is refused.
"""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, digest, typed, untrusted_json
from remote.contract.job.jobs import Cause
from remote.payload.gguf.tensor_file import FLOATS, OTHERS, header_bytes
from remote.payload.job import StageFailed

KEPT = 2
"""How many checkpoints stay: the newest, and the one to fall back on."""

_FILES = frozenset({"adapter.safetensors", "optimizer.safetensors", "position.json"})
"""What the manifest of a whole checkpoint names at least."""


@dataclass
class Position:
    """How far the training is: steps done, tokens seen, seconds spent, the micro-batch that fits
    the memory, and the recipe's `batch` that it came of (0 where that was not recorded)."""

    step: int
    micro_batch: int
    tokens: int = 0
    seconds: float = 0.0
    batch: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint on disk. `passed_over` names newer ones that were torn."""

    folder: Path
    position: Position
    passed_over: list[str] = field(default_factory=list)

    def tensors(self, name: str) -> dict[str, Any]:
        """The tensors of `adapter` or `optimizer`, on the CPU."""
        from safetensors.torch import load_file

        loaded: dict[str, Any] = load_file(self.folder / f"{name}.safetensors")
        return loaded


def save(
    checkpoints: Path,
    position: Position,
    adapter: dict[str, Any],
    optimizer: dict[str, Any],
    identity: dict[str, Any],
) -> Path:
    """Write `step-N` beside, then rename it into place and drop all but the newest two; returns its
    folder.

    Folders of later steps are torn ones that a resumed training has passed over: they go too, never
    what was just written.
    """
    final = folder_of(checkpoints, position.step)
    with atomic.making(final) as partial:
        write_tensors(partial / "adapter.safetensors", adapter)
        write_tensors(partial / "optimizer.safetensors", optimizer)
        atomic.write_json(partial / "position.json", asdict(position))
        digests = {path.name: digest.of_file(path) for path in digest.files_in(partial)}
        atomic.write_json(partial / "manifest.json", {"identity": identity, "files": digests})
    found = _newest_first(checkpoints)
    kept = [folder for folder in found if step_of(folder) <= position.step][:KEPT]
    for old in [
        *(folder for folder in found if folder not in kept),
        *checkpoints.glob(".step-*.partial"),
    ]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest(checkpoints: Path, identity: dict[str, Any]) -> Checkpoint | None:
    """The newest whole checkpoint of this run, passing over torn ones; raises StageFailed for one
    of another run."""
    passed_over: list[str] = []
    for folder in _newest_first(checkpoints):
        read = _read(folder)
        if read is None:
            passed_over.append(folder.name)
            continue
        theirs, position = read
        _refuse_another(theirs, identity, folder)
        return Checkpoint(folder, position, passed_over)
    return None


def resumed(checkpoints: Path, found: Checkpoint | None) -> str | None:
    """What a person must know of how a training goes on from `found`, the answer of `newest`; None
    where it merely begins."""
    if found:
        torn = f", passing over torn {', '.join(found.passed_over)}" if found.passed_over else ""
        return f"resumed from step {found.position.step}{torn}"
    torn = ", ".join(folder.name for folder in _newest_first(checkpoints))
    return f"NOTE begins anew: every checkpoint is torn ({torn})" if torn else None


def folder_of(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of that step lies."""
    return checkpoints / f"step-{step}"


def step_of(folder: Path) -> int:
    """Which step a checkpoint's folder is of."""
    return int(folder.name.removeprefix("step-"))


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """A safetensors file, whole or not at all. The same tensors give the same bytes.

    Tensor by tensor: neither does a second copy stand in memory, nor is a training that goes on
    meanwhile held up by copying one.
    """
    import torch

    names = {getattr(torch, name): dtype for dtype, name in {**FLOATS, **OTHERS}.items()}
    # The widest first, as the format's own library has it: every tensor then begins at a multiple
    # of its width.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    with atomic.writing(path) as file:
        file.write(
            header_bytes({name: (names[tensor.dtype], tensor.shape) for name, tensor in ordered})
        )
        for _, tensor in ordered:
            file.write(
                tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            )


def _newest_first(checkpoints: Path) -> list[Path]:
    folders = [path for path in checkpoints.glob("step-*") if path.name[5:].isdecimal()]
    return sorted(folders, key=lambda path: -step_of(path))


def _read(folder: Path) -> tuple[dict[str, Any], Position] | None:
    """The identity and the position of a whole checkpoint; None for a torn one."""
    try:
        manifest = untrusted_json.read_object(folder / "manifest.json")
        identity, files = manifest["identity"], manifest["files"]
        if not isinstance(identity, dict) or not files.keys() >= _FILES:
            return None
        if any(digest.of_file(folder / name) != expected for name, expected in files.items()):
            return None
        return identity, typed.read(Position, untrusted_json.read_object(folder / "position.json"))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _refuse_another(theirs: dict[str, Any], ours: dict[str, Any], folder: Path) -> None:
    differing = [
        f"{name}: {theirs.get(name)} then, {ours.get(name)} now"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    ]
    if differing:
        raise StageFailed(
            Cause.CONFIG,
            f"the checkpoint {folder.name} belongs to another training",
            "; ".join(differing),
            "put recipe and data back as they were, or start anew with `./inv run`; checkpoints"
            " never mix two trainings",
            str(folder),
        )
