"""The releases that a box keeps, and the way back to one of them."""

from collections.abc import Callable
from dataclasses import dataclass

from remote.contract.files import listing, typed
from remote.control.errors import NotFound
from remote.control.transport.base import Transport
from remote.control.transport.payload import QUERY_SECONDS, understood
from remote.control.transport.push.push import Place, ask_receiver

_SHORTEST = 4


@dataclass(frozen=True)
class KeptRelease:
    """A release on a box. `deployed_at` is seconds since the epoch, of its last deploy; `jobs` run
    from it or wait to."""

    digest: str
    is_current: bool
    deployed_at: float
    bytes: int
    files: int
    jobs: list[str]


def kept_releases(transport: Transport, box_root: str) -> list[KeptRelease]:
    """What the box keeps, the one deployed last first."""
    told = ask_receiver(transport, {"verb": "list", "root": box_root}, seconds=QUERY_SECONDS)
    with understood(transport.where):
        found: list[KeptRelease] = typed.value(list[KeptRelease], told["releases"], "releases")
        for each in found:
            listing.check_sha256(each.digest)
        return found


def chosen(releases: list[KeptRelease], to: str, box: str) -> KeptRelease:
    """The release whose digest begins with `to`; without it the one deployed before the current
    one. Raises NotFound."""
    remedy = f"`./inv rollback {box} --list` shows those that are kept"
    if to:
        found = [each for each in releases if each.digest.startswith(to) and len(to) >= _SHORTEST]
        if len(found) == 1:
            return found[0]
        what = (
            f"{len(found)} releases begin with {to}"
            if found
            else f"box {box} keeps no release {to}"
        )
        raise NotFound(what, where=f"box {box}", remedy=remedy, kept="nothing was changed")
    at = next((number for number, each in enumerate(releases) if each.is_current), None)
    if at is None or at + 1 == len(releases):
        what = "no older release is kept" if at is not None else "no release is current"
        raise NotFound(
            f"box {box}: {what}", where=f"box {box}", remedy=remedy, kept="nothing was changed"
        )
    return releases[at + 1]


def go_back(
    transport: Transport, place: Place, release: KeptRelease, on_line: Callable[[str], None]
) -> str:
    """Make a kept release current, its environment whole; returns the environment. Raises
    JobFailed, BoxUnreachable."""
    request = place.request("activate", release.digest, to=release.digest)
    done = ask_receiver(transport, request, on_line)
    with understood(transport.where):
        return str(done["environment"])
