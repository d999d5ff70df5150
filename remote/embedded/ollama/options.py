"""The options of a request and the parameters of a Modelfile: what they may be, and what llama.cpp
calls them."""

import math
from collections.abc import Mapping
from typing import Any

from remote.embedded.ollama.wire import Refusal

_INT32 = 2**31 - 1
# Ollama's name: llama.cpp's, the least and the greatest value. llama.cpp makes room for the last
# tokens that a penalty looks at.
_WHOLE = {
    "num_predict": ("n_predict", -2, _INT32),
    "num_keep": ("n_keep", -1, _INT32),
    "seed": ("seed", -_INT32, 2**32 - 1),
    "top_k": ("top_k", -1, _INT32),
    "repeat_last_n": ("repeat_last_n", -1, 1 << 17),
}
_REAL = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_REAL_LIMIT = 1e6
_MAX_STOPS, _MAX_STOP = 64, 1000


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that are null. Raises Refusal 400 for one of a wrong type or size;
    unknown ones stay, and do nothing."""
    options = {name: value for name, value in given.items() if value is not None}
    for name, value in options.items():
        if name in _WHOLE or name in _REAL or name == "num_ctx":
            _check_number(name, value)
        elif name == "stop":
            _check_stops([value] if isinstance(value, str) else value)
    return options


def context_of(options: Mapping[str, Any]) -> int:
    """`num_ctx`, or 0 where it is left open."""
    return int(options.get("num_ctx") or 0)


def for_llama(options: Mapping[str, Any]) -> dict[str, Any]:
    """Checked options as llama.cpp's server takes them."""
    whole = {name: int(options[ours]) for ours, (name, _, _) in _WHOLE.items() if ours in options}
    real = {name: options[name] for name in _REAL if name in options}
    stops = options.get("stop")
    return {
        **whole,
        **real,
        **({"stop": [stops] if isinstance(stops, str) else stops} if stops else {}),
    }


def _check_number(name: str, value: Any) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        raise Refusal(400, f"option {name!r} must be a number")
    least, greatest = (
        (0, _INT32)
        if name == "num_ctx"
        else _WHOLE[name][1:]
        if name in _WHOLE
        else (-_REAL_LIMIT, _REAL_LIMIT)
    )
    if not least <= value <= greatest:
        raise Refusal(400, f"option {name!r} must be from {least:.10g} to {greatest:.10g}")


def _check_stops(stops: Any) -> None:
    if not isinstance(stops, list) or not all(
        isinstance(stop, str) and len(stop) <= _MAX_STOP for stop in stops
    ):
        raise Refusal(
            400, f"option 'stop' must be a list of texts of at most {_MAX_STOP:,} characters"
        )
    if len(stops) > _MAX_STOPS:
        raise Refusal(
            400, f"option 'stop' has {len(stops):,} texts; at most {_MAX_STOPS} are taken"
        )
