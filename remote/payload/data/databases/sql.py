"""A query of a recipe: its named parameters, and the order that it says it has. No parser: what
stands in quotes and comments is blanked, and the rest is looked at by words. Standard library only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_QUOTED = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/", re.DOTALL
)
_PARAMETER = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")
_ORDER = re.compile(r"\border\s+by\b", re.IGNORECASE)
_AFTER_ORDER = re.compile(r"\b(limit|offset|fetch|for)\b", re.IGNORECASE)
_TERM = re.compile(
    r"(?P<what>.+?)(?P<way>\s+(?:asc|desc))?(?P<nulls>\s+nulls\s+(?:first|last))?",
    re.IGNORECASE | re.DOTALL,
)
_NAME = re.compile(r"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)")
_QUOTED_NAME = re.compile(r"(?:[A-Za-z_]\w*\.|\"(?:[^\"]|\"\")*\"\.)*\"((?:[^\"]|\"\")*)\"")


class BadQuery(ValueError):
    """A query that cannot be used; says why, for people."""


@dataclass(frozen=True)
class Term:
    """One of what a query is ordered by: a column of its result, and ` DESC NULLS LAST` and the
    like."""

    column: str
    way: str = ""

    @property
    def sql(self) -> str:
        """As it stands behind ORDER BY."""
        return f"{quoted(self.column)}{self.way}"


@dataclass(frozen=True)
class Query:
    """The text of one SELECT, and the values of its parameters, which are written `:name`."""

    text: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, parameters: Mapping[str, Any] | None = None) -> "Query":
        """The query, without a semicolon at its end. Raises BadQuery."""
        blank = _blanked(text).rstrip()
        while blank.endswith(";"):
            blank = blank[:-1].rstrip()
        if ";" in blank:
            raise BadQuery("is more than one statement")
        if not re.match(r"\s*(select|with|values|from)\b", blank, re.IGNORECASE):
            raise BadQuery("is no SELECT")
        if _depth(blank):
            raise BadQuery("has a bracket too many or too few")
        query = cls(text[: len(blank)], dict(parameters or {}))
        for name in query.names:
            if name not in query.parameters:
                raise BadQuery(f"asks for :{name}, which `parameters` does not have")
            if query.parameters[name] == []:
                raise BadQuery(f"asks for :{name}, and `parameters` has an empty list of it")
        return query

    @property
    def names(self) -> list[str]:
        """The parameters that it asks for."""
        return _PARAMETER.findall(_blanked(self.text))

    def order(self, columns: Sequence[str]) -> tuple[Term, ...]:
        """What it is ordered by, as columns of its result. Raises BadQuery where it has no ORDER
        BY, or one by something else, by which nobody can see whether it is the same each time."""
        blank = _blanked(self.text)
        last = next((m for m in reversed(list(_ORDER.finditer(blank))) if not _in(blank, m)), None)
        if last is None:
            raise BadQuery("has no ORDER BY: its rows come in another order each time")
        ends = _AFTER_ORDER.search(blank, last.end())
        stop = ends.start() if ends else len(blank)
        return tuple(
            _term(self.text[start:end].strip(), columns)
            for start, end in _parts(blank, last.end(), stop)
        )


def bound(query: Query, sql: str, mark: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """`sql`, in which `query.text` stands, with its parameters as the database takes them: `mark`
    is `:{}`, `${}` or `%({})s`. A list is as many parameters, in brackets. `more` are those of
    `sql` itself."""
    values = {**query.parameters, **more}
    used: dict[str, Any] = {}

    def placed(name: str) -> str:
        value = values[name]
        if not isinstance(value, list):
            used[name] = value
            return mark.format(name)
        each = {f"{name}_{number}": item for number, item in enumerate(value)}
        used.update(each)
        return f"({', '.join(mark.format(key) for key in each)})"

    blank, made, after = _blanked(sql), [], 0
    for found in _PARAMETER.finditer(blank):
        made += [_escaped(sql[after : found.start()], mark), placed(found[1])]
        after = found.end()
    return "".join([*made, _escaped(sql[after:], mark)]), used


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _escaped(text: str, mark: str) -> str:
    return text.replace("%", "%%") if mark.startswith("%") else text


def _blanked(text: str) -> str:
    """The same length, with blanks for all that stands in quotes and comments."""
    return _QUOTED.sub(
        lambda found: (
            " " * len(found[0]) if found[0][0] in "-/" else found[0][0] + "_" * (len(found[0]) - 1)
        ),
        text,
    )


def _depth(text: str) -> int:
    return text.count("(") - text.count(")")


def _in(blank: str, found: "re.Match[str]") -> bool:
    """Whether it stands in brackets."""
    return _depth(blank[: found.start()]) > 0


def _parts(blank: str, start: int, stop: int) -> "list[tuple[int, int]]":
    """Where what commas part begins and ends."""
    found, depth, after = [], 0, start
    for place in range(start, stop):
        depth += (blank[place] == "(") - (blank[place] == ")")
        if blank[place] == "," and not depth:
            found.append((after, place))
            after = place + 1
    return [*found, (after, stop)]


def _term(text: str, columns: Sequence[str]) -> Term:
    parts = _TERM.fullmatch(text)
    what = parts["what"].strip() if parts else text
    name = what
    if what.isdigit() and 1 <= int(what) <= len(columns):
        name = columns[int(what) - 1]
    elif plain := _NAME.fullmatch(what):
        name = next((each for each in columns if each.lower() == plain[1].lower()), what)
    elif other := _QUOTED_NAME.fullmatch(what):
        name = other[1].replace('""', '"')
    if name not in columns:
        raise BadQuery(
            f"is ordered by {what}, which is no column of its result: select it, as a name of its"
            " own, and order by that name"
        )
    way = " ".join(f"{parts['way'] or ''} {parts['nulls'] or ''}".split()) if parts else ""
    return Term(name, f" {way.upper()}" if way else "")
