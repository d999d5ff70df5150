"""EC2 Instance Connect for the system's ssh: admits a public key for a minute, just before ssh uses
it.

    python -m remote.control.cloud.access.instance_connect PROVIDER REGION USER INSTANCE ZONE
    [PUBLIC-KEY-FILE]

Without a file every key of the SSH agent is admitted.
"""

import sys
from pathlib import Path

from remote.control.cloud.access import reach
from remote.control.cloud.account import endpoint
from remote.control.cloud.box import Box
from remote.control.errors import WindlassError


def main(provider: str, region: str, user: str, instance_id: str, zone: str, *files: str) -> None:
    """Admit the keys; ends with its reason where that is refused."""
    try:
        there = endpoint.of_place(provider, region, user)
        for line in [Path(name).read_text().strip() for name in files] or agent_lines():
            reach.send_key(there, instance_id, zone, user, line)
    except WindlassError as error:
        sys.exit("\n".join(error.lines()))


def admit(box: Box) -> None:
    """Admit the key of a box, or the agent's where it has none, for the login that follows at
    once."""
    from remote.control.cloud.access import keys

    there = endpoint.of_box(box)
    for line in [keys.public_line(box.key, box.name)] if box.key else agent_lines():
        reach.send_key(there, box.id, box.zone, box.user, line, box.name)


def agent_lines() -> list[str]:
    """The public keys that the SSH agent holds."""
    import paramiko

    agent = paramiko.Agent()
    try:
        return [f"{key.get_name()} {key.get_base64()}" for key in agent.get_keys()]
    finally:
        agent.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
