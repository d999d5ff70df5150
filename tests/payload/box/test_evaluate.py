"""Base and tuned answers on held-out rows, with a tiny model and real generation."""

import json
from pathlib import Path

import pytest
import torch

from remote.contract.artifacts.rows import Row
from remote.contract.files import atomic
from remote.contract.job.jobs import Cause, JobSpec
from remote.contract.job.stages import STAGES
from remote.payload.evaluation import answering
from remote.payload.evaluation.answering import Answer, answers
from remote.payload.job import Job, StageFailed
from remote.payload.stages import evaluate, train
from remote.payload.stages.prompt import prompt_ids
from remote.payload.training import model as models


@pytest.fixture
def trained(make_job):
    """A job whose adapter was really trained, if only for a moment."""
    job = make_job("trained", training={"max_steps": 30, "learning_rate": 2e-2})
    train.main(job)
    return job


def evaluating(trained, **options):
    inputs = {**trained.spec.inputs, "adapter": str(trained.artifact("adapter"))}
    folder = trained.paths.folder.parent / "evaluate"
    spec = JobSpec(
        job_id="evaluate",
        stage="evaluate",
        release="r",
        inputs=inputs,
        recipe=trained.spec.recipe,
        options=options,
    )
    atomic.write_text(folder / "spec.json", spec.to_json())
    return Job(folder)


def test_the_report_says_how_both_did(trained):
    job = evaluating(trained, max_rows=4, max_new_tokens=12)
    evaluate.main(job)
    outputs = json.loads(job.paths.outputs.read_text())
    assert set(outputs) == {"report", *STAGES["evaluate"].values}
    report = json.loads((job.root / outputs["report"]["path"]).read_text())
    assert report["rows"] == outputs["rows"]["value"] == 4
    figures = {"exact_match", "f1", "mean_length", "limit_share", "latency_p50", "latency_p95"}
    assert set(report["base"]) == set(report["tuned"]) == figures
    assert {name: set(found) for name, found in report["gain"].items()} == {
        name: {"value", "low", "high"} for name in ("exact_match", "f1")
    }
    assert report["gain"]["f1"]["value"] == pytest.approx(
        report["tuned"]["f1"] - report["base"]["f1"]
    )
    assert "fewer than 30 rows" in report["note"]
    rows = [json.loads(line) for line in Path(job.spec.inputs["val"]).read_text().splitlines()[:4]]
    assert [answer["expected"] for answer in report["answers"]] == [row["output"] for row in rows]
    assert all(answer["base"] != answer["tuned"] for answer in report["answers"])


def test_batched_answers_are_those_of_one_row_at_a_time(trained, tiny_base, recipe, monkeypatch):
    model = evaluate.load(tiny_base, trained.artifact("adapter"), recipe())
    tokenizer = models.load_tokenizer(tiny_base)
    prompts = [
        prompt_ids(tokenizer, Row.of("Add up.\n\n" + " ".join("7" * count), "x"))
        for count in (9, 1, 5, 30, 2)
    ]
    together = answers(model, tokenizer, prompts, 8)
    monkeypatch.setattr(answering, "BATCH_TOKENS", 1)
    alone = answers(model, tokenizer, prompts, 8)
    assert [(answer.text, answer.tokens, answer.ended) for answer in together] == [
        (answer.text, answer.tokens, answer.ended) for answer in alone
    ]


def test_an_answer_ends_at_its_own_end_of_sequence(tiny_base, recipe):
    tokenizer = models.load_tokenizer(tiny_base)

    class Says:
        """Gives scripted tokens, as `generate` does: rows that have ended are padded."""

        device = torch.device("cpu")

        def generate(self, input_ids, stopping_criteria, **_):
            script = torch.tensor([[11, 2, 0], [12, 13, 14]])
            for step in range(3):
                input_ids = torch.cat([input_ids, script[:, step : step + 1]], 1)
                stopping_criteria[0](input_ids, None)
            return input_ids

    ended, cut = answers(Says(), tokenizer, [[1, 5], [1, 5, 6]], 3)
    assert (ended.tokens, ended.ended) == (1, True)
    assert (cut.tokens, cut.ended) == (3, False)
    assert ended.seconds <= cut.seconds


def test_figures_and_gains_come_from_the_answers():
    rows = [Row.of("q", '{"score": 0.8}'), Row.of("q", "two words")]
    before = [Answer("prose", 4, 1.0, True), Answer("two", 2, 3.0, False)]
    after = [Answer('{"score": 0.8}', 6, 2.0, True), Answer("Two words.", 3, 2.0, True)]
    report = evaluate.report_of(rows, before, after)
    assert evaluate.values_of(report) == pytest.approx(
        {
            "rows": 2,
            "base_exact_match": 0.0,
            "exact_match": 1.0,
            "exact_match_gain": 1.0,
            "base_f1": 1 / 3,
            "f1": 1.0,
            "f1_gain": 2 / 3,
        }
    )
    assert (
        report["base"]["limit_share"],
        report["base"]["mean_length"],
        report["base"]["latency_p95"],
    ) == (0.5, 3.0, 3.0)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no held-out rows"),
        ('{"instruction": "a", "output": "b"}\nnonsense\n', "val.jsonl:2: not JSON"),
    ],
)
def test_unusable_held_out_rows_are_named(tmp_path, text, what):
    (tmp_path / "val.jsonl").write_text(text)
    with pytest.raises(StageFailed) as failure:
        evaluate.read_rows(tmp_path / "val.jsonl", None)
    assert failure.value.cause == Cause.DATA
    assert what in failure.value.what


def test_rows_beyond_the_limit_are_not_looked_at(tmp_path):
    (tmp_path / "val.jsonl").write_text('{"instruction": "a", "output": "b"}\nnonsense\n')
    assert len(evaluate.read_rows(tmp_path / "val.jsonl", 1)) == 1


def test_an_adapter_without_safetensors_is_refused_before_anything_else_in_its_folder_is_read(
    tmp_path, tiny_base, recipe
):
    (tmp_path / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(StageFailed, match="of another format") as failure:
        evaluate.load(tiny_base, tmp_path, recipe())
    assert failure.value.cause is Cause.ARTIFACT
