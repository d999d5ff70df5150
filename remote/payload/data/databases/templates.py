"""Templates of a recipe: Jinja2 in its sandbox, over the values of one row. Needs jinja2."""

import json
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import cached_property
from typing import Any


class BadTemplate(ValueError):
    """A template that is none, or cannot be filled with this row; says why."""


class Templates:
    """The templates of some fields. A name that a row does not have is an error, not an empty
    text."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)

    def filled(self, values: Mapping[str, Any]) -> dict[str, str]:
        """The text of each field. Raises BadTemplate."""
        found = {}
        for name, template in self._compiled.items():
            try:
                found[name] = template.render(values)
            except MemoryError:
                raise
            except Exception as error:  # whatever a template may do wrong with a row
                raise BadTemplate(f"template `{name}`: {error}") from None
        return found

    @property
    def names(self) -> set[str]:
        """What the templates ask for. Raises BadTemplate where one is none."""
        from jinja2 import TemplateSyntaxError, meta

        found: set[str] = set()
        for name, text in self._texts.items():
            try:
                found |= meta.find_undeclared_variables(self._surroundings.parse(text))
            except TemplateSyntaxError as error:
                raise BadTemplate(f"template `{name}`, line {error.lineno}: {error}") from None
        return found

    @cached_property
    def _compiled(self) -> dict[str, Any]:
        return {name: self._surroundings.from_string(text) for name, text in self._texts.items()}

    @cached_property
    def _surroundings(self) -> Any:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        made = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        made.filters |= {"digits": digits, "tojson": _json}  # Jinja's own tojson escapes for HTML
        made.globals = {"range": made.globals["range"], "namespace": made.globals["namespace"]}
        return made


def digits(value: Any, count: int = 2) -> str:
    """A number with so many digits behind the point, half rounded up: the same from each database,
    which give 0.9, Decimal("0.90"), or "0.9". Raises ValueError for what is none."""
    try:
        number = Decimal(str(value))
        if isinstance(value, bool) or not number.is_finite():
            raise InvalidOperation
        return str(number.quantize(Decimal(1).scaleb(-count), ROUND_HALF_UP))
    except InvalidOperation:
        raise ValueError(f"{value!r} is no number") from None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
