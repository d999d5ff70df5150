"""A row as tokens: the chat template around the user's words, then the answer and the end of
sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remote.contract.artifacts.rows import Row, user_message
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.tokenizing import Disguise

__all__ = [
    "Encoded",
    "chat_ids",
    "check_template",
    "encode",
    "prompt_ids",
    "rendered",
    "user_message",
]


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt and completion; the first `prompt_length` are not supervised. `truncated`
    rows have lost their end."""

    ids: list[int]
    prompt_length: int
    truncated: bool = False

    @property
    def supervised(self) -> int:
        """How many tokens the loss counts."""
        return max(0, len(self.ids) - self.prompt_length)


Message = dict[str, str]


def rendered(tokenizer: Any, row: Row) -> str:
    """The prompt as text, out of the model's own chat template; it already holds the
    beginning-of-sequence token."""
    return _render(tokenizer, [{"role": "user", "content": user_message(row)}])


def prompt_ids(tokenizer: Any, row: Row) -> list[int]:
    """The prompt's token ids."""
    return chat_ids(tokenizer, [{"role": "user", "content": user_message(row)}])


def chat_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The token ids of a chat that waits for an answer. Nothing is added to what the template
    renders, so that there is one beginning of sequence; and what the messages spell stays text."""
    disguise = Disguise.of(tokenizer, [message["content"] for message in messages])
    disguised = [
        {**message, "content": disguise.put_on(message["content"])} for message in messages
    ]
    return disguise.ids(tokenizer, _render(tokenizer, disguised))


def check_template(tokenizer: Any) -> None:
    """Raise StageFailed unless the template gives exactly one beginning of sequence and leaves the
    end of sequence to the answer."""
    prompt = prompt_ids(tokenizer, Row("one", "two"))
    if (
        prompt.count(tokenizer.bos_token_id) != 1
        or prompt[0] != tokenizer.bos_token_id
        or tokenizer.eos_token_id in prompt
    ):
        why = (
            f"a prompt is rendered as {rendered(tokenizer, Row('one', 'two'))!r}, which needs <s>"
            " once, at its start, and no </s>"
        )
        raise StageFailed(
            Cause.CONFIG,
            "the chat template does not fit",
            why,
            "repair chat_template.jinja of the base model",
        )


def encode(tokenizer: Any, row: Row, max_length: int) -> Encoded:
    """The row as token ids, at most `max_length`: a longer one is cut at its end and marked
    `truncated`."""
    asked, answer = user_message(row), row.output
    disguise = Disguise.of(tokenizer, [asked, answer])
    asked, answer = disguise.put_on(asked), disguise.put_on(answer)
    prompt = _render(tokenizer, [{"role": "user", "content": asked}])
    before = disguise.ids(tokenizer, prompt)
    ids = before + disguise.ids(tokenizer, _completion(tokenizer, prompt, asked, answer))
    return Encoded(ids[:max_length], min(len(before), max_length), len(ids) > max_length)


def _completion(tokenizer: Any, prompt: str, asked: str, answer: str) -> str:
    """The answer as text, as the chat template writes an assistant's words (Mistral's puts a space
    first), and the end of sequence."""
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    words = whole[len(prompt) :] if whole.startswith(prompt) else answer
    return words.removesuffix(tokenizer.eos_token) + str(tokenizer.eos_token)


def _render(tokenizer: Any, messages: list[Message]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
