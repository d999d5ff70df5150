"""QLoRA: trains a LoRA adapter on an nf4 base.  python -m remote.payload.stages.train JOB_FOLDER

Inputs `base` (a folder as transformers saves it), `train`, and maybe `val` (JSONL out of
`prepare`); outputs `adapter`, `metrics`, `curve`. Started again in the same job folder it goes on
from its newest whole checkpoint and ends in the same weights.
"""

import importlib.metadata
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.artifacts import base_models
from remote.contract.files import atomic, digest
from remote.contract.job.jobs import Cause
from remote.contract.job.paths import BoxPaths
from remote.contract.telemetry.events import Metric
from remote.payload import fingerprint
from remote.payload.job import Job, StageFailed, run_stage
from remote.payload.quiet import quiet
from remote.payload.stages.prompt import Encoded
from remote.payload.training import adapter, batches, checkpoint, curve, divergence, model
from remote.payload.training.interrupt import Interrupt, Stopped, flush, stopped
from remote.payload.training.schedule import learning_rate
from remote.payload.training.settings import Settings
from remote.payload.training.token_cache import Cache
from remote.payload.training.trainer import (
    NotANumber,
    OutOfMemory,
    Step,
    Trainer,
    is_out_of_memory,
    peak_memory_gb,
)
from remote.payload.training.writer import Writer

VALIDATION_ROWS = 256
"""Validation looks at no more rows than this, evenly spread: a loss to steer by, not the final
measure, which is `evaluate`."""

LOG_LINES = 200
"""About so many lines of progress go to the log; metrics.jsonl has every step."""

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "safetensors", "tokenizers")


@dataclass(frozen=True)
class Training:
    """What a training is made of, before a weight is loaded."""

    settings: Settings
    base: Path
    lessons: batches.Lessons
    validation: list[Encoded]
    plan: batches.Plan
    identity: dict[str, Any]
    tokenizer: Any


def main(job: Job) -> None:
    """Train, checkpoint, and leave a verified adapter."""
    started = time.time()
    training = read(job)
    explain(training)
    trainer, interrupt = start(job, training)
    with Writer(job.paths.checkpoints, training.identity) as writer:
        val_loss = complete(job, training, trainer, interrupt, writer)
    finish(job, training, trainer, started, val_loss)


def complete(
    job: Job, training: Training, trainer: Trainer, interrupt: Interrupt, writer: Writer
) -> float | None:
    """All steps that are left; returns the last validation loss. However they end, the last whole
    step is kept, and its place told."""
    try:
        train(job, training, trainer, interrupt, writer)
        val_loss = validate(job, training, trainer)
        refuse_divergence(job, trainer, val_loss)
        return val_loss
    except Stopped:
        raise stopped(trainer.position.step, str(writer.write(trainer))) from None
    except NotANumber as error:
        why = f"after {trainer.position.step} whole steps of {training.plan.total_steps}"
        remedy = (
            "`./inv run` it anew with a lower `learning_rate`, a longer `warmup` or a lower `clip`;"
            " or look at the rows"
        )
        raise StageFailed(
            Cause.NOT_A_NUMBER, str(error), why, remedy, keep(trainer, writer)
        ) from None
    except OutOfMemory as error:
        raise StageFailed(
            Cause.OUT_OF_MEMORY,
            error.what,
            error.why,
            error.remedy,
            keep(trainer, writer, error.is_whole),
        ) from None


