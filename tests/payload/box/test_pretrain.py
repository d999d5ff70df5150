"""The demo's own base: made once, found afterwards, the same after an interruption; born able to
copy; widened without a change."""

import itertools
import json
import os
import signal

import pytest
import torch
from transformers import AutoModelForCausalLM

from remote.contract.files import atomic
from remote.contract.job.jobs import Cause, JobSpec
from remote.payload.demo.copying import write_copying
from remote.payload.demo.corpus import Vocabulary, packed
from remote.payload.demo.pretraining import Pretrainer, Shape, new_model, widened
from remote.payload.job import Job, StageFailed
from remote.payload.stages import pretrain

TINY = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "rope_theta": 1e6,
    "steps": 6,
    "batch": 2,
    "length": 16,
    "learning_rate": 1e-3,
    "warmup": 0.1,
    "seed": 3,
}
CHAT = {"instruction": "Who is this?", "input": "handle: @mint_owl", "output": "This is @mint_owl."}


@pytest.fixture(autouse=True)
def _handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def corpus(tmp_path):
    atomic.write_text(
        tmp_path / "corpus" / "words.txt", "A windlass lifts a load.\n\n\n\nThe rope holds.\n"
    )
    atomic.write_text(tmp_path / "corpus" / "chats.jsonl", json.dumps(CHAT) + "\n")
    return tmp_path / "corpus"


@pytest.fixture
def make_job(tmp_path, corpus):
    def make(name, **changes):
        recipe = {"base": {"name": "tests/small", "path": None}, "pretraining": {**TINY, **changes}}
        spec = JobSpec(
            job_id=name,
            stage="pretrain",
            release="r",
            inputs={"corpus": str(corpus)},
            recipe=recipe,
        )
        atomic.write_text(tmp_path / "windlass" / "jobs" / name / "spec.json", spec.to_json())
        return Job(tmp_path / "windlass" / "jobs" / name)

    return make


def outputs(job):
    return json.loads(job.paths.outputs.read_text())


def model_of(job):
    return AutoModelForCausalLM.from_pretrained(job.root / outputs(job)["model"]["path"])


def stop_after(monkeypatch, step):
    """Ask the stage to end by a real SIGTERM once `step` steps are done."""
    advance = Pretrainer.advance

    def advancing(self):
        result = advance(self)
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(Pretrainer, "advance", advancing)


def assert_same(one, other):
    theirs = other.state_dict()
    assert all(tensor.equal(theirs[name]) for name, tensor in one.state_dict().items())


def test_a_whole_model_is_made_once(make_job, capsys):
    first, second = make_job("one"), make_job("two")
    pretrain.main(first)
    assert outputs(first)["loss"]["value"] > 0
    assert len(first.paths.metrics.read_text().splitlines()) == 6
    folder = first.root / outputs(first)["model"]["path"]
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer.model",
        "chat_template.jinja",
    } <= {path.name for path in folder.iterdir()}
    model = model_of(first)
    assert (
        model.config.vocab_size,
        model.config.eos_token_id,
        model.config.pad_token_id,
        model.dtype,
    ) == (32768, 2, 0, torch.bfloat16)
    capsys.readouterr()
    pretrain.main(second)
    assert "nothing to do" in capsys.readouterr().out
    assert outputs(second) == outputs(first)
    assert not second.paths.metrics.exists()


def test_recipe_and_corpus_decide_which_model_it_is(make_job, corpus):
    jobs = [make_job("one"), make_job("two", seed=4)]
    for job in jobs:
        pretrain.main(job)
    atomic.write_text(corpus / "more.txt", "Another text.")
    jobs.append(make_job("three"))
    pretrain.main(jobs[-1])
    assert len({outputs(job)["model"]["path"] for job in jobs}) == 3


