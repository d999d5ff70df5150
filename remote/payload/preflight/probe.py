"""The checks that need torch and friends. Run by the environment's interpreter: one line of request
in, JSON lines out."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json
from remote.contract.job.checks import Check, Verdict, judge, skipped
from remote.payload.preflight.data import rows_of
from remote.payload.quiet import quiet
from remote.payload.training.settings import chat_template_of

SAMPLE_ROWS = 300
"""At most so many rows are made into tokens."""

MATMUL_ERROR = (0.02, 0.15)
"""Relative error of a product with nf4 weights: rounding normal numbers to 4 bits costs about 0.1;
less than 0.02 is no 4 bits."""

Asked = dict[str, Any]


def main() -> None:
    """Run every group; write to the real standard output only our own lines, whatever libraries
    print."""
    quiet()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked: Asked = untrusted_json.loads_object(sys.stdin.readline())

    def emit(frame: dict[str, Any]) -> None:
        print(json.dumps(frame), file=out, flush=True)

    for name, group in GROUPS.items():
        emit({"begin": name})
        for check in _guarded(name, group, asked):
            emit({"check": check.to_json()})
    emit({"begin": ""})


def versions(asked: Asked) -> list[Check]:
    """Installed against locked versions; what follows the + of a build does not count."""
    return [_version(name, locked) for name, locked in asked["locked"].items()]


def cuda(asked: Asked) -> list[Check]:
    """Whether torch sees the GPU that the recipe wants."""
    import torch

    if asked["recipe"].get("device") == "cpu":
        return [skipped("cuda", "the recipe says `device: cpu`")]
    works = torch.cuda.is_available()
    measured = f"torch for CUDA {torch.version.cuda}, " + (
        torch.cuda.get_device_name() if works else "sees no GPU"
    )
    remedy = (
        "install a driver for that CUDA (`nvidia-smi` shows the newest it serves), then reboot"
        " the box"
    )
    return [judge(works, "cuda", measured, "torch sees the GPU", remedy)]


def matmul(asked: Asked) -> list[Check]:
    """A real product with 4-bit weights on the recipe's device, there and back, against the same in
    fp32."""
    import torch

    if asked["recipe"].get("device") == "cuda" and not torch.cuda.is_available():
        return [skipped("4-bit matmul", "torch sees no GPU to compute on")]
    wanted, found = (
        f"relative error from {MATMUL_ERROR[0]} to {MATMUL_ERROR[1]}, a gradient",
        product_error(asked["recipe"]),
    )
    measured = (
        f"error {found[0]:.3f}, gradient error {found[1]:.3f} ({torch.get_num_threads()} threads)"
    )
    good = all(MATMUL_ERROR[0] <= error <= MATMUL_ERROR[1] for error in found)
    remedy = (
        "bitsandbytes computes wrongly on this device: another `compute_dtype`, driver or instance"
        " type"
    )
    return [judge(good, "4-bit matmul", measured, wanted, remedy)]


def product_error(recipe: dict[str, Any]) -> tuple[float, float]:
    """Relative errors of an nf4 product and of its gradient, against fp32 on the CPU."""
    import bitsandbytes
    import torch
    from bitsandbytes import functional

    quantization = recipe.get("quantization") or {}
    dtype, device = (
        getattr(torch, quantization.get("compute_dtype", "float32")),
        recipe.get("device", "cpu"),
    )
    generator = torch.Generator().manual_seed(0)
    weight, rows = (
        torch.randn(512, 256, generator=generator),
        torch.randn(16, 256, generator=generator),
    )
    kind, double = quantization.get("type", "nf4"), bool(quantization.get("double", True))
    packed, state = functional.quantize_4bit(
        weight.to(device, dtype), compress_statistics=double, quant_type=kind
    )
    inputs = rows.clone().to(device, dtype).requires_grad_()
    product = bitsandbytes.matmul_4bit(inputs, packed.t(), quant_state=state)
    product.sum().backward()
    exact = (rows @ weight.t(), weight.sum(0).expand(16, -1))
    return _error(product, exact[0]), _error(inputs.grad, exact[1])


def tokenizer(asked: Asked) -> list[Check]:
    """The base's tokenizer: size, padding, chat template."""
    loaded = _tokenizer(asked)
    if loaded is None:
        return [skipped("tokenizer", "there is no base model to read it from")]
    return [_size(loaded, asked["embedding_rows"]), _padding(loaded), _template(loaded)]


def tokens(asked: Asked) -> list[Check]:
    """A sample of the rows as tokens: lengths, one beginning of sequence, the end of sequence among
    the labels."""
    from remote.payload.stages.prompt import encode

    loaded, train = _tokenizer(asked), asked["inputs"].get("train")
    if loaded is None or not train or not Path(train).exists() or not loaded.chat_template:
        return [skipped("tokens", "needs a tokenizer with a chat template, and rows")]
    limit = (asked["recipe"].get("training") or {}).get("max_length", 1024)
    rows = list(islice(rows_of(Path(train)), SAMPLE_ROWS))
    whole = [lesson for row in rows for lesson in encode(loaded, row, sys.maxsize)]
    if not whole:
        return [skipped("tokens", "there are no rows")]
    return [
        _lengths([len(row.ids) for row in whole], [row.spans[0][0] for row in whole], limit),
        _starts(whole, loaded),
        _ends(whole, loaded),
    ]


