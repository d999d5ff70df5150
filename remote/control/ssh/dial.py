"""TCP connections over networks that come and go."""

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable

FIRST_PATIENCE_SECONDS, FIRST_OF_SEVERAL_SECONDS = 1.0, 0.25
_LOOK_SECONDS = 0.1
_GREETING_SECONDS = 2.0

_Place = tuple[socket.AddressFamily, tuple[object, ...]]


def dial(
    host: str, port: int, seconds: float, patience_seconds: float | None = None
) -> socket.socket:
    """A connection to `host`:`port`, blocking. Raises OSError; TimeoutError where nobody answers
    within `seconds`.

    An attempt that is not answered makes way for a new one, to the next address of the host, and
    each round is twice as patient as the one before. So a network that is back is used soon: a
    single attempt would sleep on, for its kernel repeats it after 1, 3, 7 and 15 seconds.
    """
    deadline = time.monotonic() + seconds
    places = _resolved(host, port, seconds)
    if patience_seconds is None:
        patience_seconds = FIRST_PATIENCE_SECONDS if len(places) == 1 else FIRST_OF_SEVERAL_SECONDS
    while True:
        for place in list(places):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds:g} s")
            try:
                return _connected(place, min(patience_seconds, left))
            except TimeoutError:
                continue
            except OSError:
                places.remove(place)
                if not places:
                    raise
        patience_seconds *= 2


def until_greeted(host: str, port: int) -> Callable[[float], None]:
    """What waits up to so many seconds, and returns early once an SSH server greets at
    `host`:`port`."""

    def wait(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_LOOK_SECONDS, left))
            if _greets(host, port, min(_GREETING_SECONDS, max(left, _LOOK_SECONDS))):
                return

    return wait


def _connected(place: _Place, seconds: float) -> socket.socket:
    family, address = place
    link = socket.socket(family, socket.SOCK_STREAM)
    try:
        link.settimeout(seconds)
        link.connect(address)
        link.settimeout(None)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link
    except BaseException:
        link.close()
        raise


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
    return [
        (family, address)
        for family, _, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=flags
        )
    ]


def _greets(host: str, port: int, seconds: float) -> bool:
    try:
        with dial(host, port, seconds, _LOOK_SECONDS) as link:
            link.settimeout(seconds)
            return link.recv(4) == b"SSH-"
    except OSError:
        return False
