"""Pydantic's errors as findings: where it stands, what was found, what was expected, what to
type."""

import re
import types
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from remote.control.config.yaml.section import NAME_PATTERN, is_duration, written
from remote.control.config.yaml.source import Keys, Source
from remote.control.errors import Finding
from remote.control.output.suggestion import suggestion

Model = TypeVar("Model", bound=BaseModel)

_MOST_FINDINGS = 200
"""Nobody reads more at once, and each costs a search among the known names."""

_LONGEST_VALUE = 100
"""Characters of a value that a finding repeats."""


def validate(model: type[Model], source: Source, findings: list[Finding]) -> Model | None:
    """The source as `model`, or None after adding a finding for each fault."""
    if source.value is None:
        return None
    try:
        return model.model_validate(source.value)
    except ValidationError as errors:
        findings.extend(
            _finding(error, model, source)
            for error in errors.errors(include_url=False)[:_MOST_FINDINGS]
        )
        return None


def faulty_keys(model: type[BaseModel], source: Source) -> list[Keys]:
    """The way to each value that `model` refuses."""
    try:
        model.model_validate(source.value)
    except ValidationError as errors:
        return [_keys(error["loc"], source.value) for error in errors.errors(include_url=False)]
    return []


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Findings as one reads a file: by file, then by line."""

    def place(finding: Finding) -> tuple[str, int]:
        file, _, line = finding.where.rpartition(":")
        return (file, int(line)) if line.isdigit() else (finding.where, 0)

    return sorted(findings, key=place)


def one_of(known: Sequence[str], most: int = 15) -> str:
    """`one of a, b, c`; of many boxes alike not each."""
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return f"one of {', '.join(known[:most])}{more}"


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a section as they are written in a file."""
    return {
        field.alias or name: field
        for name, field in model.model_fields.items()
        if not field.exclude
    }


def _finding(error: Any, model: type[BaseModel], source: Source) -> Finding:
    keys = _keys(error["loc"], source.value)
    where, shown = source.where(*keys), ".".join(str(key) for key in keys) or "the file"
    around, field = _field(model, keys, source.value)
    kind, last = error["type"], str(keys[-1]) if keys else ""
    if kind == "extra_forbidden":
        known = sorted(fields_of(around)) if around else []
        return Finding(
            where,
            f"unknown key `{shown}`",
            f"one of {', '.join(known)}",
            suggestion(last, known) or "remove it",
        )
    if kind == "missing":
        about = f"`{last}`: {field.description}" if field else f"`{last}`"
        example = (field.examples or ["..."])[0] if field else "..."
        return Finding(
            source.where(*keys[:-1]), f"`{shown}` is missing", about, f"add `{last}: {example}`"
        )
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _tag(error, where, shown, _tags(model, keys, source.value))
    if keys and error["loc"][-1] == "[key]":
        return Finding(
            where, f"the name `{last}`", "lower-case letters, digits and hyphens", "rename it"
        )
    expected = _expected(error, field)
    about = f" ({field.description})" if field and field.description else ""
    return Finding(
        where,
        f"`{shown}` is {_value(error['input'], field)}",
        expected + about,
        _remedy(error, last, field),
    )


_USUAL = ("embedded", "corpus", "deduplicate")
"""What is meant most often."""


def _tag(error: Any, where: str, shown: str, known: Sequence[str]) -> Finding:
    """A section of several sorts that does not say, or does not rightly say, of which it is."""
    name = error["ctx"]["discriminator"].strip("'")
    if error["type"] == "union_tag_not_found":
        return Finding(
            where,
            f"`{shown}.{name}` is missing",
            f"`{name}`: one of {', '.join(known)}",
            f"add `{name}: {next((tag for tag in _USUAL if tag in known), known[0])}`",
        )
    found = error["ctx"]["tag"]
    remedy = suggestion(str(found), known) or "name one of those"
    return Finding(
        where, f"`{shown}.{name}` is {_value(found, None)}", f"one of {', '.join(known)}", remedy
    )


def _tags(model: type[BaseModel], keys: Keys, value: Any) -> list[str]:
    """What the sections are called that may stand at the end of that way."""
    around = _annotation(model, keys, value)
    if hasattr(around, "__metadata__"):
        around = get_args(around)[0]
    return sorted(str(_tag_of(member)) for member in get_args(around) if _tag_of(member))


def _keys(location: Sequence[str | int], value: Any) -> Keys:
    """Pydantic's location without the tags of unions and keys that it puts between."""
    keys: list[str | int] = []
    for index, part in enumerate(location):
        is_there = isinstance(value, list) or (isinstance(value, dict) and part in value)
        if is_there:
            value = value[part]
            keys.append(part)
        elif index == len(location) - 1 and part != "[key]":
            keys.append(part)
    return tuple(keys)


