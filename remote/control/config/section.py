"""What every section of a configuration file has in common."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A section: no unknown keys, no silent conversions, never changed after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True, allow_inf_nan=False, validate_default=False)


def _path(value: Any) -> Any:
    return Path(value).expanduser() if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("text, a number, true or false")
    return value


LaptopPath = Annotated[Path, BeforeValidator(_path)]
"""A path on the laptop; `~` is the home folder."""

Plain = Annotated[Any, AfterValidator(_plain)]
"""Text, a number, true or false."""

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""A name that is safe in shells, folders and tags: lower-case letters, digits, hyphens."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of a whole."""

Count = Annotated[int, Field(ge=1)]
"""A whole number from 1."""
