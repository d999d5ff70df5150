"""The stage from end to end, on a CPU, with a tiny model."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from remote.contract import digest
from remote.contract.exits import Exit
from remote.contract.jobs import Cause
from remote.contract.notices import FLUSH
from remote.payload import fingerprint
from remote.payload.job import Job, StageFailed
from remote.payload.stages import train
from remote.payload.training import curve, model
from remote.payload.training.checkpoint import Checkpoint

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def adapter_of(job):
    return load_file(job.artifact("adapter") / "adapter_model.safetensors")


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)


def stop_after(monkeypatch, step):
    """Ask the training to end by a real SIGTERM once `step` is reported."""
    report = train.report

    def reporting(job, training, measured, number, **rest):
        report(job, training, measured, number, **rest)
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train, "report", reporting)


def test_leaves_a_whole_adapter_with_metrics_and_curve(make_job, tiny_base, capsys):
    job = make_job()
    train.main(job)
    outputs = json.loads(job.paths.outputs.read_text())
    assert set(outputs) == {"adapter", "metrics", "curve", "loss", "val_loss", "steps", "tokens_per_second", "peak_memory_gb"}
    names = {path.name for path in job.artifact("adapter").iterdir()}
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "training_metadata.yaml", "metrics.json"} | tokenizer
    assert job.artifact("loss.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in job.paths.artifacts.iterdir() if path.name.startswith(".")] == []
    log = capsys.readouterr().out
    assert re.search(r"read: {3}'<s>\[INST\] Add up\.\\n\\n[\d ]+\[/INST\]'", log)
    assert re.search(r"learnt: ' The sum is \d+\.</s>'", log)


def test_the_metadata_tell_where_the_adapter_comes_from(make_job, tiny_base):
    job = make_job()
    train.main(job)
    text = (job.artifact("adapter") / "training_metadata.yaml").read_text()
    about = yaml.safe_load(text)
    assert about["base_fingerprint"] == fingerprint.of_model(tiny_base)
    assert about["train_sha256"] == digest.of_file(job.input("train"))
    assert about["recipe"] == job.spec.recipe
    assert about["result"] == json.loads(job.artifact("metrics.json").read_text())
    assert about["versions"]["torch"] == torch.__version__


def test_the_loss_falls_and_every_step_is_measured(make_job):
    job = make_job(training={"max_steps": 30, "learning_rate": 2e-2}, lora={"dropout": 0.0})
    train.main(job)
    history = curve.history(job.paths.metrics)
    assert [metric.step for metric in history] == list(range(31))
    summary = json.loads(job.artifact("metrics.json").read_text())
    assert summary["val_loss"] < 0.9 * summary["val_loss_before"]
    assert summary["loss"] < 0.9 * summary["first_loss"]
    assert history[30].eta_seconds == 0
    assert [metric.step for metric in history if metric.val_loss is not None] == list(range(0, 31, 3))


def test_peft_loads_the_adapter_and_computes_the_same_loss(make_job, tiny_base):
    from peft import PeftModel

    job = make_job()
    train.main(job)
    training = train.read(job)
    plain = model.load_base(training.base, training.settings)
    tuned = PeftModel.from_pretrained(plain, job.artifact("adapter")).train()
    model.set_dropout(tuned, False)
    total = count = 0
    for row in training.validation:
        ids = torch.tensor([row.ids])
        labels = ids.clone()
        labels[0, : row.prompt_length] = -100
        total += tuned(input_ids=ids, labels=labels).loss.item() * row.supervised
        count += row.supervised
    summary = json.loads(job.artifact("metrics.json").read_text())
    assert total / count == pytest.approx(summary["val_loss"], abs=2e-5)
    assert abs(summary["val_loss"] - summary["val_loss_before"]) > 1e-3


@pytest.mark.parametrize("compute_dtype", ["bfloat16", "float16"])
def test_the_adapter_stays_fp32_whatever_computes(make_job, compute_dtype):
    job = make_job(quantization={"compute_dtype": compute_dtype}, training={"max_steps": 3, "recompute": True})
    train.main(job)
    assert {tensor.dtype for tensor in adapter_of(job).values()} == {torch.float32}


def test_recomputing_changes_nothing(make_job):
    plain, recomputed = make_job("plain"), make_job("recomputed", training={"recompute": True})
    train.main(plain)
    train.main(recomputed)
    for name, tensor in adapter_of(plain).items():
        torch.testing.assert_close(adapter_of(recomputed)[name], tensor)


def test_accumulation_is_a_large_batch(make_job):
    large = make_job("large", lora={"dropout": 0.0}, training={"batch": 4, "accumulation": 1})
    small = make_job("small", lora={"dropout": 0.0}, training={"batch": 1, "accumulation": 4})
    train.main(large)
    train.main(small)
    for name, tensor in adapter_of(large).items():
        torch.testing.assert_close(adapter_of(small)[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("step", [1, 4, 6])
def test_stopped_and_resumed_ends_in_the_same_weights(make_job, monkeypatch, step):
    whole, broken = make_job("whole"), make_job("broken")
    train.main(whole)
    with monkeypatch.context() as patch, pytest.raises(StageFailed) as caught:
        stop_after(patch, step)
        train.main(broken)
    assert caught.value.cause is Cause.CANCELLED
    assert caught.value.kept == str(broken.paths.checkpoints / f"step-{step}")
    assert not broken.paths.outputs.exists()
    train.main(Job(broken.paths.folder))
    assert_same(adapter_of(broken), adapter_of(whole))
    tokens = [json.loads(job.artifact("metrics.json").read_text())["tokens"] for job in (whole, broken)]
    assert tokens[0] == tokens[1]


def test_only_the_newest_two_checkpoints_stay(make_job):
    job = make_job()
    train.main(job)
    assert {path.name for path in job.paths.checkpoints.iterdir()} == {"step-4", "step-6"}


def test_a_torn_checkpoint_is_passed_over(make_job, monkeypatch, capsys):
    whole, broken = make_job("whole"), make_job("broken")
    train.main(whole)
    with monkeypatch.context() as patch, pytest.raises(StageFailed):
        stop_after(patch, 5)
        train.main(broken)
    torn = broken.paths.checkpoints / "step-5" / "optimizer.safetensors"
    torn.write_bytes(torn.read_bytes()[:-100])
    train.main(Job(broken.paths.folder))
    assert "resumed from step 4, passing over torn step-5" in capsys.readouterr().out
    assert_same(adapter_of(broken), adapter_of(whole))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training": {"learning_rate": 1e-3}}, "learning_rate: 0.005 then, 0.001 now"),
        ({"rows": 19}, "train: "),
        ({"lora": {"r": 8}}, "r: 4 then, 8 now"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(make_job, change, words):
    train.main(make_job())
    with pytest.raises(StageFailed) as caught:
        train.main(make_job(**change))
    assert caught.value.cause is Cause.CONFIG
    assert words in caught.value.why
    assert caught.value.kept.endswith("step-6")


def test_the_micro_batch_may_change_between_two_starts(make_job, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(StageFailed):
        stop_after(patch, 3)
        train.main(make_job())
    train.main(job := make_job(training={"batch": 2, "accumulation": 2, "checkpoint_every": 50}))
    assert json.loads(job.artifact("metrics.json").read_text())["steps"] == 6


def test_a_checkpoint_of_another_device_has_other_random_states(make_job, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(StageFailed):
        stop_after(patch, 3)
        train.main(make_job())
    names = Checkpoint.tensors
    monkeypatch.setattr(
        Checkpoint, "tensors", lambda self, name: {key: value for key, value in names(self, name).items() if not key.startswith("random/")}
    )
    train.main(job := make_job())
    assert json.loads(job.artifact("metrics.json").read_text())["steps"] == 6


def failing_head(monkeypatch, fails):
    head_loss = model.head_loss

    def head(tuned, hidden, labels, with_gradient):
        loss, gradient = head_loss(tuned, hidden, labels, with_gradient)
        return (fails(loss, labels) if with_gradient else loss), gradient

    monkeypatch.setattr(model, "head_loss", head)


def test_a_loss_that_is_no_number_stops_with_the_step_before_saved(make_job, monkeypatch):
    steps = iter([False, False, True])
    failing_head(monkeypatch, lambda loss, _: loss * float("nan") if next(steps) else loss)
    job = make_job(training={"checkpoint_every": 50})
    with pytest.raises(StageFailed) as caught:
        train.main(job)
    assert caught.value.cause is Cause.NOT_A_NUMBER
    assert caught.value.kept == str(job.paths.checkpoints / "step-2")
    assert all(tensor.isfinite().all() for tensor in load_file(job.paths.checkpoints / "step-2" / "adapter.safetensors").values())


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_training(make_job, monkeypatch):
    roomy, tight = make_job("roomy", lora={"dropout": 0.0}), make_job("tight", lora={"dropout": 0.0})
    train.main(roomy)

    def run_out(loss, labels):
        if len(labels) > 25:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss

    failing_head(monkeypatch, run_out)
    train.main(tight)
    summary = json.loads(tight.artifact("metrics.json").read_text())
    assert summary["micro_batch"] == 2 and summary["steps"] == 6
    assert summary["notes"] == ["memory ran out: micro-batch 4 -> 2, accumulation grows to match; the step is done again"]
    for name, tensor in adapter_of(roomy).items():
        torch.testing.assert_close(adapter_of(tight)[name], tensor, rtol=1e-3, atol=1e-4)


def test_out_of_memory_with_one_row_gives_up(make_job, monkeypatch):
    def run_out(loss, labels):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    failing_head(monkeypatch, run_out)
    with pytest.raises(StageFailed) as caught:
        train.main(make_job())
    assert caught.value.cause is Cause.OUT_OF_MEMORY
    assert "recompute" in caught.value.remedy


def test_another_runtime_error_is_not_taken_for_memory(make_job, monkeypatch):
    def fail(loss, labels):
        raise RuntimeError("shapes do not fit")

    failing_head(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train.main(make_job())


def test_without_validation_rows_there_is_no_validation_loss(make_job, tiny_base, tmp_path):
    job = make_job(inputs={"base": str(tiny_base), "train": str(tmp_path / "train.jsonl")})
    train.main(job)
    assert "val_loss" not in json.loads(job.paths.outputs.read_text())


def test_an_empty_validation_file_counts_as_none(make_job, tiny_base, tmp_path):
    (tmp_path / "none.jsonl").touch()
    job = make_job(inputs={"base": str(tiny_base), "train": str(tmp_path / "train.jsonl"), "val": str(tmp_path / "none.jsonl")})
    train.main(job)
    assert "val_loss" not in json.loads(job.paths.outputs.read_text())


def test_rows_cut_short_are_counted_and_said(make_job, capsys):
    job = make_job(training={"max_length": 26})
    train.main(job)
    summary = json.loads(job.artifact("metrics.json").read_text())
    assert 0 < summary["rows_truncated"] < 20
    assert f"NOTE {summary['rows_truncated']} rows cut at max_length" in capsys.readouterr().out
    assert any("cut at max_length" in note for note in summary["notes"])


def test_the_base_may_come_from_the_recipe(make_job, tiny_base, tmp_path):
    job = make_job(inputs={"train": str(tmp_path / "train.jsonl")}, base={"path": str(tiny_base)})
    assert train.base_folder(job) == tiny_base


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        ({"device": "cuda"}, Cause.CONFIG, "no GPU"),
        ({"lora": {"targets": ["no_such_proj"]}}, Cause.CONFIG, "does not fit the base"),
        ({"lora": {"targets": ["lm_head"]}}, Cause.CONFIG, "lora.targets"),
        ({"training": {"schedule": "spiral"}}, Cause.CONFIG, "schedule: 'spiral'"),
        ({"training": {"max_length": 16}}, Cause.DATA, "have no token to learn"),
        ({"inputs": {}}, Cause.CONFIG, "needs the input `base`"),
    ],
)
def test_what_a_user_can_get_wrong_is_said_plainly(make_job, change, cause, words):
    with pytest.raises(StageFailed, match=re.escape(words)) as caught:
        train.main(make_job(**change))
    assert caught.value.cause is cause
    assert caught.value.remedy


def start(job):
    command = [sys.executable, "-W", "error", "-m", "remote.payload.stages.train", str(job.paths.folder)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_process_goes_on_and_a_terminated_one_ends_with_its_own_code(make_job):
    job = make_job(training={"max_steps": 5000})
    with start(job) as first:
        while not (job.paths.checkpoints / "step-2").exists():
            assert first.poll() is None, first.communicate()
            time.sleep(0.02)
        first.kill()
    with start(job) as second:
        resumed = next(line for line in second.stdout if line.startswith("resumed from step"))
        next(line for line in second.stdout if line.startswith("step "))
        second.terminate()
        _, errors = second.communicate()
    assert second.returncode == Exit.CANCELLED, errors
    assert len(errors.splitlines()) == 1 and errors.startswith("cancelled: ")
    failure = json.loads(job.paths.failure.read_text())
    assert int(failure["kept"].rsplit("-", 1)[1]) > int(resumed.split()[3]) >= 2
    assert Path(failure["kept"]).is_dir()


def test_a_checkpoint_on_request_changes_nothing_in_the_end(make_job, monkeypatch):
    asked, plain = make_job("asked", training={"checkpoint_every": 0}), make_job("plain", training={"checkpoint_every": 0})
    report, saved = train.report, []

    def reporting(job, training, measured, number, **rest):
        report(job, training, measured, number, **rest)
        saved.append([path.name for path in job.paths.checkpoints.glob("step-*")])
        if number == 3:
            (job.paths.folder / FLUSH).touch()

    monkeypatch.setattr(train, "report", reporting)
    train.main(asked)
    assert saved[2:4] == [[], ["step-3"]] and not (asked.paths.folder / FLUSH).exists()
    monkeypatch.undo()
    train.main(plain)
    assert_same(adapter_of(asked), adapter_of(plain))