def _field(
    model: type[BaseModel], keys: Keys, value: Any
) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The section around the last key, and the field it names."""
    around: Any = model
    field: FieldInfo | None = None
    section: type[BaseModel] | None = None
    for key in keys:
        around = _choose(around, value)
        section, field = None, None
        if isinstance(around, type) and issubclass(around, BaseModel):
            section = around
            field = fields_of(around).get(str(key))
        around, value = _inside(around, key), _at(value, key)
    return section, field


def _annotation(model: type[BaseModel], keys: Keys, value: Any) -> Any:
    """What may stand at the end of a way."""
    around: Any = model
    for key in keys:
        around = _inside(_choose(around, value), key)
        value = _at(value, key)
    return around


def _inside(around: Any, key: str | int) -> Any:
    """What may stand under a key of a section, a mapping or a list."""
    if isinstance(around, type) and issubclass(around, BaseModel):
        field = fields_of(around).get(str(key))
        return field.annotation if field else None
    arguments = get_args(around)
    return arguments[-1] if arguments else None


def _at(value: Any, key: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(key)
    is_there = isinstance(value, list) and isinstance(key, int) and key < len(value)
    return value[key] if is_there else None


def _choose(annotation: Any, value: Any) -> Any:
    """The member of an annotation that `value` means: without Annotated and None, by `provider` or
    `type` among several."""
    if hasattr(annotation, "__metadata__"):
        return _choose(get_args(annotation)[0], value)
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    members = [member for member in get_args(annotation) if member is not type(None)]
    wanted = (value.get("provider"), value.get("type")) if isinstance(value, dict) else ()
    chosen = [member for member in members if _tag_of(member) in wanted]
    return _choose((chosen or members)[0], value)


def _tag_of(member: Any) -> Any:
    """What a section is called among several sorts."""
    if not (isinstance(member, type) and issubclass(member, BaseModel)):
        return None
    field = member.model_fields.get("provider") or member.model_fields.get("type")
    return field.default if field else None


def _value(value: Any, field: FieldInfo | None) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    told = written(value, field) if isinstance(value, float) and is_duration(field) else repr(value)
    return told if len(told) <= _LONGEST_VALUE else f"{told[:_LONGEST_VALUE]}…"


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "finite_number": "a finite number",
    "path_type": "a path",
}
_PATTERNS = {
    r"^[a-z]{2}(-[a-z]+)+-\d$": "a region such as us-east-1",
    r"^hf://[^@\s]+@[0-9a-f]{40}$": "`hf://NAME@` and the 40 digits of a commit",
    r"^https?://": "an address such as http://127.0.0.1:11434",
    r"^[a-z0-9-]+\.[a-z0-9-]+$": "an instance type such as g5.2xlarge",
    NAME_PATTERN: "lower-case letters, digits and hyphens",
}


def _expected(error: Any, field: FieldInfo | None) -> str:
    kind = error["type"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "string_pattern_mismatch":
        pattern = error["ctx"]["pattern"]
        return _PATTERNS.get(pattern, f"text that matches {pattern}")
    if kind in ("too_short", "dict_too_short"):
        return "at least one"
    plain = re.sub(r"^Input should be ", "", error["msg"])
    bound = next(
        (error["ctx"][name] for name in ("ge", "gt", "le", "lt") if name in error.get("ctx", ())),
        None,
    )
    if bound is not None:
        plain = re.sub(r"\S+$", written(bound, field), plain)
    return _EXPECTED.get(kind) or plain[:1].lower() + plain[1:]


def _remedy(error: Any, last: str, field: FieldInfo | None) -> str:
    return (
        _rewritten(error["type"], error["input"], last)
        or _chosen(error)
        or _example(last, field)
        or "correct the value"
    )


def _rewritten(kind: str, found: Any, last: str) -> str:
    """The same value written as it should have been, where that is plain."""
    if kind == "string_type" and isinstance(found, int | float):
        return f'put it in quotes: `{last}: "{str(found).lower()}"`'
    if kind == "bool_type" and isinstance(found, str):
        return (
            f"write `{last}: {'true' if found.lower() in ('yes', 'on', 'y', 'true') else 'false'}`"
        )
    if (
        kind in ("int_type", "float_type")
        and isinstance(found, str)
        and re.fullmatch(r"[-+.\deE]*\d", found)
    ):
        return f"remove the quotes: `{last}: {found}`"
    if kind in ("int_type", "int_from_float") and isinstance(found, float) and found.is_integer():
        return f"write `{last}: {int(found)}`"
    return (
        f"write a list: `{last}: [{found}]`"
        if kind == "list_type" and isinstance(found, str)
        else ""
    )


def _chosen(error: Any) -> str:
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return ""
    return suggestion(error["input"], re.findall(r"'([^']+)'", error["msg"])) or "name one of those"


def _example(last: str, field: FieldInfo | None) -> str:
    if field is None:
        return ""
    value = field.examples[0] if field.examples else field.default
    if not isinstance(value, str | int | float):
        return ""
    return f"write, for example, `{last}: {written(value, field)}`"