def read(job: Job) -> Training:
    """Everything that can be wrong with the inputs shows here, within seconds."""
    settings = Settings.of_recipe(job.spec.recipe)
    base, train_file = base_folder(job), job.input("train")
    val_file = job.input("val") if "val" in job.spec.inputs else None
    identity = {
        **settings.identity(),
        "base": fingerprint.of_model(base),
        "train": digest.of_file(train_file),
        "val": digest.of_file(val_file) if val_file else None,
    }
    quiet()
    tokenizer = model.load_tokenizer(base, settings.chat_template)
    cache = Cache(BoxPaths(job.root).caches / "tokens")
    lessons = batches.load(train_file, identity["train"], tokenizer, settings, cache, say)
    held: Sequence[Encoded] = (
        batches.load(val_file, identity["val"], tokenizer, settings, cache, say).rows
        if val_file and val_file.stat().st_size
        else ()
    )
    spread = max(1, len(held) // VALIDATION_ROWS)
    validation = sorted(held[::spread][:VALIDATION_ROWS], key=lambda row: -len(row.ids))
    return Training(
        settings, base, lessons, validation, batches.Plan.of(lessons, settings), identity, tokenizer
    )


def base_folder(job: Job) -> Path:
    """The input `base`, else the recipe's `base.path`, else the shared place under the recipe's
    `base.name`."""
    path = ((job.spec.recipe or {}).get("base") or {}).get("path")
    if "base" in job.spec.inputs or not path:
        return job.input("base")
    return base_models.found(job.root / Path(path).expanduser(), job.root, job.spec.recipe)


def explain(training: Training) -> None:
    """Say what is about to happen, and show one row as the model sees it."""
    settings, plan, rows = training.settings, training.plan, training.lessons.rows
    supervised = sum(rows.supervised)
    say(
        f"{len(rows)} rows, {sum(plan.lengths):,} tokens, {supervised:,} of them supervised;"
        f" {len(training.validation)} validation rows"
    )
    say(
        f"{plan.total_steps} steps of {settings.rows_per_step} rows; {settings.compute_dtype} on"
        f" {settings.device}"
    )
    say(
        f"lora r {settings.r} on {', '.join(settings.targets)}; base"
        f" {training.identity['base'][:12]}"
    )
    if note := training.lessons.note():
        say(f"NOTE {note}")
    begin, end = rows[0].spans[0]
    say(f"the first row; read:   {training.tokenizer.decode(rows[0].ids[:begin])!r}")
    say(f"the first row; learnt: {training.tokenizer.decode(rows[0].ids[begin:end])!r}")


def start(job: Job, training: Training) -> tuple[Trainer, Interrupt]:
    """The quantised base with the adapter on it, at the newest whole checkpoint if there is one."""
    try:
        tuned = build(training)
        interrupt = (
            Interrupt()
        )  # until here nothing would be lost, and SIGTERM may end the process at once
        trainer = Trainer(
            tuned, training.settings, training.tokenizer.pad_token_id, interrupt.check
        )
        resume(job, training, trainer)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        what = "memory ran out while the base model was loaded"
        remedy = "take a box with more memory; `nvidia-smi` there shows what else uses the GPU's"
        raise StageFailed(
            Cause.OUT_OF_MEMORY, what, str(error), remedy, "the checkpoints"
        ) from None
    return trainer, interrupt


def build(training: Training) -> Any:
    """Load and quantise the base, put the adapter on it."""
    return model.add_adapter(model.load_base(training.base, training.settings), training.settings)


def resume(job: Job, training: Training, trainer: Trainer) -> None:
    """Go on from the newest whole checkpoint, if there is one; that none is whole is told in the
    metrics too."""
    found = checkpoint.newest(job.paths.checkpoints, training.identity)
    if found:
        trainer.restore(found)
    if words := checkpoint.resumed(job.paths.checkpoints, found):
        say(words)
    if words and not found:
        job.metric(0, training.plan.total_steps, note=words.removeprefix("NOTE "))


def train(
    job: Job, training: Training, trainer: Trainer, interrupt: Interrupt, writer: Writer
) -> None:
    """All steps that are left, and a checkpoint at the end of them."""
    settings, total = training.settings, training.plan.total_steps
    if trainer.position.step == 0:
        validate(job, training, trainer)
    began, already, before = time.monotonic(), trainer.position.step, trainer.position.seconds
    losses = losses_of(job, already)
    for number in range(already + 1, total + 1):
        interrupt.check()
        writer.check()
        rate = learning_rate(
            number, total, settings.learning_rate, settings.warmup, settings.schedule
        )
        since = time.monotonic()
        step = trainer.step(
            [training.lessons.rows[row] for row in training.plan.rows(number)], rate
        )
        elapsed = time.monotonic() - began
        trainer.position.seconds = before + elapsed
        speed, eta = (
            step.tokens / (time.monotonic() - since),
            elapsed / (number - already) * (total - number),
        )
        report(job, training, step, number, rate=rate, speed=speed, eta=eta)
        losses.append(step.loss)
        if words := divergence.diverges(losses, trainer.guess):
            raise NotANumber(f"the training diverges: {words}")
        after_step(job, training, trainer, number, writer)
    writer.write(trainer)


def after_step(job: Job, training: Training, trainer: Trainer, number: int, writer: Writer) -> None:
    """What is due after step `number`. First its checkpoint, so that a validation that fails costs
    nothing."""
    settings, is_last = training.settings, number == training.plan.total_steps
    if settings.checkpoint_every > 0 and number % settings.checkpoint_every == 0 and not is_last:
        writer.begin(trainer)
    if settings.validate_every > 0 and number % settings.validate_every == 0 and not is_last:
        validate(job, training, trainer)
    if flush(job.paths.folder, lambda: writer.write(trainer)):
        say(f"checkpoint of step {number}, because the box may soon be taken back")


def losses_of(job: Job, steps: int) -> list[float]:
    """The losses of the first `steps` steps, whichever attempt took them."""
    history = curve.history(job.paths.metrics) if steps and job.paths.metrics.exists() else []
    return [metric.loss for metric in history if metric.loss is not None and metric.step <= steps]


def refuse_divergence(job: Job, trainer: Trainer, val_loss: float | None) -> None:
    """Raise NotANumber where the training has come to its end, but to no adapter that anybody
    wants; note that it learnt by heart."""
    history = curve.history(job.paths.metrics)
    before = next((metric.val_loss for metric in history if metric.val_loss is not None), None)
    losses = [metric.loss for metric in history if metric.loss is not None]
    if words := divergence.diverged(losses, trainer.guess, before, val_loss):
        raise NotANumber(f"the training has diverged: {words}")
    if before is not None and val_loss is not None and val_loss > before:
        say(
            f"NOTE the validation loss has grown from {before:.4f} to {val_loss:.4f}: try fewer"
            " `epochs` or a lower `learning_rate`"
        )


def report(
    job: Job, training: Training, step: Step, number: int, *, rate: float, speed: float, eta: float
) -> None:
    """One line of metrics; one of the log at every step of a short training, at some of a long
    one."""
    total = training.plan.total_steps
    notes = "; ".join(
        note for note in (training.lessons.note() if number == 1 else None, step.note) if note
    )
    memory = peak_memory_gb(training.settings.device)
    measured = {
        "loss": round(step.loss, 5),
        "tokens_per_second": round(speed, 1),
        "memory_gb": round(memory, 3),
        "eta_seconds": round(eta, 1),
    }
    job.metric(number, total, lr=rate, note=notes or None, **measured)
    if step.note:
        say(f"NOTE {step.note}")
    if number % max(1, total // LOG_LINES) == 0 or number == total:
        say(
            f"step {number}/{total}  loss {step.loss:.4f}  lr {rate:.2e}  {speed:,.0f} tokens/s "
            f" {memory:.1f} GB  {eta:.0f} s left"
        )


def validate(job: Job, training: Training, trainer: Trainer) -> float | None:
    """The validation loss, measured and reported; None where the job has no validation rows."""
    if not training.validation:
        return None
    rows_at_once = trainer.validation_batch
    loss, step = round(trainer.validate(training.validation), 5), trainer.position.step
    if trainer.validation_batch != rows_at_once:
        say(
            f"NOTE memory ran out while validating: {trainer.validation_batch} rows at a time from"
            " now on"
        )
    job.metric(step, training.plan.total_steps, val_loss=loss)
    say(f"step {step}/{training.plan.total_steps}  validation loss {loss:.4f}")
    return loss


def keep(trainer: Trainer, writer: Writer, is_whole: bool = True) -> str:
    """The checkpoint of the last whole step, written now; where its weights are none to go on from,
    the newest one that is."""
    if is_whole and trainer.is_sound():
        return str(writer.write(trainer))
    return str(writer.newest() or "nothing: there is no checkpoint yet")


def finish(
    job: Job, training: Training, trainer: Trainer, started: float, val_loss: float | None
) -> None:
    """Adapter, summary and curve, each whole before it is declared."""
    history = curve.history(job.paths.metrics)
    summary = summarise(history, training, trainer, val_loss)
    about = metadata(job, training, summary, started)

    def add_metadata(folder: Path) -> None:
        atomic.write_text(folder / "training_metadata.yaml", to_yaml(about))
        atomic.write_json(folder / "metrics.json", summary)

    adapter.write(
        job.artifact("adapter"), trainer.model, training.base, training.settings, add_metadata
    )
    atomic.write_json(job.artifact("metrics.json"), summary)
    curve.draw(
        history,
        job.artifact("loss.png"),
        f"{training.settings.base_name or training.base.name}: loss over {summary['steps']} steps",
    )
    for name, file in {
        "adapter": "adapter",
        "metrics": "metrics.json",
        "curve": "loss.png",
    }.items():
        job.output(name, job.artifact(file))
    for name in ("loss", "val_loss", "steps", "tokens_per_second", "peak_memory_gb"):
        if summary[name] is not None:
            job.output(name, summary[name])
    say(
        f"done: loss {summary['loss']:.4f}, {summary['tokens']:,} tokens in"
        f" {summary['seconds']:.0f} s"
    )


def summarise(
    history: list[Metric], training: Training, trainer: Trainer, val_loss: float | None
) -> dict[str, Any]:
    """What metrics.json holds. `loss` is the mean over the last steps (ten at most), in nats per
    supervised token."""
    losses = [metric.loss for metric in history if metric.loss is not None]
    tail = losses[-min(10, max(1, len(losses) // 4)) :]
    before = next((metric.val_loss for metric in history if metric.val_loss is not None), None)
    position = trainer.position
    return {
        "loss": round(sum(tail) / len(tail), 5),
        "first_loss": losses[0],
        "val_loss": val_loss,
        "val_loss_before": before,
        "steps": position.step,
        "tokens": position.tokens,
        "seconds": round(position.seconds, 2),
        "tokens_per_second": round(position.tokens / max(position.seconds, 1e-6), 1),
        "peak_memory_gb": round(peak_memory_gb(training.settings.device), 3),
        "micro_batch": position.micro_batch,
        "rows": len(training.lessons.rows),
        "rows_truncated": training.lessons.truncated,
        "rows_dropped": training.lessons.dropped,
        "notes": [metric.note for metric in history if metric.note],
    }


def metadata(
    job: Job, training: Training, summary: dict[str, Any], started: float
) -> dict[str, Any]:
    """How the adapter came to be: enough to make it again."""
    return {
        "job": job.spec.job_id,
        "run": job.spec.run_id,
        "release": job.spec.release,
        "recipe": job.spec.recipe,
        "base": training.settings.base_name,
        "base_path": str(training.base),
        "base_fingerprint": training.identity["base"],
        "train_sha256": training.identity["train"],
        "val_sha256": training.identity["val"],
        "seed": training.settings.seed,
        "started": stamp(started),
        "ended": stamp(time.time()),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "result": summary,
    }


def to_yaml(values: dict[str, Any], indent: str = "") -> str:
    """A mapping as YAML: nested mappings as blocks, all other values as JSON, which YAML
    contains."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{key}:\n{to_yaml(value, indent + '  ')}")
        else:
            text = json.dumps(value)
            # YAML 1.1 readers take 2e-05 for a word and 2.0e-05 for a number.
            is_bare = isinstance(value, float) and "e" in text and "." not in text
            lines.append(f"{indent}{key}: {text.replace('e', '.0e') if is_bare else text}\n")
    return "".join(lines)


def stamp(seconds: float) -> str:
    """A time in ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def say(text: str) -> None:
    """One line in the job's log, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    run_stage(main)
