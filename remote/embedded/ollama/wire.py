"""The shapes of Ollama's replies."""

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

Reply = dict[str, Any]


class Refusal(Exception):
    """A request that can't be served: the HTTP status and the words of `{"error": ...}`."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


def text_of(body: Mapping[str, Any], name: str) -> str:
    """A text of a request, empty where it is absent. Raises Refusal 400 for anything else."""
    return str(_of(body, name, str, "text") or "")


def object_of(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object of a request, in the same way."""
    return dict(_of(body, name, dict, "an object") or {})


def list_of(body: Mapping[str, Any], name: str) -> list[Any]:
    """A list of a request, in the same way."""
    return list(_of(body, name, list, "a list") or [])


def _of(body: Mapping[str, Any], name: str, kind: type, called: str) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise Refusal(400, f"{name}: expected {called}")
    return value


def now() -> str:
    """The present moment as Ollama writes it."""
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


def piece(model: str, text: str, is_chat: bool) -> Reply:
    """A part of an answer."""
    said: Reply = (
        {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}
    )
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
        whole["message"] = {
            "role": "assistant",
            "content": "".join(part["message"]["content"] for part in pieces),
        }
    else:
        whole["response"] = "".join(part["response"] for part in pieces)
    return whole


def rendering(model: str, prompt: str) -> Reply:
    """The prompt alone, for `_debug_render_only`."""
    return {
        "model": model,
        "created_at": now(),
        "_debug_info": {"rendered_template": prompt},
        "done": False,
    }