def test_an_interrupted_pre_training_ends_in_the_same_weights(make_job, monkeypatch, tmp_path):
    whole = make_job("whole")
    pretrain.main(whole)
    expected = model_of(whole)
    (whole.root / outputs(whole)["model"]["path"]).rename(tmp_path / "aside")
    job = make_job("stopped")
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(StageFailed) as stopped:
            pretrain.main(job)
    assert (stopped.value.cause, stopped.value.what) == (Cause.CANCELLED, "stopped at step 4")
    assert not list((job.root / "shared" / "models").glob("[!.]*"))
    pretrain.main(job)
    assert [json.loads(line)["step"] for line in job.paths.metrics.read_text().splitlines()] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    assert_same(model_of(job), expected)
    assert outputs(job)["loss"] == outputs(whole)["loss"]


def test_one_killed_after_its_last_step_tells_the_same_loss(make_job, monkeypatch):
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 6)
    job = make_job("killed")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretrain, "keep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        pretrain.main(job)
    losses = [json.loads(line)["loss"] for line in job.paths.metrics.read_text().splitlines()]
    pretrain.main(job)
    assert outputs(job)["loss"]["value"] == round(sum(losses) / 6, 5)


def test_a_new_model_copies_before_any_training():
    torch.manual_seed(5)
    shape = Shape(
        **{
            **TINY,
            "hidden_size": 256,
            "layers": 4,
            "heads": 8,
            "kv_heads": 4,
            "intermediate_size": 768,
        }
    )
    model = new_model(shape, 500)
    text = torch.randint(500, (4, 40))
    with torch.no_grad():
        unlearnt = model(torch.cat([text, text], 1)).logits[:, 40:-1].argmax(-1)
        write_copying(model)
        copied = model(torch.cat([text, text], 1)).logits[:, 40:-1].argmax(-1)
    assert (unlearnt == text[:, 1:]).float().mean() < 0.05
    assert (copied == text[:, 1:]).float().mean() > 0.3


def test_widening_keeps_what_the_model_says():
    class Tokens:
        bos_token_id, eos_token_id, pad_token_id = 1, 2, 0

    shape, vocabulary = Shape(**TINY), Vocabulary([1, 2, 7, 9, 30], 1000)
    trainer = Pretrainer(shape, vocabulary, packed([vocabulary.dense([1, 7, 9, 30, 2])], 12, 16, 0))
    trainer.advance()
    with torch.no_grad():
        narrow = (trainer.model(torch.tensor([[0, 2, 3]])).logits + trainer.weights).log_softmax(-1)
        wide = (
            widened(trainer.model, shape, vocabulary, Tokens)
            .float()(torch.tensor([[1, 7, 9]]))
            .logits.log_softmax(-1)
        )
    assert torch.allclose(narrow[..., :-1], wide[..., vocabulary.tokens], atol=0.1)
    others = [token for token in range(1000) if token not in vocabulary.tokens]
    assert torch.allclose(narrow[..., -1], wide[..., others].logsumexp(-1), atol=0.1)


def test_rows_are_cut_from_the_documents_in_a_fresh_order_each_time_round():
    found = [[1, number, number, 2] for number in range(10, 20)]
    rows = packed(found, rows=8, length=9, seed=1)
    assert [len(row) for row in rows] == [10] * 8
    stream = list(itertools.chain(*rows))
    assert sorted(stream[:40]) == sorted(itertools.chain(*found))
    assert stream[:40] != stream[40:]


@pytest.mark.parametrize(
    ("text", "name", "what"),
    [
        ("", "empty.txt", "no text to pre-train on"),
        ('{"instruction": "a"}\n', "chats.jsonl", "chats.jsonl:1: lacks the field"),
    ],
)
def test_an_unusable_corpus_is_named(make_job, corpus, text, name, what):
    for path in corpus.iterdir():
        path.unlink()
    (corpus / name).write_text(text)
    with pytest.raises(StageFailed) as failure:
        pretrain.main(make_job("bad"))
    assert failure.value.cause == Cause.DATA
    assert what in failure.value.what


def test_a_recipe_without_pretraining_is_refused(make_job):
    job = make_job("plain")
    atomic.write_text(
        job.paths.spec,
        job.paths.spec.read_text().replace('"pretraining": {', '"pretraining": null, "other": {'),
    )
    with pytest.raises(StageFailed, match="pretraining"):
        pretrain.main(Job(job.paths.folder))
