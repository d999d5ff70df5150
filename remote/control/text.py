"""Every text rendered on its way out comes from `templates/`. An undefined name is an error, never
an empty string.

Filters: `shell` quotes a value as one word for a shell, `json` writes it as JSON."""

import json
import shlex
from functools import cache
from typing import TYPE_CHECKING, Any

from remote.control.project import SHIPPED

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, /, **names: Any) -> str:
    """The text of `templates/<template>` with `names` filled in; raises jinja2.UndefinedError for a
    missing one."""
    return _environment().get_template(template).render(**names)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(SHIPPED / "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - scripts, Markdown and Modelfiles: escaping for HTML would damage them
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shell"] = shlex.quote
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment
