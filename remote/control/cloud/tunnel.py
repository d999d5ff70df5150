"""A Session Manager session to a box as the ProxyCommand of the system's ssh: its standard input and output are the connection.

    python -m remote.control.cloud.tunnel PROVIDER REGION USER INSTANCE
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

from remote.contract import surroundings, typed, untrusted_json
from remote.control.cloud import endpoint, reach
from remote.control.errors import WindlassError
from remote.control.transport.master import HANDED_OVER


def main(provider: str, region: str, user: str, instance_id: str) -> None:
    """Become the program that carries the session; ends with its reason where there is none."""
    handed_over = os.environ.pop(HANDED_OVER, "")
    if handed_over:
        path = Path(handed_over)
        os.environ.update(typed.value(dict[str, str], untrusted_json.read_object(path), path.name))
        path.unlink()
    entry = SimpleNamespace(provider=provider, region=region, user=user, reach="ssm")
    try:
        words, further = reach.open_session(endpoint.of_entry(entry, start=False), instance_id, "")
    except WindlassError as error:
        sys.exit("\n".join(error.lines()))
    # What carries a master lives on as long as that: it gets the session, and no credentials.
    own = surroundings.passed_on(os.environ, surroundings.PACKAGES, surroundings.AWS_PLACES) if handed_over else os.environ
    os.execvpe(words[0], words, {**own, **further})  # noqa: S606 - the plugin itself must hold the two ends


if __name__ == "__main__":
    main(*sys.argv[1:])
