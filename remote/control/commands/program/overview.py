"""`./inv` alone: the main road, in as many lines as one reads at a glance."""

from remote.control.output import console
from remote.control.output.sanitize import folded
from remote.control.project import CODE, IS_INSTALLED

ROAD = (
    ("demo", "the whole haul on this machine: no account, no GPU"),
    ("doctor", "what this laptop and the account still lack"),
    ("check PLAYBOOK --box NAME", "whether a playbook fits a box, before anything starts"),
    ("launch NAME --dry-run", "what a box would cost; without --dry-run it is made"),
    ("run PLAYBOOK --box NAME", "train, export, install: the whole haul on that box"),
    ("status", "what runs, what it does, and when it stops"),
    ("logs -f", "what the newest run says"),
    ("why", "why it stopped, and what to type next"),
    ("resume", "go on wherever a run was cut off"),
    ("stop NAME", "the box ends, its disk stays; `terminate` ends both"),
)
"""Commands with what they are for, in the order in which one comes to need them."""


def version() -> str:
    """Of the checkout, or of the installed wheel."""
    if IS_INSTALLED:
        from importlib.metadata import version as version_of

        return version_of("windlass")
    import tomllib

    return str(tomllib.loads((CODE / "pyproject.toml").read_text())["project"]["version"])


def text() -> str:
    """The whole overview."""
    lines = console.in_columns([(f"./inv {command}", about) for command, about in ROAD])
    head = f"Windlass {version()}: a fine-tuned Mistral in Ollama, by way of a rented GPU box."
    rest = (
        "`./inv --list` shows every command, `./inv COMMAND --help` explains one; README.md tells"
        " more."
    )
    return folded("\n".join([head, "", *lines, "", rest]), console.width())
