"""Export: adapter + base -> merged -> float16 GGUF -> quantised GGUF, and parity.json, which proves
that they agree.

`python -m remote.payload.stages.export JOB_FOLDER`. A job that runs again goes on from the files
whose digests still fit.
"""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from remote.contract.artifacts.gguf import DEFAULT_QUANTIZATION, QUANTIZATIONS, read_head
from remote.contract.files import atomic, digest, disk, untrusted_json
from remote.contract.job.jobs import Cause
from remote.payload import fingerprint, tokenizer_model
from remote.payload.gguf import convert, llama_cpp_source, merge, quantize
from remote.payload.gguf.proof import parity, prompts
from remote.payload.gguf.proof.checks import ARCHITECTURES, Checks, check_head
from remote.payload.gguf.proof.foresight import SentencePieceTokens
from remote.payload.gguf.proof.parity import Question
from remote.payload.gguf.proof.reference import Reference, choose_precision, free_memory
from remote.payload.gguf.proof.served import Served
from remote.payload.job import Job, StageFailed, run_stage
from remote.payload.quiet import quiet
from remote.payload.stages.prompt import chat_ids
from remote.payload.tokenizing import spells_control

_STEPS = 5
_LARGE = 1_000_000_000
"""From this many parameters on fewer and shorter answers are compared: each token costs a second on
a CPU."""

_SMALL = 250_000_000
"""Below this many parameters one thread is faster than several, which wait for each other by
spinning."""

_LONGEST_PROMPT = 1024
"""Tokens; longer rows of the validation set are not asked."""


@dataclass(frozen=True)
class Models:
    """What went in, and what came out."""

    base: Path
    adapter: Path
    tokenizer: Path
    f16: Path
    gguf: Path


class Kept:
    """Remembers what each finished file was made of, so that a job that runs again need not make it
    again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: dict[str, list[str]] = untrusted_json.read_object(path) if path.exists() else {}

    def holds(self, path: Path, key: str) -> bool:
        """Whether `path` stands as it was made from inputs with this key."""
        return path.exists() and self._made.get(path.name) == [key, digest.of_path(path)]

    def make(self, path: Path, key: str, maker: Callable[[], object]) -> None:
        """Have `path` made, unless it stands as it was made from inputs with this key."""
        if self.holds(path, key):
            print(f"{path.name} is there already")
            return
        shutil.rmtree(path, ignore_errors=True)
        maker()
        self._made[path.name] = [key, digest.of_path(path)]
        atomic.write_json(self._path, self._made)


class Progress:
    """Says in the log and in metrics.jsonl which step is done, and how long it took."""

    def __init__(self, job: Job) -> None:
        self._job, self._since = job, time.monotonic()

    def done(self, step: int, what: str) -> None:
        """Step number `step` is done."""
        now = time.monotonic()
        print(f"[{step}/{_STEPS}] {what} in {now - self._since:.1f} s", flush=True)
        self._job.metric(step, _STEPS, note=what)
        self._since = now


def main(job: Job) -> None:
    """Run the stage; see the module's docstring."""
    quiet()
    base, adapter, mixture = job.input("base"), job.input("adapter"), _mixture(job)
    val = job.input("val") if "val" in job.spec.inputs else None
    config, checks, progress = _config(base), Checks(), Progress(job)
    base_fingerprint = _check_base(checks, base, adapter)
    tokenizer_folder, tokenizer = _tokenizer(base, adapter, config.get("vocab_size"))
    _check_tokens_will_agree(base, tokenizer_folder, tokenizer, prompts.conversations(val))
    models = Models(
        base,
        adapter,
        tokenizer_folder,
        job.artifact("model-f16.gguf"),
        job.artifact(f"model-{mixture}.gguf"),
    )
    _few_threads(base)
    _make_files(job, models, mixture, base_fingerprint, progress)
    special = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    check_head(checks, read_head(models.gguf), config, special, tokenizer.chat_template)
    delta, questions = _compare(checks, tokenizer, models, mixture, val)
    progress.done(5, "proved parity")
    report = {
        "max_logp_delta": delta,
        "base_fingerprint": base_fingerprint,
        "architecture": config["architectures"][0],
    }
    report["converter_sha256"] = llama_cpp_source.SHA256
    answers = [question.to_json() for question in questions]
    path = job.artifact("parity.json")
    atomic.write_json(
        path, {**report, "quantize": mixture, "checks": checks.to_json(), "prompts": answers}
    )
    _gate(checks, path)
    for name, value in (
        ("gguf", models.gguf),
        ("f16", models.f16),
        ("parity", path),
        ("max_logp_delta", delta),
    ):
        job.output(name, value)


