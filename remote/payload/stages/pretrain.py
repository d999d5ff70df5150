"""Pre-trains the demo's small Mistral.  python -m remote.payload.stages.pretrain JOB_FOLDER

Input `corpus` (a folder of .txt and .jsonl, or one such file) and the recipe's `pretraining`;
output `model`. The model is kept under `shared/models` by a name that follows from recipe, corpus
and this code: the next job that wants the same one finds it there.
"""

import fcntl
import importlib.metadata
import time
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, digest, untrusted_json
from remote.contract.job.jobs import Cause
from remote.contract.job.paths import BoxPaths
from remote.payload.demo import tokenizer as mistral
from remote.payload.demo.corpus import Vocabulary, documents, packed
from remote.payload.demo.pretraining import Pretrainer, Shape, widened
from remote.payload.job import Job, StageFailed, run_stage
from remote.payload.quiet import quiet
from remote.payload.training import checkpoint
from remote.payload.training.curve import history
from remote.payload.training.interrupt import Interrupt, Stopped, flush, stopped

CODE = (
    "../contract/artifacts/chat_templates.py",
    "stages/pretrain.py",
    "stages/prompt.py",
    "tokenizing.py",
    "demo/copying.py",
    "demo/corpus.py",
    "demo/pretraining.py",
    "demo/tokenizer.py",
    "tokenizer_model.py",
)
PACKAGES = ("torch", "transformers", "mistral-common")
CHECKPOINT_EVERY = 100
LINES = 40
SUMMARY = "pretraining.json"


def main(job: Job) -> None:
    """Give the model that recipe and corpus describe, made now or found."""
    interrupt = Interrupt()
    shape, corpus = shape_of(job.spec.recipe), job.input("corpus")
    identity = {
        "pretraining": digest.of_value(vars(shape)),
        "corpus": digest.of_path(corpus),
        "code": digest.of_value(
            [digest.of_file(Path(__file__).parents[1] / name) for name in CODE]
        ),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    folder = (
        BoxPaths(job.root).models / f"{name_of(job.spec.recipe)}-{digest.of_value(identity)[:12]}"
    )
    if (folder / SUMMARY).exists():
        say(f"found {folder}: nothing to do")
    else:
        make(job, shape, corpus, identity, folder, interrupt)
    job.output("model", folder)
    job.output("loss", untrusted_json.read_object(folder / SUMMARY)["loss"])


def shape_of(recipe: dict[str, Any] | None) -> Shape:
    """The recipe's `pretraining`; raises StageFailed when there is none or it lacks a value."""
    try:
        return Shape(**((recipe or {}).get("pretraining") or {}))
    except TypeError as error:
        remedy = "compare it with playbooks/recipes/base/tiny-mistral.yaml"
        raise StageFailed(
            Cause.CONFIG, "the recipe's `pretraining` does not fit", str(error), remedy
        ) from None


def name_of(recipe: dict[str, Any] | None) -> str:
    """The base's name as a folder's name."""
    return str(((recipe or {}).get("base") or {}).get("name") or "pretrained").rsplit("/", 1)[-1]


def make(
    job: Job,
    shape: Shape,
    corpus: Path,
    identity: dict[str, Any],
    folder: Path,
    interrupt: Interrupt,
) -> None:
    """Train and put the model into its place; SIGTERM leaves a checkpoint and raises
    StageFailed."""
    quiet()
    tokenizer = mistral.build()
    found = documents(tokenizer, corpus)
    vocabulary = Vocabulary.of(found, len(tokenizer))
    say(
        f"{len(found)} documents, {sum(map(len, found)):,} tokens, {len(vocabulary.tokens):,} of"
        f" {vocabulary.total:,} different ones"
    )
    rows = packed(
        [vocabulary.dense(ids) for ids in found],
        shape.steps * shape.batch,
        shape.length,
        shape.seed,
    )
    trainer = Pretrainer(shape, vocabulary, rows)
    resume(job, trainer, identity)
    try:
        train(job, trainer, identity, interrupt)
    except Stopped:
        raise stopped(trainer.step, save(job, trainer, identity)) from None
    loss = last_loss(job)
    summary = {"loss": loss, "steps": shape.steps, "identity": identity}
    keep(folder, widened(trainer.model, shape, vocabulary, tokenizer), tokenizer, summary)
    say(f"done: loss {loss:.4f}, kept as {folder}")


def train(job: Job, trainer: Pretrainer, identity: dict[str, Any], interrupt: Interrupt) -> None:
    """All steps that are left."""
    total, began, already = trainer.shape.steps, time.monotonic(), trainer.step
    tokens = trainer.shape.batch * trainer.shape.length
    while trainer.step < total:
        interrupt.check()
        loss, rate = trainer.advance()
        done, elapsed = trainer.step - already, time.monotonic() - began
        speed, left = tokens * done / elapsed, elapsed / done * (total - trainer.step)
        job.metric(
            trainer.step,
            total,
            loss=round(loss, 5),
            lr=rate,
            tokens_per_second=round(speed, 1),
            eta_seconds=round(left, 1),
        )
        if trainer.step % max(1, total // LINES) == 0:
            say(
                f"step {trainer.step}/{total}  loss {loss:.4f}  {speed:,.0f} tokens/s  {left:.0f} s"
                " left"
            )
        if trainer.step % CHECKPOINT_EVERY == 0:
            save(job, trainer, identity)
        flush(job.paths.folder, lambda: save(job, trainer, identity))


def last_loss(job: Job) -> float:
    """The mean loss of the last 20 steps in nats a token, whichever attempt took them."""
    tail = [metric.loss for metric in history(job.paths.metrics) if metric.loss is not None][-20:]
    return round(sum(tail) / len(tail), 5)


def resume(job: Job, trainer: Pretrainer, identity: dict[str, Any]) -> None:
    """Go on from the newest whole checkpoint, if there is one."""
    if found := checkpoint.newest(job.paths.checkpoints, identity):
        trainer.restore(found.position.step, found.tensors("adapter"), found.tensors("optimizer"))
    if words := checkpoint.resumed(job.paths.checkpoints, found):
        say(words)


def save(job: Job, trainer: Pretrainer, identity: dict[str, Any]) -> str:
    """Commit a checkpoint; returns its path, or nothing before the first step."""
    if not trainer.step:
        return ""
    position = checkpoint.Position(trainer.step, trainer.shape.batch)
    return str(checkpoint.save(job.paths.checkpoints, position, *trainer.tensors(), identity))


def keep(folder: Path, model: Any, tokenizer: Any, summary: dict[str, Any]) -> None:
    """Write model and tokenizer, whole or not at all, unless another job has made the same model
    meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / SUMMARY).exists():
            return
        with atomic.making(folder) as partial:
            model.save_pretrained(partial)
            mistral.save(tokenizer, partial)
            atomic.write_json(partial / SUMMARY, summary)


def say(text: str) -> None:
    """One line in the job's log, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    run_stage(main)
