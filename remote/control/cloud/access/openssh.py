"""The system's own `ssh` for a person: as strict as Windlass itself, without a line in `~/.ssh`."""

from pathlib import Path

from remote.control import project
from remote.control.cloud.access import reach
from remote.control.cloud.box import Box
from remote.control.ssh import known_hosts


def login_options(host: str, port: int, user: str, key: Path | None, alias: str) -> dict[str, str]:
    """ssh_config keywords for one host: its key pinned under `alias`, and nothing else believed."""
    login = {"IdentityFile": _literal(str(key)), "IdentitiesOnly": "yes"} if key else {}
    return {
        "HostName": _literal(host),
        "Port": str(port),
        "User": user,
        **login,
        "HostKeyAlias": alias,
        "UserKnownHostsFile": _literal(str(known_hosts.path())),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "ForwardAgent": "no",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "15",
    }


def options(box: Box) -> dict[str, str]:
    """ssh_config keywords for a box, over the road that leads there."""
    proxy = reach.proxy_command(box)
    road = {"ProxyCommand": proxy.replace("%", "%%")} if proxy else {}
    return (
        login_options(box.host, box.port, box.user, box.key, box.host_key_alias)
        | _identities(box)
        | road
    )


def command(box: Box, line: str = "", terminal: bool = False) -> list[str]:
    """The argument list of an interactive session, or of one that runs `line` there, with a
    terminal of its own on request.

    The user's own ssh configuration is left out: it could loosen these.
    """
    words = [
        word for keyword, value in settings(box).items() for word in ("-o", f"{keyword}={value}")
    ]
    return [
        "ssh",
        *(["-t"] if terminal else []),
        "-F",
        "none",
        *words,
        f"windlass-{box.name}",
        *(["--", line] if line else []),
    ]


def settings(box: Box) -> dict[str, str]:
    """ssh_config keywords for a box, their values as `-o` takes them."""
    return {keyword: _value(keyword, value) for keyword, value in options(box).items()}


def config_block(box: Box) -> str:
    """A block for an ssh configuration, for editors and rsync: `Host windlass-NAME`."""
    lines = [f"  {keyword} {_value(keyword, value)}" for keyword, value in options(box).items()]
    return "\n".join([*_admission(box), f"Host windlass-{box.name}", *lines]) + "\n"


def _identities(box: Box) -> dict[str, str]:
    """The first key that the user's ssh_config names, where the inventory names none."""
    told = box.host_config if not box.key else None
    if told is None or not told.identities:
        return {}
    return {
        "IdentityFile": _literal(str(told.identities[0])),
        "IdentitiesOnly": "yes" if told.identities_only else "no",
    }


def _literal(value: str) -> str:
    """A value in which ssh reads `%h` and the like: the scope of an IPv6 address, and a folder's
    name, are none."""
    return value.replace("%", "%%")


def quoted(value: str) -> str:
    """A value as ssh_config takes it."""
    return f'"{value}"' if " " in value else value


def _value(keyword: str, value: str) -> str:
    return (
        value if keyword == "ProxyCommand" else quoted(value)
    )  # ssh hands that line to a shell as it stands


def _admission(box: Box) -> list[str]:
    """The line that has EC2 Instance Connect admit the key each time ssh looks up this host."""
    if not box.instance_connect:
        return []
    files = [str(_public_file(box.key, box.name))] if box.key else []
    words = (box.provider, box.region, box.user, box.id, box.zone, *files)
    told = (
        reach.own_command("remote.control.cloud.access.instance_connect", *words)
        .replace("%", "%%")
        .replace('"', '\\"')
    )
    return [f'Match originalhost windlass-{box.name} exec "{told}"']


def _public_file(key: Path, box_name: str) -> Path:
    """The public half as a file, made where it is missing."""
    from remote.contract.files import atomic
    from remote.control.cloud.access import keys

    beside = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    if beside.exists():
        return beside
    made = project.state_folder() / "keys" / f"{box_name}.pub"
    made.parent.mkdir(mode=0o700, exist_ok=True)
    atomic.write_text(made, keys.public_line(key, box_name) + "\n")
    return made
