"""Model names as Ollama writes them: `[host/][namespace/]model[:tag]`, `latest` where no tag
stands."""

import re

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAME = re.compile(rf"(?:{_PART}(?::\d+)?/)?(?:{_PART}/)?{_PART}(?::{_PART})?")


def is_valid(name: str) -> bool:
    """Whether Ollama would take `name`."""
    return bool(_NAME.fullmatch(name))


def full(name: str) -> str:
    """The name with its tag: `researcher` is `researcher:latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def sibling(name: str, word: str) -> str:
    """The name under which a relative of `name` is kept: `researcher:previous`,
    `researcher:v2-previous`."""
    model, _, tag = full(name).rpartition(":")
    return f"{model}:{word}" if tag == "latest" else f"{model}:{tag}-{word}"
