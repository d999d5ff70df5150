"""The stage from end to end, on a CPU, with a tiny model."""

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from transformers import AutoTokenizer

from remote.contract.artifacts.chat_templates import MISTRAL_V3
from remote.contract.files import digest
from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Cause
from remote.contract.job.notices import FLUSH
from remote.payload import fingerprint
from remote.payload.job import Job, StageFailed
from remote.payload.stages import train
from remote.payload.training import checkpoint, curve, model, writer
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
    assert set(outputs) == {
        "adapter",
        "metrics",
        "curve",
        "loss",
        "val_loss",
        "steps",
        "tokens_per_second",
        "peak_memory_gb",
    }
    names = {path.name for path in job.artifact("adapter").iterdir()}
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert (
        names
        == {
            "adapter_model.safetensors",
            "adapter_config.json",
            "training_metadata.yaml",
            "metrics.json",
        }
        | tokenizer
    )
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
    assert [metric.step for metric in history if metric.val_loss is not None] == list(
        range(0, 31, 3)
    )


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
        labels[0, : row.spans[0][0]] = -100
        total += tuned(input_ids=ids, labels=labels).loss.item() * row.supervised
        count += row.supervised
    summary = json.loads(job.artifact("metrics.json").read_text())
    assert total / count == pytest.approx(summary["val_loss"], abs=2e-5)
    assert abs(summary["val_loss"] - summary["val_loss_before"]) > 1e-3


@pytest.mark.parametrize("compute_dtype", ["bfloat16", "float16"])
def test_the_adapter_stays_fp32_whatever_computes(make_job, compute_dtype):
    job = make_job(
        quantization={"compute_dtype": compute_dtype}, training={"max_steps": 3, "recompute": True}
    )
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
    tokens = [
        json.loads(job.artifact("metrics.json").read_text())["tokens"] for job in (whole, broken)
    ]
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


def tear(job, *steps):
    for step in steps:
        torn = job.paths.checkpoints / f"step-{step}" / "optimizer.safetensors"
        torn.write_bytes(torn.read_bytes()[:-100])


def test_two_torn_ones_and_a_stop_leave_what_is_said_to_be_kept(make_job, monkeypatch, capsys):
    whole, broken = make_job("whole"), make_job("broken")
    train.main(whole)
    with monkeypatch.context() as patch, pytest.raises(StageFailed):
        stop_after(patch, 3)
        train.main(broken)
    good = broken.paths.checkpoints / "step-3"
    for step in (4, 5):
        shutil.copytree(good, broken.paths.checkpoints / f"step-{step}")
    tear(broken, 4, 5)
    for step in (3, 4):  # a stop before the first step, and one after it
        with monkeypatch.context() as patch, pytest.raises(StageFailed) as caught:
            stop_after(patch, step)
            if step == 3:
                patch.setattr(
                    train,
                    "train",
                    lambda *_: (
                        os.kill(os.getpid(), signal.SIGTERM) or (_ for _ in ()).throw(train.Stopped)
                    ),
                )
            train.main(Job(broken.paths.folder))
        assert (
            caught.value.kept == str(broken.paths.checkpoints / f"step-{step}")
            and Path(caught.value.kept).is_dir()
        )
    assert "resumed from step 3, passing over torn step-5, step-4" in capsys.readouterr().out
    assert {path.name for path in broken.paths.checkpoints.iterdir()} == {"step-3", "step-4"}
    train.main(Job(broken.paths.folder))
    assert_same(adapter_of(broken), adapter_of(whole))


def test_that_every_checkpoint_is_torn_is_said(make_job, monkeypatch, capsys):
    job = make_job()
    with monkeypatch.context() as patch, pytest.raises(StageFailed):
        stop_after(patch, 5)
        train.main(job)
    tear(job, 4, 5)
    train.main(Job(job.paths.folder))
    words = "begins anew: every checkpoint is torn (step-5, step-4)"
    assert f"NOTE {words}" in capsys.readouterr().out
    assert words in json.loads(job.artifact("metrics.json").read_text())["notes"]


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
    summary = json.loads(job.artifact("metrics.json").read_text())
    assert (summary["steps"], summary["micro_batch"]) == (6, 2)


