"""A row as tokens: a conversation as the chat template writes it, with the assistant's turns to
learn; a document as it is, learnt whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remote.contract.artifacts import chat_templates
from remote.contract.artifacts.rows import Row, Turn
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.tokenizing import Disguise, plain_ids


@dataclass(frozen=True)
class Encoded:
    """Token ids; those in `spans` (begin, end) are supervised. `truncated` rows have lost their
    end."""

    ids: list[int]
    spans: tuple[tuple[int, int], ...]
    truncated: bool = False

    @property
    def supervised(self) -> int:
        """How many tokens the loss counts."""
        return sum(end - begin for begin, end in self.spans)

    def cut(self, max_length: int) -> "Encoded":
        """At most `max_length` of it, from its start."""
        if len(self.ids) <= max_length:
            return self
        spans = ((begin, min(end, max_length)) for begin, end in self.spans if begin < max_length)
        return Encoded(self.ids[:max_length], tuple(spans), truncated=True)


Message = dict[str, str]


def rendered(tokenizer: Any, row: Row) -> str:
    """The prompt as text, out of the model's own chat template; it already holds the
    beginning-of-sequence token."""
    return _render(tokenizer, _messages(row.prompt))


def prompt_ids(tokenizer: Any, row: Row) -> list[int]:
    """The prompt's token ids."""
    return chat_ids(tokenizer, _messages(row.prompt))


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
    row = Row.of("one", "two")
    prompt = prompt_ids(tokenizer, row)
    if (
        prompt.count(tokenizer.bos_token_id) != 1
        or prompt[0] != tokenizer.bos_token_id
        or tokenizer.eos_token_id in prompt
    ):
        why = (
            f"a prompt is rendered as {rendered(tokenizer, row)!r}, which needs <s>"
            " once, at its start, and no </s>"
        )
        raise StageFailed(
            Cause.CONFIG,
            "the chat template does not fit",
            why,
            "repair chat_template.jinja of the base model",
        )


def encode(tokenizer: Any, row: Row, max_length: int) -> list[Encoded]:
    """The row as token ids, each of at most `max_length`: a longer one is cut at its end and marked
    `truncated`.

    A conversation is one sequence, unless the template writes its first turns differently once more
    follow (Mistral's older ones move the system message to the last question): then each answer to
    learn is one, with what stands before it.
    """
    if row.is_document:
        ids = [tokenizer.bos_token_id, *plain_ids(tokenizer, row.text), tokenizer.eos_token_id]
        return [Encoded(ids, ((1, len(ids)),)).cut(max_length)]
    learnt = [number for number, turn in enumerate(row.messages) if turn.is_learnt]
    disguise = Disguise.of(tokenizer, [turn.content for turn in row.messages])
    messages = [
        {"role": turn.role, "content": disguise.put_on(turn.content)} for turn in row.messages
    ]
    whole = _conversation(tokenizer, disguise, messages, learnt)
    found = (
        [whole]
        if whole
        else [_last_answer(tokenizer, disguise, messages[: number + 1]) for number in learnt]
    )
    return [each.cut(max_length) for each in found]


def _conversation(
    tokenizer: Any, disguise: Disguise, messages: list[Message], learnt: Sequence[int]
) -> Encoded | None:
    """All turns as one sequence up to the last answer to learn; None where what the template writes
    for the first ones is no beginning of what it writes for all."""
    ids: list[int] = []
    spans, before = [], ""
    for number, message in enumerate(messages[: learnt[-1] + 1]):
        if message["role"] != "assistant":
            continue
        asked = _render(tokenizer, messages[:number])
        if not asked.startswith(before):
            return None
        ids += disguise.ids(tokenizer, asked[len(before) :])
        begin = len(ids)
        answer = _answer(tokenizer, asked, messages[: number + 1])
        ids += disguise.ids(tokenizer, answer)
        before = asked + answer
        if number in learnt:
            spans.append((begin, len(ids)))
    return Encoded(ids, tuple(spans))


def _last_answer(tokenizer: Any, disguise: Disguise, messages: list[Message]) -> Encoded:
    asked = _render(tokenizer, messages[:-1])
    before = disguise.ids(tokenizer, asked)
    ids = before + disguise.ids(tokenizer, _answer(tokenizer, asked, messages))
    return Encoded(ids, ((len(before), len(ids)),))


def _answer(tokenizer: Any, asked: str, messages: list[Message]) -> str:
    """The last message as the chat template writes an assistant's words, and the end of
    sequence."""
    whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    question, answer = (message["content"] for message in messages[-2:])
    return chat_templates.answer_in(whole, asked, question, answer, str(tokenizer.eos_token))


def _messages(turns: Sequence[Turn]) -> list[Message]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _render(tokenizer: Any, messages: list[Message]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
