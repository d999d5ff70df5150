"""`shutdown`, `poweroff`, `halt` and `reboot` of a box: they ask the cloud, and never touch the
machine below.

Run by the box's own python3, standard library only: `power.py NAME [ARGUMENTS as of shutdown(8)]`.
"""

import json
import os
import sys
import urllib.request


def request(name: str, arguments: list[str]) -> dict[str, object]:
    """What to ask of the cloud: `action` is off, reboot or cancel; `minutes` from now."""
    action = "reboot" if name == "reboot" or {"-r", "--reboot"} & set(arguments) else "off"
    if name != "shutdown":
        return {"action": action, "minutes": 0}
    if "-c" in arguments:
        return {"action": "cancel", "minutes": 0}
    when = next((word for word in arguments if not word.startswith("-")), "+1")
    return {"action": action, "minutes": 0 if when == "now" else float(when.lstrip("+"))}


def main() -> int:
    """Send the request; 0 when the cloud took it."""
    try:
        body = json.dumps(request(sys.argv[1], sys.argv[2:])).encode()
    except ValueError:
        print(f"{sys.argv[1]}: times are `now` or `+MINUTES` on this box", file=sys.stderr)
        return 1
    address = os.environ["WINDLASS_IMDS"] + "/power"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(urllib.request.Request(address, data=body, method="POST"), timeout=10):  # noqa: S310
        return 0


if __name__ == "__main__":
    sys.exit(main())
