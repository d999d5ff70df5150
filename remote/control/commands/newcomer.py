"""The first files of a project: `init`, `new recipe NAME`, `new playbook NAME`."""

from typing import TYPE_CHECKING, Any

from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from remote.control.scaffold import Answers, NewFile

_DRY = {"dry-run": "print the file, and write nothing"}
_DEFAULT_NAMES = {"embedded": "demo", "ec2": "gpu", "static": "gpu"}


@verb(
    help={
        "provider": "where the box is: embedded (this machine), ec2 (AWS), or static (over SSH)",
        "name": "the box's name (default: demo for an embedded box, else gpu)",
        "region": "for ec2: the AWS region (default: us-east-1)",
        "type": "for ec2: the instance type (default: g5.2xlarge)",
        "host": "for static: the host's name or address, or an alias of your ~/.ssh/config",
        "user": "for static: the login name (default: what ~/.ssh/config says)",
        "yes": "ask nothing: take the defaults for what no flag says",
        **_DRY,
    }
)
def init(
    _context: Any,
    provider: str = "",
    name: str = "",
    region: str = "",
    type: str = "",
    host: str = "",
    user: str = "",
    yes: bool = False,
    dry_run: bool = False,
) -> None:
    """Write an inventory.yaml with your first box.

    Asks up to four questions on a terminal. Without one, flags answer them:
    `./inv init --provider ec2 --region us-east-1`.
    An inventory that is there already stays as it is.
    """
    from remote.control import project, scaffold
    from remote.control.output import console

    given = {"name": name, "region": region, "instance_type": type, "host": host, "user": user}
    scaffold.refuse_existing(project.root() / project.INVENTORY)
    answers = _answers(provider, given, asks=console.can_ask() and not yes)
    new = scaffold.inventory(answers)
    if dry_run:
        console.write(new.text)
        return
    new.write()
    console.tell(f"wrote {new.path}", "green")
    if scaffold.ignore_own_folders():
        console.tell(
            "wrote .gitignore: /.windlass/ holds keys, /runs/ holds data; neither is for git"
        )
    for step in _steps(answers.provider, answers.name):
        console.tell_next(step)


@verb(
    positional=["kind", "name"],
    help={
        "kind": "recipe (how a model is trained) or playbook (which stages run)",
        "name": "its name: letters, digits, `-` and `_`",
        "extends": "for a recipe: the recipe it builds on (default: base/mistral-7b.yaml)",
        "recipe": "for a playbook: its recipe, by name or path (default: mistral-7b-golden)",
        "data": "for a playbook: your rows (default: the example data/profiles/train.jsonl)",
        **_DRY,
    },
)
def new(
    _context: Any,
    kind: str,
    name: str,
    extends: str = "",
    recipe: str = "",
    data: str = "",
    dry_run: bool = False,
) -> None:
    """Write an annotated recipe or playbook to begin with.

    For example `./inv new recipe mine`, then `./inv new playbook mine --recipe mine`.
    """
    from remote.control import project, scaffold
    from remote.control.output import console

    made = _new(kind, name, extends, recipe, project.typed(data))
    if dry_run:
        console.write(made.text)
        return
    made.write()
    console.tell(f"wrote {made.path}", "green")
    if kind == scaffold.RECIPE:
        console.tell_next(f"`./inv new playbook {name} --recipe {name}` writes a playbook for it")
    else:
        console.tell_next(f"edit it, then `./inv check {name} --box NAME` checks it for a box")


def _new(kind: str, name: str, extends: str, recipe: str, data: str) -> "NewFile":
    from remote.control import scaffold
    from remote.control.output.suggestion import suggestion

    foreign = {"recipe": recipe, "data": data}
    if kind == scaffold.PLAYBOOK:
        foreign = {"extends": extends}
    elif kind != scaffold.RECIPE:
        remedy = (
            suggestion(kind, scaffold.FOLDERS)
            or "`./inv new recipe NAME` or `./inv new playbook NAME`"
        )
        raise scaffold.NotWritten(f"there is no kind `{kind}` of file", remedy=remedy)
    if lost := [f"--{flag}" for flag, value in foreign.items() if value]:
        raise scaffold.NotWritten(f"a {kind} takes no {lost[0]}", remedy="`./inv new --help`")
    if kind == scaffold.RECIPE:
        return scaffold.recipe(name, extends or "base/mistral-7b.yaml")
    return scaffold.playbook(
        name, recipe or "mistral-7b-golden", data or "data/profiles/train.jsonl"
    )


def _answers(provider: str, given: dict[str, str], asks: bool) -> "Answers":
    """The answers, asked for where nobody gave them by flags. Raises NotWritten for one that only a
    person can give."""
    from remote.control.output import console
    from remote.control.scaffold import PROVIDERS, Answers, NotWritten

    def answer(key: str, question: str, default: str) -> str:
        return given[key] or (console.ask(question, default) if asks else default)

    if not provider and asks:
        provider = _ask_provider()
    if provider not in PROVIDERS:
        what = f"there is no provider `{provider}`" if provider else "where the box is was not said"
        remedy = f"`./inv init --provider NAME`, with one of {', '.join(PROVIDERS)}"
        raise NotWritten(f"{what}; nothing was written", remedy=remedy)
    known = {"ec2": ("region", "instance_type"), "static": ("host", "user")}.get(provider, ())
    if lost := [key for key, value in given.items() if value and key not in ("name", *known)]:
        flag = lost[0].removeprefix("instance_")
        raise NotWritten(
            f"a box of provider {provider} takes no --{flag}", remedy="`./inv init --help`"
        )
    name = answer("name", "What is the box called?", _DEFAULT_NAMES[provider])
    if provider == "ec2":
        region = answer("region", "Which AWS region?", "us-east-1")
        kind = answer("instance_type", "Which instance type?", "g5.2xlarge")
        return Answers(provider, name, region=region, instance_type=kind)
    if provider == "static":
        host = answer("host", "Its name or address, or its alias in ~/.ssh/config?", "")
        if not host:
            remedy = f"`./inv init --provider static --name {name} --host HOST`"
            raise NotWritten("a static box needs its host; nothing was written", remedy=remedy)
        return Answers(
            provider,
            name,
            host=host,
            user=answer("user", "Which login name? Enter for what ~/.ssh/config says", ""),
        )
    return Answers(provider, name)


def _ask_provider() -> str:
    from remote.control.output import console
    from remote.control.scaffold import PROVIDERS

    for number, (name, about) in enumerate(PROVIDERS.items(), 1):
        console.say(f"  {number}  {name}: {about}")
    typed = console.ask("Where is the box that trains?", "embedded")
    names = list(PROVIDERS)
    return names[int(typed) - 1] if typed in map(str, range(1, len(names) + 1)) else typed


def _steps(provider: str, box: str) -> list[str]:
    first = {
        "embedded": f"`./inv demo --box {box}` trains a small Mistral on this machine",
        "ec2": f"`./inv doctor {box}` checks credentials, quota and permissions of the account",
        "static": f"`./inv doctor {box}` checks that the machine can be reached and used",
    }
    return ["`./inv check` checks the inventory", first[provider]]
