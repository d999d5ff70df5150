"""What every section of a configuration file has in common."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from remote.control.output.sanitize import number


class Section(BaseModel):
    """A section: no unknown keys, no silent conversions, never changed after loading."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        populate_by_name=True,
        allow_inf_nan=False,
        validate_default=False,
    )


def _path(value: Any) -> Any:
    try:
        return Path(value).expanduser() if isinstance(value, str) else value
    except RuntimeError:
        raise ValueError("a path of this laptop: it has no user of that name") from None


def _plain(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("text, a number, true or false")
    return value


_FOR_EVER = 10**12
"""More seconds than any clock of ours counts; a number with hundreds of digits is no float."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: Any) -> Any:
    """`90s`, `30m`, `12h`, `14d` as seconds. Raises ValueError for anything else but a number,
    which stands for seconds already."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(min(value, _FOR_EVER))
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value) if isinstance(value, str) else None
    if not found:
        raise ValueError("a time such as `90s`, `30m`, `12h` or `14d`")
    return float(found[1]) * _SECONDS[found[2]]


def length(amount: float) -> str:
    """So many seconds as `seconds` reads them: `90s`, `30m`, `12h`, `14d`."""
    for unit, size in reversed(_SECONDS.items()):
        if amount >= size and amount % size == 0:
            return f"{amount // size:.0f}{unit}"
    return f"{number(amount)}s"


def is_duration(field: FieldInfo | None) -> bool:
    """Whether a field of a section is a length of time."""
    return field is not None and any(
        getattr(rule, "func", None) is seconds for rule in field.metadata
    )


def written(value: Any, field: FieldInfo | None) -> str:
    """A plain value as one writes it into the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return length(value) if is_duration(field) else number(value)
    return str(value)


_LOGIN = re.compile(r"""(?![-=#])[^\s\x00-\x1f\x7f'`";&<>|(){}%]+(?<!\\)""")
_HOST = re.compile(r"(?!-)[A-Za-z0-9._:-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*%[A-Za-z0-9._-]+")


def _login(value: str) -> str:
    if not _LOGIN.fullmatch(value):
        raise ValueError(
            "a login name as ssh takes it: without spaces, quotes, `%` and shell characters, and"
            " with no `-` before it"
        )
    return value


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(
            "a name or an address, such as `gpu.example.org`, `192.0.2.7`, `2001:db8::7` or"
            " `fe80::7%eth0`"
        )
    return value


Duration = Annotated[float, BeforeValidator(seconds)]
"""A length of time in seconds, written as `90s`, `30m`, `12h` or `14d`."""

LaptopPath = Annotated[Path, BeforeValidator(_path)]
"""A path on the laptop; `~` is the home folder."""

Login = Annotated[str, AfterValidator(_login)]
"""A login name, as OpenSSH takes it: `ubuntu`, `DOM\\user`, `user@dom`, `1abc`."""

Host = Annotated[str, AfterValidator(_host)]
"""A host's name, alias or address; an IPv6 address with its scope too: `fe80::7%eth0`."""

Plain = Annotated[Any, AfterValidator(_plain)]
"""Text, a number, true or false."""

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""A name that is safe in shells, folders and tags: lower-case letters, digits, hyphens."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of a whole."""

Count = Annotated[int, Field(ge=1)]
"""A whole number from 1."""
