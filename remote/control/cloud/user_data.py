"""The script that an instance runs on its first boot."""

from remote.control import text


def render(box_name: str, root: str, user: str | None) -> str:
    """`templates/user-data.sh.j2` for a box. `root` is Windlass's folder, relative to the home of `user` or absolute;
    without `user` it is made in the home of whoever runs the script."""
    return text.render("user-data.sh.j2", box=box_name, root=root, user=user or "")