def _mixture(job: Job) -> str:
    mixture = str(job.option("quantize") or DEFAULT_QUANTIZATION).lower()
    if mixture not in QUANTIZATIONS:
        raise StageFailed(
            Cause.CONFIG,
            f"unknown quantisation {mixture!r}",
            remedy=f"set `quantize:` to one of {', '.join(QUANTIZATIONS)}",
        )
    return mixture


def _config(base: Path) -> dict[str, Any]:
    config = fingerprint.require_base(base)
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ARCHITECTURES:
        raise StageFailed(
            Cause.CONFIG,
            f"can't export {architecture}",
            f"known: {', '.join(ARCHITECTURES)}",
            "use a Mistral or Llama base",
        )
    return config


def _check_base(checks: Checks, base: Path, adapter: Path) -> str:
    """The base's fingerprint, once the adapter does not name another one."""
    found = fingerprint.of_model(base)
    metadata = adapter / "training_metadata.yaml"
    text = metadata.read_text() if metadata.exists() else ""
    named = re.search(r"^base_fingerprint:\s*['\"]?([0-9a-f]{64})", text, re.MULTILINE)
    if named and named[1] != found:
        why = f"{metadata.name} names the base {named[1][:16]}…, {base} is {found[:16]}…"
        raise StageFailed(
            Cause.ARTIFACT,
            "the adapter was trained on another base",
            why,
            "give the base that it was trained on",
        )
    checks.add(
        "base of the adapter",
        "the same" if named else "not recorded by its training",
        "the same, where recorded",
        True,
    )
    return found


def _tokenizer(base: Path, adapter: Path, vocab_size: int | None) -> tuple[Path, Any]:
    """The tokenizer that training used: the adapter's where it brings one, else the base's."""
    from transformers import AutoTokenizer

    folder = adapter if (adapter / "tokenizer_config.json").exists() else base
    model = merge.find_tokenizer_model(base, folder)
    try:
        tokenizer_model.check_folder(folder, vocab_size, model)
    except ValueError as error:
        raise _wrong_tokenizer(model, str(error)) from None
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.chat_template:
        remedy = f"put the chat_template.jinja that training used into {base}"
        raise StageFailed(
            Cause.CONFIG, "the tokenizer has no chat template", f"looked in {folder}", remedy
        )
    return folder, tokenizer


def _check_tokens_will_agree(
    base: Path, folder: Path, tokenizer: Any, chats: list[list[dict[str, str]]]
) -> None:
    """Raises StageFailed where llama.cpp would tokenise otherwise than training did: known now, not
    after merging and converting."""
    model = merge.find_tokenizer_model(base, folder)
    foreseen = SentencePieceTokens(model, tokenizer.get_added_vocab())
    differing = parity.differing_chats(foreseen.of, tokenizer, chats)
    if differing:
        how = f"on {len(differing)} of {len(chats)} chats, such as {differing[0][:200]!r}"
        without = (
            ""
            if (folder / "tokenizer.json").is_file()
            else f"; {folder} lacks tokenizer.json, and transformers guessed its merges"
        )
        raise _wrong_tokenizer(
            model, f"training's tokenizer and {model.name} give other tokens {how}{without}"
        )


def _wrong_tokenizer(model: Path, why: str) -> StageFailed:
    remedy = (
        "download the tokenizer files of the base model again (tokenizer.json, tokenizer.model,"
        " tokenizer_config.json)"
    )
    return StageFailed(
        Cause.MODEL_MISSING,
        f"the tokenizer in {model.parent} is not the base's",
        why,
        remedy,
        "nothing was merged",
    )


