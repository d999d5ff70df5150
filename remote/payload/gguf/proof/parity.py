"""Proves that the GGUF files say what the trained model says: token by token, and log-probability
by log-probability."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.payload.gguf.proof.checks import Checks
from remote.payload.gguf.proof.reference import Reference
from remote.payload.gguf.proof.served import Completion, Served

_TOP = 20
"""How many of the likeliest tokens are compared at each position."""

_LEAST_LOGP = -10.0
"""Tokens less likely than one in 22,000 are not compared: llama.cpp multiplies in float16, and its
error grows in the tail."""

_QUANTISED_TOP = 100
_QUANTISED_POSITIONS = 24

TOLERANCE = {"float32": 0.05, "float16": 0.1, "bfloat16": 0.5}
"""Largest difference of a log-probability, in nats, by the reference's dtype: half precision errs
by itself."""

MOST_KL = {"q4_0": 0.4, "q4_k_s": 0.3, "q4_k_m": 0.25, "q5_k_m": 0.1, "q6_k": 0.05, "q8_0": 0.02}
"""Largest mean divergence of a quantised model from float16, in nats a token."""


@dataclass
class Question:
    """A prompt on its way: what is asked, how it is rendered and tokenised, what the models
    answer."""

    message: str
    rendered: str
    ids: list[int]
    tuned: Completion | None = None
    base_answer: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.messages = [{"role": "user", "content": self.message}]

    @property
    def answered(self) -> Completion:
        """The float16 GGUF's answer."""
        if self.tuned is None:
            raise RuntimeError("asked for an answer before the model was")
        return self.tuned

    def to_json(self) -> dict[str, Any]:
        """The question for parity.json."""
        return {
            "messages": self.messages,
            "rendered": self.rendered,
            "token_ids": self.ids,
            "base_answer": self.base_answer,
            "tuned_answer": self.answered.text.strip(),
            "tuned_ended": self.answered.ended,
        }


def check_tokens(
    checks: Checks, served: Served, tokenizer: Any, chats: list[list[dict[str, str]]]
) -> None:
    """Same token ids from transformers and llama.cpp on every chat, rendered by transformers."""
    differing = differing_chats(served.tokenize, tokenizer, chats)
    measured = f"{len(chats) - len(differing)}/{len(chats)} chats" + (
        f", not {differing[0]!r}" if differing else ""
    )
    checks.add("token ids", measured, f"{len(chats)}/{len(chats)} chats", not differing)


def differing_chats(
    tokenize: Callable[[str], list[int]], tokenizer: Any, chats: list[list[dict[str, str]]]
) -> list[str]:
    """The rendered chats of which `tokenize` makes other tokens than the tokenizer of training."""
    texts = [render(tokenizer, chat) for chat in chats]
    return [
        text
        for text in texts
        if tokenize(text) != tokenizer(text, add_special_tokens=False)["input_ids"]
    ]


def check_rendering(checks: Checks, served: Served, questions: list[Question], start: str) -> None:
    """Same prompt from the GGUF's chat template as from the tokenizer's; llama.cpp adds the `start`
    of sequence later."""
    equal = sum(
        start + served.render(question.messages).removeprefix(start) == question.rendered
        for question in questions
    )
    checks.equal(
        "rendered prompts", f"{equal}/{len(questions)}", f"{len(questions)}/{len(questions)}"
    )


