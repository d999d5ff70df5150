"""A row as tokens: the chat template around the user's words, then the answer and the end of sequence."""

from dataclasses import dataclass
from typing import Any

from remote.contract.jobs import Cause
from remote.contract.rows import Row, user_message
from remote.payload.job import StageFailed

__all__ = ["Encoded", "check_template", "completion", "encode", "prompt_ids", "rendered", "user_message"]


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt and completion; the first `prompt_length` are not supervised. `truncated` rows have lost their end."""

    ids: list[int]
    prompt_length: int
    truncated: bool = False

    def spells_special(self, bos: int, eos: int) -> bool:
        """Whether the row's own text holds a beginning or end of sequence (as `<s>` in HTML): such a row would teach to stop mid-text."""
        return self.ids.count(bos) != 1 or eos in self.ids[:-1]

    @property
    def supervised(self) -> int:
        """How many tokens the loss counts."""
        return max(0, len(self.ids) - self.prompt_length)


def rendered(tokenizer: Any, row: Row) -> str:
    """The prompt as text, out of the model's own chat template; it already holds the beginning-of-sequence token."""
    messages = [{"role": "user", "content": user_message(row)}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def prompt_ids(tokenizer: Any, row: Row) -> list[int]:
    """The prompt's token ids; nothing is added to what the template renders, so that there is one beginning of sequence."""
    ids: list[int] = tokenizer(rendered(tokenizer, row), add_special_tokens=False)["input_ids"]
    return ids


def check_template(tokenizer: Any) -> None:
    """Raise StageFailed unless the template gives exactly one beginning of sequence and leaves the end of sequence to the answer."""
    prompt = prompt_ids(tokenizer, Row("one", "two"))
    if prompt.count(tokenizer.bos_token_id) != 1 or prompt[0] != tokenizer.bos_token_id or tokenizer.eos_token_id in prompt:
        why = f"a prompt is rendered as {rendered(tokenizer, Row('one', 'two'))!r}, which needs <s> once, at its start, and no </s>"
        raise StageFailed(Cause.CONFIG, "the chat template does not fit", why, "repair chat_template.jinja of the base model")


def completion(tokenizer: Any, row: Row) -> str:
    """The answer as text, as the chat template writes an assistant's words (Mistral's puts a space first), and the end of sequence."""
    messages = [{"role": "user", "content": user_message(row)}, {"role": "assistant", "content": row.output}]
    prompt, whole = rendered(tokenizer, row), str(tokenizer.apply_chat_template(messages, tokenize=False))
    answer = whole[len(prompt) :] if whole.startswith(prompt) else row.output
    return answer.removesuffix(tokenizer.eos_token) + str(tokenizer.eos_token)


def encode(tokenizer: Any, row: Row, max_length: int) -> Encoded:
    """The row as token ids, at most `max_length`: a longer one is cut at its end and marked `truncated`."""
    prompt = prompt_ids(tokenizer, row)
    ids: list[int] = prompt + tokenizer(completion(tokenizer, row), add_special_tokens=False)["input_ids"]
    return Encoded(ids[:max_length], min(len(prompt), max_length), len(ids) > max_length)
