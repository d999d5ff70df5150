"""docs/configuration.md, made from the models: one annotated table a section. `./inv config --docs`
prints it."""

import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from remote.contract.job.stages import STAGES, Stage
from remote.control.config import (
    data_raft,
    data_recipe,
    data_sources,
    data_steps,
    inventory,
    playbook,
    recipe,
)
from remote.control.config.options import Options
from remote.control.config.yaml.explain import fields_of
from remote.control.config.yaml.section import is_duration, written

_HEAD = """# Configuration

Made from the code by `./inv config --docs > docs/configuration.md`; a test keeps the two alike.
Unknown keys, wrong types and values out of range are findings with file and line: `./inv check`.
A time is written `90s`, `30m`, `12h` or `14d`.
Scalars follow YAML 1.2: `no` is text (write `false`), `2e-4` is a number, a gate stands in quotes
(`">0.75"`).
"""


def _type_of(model: type[BaseModel]) -> str:
    return str(model.model_fields["type"].default)


_PARTS: tuple[tuple[str, str, tuple[tuple[str, type[BaseModel]], ...]], ...] = (
    (
        "inventory.yaml",
        (
            "The boxes by name, Ollama, and storage. `./inv config` shows it with the defaults"
            " filled in."
        ),
        (
            ("the file", inventory.Inventory),
            ("a box with `provider: embedded`", inventory.EmbeddedEntry),
            ("a box with `provider: ec2`", inventory.Ec2Entry),
            ("a box with `provider: static`", inventory.StaticEntry),
            ("`clocks` of a box", inventory.Clocks),
            ("one of a box's `fallbacks`", inventory.Fallback),
            ("`bastion` of a box", inventory.Bastion),
            ("`ollama`", inventory.OllamaEntry),
            ("`storage`", inventory.StorageEntry),
            ("`ssh`", inventory.SshEntry),
            ("`push`", inventory.PushEntry),
        ),
    ),
    (
        "playbooks/NAME.yaml",
        "The stages of a run, their wiring and their gates.",
        (("the file", playbook.Playbook), ("a stage", playbook.StageEntry)),
    ),
    (
        "playbooks/recipes/NAME.yaml",
        (
            "How a model is trained. `extends: other.yaml` builds on another recipe beside this"
            " file: mappings merge, the rest replaces."
        ),
        (
            ("the file", recipe.Recipe),
            ("`base`", recipe.Base),
            ("`quantization`", recipe.Quantization),
            ("`lora`", recipe.Lora),
            ("`training`", recipe.Training),
            ("`pretraining`", recipe.Pretraining),
        ),
    ),
    (
        "playbooks/data/NAME.yaml",
        (
            "How rows are made. `extends: other.yaml` builds on another one beside this file. Files"
            " of the laptop travel to the box; `box:/path` is there already."
        ),
        (
            ("the file", data_recipe.DataRecipe),
            ("`split`", data_recipe.Split),
            ("`limits`", data_recipe.Limits),
            ("`outputs`", data_recipe.Outputs),
            ("`training`", data_recipe.TrainingToCome),
            *((f"a source with `type: {_type_of(each)}`", each) for each in data_sources.SOURCES),
            *((f"a step with `type: {_type_of(each)}`", each) for each in data_steps.STEPS),
            ("`teacher` of a step `raft`", data_raft.Teacher),
            ("`pages` of a source `database`", data_sources.Pages),
        ),
    ),
)


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, about, sections in _PARTS:
        parts.append(f"\n## `{title}`\n\n{about}\n")
        parts += [
            f"\n### {name}\n\n{_summary(model)}\n\n{_table(model)}" for name, model in sections
        ]
    parts.append(
        "\n## Stages\n\nThe words after `uses:`, with what may stand under `with:` and `gates:`. An"
        " input in brackets may be left out.\n"
    )
    parts += [_stage(stage) for stage in STAGES.values()]
    parts.append(f"\n### Options\n\n{_table(Options)}")
    return "".join(parts)


def values_of(section: BaseModel, before: str = "") -> list[tuple[str, str]]:
    """Each key of a section with its value, as one would write them: `clocks.idle`, `30m`; `-`
    where there is none."""
    rows: list[tuple[str, str]] = []
    for key, field in fields_of(type(section)).items():
        name = next(name for name, each in type(section).model_fields.items() if each is field)
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            rows += values_of(value, f"{before}{key}.")
        else:
            rows.append((f"{before}{key}", _told(value, field)))
    return rows


def _told(value: Any, field: FieldInfo) -> str:
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, list):
        return ", ".join(_told(each, field) for each in value)
    if isinstance(value, BaseModel):
        return " ".join(f"{key}={told}" for key, told in values_of(value) if told != "-")
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_told(each, field)}" for key, each in value.items())
    return written(value, field)


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _table(model: type[BaseModel]) -> str:
    rows = [
        f"| `{key}` | {_kind(field)} | {_default(field)} | {field.description} |\n"
        for key, field in fields_of(model).items()
    ]
    return "| key | value | default | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _default(field: FieldInfo) -> str:
    is_tag = get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    if field.is_required() or is_tag:
        return "required"
    value = field.default
    if value is None or value in ("", {}) or isinstance(value, BaseModel):
        return "-"
    return f"`{written(value, field)}`".replace("'", "")


def _kind(field: FieldInfo) -> str:
    limits = [_limit(rule, field) for rule in field.metadata]
    return " ".join(
        ["time" if is_duration(field) else _type(field.annotation), *filter(None, limits)]
    )


def _limit(rule: Any, field: FieldInfo) -> str:
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    limits = ((word, getattr(rule, key, None)) for key, word in words.items())
    return next(
        (f"{word} {written(limit, field)}" for word, limit in limits if limit is not None), ""
    )


_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Any: "text, number, true or false",
}


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if hasattr(annotation, "__metadata__"):
        arguments = arguments[:1]
    if hasattr(annotation, "__metadata__") or origin in (Union, types.UnionType):
        return " or ".join(
            dict.fromkeys(_type(member) for member in arguments if member is not type(None))
        )
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"name: {_type(arguments[1])}"
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return _WORDS.get(annotation) or ("section" if is_section else "path")


def _stage(stage: Stage) -> str:
    inputs = [
        *stage.inputs,
        *(f"[{name}]" for name in stage.optional),
        *(["any artifact, by any name"] if stage.any_input else []),
    ]
    rows = {
        "inputs": inputs,
        "options": stage.options,
        "outputs": stage.outputs,
        "gates on": stage.values,
    }
    where = "on the box" if stage.runs_on == "backend" else "on the laptop"
    recipe_line = "; needs a `recipe`" if stage.needs_recipe else ""
    lines = "".join(
        f"- {name}: {', '.join(f'`{item}`' for item in items)}\n"
        for name, items in rows.items()
        if items
    )
    return f"\n### `{stage.name}`\n\nRuns {where}: {stage.about}{recipe_line}.\n\n{lines}"
