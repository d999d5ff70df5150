"""The shapes of Ollama's replies."""

from datetime import datetime, timezone
from typing import Any

Reply = dict[str, Any]


class Refusal(Exception):
    """A request that can't be served: the HTTP status and the words of `{"error": ...}`."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


def now() -> str:
    """The present moment as Ollama writes it."""
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


def piece(model: str, text: str, is_chat: bool) -> Reply:
    """A part of an answer."""
    said: Reply = {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}
    return {"model": model, "created_at": now(), **said, "done": False}


def last(model: str, is_chat: bool, reason: str, **measured: int) -> Reply:
    """The end of an answer; durations in nanoseconds."""
    return {**piece(model, "", is_chat), "done": True, "done_reason": reason, **measured}


def joined(pieces: list[Reply], is_chat: bool) -> Reply:
    """The whole answer out of its parts, for a caller who did not want it streamed."""
    whole = dict(pieces[-1])
    if not whole["done"]:
        return whole
    if is_chat:
        whole["message"] = {"role": "assistant", "content": "".join(part["message"]["content"] for part in pieces)}
    else:
        whole["response"] = "".join(part["response"] for part in pieces)
    return whole


def rendering(model: str, prompt: str) -> Reply:
    """The prompt alone, for `_debug_render_only`."""
    return {"model": model, "created_at": now(), "_debug_info": {"rendered_template": prompt}, "done": False}
