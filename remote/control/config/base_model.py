"""A line of `models:` in the inventory: which base model a box shall have, and from where."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from remote.control.config.inventory import BoxEntry, HostEntry, place
from remote.control.config.machines import machine
from remote.control.errors import ConfigError, Finding

_HUB = re.compile(r"(?:(?P<name>[\w./-]+)=)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_S3 = re.compile(
    r"(?:(?P<name>[\w./-]+)=)?s3://(?P<bucket>[a-z0-9][a-z0-9.-]+)/(?P<prefix>[^\s?#]+?)/?"
)
_PRETRAINED = "windlass/"
"""How the names of base models begin that no hub has: a `pretrain` stage makes them on the box."""
_EXPECTED = "`mistralai/Mistral-7B-v0.3`, that with `@REVISION`, or `NAME=s3://bucket/folder/`"


@dataclass(frozen=True)
class ModelSpec:
    """`name` is what recipes call it; from the hub (`repo`, perhaps at a `revision`) or a `bucket`
    under a `prefix`; `text` as written."""

    text: str
    name: str
    repo: str = ""
    revision: str = ""
    bucket: str = ""
    prefix: str = ""


def of_entry(entry: BoxEntry) -> list[ModelSpec]:
    """The base models that the inventory wants on a box. Raises ConfigError with every line that is
    off."""
    if isinstance(entry, HostEntry):
        return []
    return parsed(entry.models, place("boxes", entry.name, "models"))


def parsed(texts: list[str], where: str) -> list[ModelSpec]:
    """The models behind such lines. Raises ConfigError with every one that is off."""
    specs = {text: _parse(text) for text in texts}
    off = [text for text, spec in specs.items() if spec is None]
    if off:
        raise ConfigError(
            [
                Finding(where, f"`{text}` names no base model", _EXPECTED, "correct it")
                for text in off
            ]
        )
    return [spec for spec in specs.values() if spec]


def steps(bases: Iterable[Mapping[str, Any]], entry: BoxEntry) -> list[str]:
    """How each base model of recipes (`name`, and `path` or None) gets onto a box, with the
    command: no run brings it there itself."""
    listed = {spec.name for spec in of_entry(entry)}
    found = {str(base["name"]): base.get("path") for base in bases}
    return [_step(name, path, entry.name, name in listed) for name, path in found.items()]


def after_launch(entry: BoxEntry) -> str:
    """What a new box wants before its first run, with the command; empty for one without a GPU that
    lists no base model, and for a host that stands."""
    if isinstance(entry, HostEntry):
        return ""
    if specs := of_entry(entry):
        names = ", ".join(spec.name for spec in specs)
        return (
            f"once it is up: `./inv box.setup {entry.name}` brings its base models ({names}), which"
            " no launch and no run does"
        )
    kind = machine(entry.instance_type)
    if kind is None or not kind.gpu:
        return ""
    example = f"`./inv box.setup {entry.name} --model mistralai/Mistral-7B-v0.3`"
    return (
        f"no base model is listed under `models:` of {entry.name}: once it is up, {example} brings"
        " the one that your recipe names"
    )


def _step(name: str, path: str | None, box: str, is_listed: bool) -> str:
    if is_listed:
        return (
            f"base model {name}: `./inv box.setup {box}` brings it onto the box, once that runs and"
            " before the first run there"
        )
    if name.startswith(_PRETRAINED):
        return (
            f"base model {name} is made on the box by a `pretrain` stage: `./inv demo` makes it"
            " where it is missing"
        )
    at = f"is expected at {path} on the box, and" if path else "is expected on the box, and"
    return (
        f"base model {name} {at} no `models:` of {box} lists it: `./inv box.setup {box} --model"
        f" {name}` brings it, once the box runs; one that lies there in another folder: `./inv"
        f" box.setup {box} --adopt FOLDER --name {name}`"
    )


def _parse(text: str) -> ModelSpec | None:
    if found := _S3.fullmatch(text):
        prefix = found["prefix"]
        return ModelSpec(
            text,
            found["name"] or prefix.rsplit("/", 1)[-1],
            bucket=found["bucket"],
            prefix=f"{prefix}/",
        )
    if found := _HUB.fullmatch(text):
        return ModelSpec(
            text,
            found["name"] or found["repo"],
            repo=found["repo"],
            revision=found["revision"] or "",
        )
    return None
