"""What a LoRA adapter asks for: its modules, their scales, and what a merge can't honour. Standard
library only."""

import json
import math
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json
from remote.contract.files.file_kind import kind_of_file
from remote.contract.job.jobs import Cause
from remote.payload.fingerprint import entries_of
from remote.payload.job import StageFailed

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
SAFETENSORS, PICKLED = "a safetensors file", "adapter_model.bin"
_PREFIX = "base_model.model."

_OTHER_FILES = {
    PICKLED: "a pickle, which older versions of PEFT wrote",
    "adapter_model.pt": "a pickle",
    "adapters.safetensors": "which MLX writes",
    "adapters.npz": "which MLX writes",
    "model.safetensors": "a whole model",
    "model.safetensors.index.json": "a whole model",
    "pytorch_model.bin": "a whole model",
}
"""What a folder may hold instead of an adapter's weights, and what it is."""

_NAMED = r"lora_[AB]\.\w+\.weight$"
_OTHER_NAMES = {
    _NAMED: "the adapter's name in them (PEFT's state_dict saved by hand)",
    r"lora_(down|up)\.": "the names of kohya and diffusers",
    r"\.lora_[ab]$": "the names of MLX",
}
"""Patterns of tensor names that other programs write, and whose they are."""

_UNMERGEABLE = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "fan_in_fan_out",
    "use_qalora",
    "alora_invocation_tokens",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
"""Settings of PEFT that change more than W + scale·B·A; each must be unset or false."""

_REWRITES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "milora")
"""Initialisations that subtract something from the base, so that the adapter does not fit the base
as it was."""


@dataclass(frozen=True)
class Pair:
    """The two factors of one module, by tensor name in the adapter's file, and what their product
    is multiplied by."""

    lora_a: str
    lora_b: str
    scale: float


@dataclass(frozen=True)
class Adapter:
    """An adapter that can be merged: its weights file, and a pair for each module, keyed by the
    base tensor it changes."""

    weights: Path
    pairs: dict[str, Pair]


def read_adapter(folder: Path) -> Adapter:
    """The adapter in `folder`; raises StageFailed when it is damaged or asks for more than a plain
    LoRA merge."""
    config = _config(folder)
    _refuse_unmergeable(folder, config)
    header = _header(folder)
    modules = _modules(folder, header)
    pairs = {}
    for module, (lora_a, lora_b) in modules.items():
        _check_rank(
            folder,
            module,
            rank_of(config, module),
            header[lora_a]["shape"],
            header[lora_b]["shape"],
        )
        pairs[f"{module}.weight"] = Pair(lora_a, lora_b, scale_of(config, module))
    return Adapter(folder / WEIGHTS, pairs)


def rank_of(config: dict[str, Any], module: str) -> int:
    """The rank of `module`: that of the first matching key in `rank_pattern`, else `r`."""
    return int(_by_pattern(config.get("rank_pattern"), module, config["r"]))


def scale_of(config: dict[str, Any], module: str) -> float:
    """alpha / r, or alpha / √r for rank-stabilised LoRA (arXiv:2312.03732), with the patterns
    honoured."""
    alpha = float(_by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"]))
    rank = rank_of(config, module)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: dict[str, Any] | None, module: str, default: Any) -> Any:
    # PEFT's rule: a key is a regular expression for the end of the module's path, and the first
    # that fits wins.
    matching = (
        value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", module)
    )
    return next(matching, default)


