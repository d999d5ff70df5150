"""Answers a chat or a prompt: options, prompt, tokens, and the stream of replies."""

import contextlib
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from remote.embedded.ollama import options, rendering, shape, wire
from remote.embedded.ollama.engine import Engine, Runner
from remote.embedded.ollama.shape import Shape
from remote.embedded.ollama.store import Stored
from remote.embedded.ollama.wire import Refusal, Reply

_NOT_HERE = ("images", "tools", "suffix", "think", "logprobs")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_FOREVER = 1e12


@dataclass(frozen=True)
class Question:
    """A request to /api/chat or /api/generate, read and checked."""

    stored: Stored
    name: str
    is_chat: bool
    messages: list[dict[str, str]]
    raw: str | None
    template: str
    options: dict[str, Any]
    keep_seconds: float | None
    shape: Shape | None
    render_only: bool

    @property
    def is_empty(self) -> bool:
        """Whether it only asks to load or unload."""
        return not self.raw and all(message["role"] == "system" for message in self.messages)


def read_question(stored: Stored, body: dict[str, Any], is_chat: bool) -> Question:
    """Check a request's body. Raises Refusal 400 for what is malformed or not to be had here."""
    for word in _NOT_HERE:
        if body.get(word):
            raise Refusal(400, f"the embedded Ollama does not support {word!r}")
    return Question(
        stored=stored,
        name=str(body.get("model") or body.get("name")),
        is_chat=is_chat,
        options=options.checked({**stored.manifest.parameters, **wire.object_of(body, "options")}),
        messages=_chat(stored, body) if is_chat else _prompt(stored, body),
        raw=wire.text_of(body, "prompt") if body.get("raw") and not is_chat else None,
        template=wire.text_of(body, "template") or stored.manifest.template,
        shape=shape.read(body.get("format")),
        keep_seconds=seconds(body.get("keep_alive")),
        render_only=bool(body.get("_debug_render_only")),
    )


async def answer(engine: Engine, question: Question) -> AsyncGenerator[Reply]:
    """The replies, one for each token that brings text, and the last with what was measured."""
    began = time.perf_counter_ns()
    if question.is_empty and question.keep_seconds == 0:
        await engine.unload(question.stored)
        yield wire.last(question.name, question.is_chat, "unload")
        return
    async with engine.using(
        question.stored, options.context_of(question.options), question.keep_seconds
    ) as runner:
        loaded = time.perf_counter_ns()
        if question.is_empty:
            yield wire.last(question.name, question.is_chat, "load")
            return
        prompt = (
            question.raw
            if question.raw is not None
            else await rendering.prompt_of(runner, question.messages, question.template)
        )
        if question.render_only:
            yield wire.rendering(question.name, prompt)
            return
        async with contextlib.aclosing(await _events(runner, question, prompt)) as events:
            async for event in events:
                if event.get("content"):
                    yield wire.piece(question.name, event["content"], question.is_chat)
                if event.get("stop"):
                    yield wire.last(
                        question.name,
                        question.is_chat,
                        _reason(event),
                        **_measured(event, began, loaded),
                    )


def seconds(keep_alive: Any) -> float | None:
    """`keep_alive` in seconds: a number, or Go's way to write a duration (`5m`, `1h30m`); negative
    is for ever, None is the default."""
    if keep_alive is None or keep_alive == "":
        return None
    if isinstance(keep_alive, bool) or not isinstance(keep_alive, str | int | float):
        raise Refusal(400, f"invalid keep_alive: {keep_alive!r}")
    text = str(keep_alive)
    if not re.fullmatch(r"-?[\d.]+|-?(?:[\d.]+(?:ns|us|µs|ms|s|m|h))+", text):
        raise Refusal(400, f"invalid keep_alive: {keep_alive!r}")
    if text.startswith("-"):
        return _FOREVER
    parts = re.findall(r"([\d.]+)(ns|us|µs|ms|s|m|h)", text)
    try:
        return (
            sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else float(text)
        )
    except ValueError as error:
        raise Refusal(400, f"invalid keep_alive: {keep_alive!r}") from error


