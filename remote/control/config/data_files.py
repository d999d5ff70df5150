"""What a data recipe says of files: on the laptop, on the box (`box:/path`), or elsewhere
(`s3://bucket/prefix/`). Those of the laptop travel to the box as inputs of the job."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel

from remote.control import project

_ELSEWHERE = ("box:", "s3://", "hf://", "http://", "https://")
INPUT = "input:"
"""Stands before the name of a job's input, where the recipe as the box gets it names a file of the
laptop."""


@dataclass(frozen=True)
class _Travels:
    """Marks a field that may name a file of the laptop."""


DataFile = Annotated[str, _Travels()]
"""A file or folder of the laptop, `box:/path`, or one elsewhere."""


@dataclass(frozen=True)
class NamedFile:
    """A file or folder of the laptop that a recipe names; `name` is the input that it becomes."""

    keys: tuple[str | int, ...]
    value: str

    @property
    def name(self) -> str:
        """Its input's name: `sources-1-path`."""
        return "-".join(str(key + 1 if isinstance(key, int) else key) for key in self.keys)

    @property
    def path(self) -> Path:
        """Where it lies, or would."""
        return project.find_file(self.value)


def files_of(section: BaseModel, keys: tuple[str | int, ...] = ()) -> Iterator[NamedFile]:
    """The files of the laptop that a section and those in it name, in order."""
    for name, field in type(section).model_fields.items():
        value, here = getattr(section, name), (*keys, field.alias or name)
        if any(isinstance(mark, _Travels) for mark in field.metadata):
            if value and not value.startswith(_ELSEWHERE):
                yield NamedFile(here, value)
        elif isinstance(value, BaseModel):
            yield from files_of(value, here)
        elif isinstance(value, list):
            for number, each in enumerate(value):
                if isinstance(each, BaseModel):
                    yield from files_of(each, (*here, number))


def put(plain: Any, keys: tuple[str | int, ...], value: str) -> None:
    """Put a value into a recipe of plain JSON."""
    for key in keys[:-1]:
        plain = plain[key]
    plain[keys[-1]] = value
