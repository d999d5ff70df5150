"""A row as tokens: the chat template around the user's words, then the answer and the end of sequence."""

from dataclasses import dataclass
from typing import Any

from remote.contract.jobs import Cause
from remote.contract.rows import Row, user_message
from remote.payload.job import StageFailed

__all__ = ["Encoded", "encode", "prompt_ids", "rendered", "user_message"]


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt and completion; the first `prompt_length` are not supervised. `truncated` rows have lost their end."""

    ids: list[int]
    prompt_length: int
    truncated: bool = False

    @property
    def supervised(self) -> int:
        """How many tokens the loss counts."""
        return max(0, len(self.ids) - self.prompt_length)


def rendered(tokenizer: Any, row: Row) -> str:
    """The prompt as text, out of the model's own chat template; it already holds the beginning-of-sequence token."""
    messages = [{"role": "user", "content": user_message(row)}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def prompt_ids(tokenizer: Any, row: Row) -> list[int]:
    """The prompt's token ids, with exactly one beginning of sequence; raises StageFailed when the template gives another count."""
    ids: list[int] = tokenizer(rendered(tokenizer, row), add_special_tokens=False)["input_ids"]
    starts = ids.count(tokenizer.bos_token_id)
    if starts != 1:
        raise StageFailed(
            Cause.CONFIG,
            f"the prompt holds {starts} beginning-of-sequence tokens, not one",
            repr(rendered(tokenizer, row)[:80]),
            "repair chat_template.jinja of the base model; a row must not spell out special tokens",
        )
    return ids


def encode(tokenizer: Any, row: Row, max_length: int) -> Encoded:
    """The row as token ids, at most `max_length`: a longer one is cut at its end and marked `truncated`."""
    prompt = prompt_ids(tokenizer, row)
    answer: list[int] = [*tokenizer(row.output, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    ids = prompt + answer
    return Encoded(ids[:max_length], min(len(prompt), max_length), len(ids) > max_length)