async def _events(
    runner: Runner, question: Question, prompt: str
) -> AsyncGenerator[dict[str, Any]]:
    """The answer of llama.cpp as it comes; one of a given shape to a chat in the GGUF's own
    template is the chat endpoint's."""
    if question.shape:
        await shape.check(runner, question.shape)
        if question.raw is None and rendering.is_own(runner.stored, question.template):
            return shape.answer(runner, question.messages, question.shape, _sampling(question))
    return runner.stream("/completion", await _completion(runner, question, prompt))


def _sampling(question: Question) -> dict[str, Any]:
    taken = options.for_llama(question.options)
    # A prompt that is partly cached is computed in other pieces, and rounds otherwise: greedy
    # answers shall not depend on that.
    return {"cache_prompt": taken.get("temperature") != 0, **taken}


async def _completion(runner: Runner, question: Question, prompt: str) -> dict[str, Any]:
    """The request to llama.cpp. The prompt goes as tokens: a rendered template may begin with the
    BOS that llama.cpp adds too."""
    begins = runner.stored.gguf.special("bos")
    add_special = question.raw is None or not (begins and prompt.startswith(begins))
    if begins and question.raw is None and prompt.startswith(begins):
        prompt = prompt.removeprefix(begins)
    tokens = await runner.ask(
        "/tokenize", {"content": prompt, "add_special": add_special, "parse_special": True}
    )
    bound = {"grammar": await shape.grammar(runner, question.shape)} if question.shape else {}
    return {"prompt": tokens["tokens"], "stream": True, **_sampling(question), **bound}


def _reason(event: dict[str, Any]) -> str:
    return "length" if event.get("stop_type") == "limit" else "stop"


def _measured(event: dict[str, Any], began: int, loaded: int) -> dict[str, int]:
    timings = event.get("timings", {})
    return {
        "total_duration": time.perf_counter_ns() - began,
        "load_duration": loaded - began,
        "prompt_eval_count": int(event.get("tokens_evaluated", 0)),
        "prompt_eval_duration": int(timings.get("prompt_ms", 0) * 1e6),
        "eval_count": int(event.get("tokens_predicted", 0)),
        "eval_duration": int(timings.get("predicted_ms", 0) * 1e6),
    }


def _chat(stored: Stored, body: dict[str, Any]) -> list[dict[str, str]]:
    given = wire.list_of(body, "messages")
    messages = [*stored.manifest.messages, *(read_message(item) for item in given)] if given else []
    if messages and messages[0]["role"] != "system" and stored.manifest.system:
        return [{"role": "system", "content": stored.manifest.system}, *messages]
    return messages


def read_message(item: Any) -> dict[str, str]:
    """A message of a request: its role and its text, and nothing else. Raises Refusal 400."""
    if not isinstance(item, dict) or item.get("role") not in ("system", "user", "assistant"):
        raise Refusal(
            400,
            f"invalid message: {str(item)[:80]}; expected a role (system, user, assistant) and"
            " content",
        )
    if item.get("images") or item.get("tool_calls"):
        raise Refusal(400, "the embedded Ollama does not support images or tool calls")
    content = item.get("content") or ""
    if not isinstance(content, str):
        raise Refusal(400, "invalid message: content is not text")
    return {"role": item["role"], "content": content}


def _prompt(stored: Stored, body: dict[str, Any]) -> list[dict[str, str]]:
    prompt, system = (
        wire.text_of(body, "prompt"),
        wire.text_of(body, "system") or stored.manifest.system,
    )
    before = [{"role": "system", "content": system}] if system else []
    return (
        [*before, *stored.manifest.messages, {"role": "user", "content": prompt}] if prompt else []
    )
