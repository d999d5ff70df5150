"""Gates hold only on numbers that were measured."""

import math

import pytest

from remote.control.runs.gates import holds, parse_gate


@pytest.mark.parametrize(("gate", "measured", "expected"), [
    (">0.75", 0.76, True), (">0.75", 0.75, False), (">= 0.75", 0.75, True), ("<5", 4.9, True), ("==3", 3, True),
    (">0.75", None, False), (">0.75", math.nan, False), ("<5", math.nan, False), (">-1e-3", 0, True), (">0", "1", False),
])  # fmt: skip
def test_gates(gate, measured, expected):
    assert holds(gate, measured) is expected


@pytest.mark.parametrize("text", ["0.75", ">", "=>1", ">a", "> 1 2", ""])
def test_what_is_not_a_gate_is_refused(text):
    with pytest.raises(ValueError, match="not a gate"):
        parse_gate(text)
