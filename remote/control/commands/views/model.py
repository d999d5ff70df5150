"""Models in Ollama, as tables and lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from remote.control.output.sanitize import sized

MODELS = ("model", "size", "since", "digest")
"""The heads of `models`."""

LOADED = ("model", "size", "until")
"""The heads of `loaded`."""


def models(tags: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The models of a server, as `Ollama.tags` lists them."""
    return [
        (model["name"], sized(model["size"]), model["modified_at"][:19], model["digest"][:12])
        for model in tags
    ]


def server(facts: dict[str, Any]) -> str:
    """Which Ollama is meant, as `find.describe` tells."""
    kind = facts["kind"]
    if not facts["running"]:
        return f"{kind}: not running; `./inv model.up` starts it"
    return f"{kind} at {facts['url']}, version {facts['version']}"


def loaded(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    """The models in its memory."""
    return [
        (model["name"], sized(model["size"]), str(model.get("expires_at"))[:19])
        for model in facts["loaded"]
    ]


def installed(facts: dict[str, Any], file: Path) -> list[str]:
    """What `install` made of a file, what it answered, and how to go on asking."""
    how = "stood there already" if facts["reused"] else "is installed"
    return [
        f"{facts['model']} {how} in {facts['url']} from {file}",
        f"asked:    {facts['prompt']}\nanswered: {facts['answer'].strip()}",
        f'talk to it: ./inv model.ask {facts["model"]} "..."',
    ]
