"""Asks the base and the tuned model the held-out rows and scores both.  python -m
remote.payload.stages.evaluate JOB_FOLDER

Inputs `base`, `adapter`, `val` (JSONL); options `max_rows`, `max_new_tokens` (without it: a quarter
more than the longest expected answer needs). One model is loaded, as it was trained; the base
answers with the adapter switched off. Output `report`, see `report_of`.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.artifacts.rows import BadRow, Row
from remote.contract.artifacts.scoring import exact_match, f1, percentile
from remote.contract.files import atomic
from remote.contract.job.jobs import Cause
from remote.payload.evaluation.answering import Answer, answers
from remote.payload.evaluation.bootstrap import FEW, gain
from remote.payload.gguf.adapter import require_weights
from remote.payload.job import Job, StageFailed, run_stage
from remote.payload.quiet import quiet
from remote.payload.stages.prompt import encode, prompt_ids
from remote.payload.stages.train import base_folder
from remote.payload.training import model as models
from remote.payload.training.settings import Settings


def main(job: Job) -> None:
    """Ask, score, report."""
    settings = Settings.of_recipe(job.spec.recipe)
    rows = read_rows(job.input("val"), job.option("max_rows"))
    base, adapter = base_folder(job), job.input("adapter")
    quiet()
    tokenizer = models.load_tokenizer(base, settings.chat_template)
    limit = job.option("max_new_tokens") or room_for(tokenizer, rows)
    say(f"{len(rows)} held-out rows, answers of at most {limit} tokens")
    model = load(base, adapter, settings)
    prompts = [prompt_ids(tokenizer, row) for row in rows]
    with model.disable_adapter():
        before = answers(model, tokenizer, prompts, limit)
    job.metric(1, 2, note="the base has answered")
    after = answers(model, tokenizer, prompts, limit)
    job.metric(2, 2, note="the tuned model has answered")
    report = report_of(rows, before, after)
    atomic.write_json(job.artifact("report.json"), report)
    job.output("report", job.artifact("report.json"))
    for name, value in values_of(report).items():
        job.output(name, value)
    explain(report)


def read_rows(path: Path, max_rows: int | None) -> list[Row]:
    """The first rows of the file; raises StageFailed when one of them is unusable or there are
    none."""
    lines = [
        (number, line)
        for number, line in enumerate(path.read_bytes().splitlines(), start=1)
        if line.strip()
    ]
    try:
        found = (parse_row(line, path.name, number) for number, line in lines)
        rows = list(islice((row for row in found if not row.is_document), max_rows))
    except BadRow as bad:
        remedy = "`prepare` sets such rows aside: wire `val: prepare.val`"
        raise StageFailed(Cause.DATA, f"a held-out row is unusable: {bad}", remedy=remedy) from bad
    if not rows:
        what = (
            f"{path.name} has documents alone, and a document asks nothing"
            if lines
            else (f"no held-out rows in {path.name}")
        )
        remedy = "raise `validation_share` of `prepare`, or give it `held_out`"
        raise StageFailed(
            Cause.DATA,
            what,
            remedy="leave `evaluate` out, or hold out conversations" if lines else remedy,
        )
    return rows


def room_for(tokenizer: Any, rows: Sequence[Row]) -> int:
    """Tokens that the longest expected answer needs, and a quarter more."""
    return int(1.25 * max(_answer_length(tokenizer, row) for row in rows)) + 4


def _answer_length(tokenizer: Any, row: Row) -> int:
    begin, end = encode(tokenizer, row, max_length=1 << 20)[-1].spans[-1]
    return end - begin


def load(base: Path, adapter: Path, settings: Settings) -> Any:
    """The quantised base with the adapter on it, ready to answer."""
    from peft import PeftModel

    require_weights(adapter)  # PEFT would take a pickle in its place
    model = PeftModel.from_pretrained(models.load_base(base, settings), adapter)
    models.set_dropout(model, active=False)
    return model


def report_of(
    rows: Sequence[Row], before: Sequence[Answer], after: Sequence[Answer]
) -> dict[str, Any]:
    """Both models' figures, what was gained with its 95 % interval, and every answer."""
    paired = {
        name: tuple(
            [
                float(measure(answer.text, row.answer))
                for answer, row in zip(given, rows, strict=True)
            ]
            for given in (before, after)
        )
        for name, measure in (("exact_match", exact_match), ("f1", f1))
    }
    return {
        "rows": len(rows),
        "base": {name: mean(sides[0]) for name, sides in paired.items()} | figures(before),
        "tuned": {name: mean(sides[1]) for name, sides in paired.items()} | figures(after),
        "gain": {name: gain(sides[0], sides[1]) for name, sides in paired.items()},
        "note": (
            f"fewer than {FEW} rows: the intervals are not to be leaned on"
            if len(rows) < FEW
            else ""
        ),
        "answers": [
            {"prompt": row.chat, "expected": row.answer, "base": old.text, "tuned": new.text}
            for row, old, new in zip(rows, before, after, strict=True)
        ],
    }


def figures(given: Sequence[Answer]) -> dict[str, float]:
    """Mean length in tokens, share of answers cut by the limit, and seconds to the end of an answer
    within its batch."""
    seconds = [answer.seconds for answer in given]
    return {
        "mean_length": mean([answer.tokens for answer in given]),
        "limit_share": mean([not answer.ended for answer in given]),
        "latency_p50": percentile(seconds, 0.5),
        "latency_p95": percentile(seconds, 0.95),
    }


def values_of(report: dict[str, Any]) -> dict[str, float]:
    """What gates look at."""
    values = {"rows": report["rows"]}
    for name in ("exact_match", "f1"):
        values |= {
            f"base_{name}": report["base"][name],
            name: report["tuned"][name],
            f"{name}_gain": report["gain"][name]["value"],
        }
    return values


def explain(report: dict[str, Any]) -> None:
    """The figures, and one row with both answers, for the log."""
    for name, title in (("exact_match", "exact match"), ("f1", "F1")):
        found = report["gain"][name]
        interval = f"{found['value']:+.3f} (95 %: {found['low']:+.3f} to {found['high']:+.3f})"
        say(
            f"{title}: base {report['base'][name]:.3f}, tuned {report['tuned'][name]:.3f}, gain"
            f" {interval}"
        )
    say(
        f"cut by the limit: base {report['base']['limit_share']:.0%}, tuned"
        f" {report['tuned']['limit_share']:.0%}"
    )
    if report["note"]:
        say(f"NOTE {report['note']}")
    first = report["answers"][0]
    for label in ("expected", "base", "tuned"):
        say(f"{label:>8}: {first[label]}")


def mean(numbers: Sequence[float]) -> float:
    """The mean; 0.0 of nothing."""
    return sum(numbers) / len(numbers) if numbers else 0.0


def say(text: str) -> None:
    """One line in the job's log, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    run_stage(main)
