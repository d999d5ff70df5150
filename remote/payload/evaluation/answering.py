"""Greedy answers to many prompts at once, each with the time it took and whether it ended by
itself."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

BATCH_TOKENS = 16_384
"""A batch holds as many rows as fit in so many tokens, padding and room for the answer included."""


@dataclass(frozen=True)
class Answer:
    """One answer. `seconds` from the start of its batch to its last token; `ended` unless the limit
    cut it."""

    text: str
    tokens: int
    seconds: float
    ended: bool


def answers(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], max_new_tokens: int
) -> list[Answer]:
    """An answer for each prompt, in the prompts' order. Prompts of like length share a batch,
    padded on the left."""
    given: dict[int, Answer] = {}
    for numbers in _batches(prompts, max_new_tokens):
        given |= zip(
            numbers,
            _batch(model, tokenizer, [prompts[number] for number in numbers], max_new_tokens),
            strict=True,
        )
    return [given[number] for number in range(len(prompts))]


def _batches(prompts: Sequence[list[int]], max_new_tokens: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for number in sorted(range(len(prompts)), key=lambda number: len(prompts[number])):
        if batch and (len(batch) + 1) * (len(prompts[number]) + max_new_tokens) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _batch(
    model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int
) -> list[Answer]:
    import torch

    longest, pad, eos = max(map(len, prompts)), tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = torch.tensor(
        [[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device
    )
    mask = torch.tensor(
        [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts],
        device=model.device,
    )
    clock = _Clock(len(prompts), eos)
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=pad,
            eos_token_id=eos,
            stopping_criteria=[clock],
        )
    return [
        _answer(tokenizer, row[longest:].tolist(), eos, clock.seconds_of(number))
        for number, row in enumerate(made)
    ]


def _answer(tokenizer: Any, tokens: list[int], eos: int, seconds: float) -> Answer:
    ended = eos in tokens
    kept = tokens[: tokens.index(eos)] if ended else tokens
    return Answer(
        tokenizer.decode(kept, skip_special_tokens=True).strip(), len(kept), seconds, ended
    )


class _Clock:
    """Asked by `generate` after each token: notes when each row ended, and never stops anything
    itself."""

    def __init__(self, rows: int, eos: int) -> None:
        self.began, self.eos = time.monotonic(), eos
        self.ended: dict[int, float] = {}
        self.rows = rows

    def __call__(self, ids: Any, _scores: Any, **_: Any) -> Any:
        import torch

        now = time.monotonic() - self.began
        for row in (ids[:, -1] == self.eos).nonzero().flatten().tolist():
            self.ended.setdefault(row, now)
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    def seconds_of(self, row: int) -> float:
        """When the row ended, or now when it never did."""
        return self.ended.get(row, time.monotonic() - self.began)
