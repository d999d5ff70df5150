"""Gates: conditions on measured numbers, written like `">0.75"`."""

import math
import operator
import re
from collections.abc import Callable
from typing import Any

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq,
}  # fmt: skip
_GATE = re.compile(r"\s*(>=|<=|==|>|<)\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*")


def parse_gate(text: str) -> tuple[str, float]:
    """The operator and the bound of a gate; raises ValueError when it is not one."""
    found = _GATE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a gate such as '>0.75'")
    return found[1], float(found[2])


def holds(text: str, measured: Any) -> bool:
    """Whether a measured value passes; what was not measured, or is not a number, never does."""
    symbol, bound = parse_gate(text)
    is_number = isinstance(measured, int | float) and not math.isnan(measured)
    return is_number and _OPERATORS[symbol](float(measured), bound)
