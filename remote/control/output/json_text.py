"""JSON as scripts get it, whatever a box has told: masked, without what is no JSON, with times that
say what they are.

NaN and Infinity become null. A moment (a number of seconds since the epoch, under `at`, `time`,
`now`, `moment` or a name that ends in `_at`) becomes UTC in ISO 8601 with its offset, and null
where it is 0, which stands for none.
"""

import json
import math
from typing import Any

from remote.control.output import timefmt
from remote.control.secrets import masked, masked_value

_MOMENTS = ("at", "time", "now", "moment")
_FIRST = 1e9
"""What is less counts seconds of something else, or is no time that any of us was told of."""


def document(value: Any) -> str:
    """A value over several lines, to be read by people too."""
    return _safe(
        json.dumps(_told(value), indent=1, sort_keys=True, default=lambda each: masked(str(each)))
    )


def text(words: str) -> str:
    """One text as a JSON string, as it is: whoever calls has masked it."""
    return _safe(json.dumps(words))


def line(value: Any) -> str:
    """A value in one line, without its end."""
    return _safe(json.dumps(_told(value), default=lambda each: masked(str(each))))


def _told(value: Any) -> Any:
    return _plain(masked_value(value))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {
            key: _moment(each) if _is_moment(key, each) else _plain(each)
            for key, each in value.items()
        }
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _is_moment(key: Any, value: Any) -> bool:
    if not isinstance(key, str) or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (key in _MOMENTS or key.endswith("_at")) and (value == 0 or value >= _FIRST)


def _moment(value: float) -> str | None:
    return timefmt.iso(value)


def _safe(text: str) -> str:
    return text.replace(
        "\x7f", "\\u007f"
    )  # json escapes all that is not ASCII and every other control character
