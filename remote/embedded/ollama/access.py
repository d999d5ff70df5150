"""Who may ask the embedded Ollama: programs of the same user, and web pages of the origins that
inventory.yaml names.

The server has no password, and whoever asks may fill the disk or use the processor. So another user
of this machine is refused, and so is a page in the user's own browser: one from elsewhere shows in
`Host` (DNS rebinding), one on another port of this machine in `Origin`.
"""

import re
from collections.abc import Callable, Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from remote.embedded.cloud import peer

IsOwn = Callable[[str, int, tuple[str, int]], bool]
"""Whether the socket at an address that is connected to a server's is this user's:
`peer.is_own`."""

_LOCAL = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?")
_ANEW = "`./inv model.down` and `./inv model.up` then"
_FROM_ELSEWHERE = ("cross-site", "same-site")


class Access:
    """The ASGI application `app`, for those who may ask it. `origins` are admitted beside the
    server's own."""

    def __init__(
        self, app: ASGIApp, origins: Collection[str] = (), is_own: IsOwn = peer.is_own
    ) -> None:
        self.app, self.origins, self.is_own = app, frozenset(origins), is_own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to those who may not ask."""
        if scope["type"] == "http" and (words := self._refusal(scope)):
            await JSONResponse({"error": words}, status_code=403)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str:
        """Why the request is refused; empty when it is not."""
        client, server = scope.get("client"), scope.get("server")
        if (
            not client
            or not server
            or not self.is_own(client[0], client[1], (server[0], server[1]))
        ):
            return "only this user's own programs may ask"
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or not _LOCAL.fullmatch(hosts[0]):
            return "only this machine may ask"
        foreign = [
            origin
            for origin in origins
            if origin != f"http://{hosts[0]}" and origin not in self.origins
        ]
        if foreign:
            return (
                f"the origin {foreign[0][:200]!r} is not admitted: name it in `ollama.origins` of"
                f" inventory.yaml; {_ANEW}"
            )
        is_elsewhere = any(value in _FROM_ELSEWHERE for value in _values(scope, b"sec-fetch-site"))
        return "a web page may not ask without its origin" if is_elsewhere and not origins else ""


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
