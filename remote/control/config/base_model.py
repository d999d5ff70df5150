"""A line of `models:` in the inventory: which base model a box shall have, and from where."""

import re
from dataclasses import dataclass
from typing import Any

from remote.control.config.inventory import place
from remote.control.errors import ConfigError, Finding

_HUB = re.compile(r"(?:(?P<name>[\w./-]+)=)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_S3 = re.compile(r"(?:(?P<name>[\w./-]+)=)?s3://(?P<bucket>[a-z0-9][a-z0-9.-]+)/(?P<prefix>[^\s?#]+?)/?")
_EXPECTED = "`mistralai/Mistral-7B-v0.3`, that with `@REVISION`, or `NAME=s3://bucket/folder/`"


@dataclass(frozen=True)
class ModelSpec:
    """`name` is what recipes call it; from the hub (`repo`, perhaps at a `revision`) or a `bucket` under a `prefix`; `text` as written."""

    text: str
    name: str
    repo: str = ""
    revision: str = ""
    bucket: str = ""
    prefix: str = ""


def of_entry(entry: Any) -> list[ModelSpec]:
    """The base models that the inventory wants on a box. Raises ConfigError with every line that is off."""
    where = place("boxes", entry.name, "models")
    return parsed(getattr(entry, "models", []), where)


def parsed(texts: list[str], where: str) -> list[ModelSpec]:
    """The models behind such lines. Raises ConfigError with every one that is off."""
    specs = {text: _parse(text) for text in texts}
    off = [text for text, spec in specs.items() if spec is None]
    if off:
        raise ConfigError([Finding(where, f"`{text}` names no base model", _EXPECTED, "correct it") for text in off])
    return [spec for spec in specs.values() if spec]


def _parse(text: str) -> ModelSpec | None:
    if found := _S3.fullmatch(text):
        prefix = found["prefix"]
        return ModelSpec(text, found["name"] or prefix.rsplit("/", 1)[-1], bucket=found["bucket"], prefix=f"{prefix}/")
    if found := _HUB.fullmatch(text):
        return ModelSpec(text, found["name"] or found["repo"], repo=found["repo"], revision=found["revision"] or "")
    return None