def _make_files(
    job: Job, models: Models, mixture: str, base_fingerprint: str, progress: Progress
) -> None:
    """The float16 GGUF and the quantised one (the same when only float16 is asked for)."""
    work = job.paths.checkpoints / "export"
    work.mkdir(parents=True, exist_ok=True)
    kept, merged = Kept(work / "made.json"), work / "merged"
    tokenizer = merge.tokenizer_digest(models.tokenizer, models.base)
    key = digest.of_value(
        [base_fingerprint, digest.of_path(models.adapter), tokenizer, llama_cpp_source.SHA256]
    )

    def make_f16() -> None:
        _require_space(work, models.base, mixture)
        kept.make(
            merged, key, lambda: merge.merge(models.base, models.adapter, models.tokenizer, merged)
        )
        progress.done(1, "merged the adapter into the base")
        source = llama_cpp_source.ensure(job.root / "shared" / "caches")
        progress.done(2, "found llama.cpp's converter")
        convert.to_f16(source, merged, models.f16, models.base.name)

    kept.make(models.f16, key, make_f16)
    progress.done(3, f"made {models.f16.name}")
    if models.gguf != models.f16:
        kept.make(models.gguf, key, lambda: quantize.quantize(models.f16, models.gguf, mixture))
    progress.done(4, f"made {models.gguf.name}")
    shutil.rmtree(merged, ignore_errors=True)


def _parameters(base: Path) -> int:
    return sum(
        prod(entry["shape"])
        for path in fingerprint.weight_files(base)
        for entry in fingerprint.entries_of(path).values()
    )


def _few_threads(base: Path) -> None:
    import torch

    if _parameters(base) < _SMALL:
        torch.set_num_threads(1)


def _require_space(folder: Path, base: Path, mixture: str) -> None:
    """Room for the merged model and the GGUF in two bytes a parameter each, and for the quantised
    one in about one."""
    need, free = _parameters(base) * (4 if mixture == "f16" else 5), shutil.disk_usage(folder).free
    if need > free:
        needed, there = disk.apart(need, free)
        why = f"merged model and GGUF files need {needed}, {there} are free"
        raise StageFailed(
            Cause.DISK_FULL,
            f"not enough disk space under {folder}",
            why,
            "free space, then `./inv resume`",
        )


def _questions(tokenizer: Any, val: Path | None, count: int) -> list[Question]:
    questions = []
    for message in prompts.questions(val, count):
        asked = [{"role": "user", "content": message}]
        questions.append(
            Question(message, parity.render(tokenizer, asked), chat_ids(tokenizer, asked))
        )
    # A text that spells `[INST]` is text for training; Ollama, which later is asked the same, makes
    # a control token of it.
    alike = [question for question in questions if not spells_control(tokenizer, question.message)]
    return [question for question in alike if len(question.ids) <= _LONGEST_PROMPT] or questions[:1]


def _compare(
    checks: Checks, tokenizer: Any, models: Models, mixture: str, val: Path | None
) -> tuple[float, list[Question]]:
    """Ask every model; returns the largest difference of a log-probability, and what was asked and
    answered."""
    parameters = _parameters(models.base)
    count, most_tokens = (3, 32) if parameters >= _LARGE else (5, 96)
    questions = _questions(tokenizer, val, count)
    context = max(len(question.ids) for question in questions) + most_tokens + 8
    with Served(models.f16, context) as served:
        parity.check_tokens(checks, served, tokenizer, prompts.conversations(val))
        parity.check_rendering(checks, served, questions, tokenizer.bos_token)
        parity.ask(served, questions, most_tokens)
    if models.gguf != models.f16:
        parity.check_quantised(checks, models.gguf, questions, mixture, context)
    # One model in memory at a time: the servers are gone before transformers loads the weights.
    precision = choose_precision(parameters, *free_memory())
    reference = Reference(models.base, models.adapter, precision)
    delta = parity.check_logits(checks, reference, questions, precision.dtype)
    parity.answer_by_base(checks, reference, tokenizer, questions, most_tokens)
    return delta, questions


def _gate(checks: Checks, path: Path) -> None:
    if checks.failed:
        names = ", ".join(check.name for check in checks.failed)
        what = f"the exported model fails {len(checks.failed)} of {len(checks.all)} checks: {names}"
        why = "; ".join(
            f"{check.name}: {check.measured}, expected {check.expected}" for check in checks.failed
        )
        kept = f"every check in {path}, and the GGUF files beside it"
        raise StageFailed(
            Cause.GATE, what, why, "fix what the check names, then `./inv resume`", kept
        )


if __name__ == "__main__":
    run_stage(main)
