"""Gives a name back to the model that stood before."""

from typing import Any

from remote.control.errors import OllamaError
from remote.control.serving import names
from remote.control.serving.ollama import Ollama


def rollback(client: Ollama, name: str) -> dict[str, Any]:
    """Make `name` stand for `name:previous` again, in one step. A second call changes nothing.
    Raises OllamaError when there is none."""
    current, previous = names.full(name), names.sibling(name, "previous")
    kept = client.digest_of(previous)
    if not kept:
        raise OllamaError(
            f"{current} has no earlier version to go back to",
            where=client.url,
            why=f"there is no {previous}",
            remedy=f"`./inv model.remove {name}` takes it away altogether",
            kept=f"{current} as it is",
        )
    changed = client.digest_of(current) != kept
    client.copy(previous, current)
    return {"model": current, "digest": kept, "url": client.url, "changed": changed}