GROUPS: dict[str, Callable[[Asked], list[Check]]] = {
    "versions": versions,
    "cuda": cuda,
    "4-bit matmul": matmul,
    "tokenizer": tokenizer,
    "tokens": tokens,
}


def _guarded(name: str, group: Callable[[Asked], list[Check]], asked: Asked) -> Iterator[Check]:
    folder = Path(sys.prefix).parent
    try:
        yield from group(asked)
    except ImportError as error:
        yield Check(
            name,
            f"{type(error).__name__}: {error}",
            "importable",
            Verdict.FAIL,
            f"on the box: `rm -r {folder}`, then `./inv deploy`",
        )
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        yield Check(
            name,
            f"{type(error).__name__}: {said}",
            "a check that ends",
            Verdict.FAIL,
            "read what it says; `./inv preflight` again",
        )


def _version(name: str, locked: str) -> Check:
    remedy = f"on the box: `rm -r {Path(sys.prefix).parent}`, then `./inv deploy`"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, "not installed", locked, Verdict.FAIL, remedy)
    return judge(found.partition("+")[0] == locked.partition("+")[0], name, found, locked, remedy)


def _error(found: Any, exact: Any) -> float:
    difference = (found.detach().float().cpu() - exact).norm() / exact.norm()
    return float(difference) if difference.isfinite() else float("inf")


_LOADED: dict[str, Any] = {}


def _tokenizer(asked: Asked) -> Any:
    folder = asked["inputs"].get("base")
    if not folder or not (Path(folder) / "tokenizer_config.json").is_file():
        return None
    if folder not in _LOADED:
        from transformers import AutoTokenizer

        _LOADED[folder] = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if chosen := chat_template_of(asked["recipe"]):
            _LOADED[folder].chat_template = chosen
    return _LOADED[folder]


def _size(loaded: Any, rows: int | None) -> Check:
    measured = f"{len(loaded):,} tokens, {rows or 'unknown'} embedding rows"
    remedy = "the tokenizer belongs to another model: download the base again"
    return judge(
        rows is not None and len(loaded) <= rows,
        "tokenizer size",
        measured,
        "no more tokens than embedding rows",
        remedy,
    )


def _padding(loaded: Any) -> Check:
    pad, end, expected = (
        loaded.pad_token,
        loaded.eos_token,
        "padding that is not the end of sequence",
    )
    if pad is not None and loaded.pad_token_id != loaded.eos_token_id:
        return Check("padding", f"{pad}, end of sequence {end}", expected, Verdict.OK)
    if loaded.unk_token_id not in (None, loaded.eos_token_id):
        return Check(
            "padding",
            f"{pad or 'none'}; training pads with {loaded.unk_token}",
            expected,
            Verdict.OK,
        )
    return Check(
        "padding",
        str(pad),
        expected,
        Verdict.FAIL,
        "give the tokenizer a `pad_token` of its own in tokenizer_config.json",
    )


def _template(loaded: Any) -> Check:
    remedy = (
        "add `chat_template: mistral-v3` below `base:` in the recipe, or name a Jinja file there"
    )
    measured, expected = (
        ("present" if loaded.chat_template else "none"),
        "one in the tokenizer or the recipe",
    )
    return judge(bool(loaded.chat_template), "chat template", measured, expected, remedy)


def _lengths(lengths: list[int], prompts: list[int], limit: int) -> Check:
    ordered, count = sorted(lengths), len(lengths)
    p50, p95 = ordered[count // 2], ordered[min(count - 1, count * 95 // 100)]
    cut, empty = (
        sum(length > limit for length in lengths),
        sum(length >= limit for length in prompts),
    )
    lost = sum(max(0, length - limit) for length in lengths) / sum(lengths)
    measured = (
        f"p50 {p50}, p95 {p95}, longest {ordered[-1]}; {cut} of {count} rows cut, {lost:.1%} of the"
        " tokens lost"
    )
    remedy = "raise `training.max_length` in the recipe, or shorten the rows"
    if empty > 0.05 * count:
        return Check(
            "token lengths",
            f"{measured}; {empty} rows without an answer",
            f"at most {limit}",
            Verdict.FAIL,
            remedy,
        )
    return judge(
        cut <= 0.01 * count, "token lengths", measured, f"at most {limit}", remedy, Verdict.WARN
    )


def _starts(whole: list[Any], loaded: Any) -> Check:
    counts = {row.ids.count(loaded.bos_token_id) for row in whole}
    measured = f"{', '.join(map(str, sorted(counts)))} in each of {len(whole)} rows"
    return judge(
        counts == {1},
        "beginning of sequence",
        measured,
        "exactly one",
        "repair chat_template.jinja of the base model",
    )


def _ends(whole: list[Any], loaded: Any) -> Check:
    ending = sum(row.ids[-1] == loaded.eos_token_id and row.supervised > 0 for row in whole)
    remedy = (
        "the model would never learn to stop: repair chat_template.jinja or `eos_token` of the base"
        " model"
    )
    return judge(
        ending == len(whole),
        "end of sequence",
        f"among the labels of {ending} of {len(whole)} rows",
        "in every row",
        remedy,
    )


if __name__ == "__main__":
    main()
