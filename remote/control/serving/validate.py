"""Asks an installed model the held-out rows, as a user would, and scores its answers against the
expected ones and the base's."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.artifacts.rows import BadRow, Row
from remote.contract.artifacts.scoring import exact_match, f1, percentile
from remote.contract.files import atomic, untrusted_json
from remote.control.errors import ArtifactCorrupt, DataError
from remote.control.progress import Rows, no_rows
from remote.control.serving.ollama import Ollama

MAX_TOKENS = 512
"""Where an answer that does not end by itself is cut."""

Answer = dict[str, Any]


def validate(
    client: Ollama,
    model: str,
    rows: Path,
    report: Path | None,
    max_rows: int | None,
    folder: Path,
    progress: Rows = no_rows,
) -> dict[str, Any]:
    """Ask `model` up to `max_rows` rows at temperature 0 and leave every answer in
    `folder/answers.json`.

    `report` is evaluate's report.json with the base's answers; without it the gains are None.
    Returns `rows`, `exact_match`, `f1` (0 to 1), their `_gain` over the base, `stopped_share`,
    `latency_p50` and `latency_p95` (seconds an answer). Raises DataError, ArtifactCorrupt,
    OllamaError.
    """
    asked = _rows(rows, max_rows)
    bases = _bases(report)
    client.chat(model, [], keep_alive="10m")  # loads it, so that the first latency is an answer's
    answers: list[Answer] = []
    with progress(len(asked)) as tell:
        for row in asked:
            base = bases.get(_key(row.chat))
            answers.append(_asked(client, model, row, base))
            tell(len(answers))
    values = {**_values(answers), **_gains(answers, _report(report).get("base", {}))}
    atomic.write_json(
        folder / "answers.json",
        {"model": model, "url": client.url, "values": values, "answers": answers},
    )
    return values


def _asked(client: Ollama, model: str, row: Row, base: str | None) -> Answer:
    began = time.monotonic()
    reply = client.chat(model, row.chat, options={"temperature": 0, "num_predict": MAX_TOKENS})
    tuned = str(reply["message"]["content"]).strip()
    return {
        "prompt": row.chat,
        "expected": row.answer,
        "base": base,
        "tuned": tuned,
        "exact": exact_match(tuned, row.answer),
        "f1": f1(tuned, row.answer),
        "done_reason": reply.get("done_reason"),
        "seconds": time.monotonic() - began,
    }


def _values(answers: Sequence[Answer]) -> dict[str, Any]:
    seconds = [answer["seconds"] for answer in answers]
    return {
        "rows": len(answers),
        "exact_match": _mean([answer["exact"] for answer in answers]),
        "f1": _mean([answer["f1"] for answer in answers]),
        "stopped_share": _mean([answer["done_reason"] == "stop" for answer in answers]),
        "latency_p50": percentile(seconds, 0.5),
        "latency_p95": percentile(seconds, 0.95),
    }


def _gains(answers: Sequence[Answer], figures: dict[str, Any]) -> dict[str, float | None]:
    """What was gained over the base: on the very rows asked where the report has all of them, else
    against its overall figures."""
    if answers and all(answer["base"] is not None for answer in answers):
        exact = _mean([exact_match(answer["base"], answer["expected"]) for answer in answers])
        figures = {
            "exact_match": exact,
            "f1": _mean([f1(answer["base"], answer["expected"]) for answer in answers]),
        }
    now = _values(answers)
    return {
        f"{name}_gain": now[name] - figures[name] if name in figures else None
        for name in ("exact_match", "f1")
    }


def _rows(path: Path, max_rows: int | None) -> list[Row]:
    lines = path.read_bytes().splitlines()
    try:
        rows = [
            parse_row(line, str(path), number)
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    except BadRow as error:
        remedy = "fix or remove the line; `prepare` sets such rows aside"
        raise DataError(
            "a held-out row is unusable", where=error.where, why=error.reason, remedy=remedy
        ) from error
    asked = [row for row in rows if not row.is_document][:max_rows]
    if not asked:
        raise DataError(
            "there is no held-out conversation to ask",
            where=str(path),
            why="it holds documents alone, which ask nothing" if rows else "",
            remedy="give `prepare` more rows, or a larger validation_share",
        )
    return asked


def _bases(report: Path | None) -> dict[str, str]:
    """The base's answer to each row of evaluate's report."""
    return {_key(answer["prompt"]): answer["base"] for answer in _report(report).get("answers", [])}


def _key(prompt: list[dict[str, str]]) -> str:
    return json.dumps(prompt, sort_keys=True)


def _report(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        report = untrusted_json.read_object(path)
        _check_report(report)
    except (OSError, ValueError) as error:
        remedy = "`./inv pull RUN` brings it again"
        raise ArtifactCorrupt(
            "not a report of `evaluate`", where=str(path), why=str(error), remedy=remedy
        ) from error
    return report


def _check_report(report: dict[str, Any]) -> None:
    figures, answers = report.get("base", {}), report.get("answers", [])
    if not isinstance(figures, dict) or not all(
        isinstance(figures.get(key, 0), int | float) for key in ("exact_match", "f1")
    ):
        raise ValueError("`base` does not hold figures")
    if not isinstance(answers, list) or not all(
        isinstance(answer, dict) and _is_answer(answer) for answer in answers
    ):
        raise ValueError(
            "`answers` is not a list of objects with a list `prompt` and the text `base`"
        )


def _is_answer(answer: dict[str, Any]) -> bool:
    return isinstance(answer.get("prompt"), list) and isinstance(answer.get("base"), str)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
