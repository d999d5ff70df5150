"""Answers of a given shape: what `format` of a request asks for, by the grammar that llama.cpp's
chat endpoint makes of a JSON schema.

Its plain completion endpoint takes a schema by another road (llguidance), where white space is free
and a schema that it does not know is passed over: a good model then writes blank lines for ever, or
prose. So an answer goes through the chat endpoint, as in Ollama; where the prompt is not the GGUF's
own template's (`raw`, a Modelfile's TEMPLATE), the chat endpoint is asked for its grammar.
"""

import contextlib
import json
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from remote.embedded.ollama.engine import Runner
from remote.embedded.ollama.wire import Refusal

MAX_SCHEMA = 1 << 16
"""Characters of a JSON schema."""

Shape = dict[str, Any]

_ANY = [{"role": "user", "content": "-"}]
_ROOT = re.compile(r"^root ::= .*$", re.MULTILINE)


def read(given: Any) -> Shape | None:
    """`format` as the `response_format` of llama.cpp's chat endpoint. Raises Refusal 400 for what
    is neither "json" nor a schema."""
    if given is None or given == "":
        return None
    if given == "json":
        return {"type": "json_object"}
    if not isinstance(given, dict):
        raise Refusal(400, f'invalid format: {str(given)[:80]!r}; expected "json" or a JSON schema')
    text = json.dumps(
        given, sort_keys=True
    )  # as Ollama hands it on: so the keys of an answer come by the alphabet
    if len(text) > MAX_SCHEMA:
        raise Refusal(
            400, f"invalid format: the JSON schema has more than {MAX_SCHEMA:,} characters"
        )
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(text)}}


async def check(runner: Runner, shape: Shape) -> None:
    """Refuse a schema that llama.cpp does not take, or not in time."""
    await runner.ask("/apply-template", {"messages": _ANY, "response_format": shape})


async def answer(
    runner: Runner, messages: Sequence[dict[str, str]], shape: Shape, options: dict[str, Any]
) -> AsyncGenerator[dict[str, Any]]:
    """The events of an answer to a chat, as the completion endpoint has them: `content`, and at
    last `stop` with what was measured."""
    more = {"stream": True, "stream_options": {"include_usage": True}, "reasoning_format": "none"}
    ended = None
    wish = {"messages": list(messages), "response_format": shape, **more, **options}
    async with contextlib.aclosing(runner.stream("/v1/chat/completions", wish)) as events:
        async for event in events:
            for choice in event["choices"]:
                ended = choice["finish_reason"] or ended
                yield {"content": choice["delta"].get("content")}
            if "usage" in event:
                used = {
                    "tokens_evaluated": event["usage"]["prompt_tokens"],
                    "tokens_predicted": event["usage"]["completion_tokens"],
                }
                yield {
                    "stop": True,
                    "stop_type": "limit" if ended == "length" else "eos",
                    "timings": event["timings"],
                    **used,
                }


async def grammar(runner: Runner, shape: Shape) -> str:
    """The grammar of the chat endpoint for a shape, without the alternative of a fenced block,
    which only that endpoint takes off again."""
    wish = {
        "messages": _ANY,
        "response_format": shape,
        "n_predict": 0,
        "verbose": True,
        "stream": False,
    }
    settings = (await runner.ask_in_turn("/v1/chat/completions", wish))["__verbose"][
        "generation_settings"
    ]
    return _ROOT.sub("root ::= space space response-format space", settings["grammar"])
