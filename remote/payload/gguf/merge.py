"""Folds an adapter into its base, block of rows by block of rows: memory stays far below a gigabyte
for a 7B model.

Each weight becomes W + scale·B·A, computed in float32. Matrices are stored as float16: its 11 bits
of mantissa keep an update that bfloat16's 8 bits would round away; vectors (norms) keep the dtype
of the base.
"""

import shutil
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, digest, untrusted_json
from remote.contract.job.jobs import Cause
from remote.payload import tokenizer_model
from remote.payload.fingerprint import entries_of, require_base, weight_files
from remote.payload.gguf.adapter import Adapter, Pair, read_adapter
from remote.payload.gguf.tensor_file import FLOATS, TensorFile, header_bytes
from remote.payload.job import StageFailed

_BLOCK_VALUES = 1 << 23
"""Values handled at once: 32 MiB in float32, and a few times that with the temporaries."""

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


def merge(base: Path, adapter_folder: Path, tokenizer: Path, target: Path) -> None:
    """Write the merged model to the folder `target`, which appears only when it is whole.

    `tokenizer` is the folder whose tokenizer files are copied. Raises StageFailed when base or
    adapter are damaged, quantised, do not fit each other, give a value that is not finite, or when
    the adapter changes nothing.
    """
    config, adapter, files = require_base(base), read_adapter(adapter_folder), weight_files(base)
    _check_fit(
        base,
        config,
        adapter,
        {name: entry for path in files for name, entry in entries_of(path).items()},
    )
    with atomic.making(target) as partial:
        largest = max([_merge_file(path, adapter, partial / path.name) for path in files])
        if largest == 0:
            why = "every lora_B is zero: it was saved before its first step"
            raise StageFailed(
                Cause.ARTIFACT,
                f"the adapter {adapter_folder} changes nothing",
                why,
                "run the stage that trained it again",
            )
        _copy_index(base, partial)
        _copy_tokenizer(base, tokenizer, partial)
        atomic.write_json(partial / "config.json", {**config, "dtype": "float16"})


def find_tokenizer_model(*folders: Path) -> Path:
    """The SentencePiece model of a tokenizer; raises StageFailed when no folder holds one."""
    for folder in folders:
        for name in (tokenizer_model.NAME, f"{tokenizer_model.NAME}.v3"):
            if (folder / name).is_file():
                return folder / name
    why = (
        f"looked in {', '.join(map(str, folders))}; without its scores the GGUF would tokenise"
        " wrongly"
    )
    remedy = f"put {tokenizer_model.NAME} of the base model beside its config.json"
    raise StageFailed(Cause.MODEL_MISSING, f"the base lacks {tokenizer_model.NAME}", why, remedy)


def tokenizer_digest(*folders: Path) -> str:
    """SHA-256 over the tokenizer files that `merge` copies from these folders."""
    names = (*_TOKENIZER_FILES, tokenizer_model.NAME, f"{tokenizer_model.NAME}.v3")
    return digest.of_value(
        [
            [name, digest.of_file(folder / name)]
            for folder in folders
            for name in names
            if (folder / name).is_file()
        ]
    )


def _check_fit(
    base: Path, config: dict[str, Any], adapter: Adapter, tensors: dict[str, Any]
) -> None:
    foreign = sorted(
        {
            f"{name} ({entry['dtype']})"
            for name, entry in tensors.items()
            if entry["dtype"] not in FLOATS
        }
    )
    if foreign:
        why = f"not floating point: {', '.join(foreign[:5])}"
        raise StageFailed(
            Cause.MODEL_MISSING,
            f"the base in {base} is quantised",
            why,
            "use the full-precision base",
        )
    absent = sorted(name for name in adapter.pairs if name not in tensors)
    if absent:
        raise _misfit(
            adapter, f"{len(absent)} of its modules are not in the base: {', '.join(absent[:5])}"
        )
    if config.get("tie_word_embeddings") and {"lm_head.weight", "model.embed_tokens.weight"} & set(
        adapter.pairs
    ):
        raise _misfit(
            adapter, "it changes the output matrix, which this base shares with its embeddings"
        )
    factors = entries_of(adapter.weights)
    for name, pair in adapter.pairs.items():
        expected = [factors[pair.lora_b]["shape"][0], factors[pair.lora_a]["shape"][1]]
        if tensors[name]["shape"] != expected:
            raise _misfit(
                adapter,
                f"{name} is {tensors[name]['shape']} in the base, {expected} in the adapter",
            )


