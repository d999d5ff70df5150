"""The script that an instance runs on its first boot."""

import shlex

from remote.control import project

TEMPLATE = "user-data.sh.j2"


def render(box_name: str, root: str, user: str | None) -> str:
    """`templates/user-data.sh.j2` for a box. `root` is Windlass's folder, relative to the home of `user` or absolute;
    without `user` it is made in the home of whoever runs the script."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(project.CODE / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - a shell script, not HTML; every value goes through `quote`
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = shlex.quote
    return environment.get_template(TEMPLATE).render(box=box_name, root=root, user=user or "")
