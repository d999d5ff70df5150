"""A small client of Ollama's HTTP API. Every failure is an OllamaError that names the URL and the
remedy.

Wire format: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

import contextlib
import re
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from remote.contract.files import untrusted_json
from remote.contract.files.digest import of_file
from remote.control.errors import OllamaError

Message = dict[str, str]
Progress = Callable[[int, int], None]
Credentials = tuple[str, str]
"""User and password of Basic authentication."""

_PIECE = 1 << 20
_TIMEOUT = httpx.Timeout(
    None, connect=5.0
)  # a 7B model may take minutes to load, and says nothing meanwhile
_QUICK = httpx.Timeout(10.0)


class Ollama:
    """One Ollama server at `url`, such as `http://127.0.0.1:11434`. `credentials` are sent and
    never shown.

    The certificate of an https server must be signed by an authority of `SSL_CERT_FILE` or
    `SSL_CERT_DIR` where one is set.
    """

    def __init__(self, url: str, credentials: Credentials | None = None) -> None:
        self.url = url.rstrip("/")
        # trust_env off: a proxy of the environment must not get between this machine and itself.
        # No connection is kept between requests: a caller that never closes leaves none behind.
        limits = httpx.Limits(max_keepalive_connections=0)
        verify = _authorities(self.url) if self.url.startswith("https:") else True
        self._http = httpx.Client(
            base_url=self.url,
            auth=credentials,
            verify=verify,
            timeout=_TIMEOUT,
            trust_env=False,
            limits=limits,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> "Ollama":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self) -> str:
        """The server's version, such as `0.33.0`."""
        return str(self._call("GET", "/api/version", timeout=_QUICK).get("version", ""))

    def version_numbers(self) -> tuple[int, ...]:
        """The version for comparing: `(0, 33, 0)`. One built from source says 0.0.0, and counts as
        newer than any."""
        found = re.match(r"\D{0,20}(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?", self.version())
        numbers = tuple(int(part or 0) for part in found.groups()) if found else ()
        return numbers if any(numbers) else _UNRELEASED

    def tags(self) -> list[dict[str, Any]]:
        """All models: `name`, `digest`, `size`, `modified_at`, `details`."""
        return list(self._call("GET", "/api/tags").get("models") or [])

    def digest_of(self, name: str) -> str | None:
        """The digest that names the content of model `name` (its tag given), or None where there is
        no such model."""
        return next((str(model["digest"]) for model in self.tags() if model["name"] == name), None)

    def loaded(self) -> list[dict[str, Any]]:
        """The models in memory."""
        return list(self._call("GET", "/api/ps").get("models") or [])

    def show(self, name: str) -> dict[str, Any]:
        """All about one model."""
        return self._call("POST", "/api/show", {"model": name})

    def copy(self, source: str, destination: str) -> None:
        """Give `source` another name; what had that name before loses it, in one step."""
        self._call("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, name: str, missing_ok: bool = False) -> None:
        """Remove a name, and the files that no other name needs."""
        try:
            self._call("DELETE", "/api/delete", {"model": name})
        except OllamaError as error:
            if not (missing_ok and "not found" in error.why):
                raise

    def unload(self, name: str) -> None:
        """Have a model leave the server's memory, which it else does minutes after its last
        answer."""
        self._call("POST", "/api/generate", {"model": name, "keep_alive": 0, "stream": False})

    def has_blob(self, digest: str) -> bool:
        """Whether the server holds the bytes `sha256:<hex>` already."""
        with self._guard(f"HEAD /api/blobs/{digest}"):
            reply = self._http.head(f"/api/blobs/{digest}")
            if reply.status_code not in (200, 404):
                raise _refused(self.url, f"HEAD /api/blobs/{digest}", reply)
            return reply.status_code == 200

    def upload(self, path: Path, on_bytes: Progress | None = None) -> str:
        """Send a file unless the server has it; returns its digest, `sha256:<hex>`.
        `on_bytes(sent, total)` is called on the way."""
        digest = f"sha256:{of_file(path)}"
        if not self.has_blob(digest):
            with self._guard(f"POST /api/blobs/{digest}"):
                size = path.stat().st_size
                headers = {"Content-Length": str(size)}
                reply = self._http.post(
                    f"/api/blobs/{digest}", content=_pieces(path, size, on_bytes), headers=headers
                )
                _raise_for(self.url, f"POST /api/blobs/{digest}", reply)
        return digest

    def create(
        self, name: str, on_status: Callable[[str], None] | None = None, **body: Any
    ) -> None:
        """Make a model out of blobs (`files`), or of another model (`from`); `on_status` hears each
        step."""
        for line in self._lines("/api/create", {"model": name, **body}):
            if on_status and line.get("status"):
                on_status(str(line["status"]))

    def chat(self, model: str, messages: Sequence[Message], **body: Any) -> dict[str, Any]:
        """One whole answer: `message.content`, `done_reason`, counts and durations."""
        return self._call(
            "POST",
            "/api/chat",
            {"model": model, "messages": list(messages), "stream": False, **body},
        )

    def stream_chat(
        self, model: str, messages: Sequence[Message], **body: Any
    ) -> Iterator[dict[str, Any]]:
        """The answer piece by piece; the last one holds `done_reason` and the counts."""
        return self._lines("/api/chat", {"model": model, "messages": list(messages), **body})

    def generate(self, model: str, prompt: str, **body: Any) -> dict[str, Any]:
        """One whole continuation of a prompt."""
        return self._call(
            "POST", "/api/generate", {"model": model, "prompt": prompt, "stream": False, **body}
        )

    def rendered(self, model: str, messages: Sequence[Message]) -> str:
        """The prompt that the server makes of a chat, without answering it. Needs Ollama 0.11.5 or
        newer."""
        reply = self.chat(model, messages, _debug_render_only=True)
        return str((reply.get("_debug_info") or {}).get("rendered_template", ""))

    def _call(
        self, method: str, path: str, body: Any = None, timeout: httpx.Timeout = _TIMEOUT
    ) -> dict[str, Any]:
        with self._guard(f"{method} {path}"):
            reply = self._http.request(method, path, json=body, timeout=timeout)
            _raise_for(self.url, f"{method} {path}", reply)
            return untrusted_json.loads_object(reply.content) if reply.content else {}

    def _lines(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """The objects of a streamed reply; an error that comes after a 200 is raised like any
        other."""
        with (
            self._guard(f"POST {path}"),
            self._http.stream("POST", path, json={**body, "stream": True}) as reply,
        ):
            if reply.is_error:
                reply.read()
                _raise_for(self.url, f"POST {path}", reply)
            for text in reply.iter_lines():
                line = untrusted_json.loads_object(text)
                if "error" in line:
                    raise _explained(self.url, f"POST {path}", str(line["error"]))
                yield line

    @contextlib.contextmanager
    def _guard(self, request: str) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                what = f"the certificate of {self.url} is not to be trusted"
                raise OllamaError(what, where=request, why=str(error), remedy=_AUTHORITY) from error
            raise OllamaError(
                f"Ollama does not answer at {self.url}",
                where=request,
                why=str(error),
                remedy=_WHICH,
            ) from error
        except httpx.HTTPError as error:
            why = f"{type(error).__name__}: {error}"
            raise OllamaError(
                f"Ollama at {self.url} broke off", where=request, why=why, remedy=_AGAIN
            ) from error
        except ValueError as error:
            raise OllamaError(
                f"{self.url} does not speak Ollama's language",
                where=request,
                why=str(error),
                remedy=_WHICH,
            ) from error


_WHICH = (
    "start it (`ollama serve`), or correct OLLAMA_HOST or `ollama.url` in inventory.yaml; `./inv"
    " model.up` starts the embedded one"
)
_UNRELEASED = (sys.maxsize, 0, 0)
_AUTHORITY = "`export SSL_CERT_FILE=ca.pem` with the certificate of the authority that signed it"
_SIGN_IN = (
    "`export OLLAMA_HOST=https://USER:PASSWORD@HOST` (`%40` for an @ within); what stands in front"
    " of that Ollama asks for them"
)
_AGAIN = "read Ollama's log, then try again"
_REMEDIES = (
    (
        "no space left",
        "free disk space where Ollama keeps its models, then run the same command again",
    ),
    ("not found", "`./inv model.list` shows the models there are"),
    (
        "requires more system memory",
        "stop other models (`ollama stop NAME`), or export a smaller quantisation",
    ),
    ("unsupported", "update Ollama: https://ollama.com/download"),
    ("unknown", "update Ollama: https://ollama.com/download"),
)


def _authorities(url: str) -> ssl.SSLContext:
    """Those that `SSL_CERT_FILE` or `SSL_CERT_DIR` names, else the ones that come with httpx."""
    try:
        return httpx.create_ssl_context(trust_env=True)
    except OSError as error:
        why = f"SSL_CERT_FILE or SSL_CERT_DIR: {error.strerror or error}"
        raise OllamaError(
            f"no certificates to check {url} by", why=why, remedy=_AUTHORITY
        ) from error


def _pieces(path: Path, size: int, on_bytes: Progress | None) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece
            if on_bytes:
                on_bytes(file.tell(), size)


def _raise_for(url: str, request: str, reply: httpx.Response) -> None:
    if reply.is_error:
        raise _refused(url, request, reply)


def _refused(url: str, request: str, reply: httpx.Response) -> OllamaError:
    if reply.status_code in (401, 403) and not reply.headers.get("content-type", "").startswith(
        "application/json"
    ):
        why = f"{reply.status_code} {reply.reason_phrase}"
        return OllamaError(f"{url} asks who you are", where=request, why=why, remedy=_SIGN_IN)
    try:
        words = str(untrusted_json.loads_object(reply.content)["error"])
    except (ValueError, KeyError):
        why = f"{reply.status_code}: {' '.join(reply.text.split())[:100]}"
        return OllamaError(
            f"{url} does not speak Ollama's language", where=request, why=why, remedy=_WHICH
        )
    return _explained(url, f"{request} -> {reply.status_code}", words)


def _explained(url: str, request: str, words: str) -> OllamaError:
    remedy = next((remedy for sign, remedy in _REMEDIES if sign in words.lower()), _AGAIN)
    return OllamaError(f"Ollama at {url} refused", where=request, why=words, remedy=remedy)