def _misfit(adapter: Adapter, why: str) -> StageFailed:
    what = f"the adapter {adapter.weights.parent} does not fit the base"
    return StageFailed(Cause.ARTIFACT, what, why, "give the base that it was trained on")


def _merge_file(source: Path, adapter: Adapter, target: Path) -> float:
    """Write the merged twin of one weights file; returns the largest change made to any weight."""
    largest = 0.0
    with (
        TensorFile(source) as base,
        TensorFile(adapter.weights) as factors,
        atomic.writing(target) as file,
    ):
        stored = {
            name: (_stored_dtype(entry), entry["shape"]) for name, entry in base.entries.items()
        }
        file.write(header_bytes(stored))
        for name in base.entries:
            pair = adapter.pairs.get(name)
            delta = _Delta(factors, pair) if pair else None
            for block in _merged_blocks(base, name, delta):
                file.write(_bytes_of(block))
            largest = max(largest, delta.largest if delta else 0.0)
    return largest


def _stored_dtype(entry: dict[str, Any]) -> str:
    return "F16" if len(entry["shape"]) >= 2 else str(entry["dtype"])


class _Delta:
    """scale·B·A of one module, by rows; remembers the largest value it gave."""

    def __init__(self, factors: TensorFile, pair: Pair) -> None:
        self._a, self._b = factors.matrix(pair.lora_a).float(), factors.matrix(pair.lora_b).float()
        self._scale, self.largest = pair.scale, 0.0

    def rows(self, first: int, last: int) -> Any:
        product = (self._b[first:last] @ self._a) * self._scale
        self.largest = max(self.largest, float(product.abs().max()))
        return product


def _merged_blocks(base: TensorFile, name: str, delta: _Delta | None) -> Iterator[Any]:
    import torch

    entry = base.entries[name]
    dtype = getattr(torch, FLOATS[_stored_dtype(entry)])
    rows = entry["shape"][0] if entry["shape"] else 1
    columns = prod(entry["shape"][1:])
    step = max(1, _BLOCK_VALUES // max(columns, 1))
    for first in range(0, rows, step):
        last = min(rows, first + step)
        block = base.values(name, first * columns, last * columns).float()
        if delta:
            block = block.view(last - first, columns) + delta.rows(first, last)
        block = block.to(dtype)
        if not bool(torch.isfinite(block).all()):
            why = (
                "the adapter or the base is damaged, or a weight is beyond 65504, the end of"
                " float16"
            )
            raise StageFailed(
                Cause.NOT_A_NUMBER,
                f"{name} is not finite after the merge",
                why,
                "train again with a lower learning rate",
            )
        yield block


def _bytes_of(tensor: Any) -> Any:
    import torch

    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


def _copy_index(base: Path, target: Path) -> None:
    index = base / "model.safetensors.index.json"
    if index.exists():
        size = sum(path.stat().st_size for path in target.glob("*.safetensors"))
        atomic.write_json(
            target / index.name,
            {**untrusted_json.read_object(index), "metadata": {"total_size": size}},
        )


def _copy_tokenizer(base: Path, tokenizer: Path, target: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, target / name)
    # transformers' save_pretrained leaves the SentencePiece model out; without it the converter
    # gives every token the same score, says nothing, and the GGUF tokenises wrongly.
    shutil.copyfile(find_tokenizer_model(base, tokenizer), target / tokenizer_model.NAME)
    settings = target / "tokenizer_config.json"
    # llama.cpp would put a second space before the text that follows [INST].
    atomic.write_json(
        settings,
        {
            **(untrusted_json.read_object(settings) if settings.exists() else {}),
            "add_prefix_space": False,
        },
    )
