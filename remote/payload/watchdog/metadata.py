"""What the cloud tells the box about itself: IMDSv2, each question bounded. None for whatever it
does not answer."""

import calendar
import os
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from typing import Any

from remote.payload.watchdog import record

_ADDRESS = "http://169.254.169.254"
_SECONDS = 2.0
_NOTICE_SECONDS = 120.0
_REPEAT_SECONDS = 0.5
_SILENT_SECONDS = 60.0
_TIME = "%Y-%m-%dT%H:%M:%SZ"

# The metadata service is never behind a proxy.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Metadata:
    """The service, with its session token."""

    def __init__(self) -> None:
        self._address = os.environ.get("WINDLASS_IMDS", _ADDRESS).rstrip("/") + "/latest/"
        self._token = ""
        self._now = 0.0
        self._life_cycle = ""
        self._has_answered = self._is_refused = False
        self._silent_until = 0.0

    def session(self, patience_seconds: float = 0.0) -> str:
        """When this start of the box began, in whole seconds since the epoch; empty when the
        service does not tell.

        A service that cannot be reached yet, as early in a boot, is waited for.
        """
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                document = record.of_text(self._get("dynamic/instance-identity/document") or "")
                return str(calendar.timegm(time.strptime(document["pendingTime"], _TIME)))
            except (ValueError, KeyError, TypeError):
                if self._has_answered or self._is_refused or time.monotonic() >= deadline:
                    return ""
            self._silent_until = 0.0
            time.sleep(_REPEAT_SECONDS)

    def is_spot(self) -> bool:
        """Whether the cloud may take the box back. True while it does not tell."""
        self._life_cycle = self._life_cycle or self._get("meta-data/instance-life-cycle") or ""
        return self._life_cycle in ("spot", "")

    def interruption(self) -> tuple[str, float] | None:
        """The notice that the cloud takes the box back: what it will do, and in how many
        seconds."""
        try:
            told = record.of_text(self._get("meta-data/spot/instance-action") or "")
            left = calendar.timegm(time.strptime(told["time"], _TIME)) - self._now
        except (ValueError, KeyError, TypeError):
            return None
        # By the service's own clock; should even that be wrong, the notice is never longer than
        # this.
        return str(told["action"]), min(max(left, 0.0), _NOTICE_SECONDS)

    def rebalance(self) -> str:
        """The notice that the box is likely to be taken back, named by its time; empty while there
        is none."""
        try:
            return str(
                record.of_text(self._get("meta-data/events/recommendations/rebalance") or "")[
                    "noticeTime"
                ]
            )
        except (ValueError, KeyError, TypeError):
            return ""

    def _get(self, path: str) -> str | None:
        answer = self._ask(path)
        if answer is None and not self._token:
            self._token = self._ask("api/token", "PUT") or ""
            answer = self._ask(path) if self._token else None
        return answer

    def _ask(self, path: str, method: str = "GET") -> str | None:
        if not self._has_answered and time.monotonic() < self._silent_until:
            return None
        headers = (
            {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
            if method == "PUT"
            else {"X-aws-ec2-metadata-token": self._token}
        )
        request = urllib.request.Request(self._address + path, headers=headers, method=method)  # noqa: S310
        try:
            with _direct.open(request, timeout=_SECONDS) as answer:
                self._has_answered, self._now = True, _time_of(answer)
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self._token = ""
        except (OSError, ValueError) as error:
            self._silent_until = (
                time.monotonic() + _SILENT_SECONDS
            )  # where there is none, asking costs seconds each time
            self._is_refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
        return None


def _time_of(answer: Any) -> float:
    try:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (TypeError, ValueError):
        return time.time()
