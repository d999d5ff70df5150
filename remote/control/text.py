"""Every text rendered on its way out comes from `templates/`. An undefined name is an error, never an empty string."""

from functools import cache
from typing import TYPE_CHECKING, Any

from remote.control.project import CODE

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **names: Any) -> str:
    """The text of `templates/<template>` with `names` filled in; raises jinja2.UndefinedError for a missing one."""
    return _environment().get_template(template).render(**names)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(CODE / "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - scripts, Markdown and Modelfiles: escaping for HTML would damage them
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