def _check_patterns(config: dict[str, Any]) -> None:
    """Raises ValueError for a value that is none, and an expression that could be searched for
    years: a group that repeats, or more than three repetitions."""
    for name in ("rank_pattern", "alpha_pattern"):
        for key, value in (config.get(name) or {}).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"{name} gives {key} {value!r}")
            try:
                re.compile(key)
            except re.error as error:
                raise ValueError(f"{key[:80]!r} is no regular expression: {error}") from None
            if re.search(r"\)[*+?{]", key) or len(re.findall(r"[*+{]", key)) > 3:
                raise ValueError(
                    f"{key[:80]!r} repeats a group, or too much: write the modules out"
                )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = untrusted_json.read_object(folder / CONFIG)
        _check_patterns(config)
        return {**config, "r": int(config["r"]), "lora_alpha": float(config["lora_alpha"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, f"{CONFIG}: {error!r}") from None


def require_weights(folder: Path) -> Path:
    """The adapter's weights, safetensors by their first bytes; raises StageFailed that names what
    is there instead."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise _of_another_format(folder)
    kind = kind_of_file(path)
    if kind and kind != SAFETENSORS:
        raise _foreign(folder, f"{WEIGHTS} is {kind}", _remedy(kind, path))
    return path


def _remedy(kind: str, path: Path) -> str:
    if "pickle" in kind:
        return f"rename it to {PICKLED}; then {_conversion(path.with_name(PICKLED))}"
    if "pointer" in kind:
        return (
            "fetch the file itself (`git lfs pull` in the clone that it came from), and put it at"
            f" {path}"
        )
    return f"put the {WEIGHTS} that training wrote at {path}"


def _header(folder: Path) -> dict[str, Any]:
    path = require_weights(folder)
    try:
        return entries_of(path)
    except StageFailed as failure:
        raise _damaged(folder, failure.why) from None


def _of_another_format(folder: Path) -> StageFailed:
    for name, what in _OTHER_FILES.items():
        if (folder / name).is_file():
            remedy = (
                _conversion(folder / name)
                if name == PICKLED
                else f"give a LoRA adapter in PEFT's format: {CONFIG} and {WEIGHTS}"
            )
            return _foreign(folder, f"it holds {name}, {what}, and no {WEIGHTS}", remedy)
    return _damaged(folder, f"{WEIGHTS} is not there")


def _conversion(pickled: Path) -> str:
    """The command that makes safetensors of a pickle without running what is in it
    (`weights_only`)."""
    source, target = json.dumps(str(pickled)), json.dumps(str(pickled.with_name(WEIGHTS)))
    tensors = f'torch.load({source}, map_location="cpu", weights_only=True)'
    saved = (
        f"save_file({{name: value.clone().contiguous() for name, value in {tensors}.items()}},"
        f' {target}, {{"format": "pt"}})'
    )
    return _python(f"import torch; from safetensors.torch import save_file; {saved}")


def _renaming(folder: Path) -> str:
    """The command that takes the adapter's name (`default`) out of the names of its tensors; the
    file is replaced once the other stands."""
    path, beside = json.dumps(str(folder / WEIGHTS)), json.dumps(str(folder / f".{WEIGHTS}.new"))
    renamed = (
        're.sub("(lora_[AB])[.][a-zA-Z0-9_]+[.]weight$", "\\\\1.weight", name): value for name,'
        f" value in load_file({path}).items()"
    )
    code = f'save_file({{{renamed}}}, {beside}, {{"format": "pt"}}); os.replace({beside}, {path})'
    return _python(f"import os, re; from safetensors.torch import load_file, save_file; {code}")


def _python(code: str) -> str:
    return f"on the box: `{shlex.join([sys.executable, '-c', code])}`, then `./inv resume`"


def _foreign(folder: Path, why: str, remedy: str) -> StageFailed:
    return StageFailed(Cause.ARTIFACT, f"the adapter in {folder} is of another format", why, remedy)


def _refuse_unmergeable(folder: Path, config: dict[str, Any]) -> None:
    found = [f"{name}={config[name]!r}" for name in _UNMERGEABLE if config.get(name)]
    if config.get("peft_type") != "LORA":
        found.append(f"peft_type={config.get('peft_type')!r}")
    if config.get("bias", "none") != "none":
        found.append(f"bias={config['bias']!r}")
    if str(config.get("init_lora_weights")).lower().startswith(_REWRITES_BASE):
        found.append(f"init_lora_weights={config['init_lora_weights']!r}")
    if found:
        raise _unmergeable(
            folder,
            f"{CONFIG} sets {', '.join(found)}; the merge does W + scale·B·A and nothing else",
        )


def _modules(folder: Path, header: dict[str, Any]) -> dict[str, tuple[str, str]]:
    modules: dict[str, dict[str, str]] = {}
    strange: list[str] = []
    for name in header:
        match = re.fullmatch(rf"{re.escape(_PREFIX)}(.+)\.lora_([AB])\.weight", name)
        if match:
            modules.setdefault(match[1], {})[match[2]] = name
        else:
            strange.append(name)
    _refuse_other_names(folder, strange)
    if strange:
        why = f"{len(strange)} of its tensors are no LoRA factors: {', '.join(sorted(strange)[:5])}"
        raise _unmergeable(folder, why)
    halves = sorted(module for module, factors in modules.items() if len(factors) != 2)
    if halves or not modules:
        raise _damaged(
            folder,
            (
                f"modules without both factors: {', '.join(halves[:5])}"
                if halves
                else "it holds no tensors"
            ),
        )
    return {module: (factors["A"], factors["B"]) for module, factors in modules.items()}


def _refuse_other_names(folder: Path, names: list[str]) -> None:
    for pattern, what in _OTHER_NAMES.items():
        found = next((name for name in names if re.search(pattern, name)), None)
        if found:
            remedy = (
                _renaming(folder)
                if pattern == _NAMED
                else f"convert it to PEFT's names, such as {_PREFIX}MODULE.lora_A.weight"
            )
            raise _foreign(folder, f"its tensors have {what}, such as {found}", remedy)


def _check_rank(
    folder: Path, module: str, rank: int, shape_a: list[int], shape_b: list[int]
) -> None:
    if len(shape_a) != 2 or len(shape_b) != 2 or shape_a[0] != rank or shape_b[1] != rank:
        raise _damaged(
            folder, f"{module}: {CONFIG} says rank {rank}, the factors are {shape_a} and {shape_b}"
        )


def _unmergeable(folder: Path, why: str) -> StageFailed:
    remedy = (
        "train a plain LoRA adapter: without DoRA, biases, saved modules or embeddings, and with"
        " the default initialisation"
    )
    return StageFailed(
        Cause.CONFIG, f"the adapter in {folder} can't be merged exactly", why, remedy
    )


def _damaged(folder: Path, why: str) -> StageFailed:
    return StageFailed(
        Cause.ARTIFACT,
        f"the adapter in {folder} is damaged or not whole",
        why,
        "run the stage that trained it again",
    )
