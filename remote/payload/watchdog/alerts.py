"""What people are told: on the console, in the log, and at an address of theirs."""

import json
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

_LOG_BYTES = 256 * 1024
_ATTEMPTS = 3
_SECONDS = 10.0


class Alerts:
    """The voices of one watchdog."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._under_way: list[threading.Thread] = []

    def log(self, text: str) -> None:
        """A line in the log, which keeps half a megabyte at most. Never raises: a full disk must
        not silence the watchdog."""
        path = self._folder / "log"
        try:
            if path.exists() and path.stat().st_size > _LOG_BYTES:
                path.replace(self._folder / "log.1")
            with path.open("a") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} {text}\n")
        except OSError:
            return

    def tell(self, title: str, text: str) -> None:
        """Say it on the console and in the log, and send it to the address to be notified,
        beside."""
        self.log(f"{title}: {text}")
        try:
            print(f"windlass: {title}: {text}", flush=True)
        except OSError:
            self.log("the console takes nothing")
        try:
            address = (self._folder / "notify").read_text().strip()
        except OSError:
            return
        if address:
            sender = threading.Thread(target=self._send, args=(address, title, text), daemon=True)
            sender.start()
            self._under_way.append(sender)

    def finish(self, seconds: float) -> None:
        """Wait for what is under way, so long at most."""
        deadline = time.monotonic() + seconds
        for sender in self._under_way:
            sender.join(max(0.0, deadline - time.monotonic()))

    def _send(self, address: str, title: str, text: str) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                with urllib.request.urlopen(message(address, title, text), timeout=_SECONDS):  # noqa: S310
                    return
            except (OSError, ValueError) as error:
                # The address itself may be a secret, and is never written down.
                self.log(f"notification failed: {type(error).__name__}")
                time.sleep(attempt + 1)


def message(address: str, title: str, text: str) -> urllib.request.Request:
    """A POST that Slack's and its likes' webhooks understand, or ntfy, by the form of the
    address."""
    if urlsplit(address).path.startswith(("/services/", "/api/webhooks/", "/hooks/")):
        body = json.dumps({"text": f"{title}: {text}", "content": f"{title}: {text}"}).encode()
        headers = {"Content-Type": "application/json"}
        return urllib.request.Request(address, data=body, headers=headers)  # noqa: S310
    return urllib.request.Request(address, data=text.encode(), headers={"Title": title})  # noqa: S310
