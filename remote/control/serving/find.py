"""Which Ollama is meant. The first that applies:

1. `OLLAMA_HOST` in the environment, as Ollama's own command line reads it: host, host:port or URL,
   with `user:password@` where a server asks for them (Basic authentication);
2. `ollama.url` in inventory.yaml, when it is a URL: that server;
3. `ollama.url: auto`: one that answers at http://127.0.0.1:11434, else the embedded one;
4. `ollama.url: embedded` (as shipped), or nothing: the embedded one. Nobody's Ollama is touched
   unasked.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from remote.control import secrets
from remote.control.errors import OllamaError
from remote.control.serving import embedded
from remote.control.serving.ollama import Credentials, Ollama

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory

LOCAL = "http://127.0.0.1:11434"
"""Where an Ollama listens that was told nothing else."""


_ADDRESS = (
    "write host:port or http://host:port, in OLLAMA_HOST or as `ollama.url` in inventory.yaml"
)


@dataclass(frozen=True)
class Address:
    """Where a server is, and how one signs in there. `url` holds no secret; it is what is shown and
    recorded."""

    url: str
    credentials: Credentials | None = None


def find_ollama(inventory: "Inventory | None" = None, start: bool = True) -> Ollama:
    """The server to use; the embedded one is started where it is meant and `start` allows. Raises
    OllamaError when none answers."""
    wish = _wish(inventory)
    if wish == "auto":
        return _answering(LOCAL) or _embedded(inventory, start)
    if wish == "embedded":
        return _embedded(inventory, start)
    address = address_of(wish)
    server = Ollama(address.url, address.credentials)
    server.version()
    return server


def describe(inventory: "Inventory | None" = None) -> dict[str, Any]:
    """Which server is meant, without starting one: `kind`, `url`, `running`, `version`, and the
    models `loaded`."""
    record = embedded.daemon().running()
    is_embedded = _wish(inventory) == "embedded"
    if is_embedded and not record:
        return {
            "kind": "the embedded Ollama",
            "url": None,
            "running": False,
            "version": None,
            "loaded": [],
        }
    with find_ollama(inventory, start=False) as client:
        kind = "the embedded Ollama" if record and client.url == record["url"] else "Ollama"
        return {
            "kind": kind,
            "url": client.url,
            "running": True,
            "version": client.version(),
            "loaded": client.loaded(),
        }


def _wish(inventory: "Inventory | None") -> str:
    """`embedded`, `auto`, or an address."""
    return (
        os.environ.get("OLLAMA_HOST", "").strip()
        or (inventory.ollama.url if inventory else None)
        or "embedded"
    )


def address_of(host: str) -> Address:
    """`host`, `host:port`, `:port` or a URL as an address, after Ollama's rules (port 11434; 80 or
    443 where a scheme stands).

    What stands before an `@` signs in, and is masked from then on.
    """
    scheme, mark, rest = host.partition("://") if "://" in host else ("", "", host)
    authority, slash, path = rest.partition("/")
    sign_in, at, place = authority.rpartition("@")
    user, _, password = sign_in.partition(":")
    secrets.know(password or user, unquote(password))
    shown = f"{scheme}{mark}{place}{slash}{path}"  # no error may hold the password
    try:
        url = _url(urlsplit(shown if mark else f"//{shown}"))
    except ValueError as error:
        # It may be of a password with a `/` in it, which ends nobody knows where: nothing is shown.
        if "@" in path:
            what, why = (
                "not an address of an Ollama: a `/` stands before its `@`",
                "in a password `/` is written %2F, and `@` %40",
            )
            raise OllamaError(what, why=why, remedy=_ADDRESS) from None
        raise OllamaError(
            f"not an address of an Ollama: {shown}", why=str(error), remedy=_ADDRESS
        ) from None
    return Address(url, (unquote(user), unquote(password)) if at else None)


def _url(parts: SplitResult) -> str:
    scheme = parts.scheme or "http"
    if scheme not in ("http", "https"):
        raise ValueError(f"the scheme is `{scheme}`")
    if parts.query or parts.fragment:
        raise ValueError("nothing may follow the path")
    port = parts.port or ({"http": 80, "https": 443}.get(parts.scheme, 11434))
    # 0.0.0.0 says where a server listens; it is no address to call.
    name = parts.hostname if parts.hostname not in (None, "", "0.0.0.0", "::") else "127.0.0.1"  # noqa: S104
    return f"{scheme}://{f'[{name}]' if ':' in str(name) else name}:{port}{parts.path.rstrip('/')}"


def _answering(url: str) -> Ollama | None:
    server = Ollama(url)
    try:
        server.version()
    except OllamaError:
        server.close()
        return None
    return server


def _embedded(inventory: "Inventory | None", start: bool) -> Ollama:
    return Ollama(embedded.endpoint(start, inventory.ollama.origins if inventory else ()))
