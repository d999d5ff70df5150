"""Steps made of their entries, and rows through them."""

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from remote.contract.artifacts.rows import Row
from remote.payload.data.engine import Context
from remote.payload.data.units import Given, Origin, Reject


@pytest.fixture
def make_step(tmp_path: Path) -> Callable[..., Any]:
    def make(kind: str, seed: int = 42, **options: Any) -> Any:
        context = Context(tmp_path, tmp_path / "work", {"seed": seed})
        module = importlib.import_module(f"remote.payload.data.steps.{kind}")
        return module.make_step({"type": kind, **options}, context)

    return make


@pytest.fixture
def through() -> Callable[..., tuple[list[Row], list[Reject]]]:
    """The rows that a step lets through, and what it sets aside."""

    def run(step: Any, rows: Iterable[Row]) -> tuple[list[Row], list[Reject]]:
        given = [Given(row, Origin("rows.jsonl", at)) for at, row in enumerate(rows, 1)]
        if hasattr(step, "look"):
            for each in given:
                step.look(each)
        results = [result for each in given for result in step(each)]
        kept = [result.row for result in results if isinstance(result, Given)]
        return kept, [result for result in results if isinstance(result, Reject)]

    return run
