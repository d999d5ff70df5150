"""What a data recipe says of files: on the laptop, on the box (`box:/path`), or elsewhere
(`s3://bucket/prefix/`). Those of the laptop travel to the box as inputs of the job."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from remote.control import project
from remote.control.config.yaml.source import Keys

BOX = "box:"
_ELSEWHERE = (BOX, "s3://", "hf://", "http://", "https://")
_OWN_FOLDERS = ("shared/", "jobs/", "releases/")
INPUT = "input:"
"""Stands before the name of a job's input, where the recipe as the box gets it names a file of the
laptop."""


@dataclass(frozen=True)
class _Travels:
    """Marks a field that may name a file of the laptop."""

    is_rows: bool = False


@dataclass(frozen=True)
class _IsSecret:
    """Marks a field that names a variable."""


DataFile = Annotated[str, _Travels()]
"""A file or folder of the laptop, `box:/path`, or one elsewhere."""

RowsFile = Annotated[str, _Travels(is_rows=True)]
"""The same, of rows."""

SecretName = Annotated[str, Field(pattern=r"^([A-Z_][A-Z0-9_]*)?$"), _IsSecret()]
"""The name of a variable of the laptop's environment, which the job gets; empty for none."""

NAMES_A_FILE = _Travels()
"""Marks a field that is such a word, or something else."""


@dataclass(frozen=True)
class NamedFile:
    """A file or folder of the laptop that a recipe names; `name` is the input that it becomes."""

    keys: Keys
    value: str
    is_rows: bool

    @property
    def name(self) -> str:
        """Its input's name: `sources-1-path`."""
        return "-".join(str(key + 1 if isinstance(key, int) else key) for key in self.keys)

    @property
    def word(self) -> str:
        """What stands for it in a stage's wiring, where `stage.output` would be something else."""
        return self.value if "/" in self.value else f"./{self.value}"

    @property
    def path(self) -> Path:
        """Where it lies, or would."""
        return project.find_file(self.value)


def files_of(section: BaseModel) -> Iterator[NamedFile]:
    """The files of the laptop that a section and those in it name, in order."""
    return (file for file in _named(section) if not file.value.startswith(_ELSEWHERE))


def on_box(section: BaseModel) -> Iterator[NamedFile]:
    """The files of the box that they name: `value` is the path there."""
    for file in _named(section):
        if file.value.startswith(BOX):
            yield replace(file, value=place_on_box(file.value))


def secrets_of(section: BaseModel) -> Iterator[tuple[Keys, str]]:
    """The variables that fields of a section and those in it name, each with its way."""
    return ((keys, value) for keys, value, _ in _marked(section, (), _IsSecret))


def place_on_box(value: str) -> str:
    """The path of `box:/path`, `box:~/path`; `box:path` is relative to the login's home, as `scp`
    has it. What begins as Windlass's own folders do is relative to its root there."""
    path = value.removeprefix(BOX)
    return path if path.startswith(("/", "~", *_OWN_FOLDERS)) else f"~/{path}"


def _named(section: BaseModel) -> Iterator[NamedFile]:
    return (
        NamedFile(keys, value, mark.is_rows) for keys, value, mark in _marked(section, (), _Travels)
    )


def _marked(section: BaseModel, keys: Keys, kind: type[Any]) -> Iterator[tuple[Keys, str, Any]]:
    """The words in fields that are marked so, with their way and their mark."""
    for name, field in type(section).model_fields.items():
        value, here = getattr(section, name), (*keys, field.alias or name)
        mark = next((each for each in field.metadata if isinstance(each, kind)), None)
        if mark is not None and isinstance(value, str) and value:
            yield here, value, mark
        elif isinstance(value, BaseModel):
            yield from _marked(value, here, kind)
        elif isinstance(value, list):
            for number, each in enumerate(value):
                if isinstance(each, BaseModel):
                    yield from _marked(each, (*here, number), kind)


def put(plain: Any, keys: Keys, value: str) -> None:
    """Put a value into a recipe of plain JSON."""
    for key in keys[:-1]:
        plain = plain[key]
    plain[keys[-1]] = value
