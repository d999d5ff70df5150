"""Which base model is this? A digest that is quick for 14 GB, and the check that the folder is
whole. Standard library only.

An adapter belongs to one base: a wrong base of the same shape loads without a word and answers
nonsense.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remote.contract.artifacts import safetensors
from remote.contract.files import digest, untrusted_json
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed

_PIECES = 64
_PIECE_BYTES = 64 * 1024
_OTHER_FORMATS = {
    "consolidated*.safetensors": "Mistral's own format, which transformers does not read,",
    "pytorch_model*.bin": "a pickle, which Windlass never loads,",
    "*.gguf": "a GGUF, which cannot be trained,",
}
"""File names of weights that are not transformers' safetensors, and what they are."""

_VOLATILE = ("_name_or_path", "transformers_version")


def of_model(folder: Path) -> str:
    """64 hexadecimal digits over config.json, and of each safetensors file its size, its header and
    64 evenly spaced pieces of 64 KiB.

    Independent of where the folder lies and of who saved the config. Raises StageFailed when the
    folder holds no whole, unquantised model.
    """
    sha = hashlib.sha256()
    config = {key: value for key, value in require_base(folder).items() if key not in _VOLATILE}
    sha.update(digest.of_value(config).encode())
    for path in weight_files(folder):
        sha.update(f"\n{path.name} {path.stat().st_size}\n".encode())
        for piece in _sample(path):
            sha.update(piece)
    return sha.hexdigest()


def require_base(folder: Path) -> dict[str, Any]:
    """The model's config, once the folder proves to hold every tensor of an unquantised model;
    raises StageFailed otherwise."""
    try:
        config: dict[str, Any] = untrusted_json.read_object(folder / "config.json")
    except (OSError, ValueError) as error:
        raise _missing(folder, f"config.json: {error}") from None
    if "quantization_config" in config:
        raise _missing(
            folder,
            "its weights are already quantised; training quantises the full-precision ones by"
            " itself",
        )
    for path in weight_files(folder):
        entries_of(path)
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, in a stable order; raises StageFailed when one of them is
    not there."""
    index = folder / "model.safetensors.index.json"
    try:
        names = (
            sorted(set(untrusted_json.read_object(index)["weight_map"].values()))
            if index.exists()
            else ["model.safetensors"]
        )
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _missing(folder, f"{index.name} is damaged: {error!r}") from None
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        other = next(
            (
                f"; {what} is there: {name}"
                for name, what in _OTHER_FORMATS.items()
                if any(folder.glob(name))
            ),
            "",
        )
        raise _missing(folder, f"not there: {', '.join(absent[:5])}{other}")
    return [folder / name for name in names]


def entries_of(path: Path) -> dict[str, Any]:
    """Tensor name -> dtype, shape, data_offsets of a whole safetensors file; raises StageFailed
    when it is cut short or damaged."""
    try:
        return safetensors.read_tensors(path)[0]
    except ValueError as error:
        raise _missing(path.parent, f"{path.name}: {error}") from None


def _sample(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        yield file.read(8 + int.from_bytes(file.read(8), "little"))
        for piece in range(_PIECES):
            file.seek(max(0, size - _PIECE_BYTES) * piece // (_PIECES - 1))
            yield file.read(_PIECE_BYTES)


def _missing(folder: Path, why: str) -> StageFailed:
    remedy = "download the base model again, or set `base.path` in the recipe"
    return StageFailed(
        Cause.MODEL_MISSING, f"no whole, unquantised base model in {folder}", why, remedy
    )