def render(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """The prompt that training used."""
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def ask(served: Served, questions: list[Question], most_tokens: int) -> None:
    """Have the float16 GGUF answer every question."""
    for question in questions:
        question.tuned = served.complete(question.ids, most_tokens, _TOP)


def check_logits(
    checks: Checks, reference: Reference, questions: list[Question], dtype: str
) -> float:
    """Feed the GGUF's answers to the reference: equal log-probabilities, equal greedy tokens.
    Returns the largest difference."""
    tolerance = TOLERANCE[dtype]
    largest, positions, equal, ties = 0.0, 0, 0, 0
    for question in questions:
        rows = reference.log_probabilities(question.ids, question.answered.tokens)
        for row, token, top in zip(
            rows, question.answered.tokens, question.answered.tops, strict=True
        ):
            positions += 1
            largest = max(
                [
                    largest,
                    *(
                        abs(float(row[index]) - value)
                        for index, value in top.items()
                        if value > _LEAST_LOGP
                    ),
                ]
            )
            equal += int(row.argmax()) == token
            ties += int(row.argmax()) != token and float(row.max() - row[token]) < tolerance / 2
    where = (
        f"against base + adapter in transformers, {dtype}, teacher-forced, {positions} positions"
    )
    ok = positions > 0 and math.isfinite(largest) and largest < tolerance
    checks.add("logits of f16", f"max |Δlogp| {largest:.4f} {where}", f"below {tolerance}", ok)
    measured = f"{equal}/{positions}" + (f", and {ties} ties" if ties else "")
    checks.add(
        "greedy tokens of f16",
        measured,
        f"{positions}/{positions}, ties aside",
        equal + ties == positions,
    )
    return largest


def answer_by_base(
    checks: Checks,
    reference: Reference,
    tokenizer: Any,
    questions: list[Question],
    most_tokens: int,
) -> None:
    """Have the base answer too; an adapter that changes no answer does nothing."""
    differing = 0
    for question in questions:
        ids = reference.base_answer(question.ids, most_tokens, tokenizer.eos_token_id)
        question.base_answer = _text(tokenizer, ids)
        # Both decoded by one decoder: llama.cpp leaves out a character that the answer's end cuts,
        # transformers shows it as U+FFFD.
        differing += question.base_answer != _text(tokenizer, question.answered.tokens)
    checks.add(
        "adapter changes answers", f"{differing}/{len(questions)}", "at least 1", differing > 0
    )


def _text(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def check_quantised(
    checks: Checks, gguf: Path, questions: list[Question], mixture: str, context: int
) -> None:
    """The quantised file opens, generates, and stays near the float16 one on the latter's own
    answers."""
    with Served(gguf, context) as served:
        words = served.complete(questions[0].ids, 8, 1)
        checks.add(
            f"{mixture} generates", f"{len(words.tokens)} tokens", "at least 1", bool(words.tokens)
        )
        pairs = [pair for question in questions for pair in _forced(served, question)]
    divergence = sum(divergence_of(f16, quantised) for f16, quantised in pairs) / len(pairs)
    same = sum(
        max(f16, key=lambda index: f16[index]) == max(quantised, key=lambda index: quantised[index])
        for f16, quantised in pairs
    )
    measured = f"mean KL {divergence:.4f}, same first choice {same}/{len(pairs)}"
    checks.add(
        f"{mixture} near f16",
        measured,
        f"mean KL at most {MOST_KL[mixture]}",
        divergence <= MOST_KL[mixture],
    )


def _forced(served: Served, question: Question) -> list[tuple[dict[int, float], dict[int, float]]]:
    answer = question.answered
    positions = range(min(len(answer.tokens), _QUANTISED_POSITIONS))
    return [
        (answer.tops[at], served.likeliest(question.ids + answer.tokens[:at], _QUANTISED_TOP))
        for at in positions
    ]


def divergence_of(p: dict[int, float], q: dict[int, float]) -> float:
    """Kullback-Leibler divergence of q from p in nats, over the tokens of `p` and one for all
    others.

    Both map token ids to log-probabilities; a token that `q` does not list gets the least that it
    lists.
    """
    least = min(q.values())
    listed = {index: q.get(index, least) for index in p}
    inside = sum(math.exp(value) * (value - listed[index]) for index, value in p.items())
    rest_p, rest_q = (
        max(1e-9, 1 - sum(map(math.exp, values))) for values in (p.values(), listed.values())
    )
    return max(0.0, inside + rest_p * math.log(rest_p / rest_q))