def test_a_micro_batch_that_memory_taught_outlives_a_restart(make_job, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(StageFailed):
        stop_after(patch, 3)
        steps = iter([True, False, False, False, False, False, False, False])
        failing_head(patch, lambda loss, _: out_of_memory() if next(steps) else loss)
        train.main(make_job())
    train.main(job := make_job())
    assert json.loads(job.artifact("metrics.json").read_text())["micro_batch"] == 2


def test_a_checkpoint_of_another_device_has_other_random_states(make_job, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(StageFailed):
        stop_after(patch, 3)
        train.main(make_job())
    names = Checkpoint.tensors
    monkeypatch.setattr(
        Checkpoint,
        "tensors",
        lambda self, name: {
            key: value for key, value in names(self, name).items() if not key.startswith("random/")
        },
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
    assert all(
        tensor.isfinite().all()
        for tensor in load_file(job.paths.checkpoints / "step-2" / "adapter.safetensors").values()
    )


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_training(make_job, monkeypatch):
    roomy, tight = (
        make_job("roomy", lora={"dropout": 0.0}),
        make_job("tight", lora={"dropout": 0.0}),
    )
    train.main(roomy)

    def run_out(loss, labels):
        if len(labels) > 25:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss

    failing_head(monkeypatch, run_out)
    train.main(tight)
    summary = json.loads(tight.artifact("metrics.json").read_text())
    assert summary["micro_batch"] == 2 and summary["steps"] == 6
    assert summary["notes"] == [
        "memory ran out: micro-batch 4 -> 2, accumulation grows to match; the step is done again"
    ]
    for name, tensor in adapter_of(roomy).items():
        torch.testing.assert_close(adapter_of(tight)[name], tensor, rtol=1e-3, atol=1e-4)


def test_out_of_memory_with_one_row_gives_up(make_job, monkeypatch):
    def run_out(loss, labels):
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
        )

    failing_head(monkeypatch, run_out)
    with pytest.raises(StageFailed) as caught:
        train.main(make_job())
    assert caught.value.cause is Cause.OUT_OF_MEMORY
    assert "recompute" in caught.value.remedy


def out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@contextlib.contextmanager
def optimizer_hook(register, times):
    """torch's own hook for every optimizer: `times` calls from the third on run out of memory."""
    calls = itertools.count(1)

    def run_out(*_):
        if 3 <= next(calls) < 3 + times:
            out_of_memory()

    handle = register(run_out)
    yield
    handle.remove()


@pytest.mark.parametrize("compute_dtype", ["float32", "float16"])
def test_out_of_memory_in_the_optimizer_s_step_does_the_step_again(make_job, compute_dtype):
    plain, hooked = (
        make_job(name, lora={"dropout": 0.0}, quantization={"compute_dtype": compute_dtype})
        for name in ("plain", "hooked")
    )
    train.main(plain)
    with optimizer_hook(register_optimizer_step_pre_hook, 1):
        train.main(hooked)
    summary = json.loads(hooked.artifact("metrics.json").read_text())
    assert summary["steps"] == 6 and summary["micro_batch"] == 2
    for name, tensor in adapter_of(plain).items():
        torch.testing.assert_close(adapter_of(hooked)[name], tensor, rtol=1e-2, atol=1e-3)


def test_an_optimizer_for_which_there_is_no_memory_ends_with_a_checkpoint_and_what_helps(make_job):
    job = make_job(training={"checkpoint_every": 50})
    with optimizer_hook(register_optimizer_step_pre_hook, 99), pytest.raises(StageFailed) as caught:
        train.main(job)
    assert caught.value.cause is Cause.OUT_OF_MEMORY
    assert caught.value.what == "memory ran out with a single row, in the step of the optimizer"
    assert caught.value.remedy.startswith("lower `lora.r` or train fewer `lora.targets`")
    assert caught.value.kept == str(job.paths.checkpoints / "step-2")
    train.main(Job(job.paths.folder))
    assert json.loads(job.artifact("metrics.json").read_text())["steps"] == 6


def test_out_of_memory_while_the_optimizer_makes_its_first_numbers_does_the_step_again(
    make_job, monkeypatch
):
    plain, tight = (
        make_job("plain", lora={"dropout": 0.0}),
        make_job("tight", lora={"dropout": 0.0}),
    )
    train.main(plain)
    zeros_like, calls = torch.zeros_like, itertools.count(1)
    monkeypatch.setattr(
        torch,
        "zeros_like",
        lambda *given, **rest: out_of_memory() if next(calls) == 6 else zeros_like(*given, **rest),
    )
    train.main(tight)
    assert (
        next(calls) > 6
        and json.loads(tight.artifact("metrics.json").read_text())["micro_batch"] == 2
    )
    for name, tensor in adapter_of(plain).items():
        torch.testing.assert_close(adapter_of(tight)[name], tensor, rtol=1e-3, atol=1e-4)


def test_weights_that_have_moved_half_are_never_saved(make_job):
    job = make_job(training={"checkpoint_every": 1})
    with optimizer_hook(register_optimizer_step_post_hook, 1), pytest.raises(StageFailed) as caught:
        train.main(job)
    assert caught.value.what == "memory ran out while the optimizer was moving the weights"
    assert caught.value.kept == str(job.paths.checkpoints / "step-2")
    whole = make_job("whole")
    train.main(whole)
    train.main(Job(job.paths.folder))
    assert_same(adapter_of(job), adapter_of(whole))


@contextlib.contextmanager
def validation_hook(fails):
    """torch's own hook for every module: a forward pass without gradients runs out of memory where
    `fails(input)`."""

    def run_out(module, inputs):
        if (
            type(module).__name__ == "Embedding"
            and not torch.is_grad_enabled()
            and fails(inputs[0])
        ):
            out_of_memory()

    handle = torch.nn.modules.module.register_module_forward_pre_hook(run_out)
    yield
    handle.remove()


def test_out_of_memory_in_validation_looks_at_fewer_rows(make_job, capsys):
    plain, hooked = make_job("plain"), make_job("hooked")
    train.main(plain)
    with validation_hook(lambda ids: len(ids) > 2):
        train.main(hooked)
    assert (
        "NOTE memory ran out while validating: 2 rows at a time from now on"
        in capsys.readouterr().out
    )
    assert_same(adapter_of(hooked), adapter_of(plain))
    losses = [
        json.loads(job.artifact("metrics.json").read_text())["val_loss"] for job in (plain, hooked)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_a_validation_for_which_there_is_no_memory_ends_with_its_checkpoint_kept(make_job):
    job, calls = make_job(training={"checkpoint_every": 3}), itertools.count()
    with (
        validation_hook(lambda _: next(calls) > 1),
        pytest.raises(StageFailed) as caught,
    ):  # two passes are the validation before step 1
        train.main(job)
    assert caught.value.cause is Cause.OUT_OF_MEMORY
    assert caught.value.what == "memory ran out while validating a single row"
    assert caught.value.kept == str(job.paths.checkpoints / "step-3")
    assert "lower `max_length`" in caught.value.remedy


def test_a_base_that_does_not_fit_says_so(make_job, monkeypatch):
    monkeypatch.setattr(train, "build", lambda _: out_of_memory())
    with pytest.raises(StageFailed, match="while the base model was loaded") as caught:
        train.main(make_job())
    assert "a box with more memory" in caught.value.remedy and "batch" not in caught.value.remedy


def validating_head(monkeypatch, changes):
    """Change the loss of validations alone."""
    head_loss = model.head_loss

    def head(tuned, hidden, labels, with_gradient):
        loss, gradient = head_loss(tuned, hidden, labels, with_gradient)
        return (loss if with_gradient else changes(loss)), gradient

    monkeypatch.setattr(model, "head_loss", head)


def test_a_validation_loss_that_is_no_number_is_a_failure(make_job, monkeypatch):
    calls = itertools.count()
    validating_head(monkeypatch, lambda loss: loss * float("nan") if next(calls) > 1 else loss)
    job = make_job(training={"checkpoint_every": 50})
    with pytest.raises(StageFailed, match="the validation loss is not a finite number") as caught:
        train.main(job)
    assert caught.value.cause is Cause.NOT_A_NUMBER
    assert caught.value.kept == str(job.paths.checkpoints / "step-3")
    assert not job.paths.outputs.exists()


def test_a_validation_loss_that_explodes_is_a_failure(make_job, monkeypatch):
    calls = itertools.count()
    validating_head(monkeypatch, lambda loss: loss * 2 ** next(calls))
    with pytest.raises(
        StageFailed, match="the training has diverged: the validation loss has grown from"
    ) as caught:
        train.main(make_job())
    assert caught.value.cause is Cause.NOT_A_NUMBER and caught.value.kept.endswith("step-6")


def test_a_loss_that_doubles_each_step_is_a_failure_with_or_without_validation(
    make_job, monkeypatch, tiny_base, tmp_path
):
    calls = itertools.count()
    failing_head(monkeypatch, lambda loss, _: loss * 2 ** next(calls))
    job = make_job(inputs={"base": str(tiny_base), "train": str(tmp_path / "train.jsonl")})
    with pytest.raises(
        StageFailed, match="the training has diverged: the loss has grown from"
    ) as caught:
        train.main(job)
    assert caught.value.cause is Cause.NOT_A_NUMBER
    assert not job.paths.outputs.exists()


def test_a_training_far_beyond_guessing_is_ended_before_its_last_step(make_job, monkeypatch):
    calls = itertools.count()
    failing_head(monkeypatch, lambda loss, _: loss * (1 if next(calls) == 0 else 5))
    job = make_job(training={"max_steps": 200, "checkpoint_every": 50, "validate_every": 500})
    with pytest.raises(StageFailed, match="the training diverges") as caught:
        train.main(job)
    assert caught.value.kept == str(job.paths.checkpoints / "step-11")


def test_weights_that_are_no_numbers_are_not_kept(make_job, monkeypatch):
    report = train.report

    def spoiling(job, training, measured, number, **rest):
        report(job, training, measured, number, **rest)
        if number == 5:
            spoilt.append(next(iter(trainers[0].parameters.values())).data.fill_(float("nan")))

    trainers, spoilt, init = [], [], train.Trainer
    monkeypatch.setattr(
        train, "Trainer", lambda *given: trainers.append(init(*given)) or trainers[0]
    )
    monkeypatch.setattr(train, "report", spoiling)
    job = make_job(training={"validate_every": 50})
    with pytest.raises(StageFailed) as caught:
        train.main(job)
    assert caught.value.cause is Cause.NOT_A_NUMBER and caught.value.kept == str(
        job.paths.checkpoints / "step-4"
    )


@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_an_adapter_that_is_dead_in_all_layers_but_one_is_refused(make_job, monkeypatch, factor):
    finish = train.finish

    def deaden(job, training, trainer, *rest):
        with torch.no_grad():
            for name, parameter in trainer.parameters.items():
                if factor in name and ".layers.0." not in name:
                    parameter.zero_()
        finish(job, training, trainer, *rest)

    monkeypatch.setattr(train, "finish", deaden)
    with pytest.raises(StageFailed) as caught:
        train.main(make_job())
    assert caught.value.cause is Cause.ARTIFACT
    assert (
        caught.value.why.startswith("7 of 14 modules change nothing")
        and "model.layers.1." in caught.value.why
    )


def test_a_checkpoint_that_cannot_be_written_beside_the_training_ends_it(make_job, monkeypatch):
    def full(path, tensors):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    job = make_job(training={"max_steps": 5000, "checkpoint_every": 2})
    with pytest.raises(OSError, match="No space left"):
        train.main(job)
    assert list(job.paths.checkpoints.iterdir()) == []
    assert curve.history(job.paths.metrics)[-1].step < 100


def test_a_checkpoint_is_of_its_own_step_however_slowly_it_is_written(make_job, monkeypatch):
    quick, slow = make_job("quick"), make_job("slow", training={"checkpoint_every": 5})
    train.main(quick)
    write, steps = checkpoint.write_tensors, []

    def slowly(path, tensors):
        if threading.current_thread() is not threading.main_thread():
            while len(steps) < 6:
                time.sleep(0.01)
        write(path, tensors)

    report = train.report
    monkeypatch.setattr(checkpoint, "write_tensors", slowly)
    monkeypatch.setattr(
        train, "report", lambda *given, **rest: (report(*given, **rest), steps.append(1))
    )
    train.main(slow)
    assert_same(adapter_of(slow), adapter_of(quick))
    shutil.rmtree(slow.paths.checkpoints / "step-6")
    assert checkpoint.newest(slow.paths.checkpoints, train.read(slow).identity).position.step == 5
    train.main(Job(slow.paths.folder))
    assert_same(adapter_of(slow), adapter_of(quick))


def test_without_room_for_a_copy_a_checkpoint_is_written_at_once(make_job, monkeypatch):
    threads, write = set(), checkpoint.write_tensors
    monkeypatch.setattr(
        checkpoint,
        "write_tensors",
        lambda *given: (threads.add(threading.current_thread().name), write(*given)),
    )
    monkeypatch.setattr(writer, "free_memory", lambda: (0, 1000))
    train.main(make_job())
    assert threads == {"MainThread"}


@pytest.fixture
def bare_base(tiny_base, tmp_path):
    """A base as it is published: its makers taught it no chat, and it brings no template."""
    folder = shutil.copytree(tiny_base, tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    return folder


def test_a_base_without_a_chat_template_trains_with_the_recipe_s(make_job, bare_base, tmp_path):
    inputs = {"base": str(bare_base), "train": str(tmp_path / "train.jsonl")}
    with pytest.raises(StageFailed) as caught:
        train.main(make_job("none", inputs=inputs))
    assert (
        caught.value.why == "it has no chat template"
        and "`chat_template: mistral-v3`" in caught.value.remedy
    )
    job = make_job("given", inputs=inputs, base={"chat_template": "mistral-v3"})
    settings = bare_base / "tokenizer_config.json"
    settings.write_text(
        json.dumps({**json.loads(settings.read_text()), "chat_template": "{{ 'another' }}"})
    )
    train.main(job)
    assert (job.artifact("adapter") / "chat_template.jinja").read_text() == MISTRAL_V3
    assert AutoTokenizer.from_pretrained(job.artifact("adapter")).chat_template == MISTRAL_V3
    assert "chat_template" not in json.loads(
        (job.artifact("adapter") / "tokenizer_config.json").read_text()
    )


def test_another_chat_template_is_another_training(make_job):
    train.main(make_job())
    with pytest.raises(StageFailed) as caught:
        train.main(make_job(base={"chat_template": "mistral-v3"}))
    assert caught.value.cause is Cause.CONFIG and "chat_template" in caught.value.why


def test_two_processes_make_the_same_bytes(make_job):
    made = []
    for seed in ("1", "2", "77"):
        job = make_job(f"seed-{seed}", training={"max_steps": 2}, base={"name": ""})
        command = [sys.executable, "-m", "remote.payload.stages.train", str(job.paths.folder)]
        subprocess.run(
            command,
            cwd=PROJECT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        made.append(
            [
                (job.artifact("adapter") / name).read_bytes()
                for name in ("adapter_config.json", "adapter_model.safetensors")
            ]
        )
    assert made[0] == made[1] == made[2]
    config = json.loads(made[0][0])
    assert config["target_modules"] == sorted(config["target_modules"]) and list(config) == sorted(
        config
    )
    assert str(PROJECT) not in made[0][0].decode() and "/" not in config["base_model_name_or_path"]


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
    job = make_job(
        inputs={
            "base": str(tiny_base),
            "train": str(tmp_path / "train.jsonl"),
            "val": str(tmp_path / "none.jsonl"),
        }
    )
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
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "remote.payload.stages.train",
        str(job.paths.folder),
    ]
    return subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


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
    asked, plain = (
        make_job("asked", training={"checkpoint_every": 0}),
        make_job("plain", training={"checkpoint_every": 0}),
    )
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
