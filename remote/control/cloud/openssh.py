"""The system's own `ssh` for a person: as strict as Windlass itself, without a line in `~/.ssh`."""

from remote.control.cloud.box import Box
from remote.control.transport import known_hosts


def options(box: Box) -> dict[str, str]:
    """ssh_config keywords for a box."""
    login = {"IdentityFile": str(box.key), "IdentitiesOnly": "yes"} if box.key else {}
    return {
        "HostName": box.host,
        "Port": str(box.port),
        "User": box.user,
        **login,
        "HostKeyAlias": box.host_key_alias,
        "UserKnownHostsFile": str(known_hosts.path()),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "ForwardAgent": "no",
        "ServerAliveInterval": "15",
    }


def command(box: Box) -> list[str]:
    """The argument list of an interactive session. The user's own ssh configuration is left out: it could loosen these."""
    settings = [f"{keyword}={_quoted(value)}" for keyword, value in options(box).items()]
    return ["ssh", "-F", "none", *(word for setting in settings for word in ("-o", setting)), f"windlass-{box.name}"]


def config_block(box: Box) -> str:
    """A block for an ssh configuration, for editors and rsync: `Host windlass-NAME`."""
    lines = [f"  {keyword} {_quoted(value)}" for keyword, value in options(box).items()]
    return "\n".join([f"Host windlass-{box.name}", *lines]) + "\n"


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value
