"""The base model in its folder: whole, readable, and of a kind that the later stages know. Standard
library only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.artifacts import base_models
from remote.contract.files import untrusted_json
from remote.contract.job.checks import Check, Verdict, judge
from remote.contract.job.paths import BoxPaths
from remote.payload import tokenizer_model
from remote.payload.fingerprint import entries_of, require_base, weight_files
from remote.payload.job import StageFailed
from remote.payload.preflight.request import Request

_EXPECTED = "config.json, every shard of the index, each as long as its header says"


@dataclass(frozen=True)
class Weights:
    """What the headers say: shape by tensor, and the bytes of the files."""

    shapes: dict[str, list[int]]
    files: int
    size: int


def checks(request: Request) -> list[Check]:
    """Base model, tokenizer files, architecture."""
    folder = request.path("base")
    if folder is None:
        return [
            Check(
                "base model",
                "not named",
                "a folder on the box",
                Verdict.FAIL,
                "set `base.path` in the recipe, or give `--base box:/path`",
            )
        ]
    if not folder.is_dir():
        remedy = (
            "list it under `models:` of the box in inventory.yaml, then `./inv box.setup`; or put"
            f" it at {folder}, or fix `base.path`"
        )
        if known := base_models.there(BoxPaths.of_release().root):
            remedy = (
                f"name one that is there: {', '.join(f'`--base {name}`' for name in known)}; or"
                f" {remedy}"
            )
        return [
            Check("base model", f"no folder {folder}", "a folder on the box", Verdict.FAIL, remedy)
        ]
    try:
        config, weights = require_base(folder), read_weights(folder)
    except StageFailed as failure:
        return [
            Check(
                "base model", failure.why or failure.what, _EXPECTED, Verdict.FAIL, failure.remedy
            ),
            tokenizer_files(folder),
        ]
    measured = (
        f"{weights.size / 1e9:.2f} GB in {weights.files} files, {len(weights.shapes)} tensors"
    )
    return [
        _whole(folder, weights, measured),
        tokenizer_files(folder),
        _architecture(config),
        _embedding(config, weights),
    ]


def read_weights(folder: Path) -> Weights:
    """The headers of all weight files; raises StageFailed when one is missing or cut short."""
    files = weight_files(folder)
    shapes = {name: entry["shape"] for path in files for name, entry in entries_of(path).items()}
    return Weights(shapes, len(files), sum(path.stat().st_size for path in files))


def tokenizer_files(folder: Path) -> Check:
    """The files that a tokenizer is read from: there, whole, and all of one tokenizer."""
    names = ("tokenizer_config.json", "tokenizer.json", tokenizer_model.NAME)
    has = [name for name in names if (folder / name).is_file()]
    # From tokenizer.model alone transformers guesses the merges, and gives half of all runs of
    # spaces other tokens.
    expected, remedy = (
        "tokenizer_config.json and tokenizer.json",
        f"download the tokenizer files again into {folder}",
    )
    if not set(names[:2]) <= set(has):
        return judge(False, "tokenizer files", ", ".join(has) or "none", expected, remedy)
    try:
        tokenizer_model.check_folder(folder, _vocab_size(folder))
    except ValueError as error:
        return judge(
            False,
            "tokenizer files",
            str(error),
            f"{expected}, and tokenizer.model of the same tokenizer",
            remedy,
        )
    remedy = f"download tokenizer.model into {folder}: `export` needs it"
    return judge(
        names[2] in has, "tokenizer files", ", ".join(has), ", ".join(names), remedy, Verdict.WARN
    )


def _vocab_size(folder: Path) -> int | None:
    try:
        size = untrusted_json.read_object(folder / "config.json").get("vocab_size")
    except (OSError, ValueError):
        return None  # said by the check of the model itself
    return size if isinstance(size, int) else None


def embedding_rows(folder: Path) -> int | None:
    """How many tokens the model has a row for, or None when its weights do not say."""
    try:
        shapes = read_weights(folder).shapes
    except (StageFailed, OSError):
        return None
    return next(
        (shape[0] for name, shape in shapes.items() if name.endswith("embed_tokens.weight")), None
    )


def _whole(folder: Path, weights: Weights, measured: str) -> Check:
    index = folder / "model.safetensors.index.json"
    named = untrusted_json.read_object(index)["weight_map"] if index.exists() else {}
    absent = [name for name in named if name not in weights.shapes]
    if absent:
        measured = f"{len(absent)} tensors of the index are in no file: {', '.join(absent[:3])}"
    return judge(
        not absent,
        "base model",
        measured,
        _EXPECTED,
        f"download the base model again into {folder}",
    )


def _architecture(config: dict[str, Any]) -> Check:
    found = str(config.get("model_type"))
    remedy = "only Mistral models are tested; expect `export` to refuse others"
    return judge(found == "mistral", "architecture", found, "mistral", remedy, Verdict.WARN)


def _embedding(config: dict[str, Any], weights: Weights) -> Check:
    rows = {
        shape[0]
        for name, shape in weights.shapes.items()
        if name.endswith(("embed_tokens.weight", "lm_head.weight"))
    }
    words = config.get("vocab_size")
    measured = f"{', '.join(map(str, sorted(rows))) or 'no'} rows, vocab_size {words}"
    return judge(
        rows == {words},
        "embedding",
        measured,
        "as many rows as vocab_size",
        "download the base model again: its config is not its weights'",
    )
