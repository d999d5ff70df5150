"""Can the box reach the bucket? Standard library only."""

import urllib.error
import urllib.request

from remote.contract.job.checks import Check, Verdict, skipped
from remote.payload.preflight.request import Request

_SECONDS = 8


def checks(request: Request) -> list[Check]:
    """Whether an HTTP server answers for the bucket; whether we may read it is for the credentials
    to say."""
    if not request.storage_url:
        return [skipped("storage", "no bucket in inventory.yaml")]
    return [reach(request.storage_url)]


def reach(url: str) -> Check:
    """Ask for the bucket's head. 403 is an answer: the bucket is there and wants credentials."""
    try:
        asked = urllib.request.Request(url, method="HEAD")  # noqa: S310 - http or https, made by the laptop
        with urllib.request.urlopen(asked, timeout=_SECONDS) as answer:  # noqa: S310
            return Check("storage", f"{url}: {answer.status}", "an answer", Verdict.OK)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return Check(
                "storage",
                f"{url}: 404",
                "a bucket",
                Verdict.FAIL,
                "create the bucket, or fix `storage.bucket` in inventory.yaml",
            )
        return Check(
            "storage",
            f"{url}: {error.code}",
            "an answer",
            Verdict.OK if error.code < 500 else Verdict.WARN,
        )
    except (OSError, ValueError) as error:
        remedy = "open outgoing HTTPS in the box's network, or fix `storage.bucket`"
        return Check(
            "storage",
            f"{url}: {getattr(error, 'reason', error)}",
            "an answer",
            Verdict.FAIL,
            remedy,
        )
