"""TCP connections over networks that come and go."""

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable

PATIENT_SECONDS, STAGGER_SECONDS = 1.0, 0.2
_LOOK_SECONDS = 0.1
_GREETING_SECONDS = 2.0

_MOST_SIDE_BY_SIDE = 16
"""Attempts under way at once. Then the oldest makes room, but for the very first: it is there for an answer that takes very long."""

_Place = tuple[socket.AddressFamily, tuple[object, ...]]

_answered_within: dict[tuple[str, int], float] = {}
"""How many seconds each server took to answer the last time."""


def dial(host: str, port: int, seconds: float, patient_seconds: float | None = None) -> socket.socket:
    """A connection to `host`:`port`, blocking. Raises OSError; TimeoutError where nobody answers within `seconds`.

    Where the first attempt is not answered within `patient_seconds`, another begins every 0.2 s beside those under way, address after
    address. So the moment a network is back it is used: a single attempt would sleep on, for its kernel repeats it after 1, 3, 7 and 15
    seconds. Patience is a second with a server that was never heard, else twice what it took to answer the last time: as long as it
    answers as it did, however far away, it is one connection for it.
    """
    deadline = time.monotonic() + seconds
    places = _resolved(host, port, seconds)
    race = _Race(places)
    try:
        if patient_seconds is None:
            patient_seconds = _patience(host, port)
        wait = patient_seconds if len(places) == 1 else STAGGER_SECONDS
        while (winner := race.round(min(wait, deadline - time.monotonic()))) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds:g} s")
            wait = STAGGER_SECONDS
        _answered_within[host, port] = race.seconds
        winner.setblocking(True)
        winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return winner
    finally:
        race.close()


def _patience(host: str, port: int) -> float:
    known = _answered_within.get((host, port))
    return PATIENT_SECONDS if known is None else min(max(STAGGER_SECONDS, 2 * known), PATIENT_SECONDS)


def until_greeted(host: str, port: int) -> Callable[[float], None]:
    """What waits up to so many seconds, and returns early once an SSH server greets at `host`:`port`."""

    def wait(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_LOOK_SECONDS, left))
            if _greets(host, port, min(_GREETING_SECONDS, max(left, _LOOK_SECONDS))):
                return

    return wait


class _Race:
    """Attempts at connections side by side; the first that stands wins, the others are closed. `seconds`: how long the winner took."""

    def __init__(self, places: list[_Place]) -> None:
        self._places, self._next = places, 0
        self._began: dict[socket.socket, float] = {}
        self.seconds = 0.0
        self._runners = selectors.DefaultSelector()
        self._winner: socket.socket | None = None

    def round(self, seconds: float) -> socket.socket | None:
        """Begin one more attempt, then wait so long for any of them. Raises OSError when every address is known not to answer."""
        self._begin()
        deadline = time.monotonic() + max(0.0, seconds)
        while self._winner is None and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._runners.select(left):
                self._arrived(key.fileobj, key.data)
        return self._winner

    def close(self) -> None:
        for key in list(self._runners.get_map().values()):
            self._drop(key.fileobj)
        self._runners.close()

    def _begin(self) -> None:
        place = self._places[self._next % len(self._places)]
        self._next += 1
        family, address = place
        runner = socket.socket(family, socket.SOCK_STREAM)
        runner.setblocking(False)
        self._runners.register(runner, selectors.EVENT_WRITE, place)
        self._began[runner] = time.monotonic()
        if len(self._began) > _MOST_SIDE_BY_SIDE:
            self._drop(list(self._began)[1])
        code = runner.connect_ex(address)
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self._lost(runner, place, code)

    def _arrived(self, runner: object, place: _Place) -> None:
        assert isinstance(runner, socket.socket)
        code = runner.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._lost(runner, place, code)
        elif self._winner is None:
            self._runners.unregister(runner)
            self._winner, self.seconds = runner, time.monotonic() - self._began.pop(runner)

    def _lost(self, runner: socket.socket, place: _Place, code: int) -> None:
        # Others to the same address share its fate; one that timed out in the kernel says nothing about the next.
        self._drop(runner)
        if code != errno.ETIMEDOUT:
            self._places = [each for each in self._places if each != place]
        if not self._places:
            raise OSError(code, os.strerror(code))
        self._begin()

    def _drop(self, runner: object) -> None:
        assert isinstance(runner, socket.socket)
        with contextlib.suppress(KeyError):
            self._runners.unregister(runner)
        self._began.pop(runner, None)
        runner.close()


def _resolved(host: str, port: int, seconds: float) -> list[_Place]:
    with contextlib.suppress(socket.gaierror):  # an address: nobody needs to be asked
        return _looked_up(host, port, socket.AI_NUMERICHOST)
    # In a thread: without a network a resolver may take half a minute to say so.
    found: list[_Place] = []
    error: list[OSError] = []

    def look_up() -> None:
        try:
            found.extend(_looked_up(host, port))
        except OSError as cause:
            error.append(cause)

    looking = threading.Thread(target=look_up, name="resolver", daemon=True)
    looking.start()
    looking.join(seconds)
    if error:
        raise error[0]
    if not found:
        raise TimeoutError(errno.ETIMEDOUT, f"the name {host} is not resolved within {seconds:g} s")
    return found


def _looked_up(host: str, port: int, flags: int = 0) -> list[_Place]:
    return [(family, address) for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)]


def _greets(host: str, port: int, seconds: float) -> bool:
    try:
        with dial(host, port, seconds, STAGGER_SECONDS) as link:
            link.settimeout(seconds)
            return link.recv(4) == b"SSH-"
    except OSError:
        return False
