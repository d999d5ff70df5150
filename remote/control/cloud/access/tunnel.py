"""A Session Manager session to a box as the ProxyCommand of the system's ssh: its standard input
and output are the connection.

python -m remote.control.cloud.access.tunnel PROVIDER REGION USER INSTANCE
"""

import os
import sys

from remote.control.cloud.access import reach
from remote.control.cloud.account import endpoint
from remote.control.errors import WindlassError


def main(provider: str, region: str, user: str, instance_id: str) -> None:
    """Become the program that carries the session; ends with its reason where there is none."""
    try:
        there = endpoint.of_place(provider, region, user, "ssm")
        words, further = reach.open_session(there, instance_id, "")
    except WindlassError as error:
        sys.exit("\n".join(error.lines()))
    os.execvpe(words[0], words, {**os.environ, **further})  # noqa: S606 - the plugin itself must hold the two ends


if __name__ == "__main__":
    main(*sys.argv[1:])
