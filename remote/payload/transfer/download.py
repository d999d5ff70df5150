"""Large files over HTTP: resumed where they were cut off, verified, and only then given their name.
Standard library only."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from remote.contract.artifacts.base_models import ModelFile
from remote.contract.files import disk
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed

PART = ".part"
_PIECE = 1 << 20
_TRIES = 5
_SILENCE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 1.0

OnBytes = Callable[[int], None]
"""Told how many more bytes lie on the disk; negative when a part had to be given up."""


def bring(
    file: ModelFile, folder: Path, authorization: str = "", on_bytes: OnBytes = lambda count: None
) -> None:
    """Put a file into `folder` under its path. Raises StageFailed when its source refuses it, or
    sends something else.

    What has its name already was verified before it got it.
    """
    target, part = folder / file.path, folder / (file.path + PART)
    if target.is_file() and target.stat().st_size == file.size:
        on_bytes(file.size)
        return
    for is_last in (False, True):
        _receive_all(file, part, authorization, on_bytes)
        if not (found := _difference(file, part)):
            part.replace(target)
            return
        on_bytes(-part.stat().st_size)
        part.unlink()
        if is_last:
            raise StageFailed(
                Cause.ARTIFACT,
                f"{file.path} is not what its source says it is",
                found,
                _AGAIN,
                "the files that were whole",
            )


def have(file: ModelFile, folder: Path) -> int:
    """How many bytes of a file lie in `folder` already."""
    paths = (folder / file.path, folder / (file.path + PART))
    return max((path.stat().st_size for path in paths if path.is_file()), default=0)


_AGAIN = "`./inv box.setup` goes on where this ended"


def _receive_all(file: ModelFile, part: Path, authorization: str, on_bytes: OnBytes) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    at = part.stat().st_size if part.is_file() else 0
    on_bytes(at)
    tries = 0
    while at < file.size or not part.exists():
        try:
            got = _receive(file, part, at, authorization, on_bytes)
            why = (
                ""
                if got >= file.size
                else f"the connection ended after {got:,} of {file.size:,} bytes"
            )
        except urllib.error.HTTPError as error:
            got, why = at, _refusal(error, file)
        except (OSError, http.client.HTTPException) as error:
            if disk.is_full(error) or getattr(error, "filename", None):
                raise  # the box's own disk, not the network
            got, why = (
                part.stat().st_size if part.is_file() else 0,
                str(error) or type(error).__name__,
            )
        tries = 0 if got > at else tries + 1
        at = got
        if why and tries >= _TRIES:
            raise StageFailed(
                Cause.CODE,
                f"{file.path} does not come from {_host(file.url)}",
                why,
                _AGAIN,
                "what came so far",
            )
        if why:
            time.sleep(_FIRST_PAUSE_SECONDS * 2 ** min(tries, 4))


def _receive(file: ModelFile, part: Path, at: int, authorization: str, on_bytes: OnBytes) -> int:
    """Append what the source sends from byte `at` on; returns how many bytes there are now."""
    with _open(file.url, at, authorization) as answer:
        if at and answer.status != 206:  # the source sends it from the beginning
            on_bytes(-at)
            at = 0
        with part.open("r+b" if at else "wb") as disk:
            disk.seek(at)
            return at + _copy(answer, disk, file.size - at, on_bytes)


def _copy(answer: Any, disk: IO[bytes], left: int, on_bytes: OnBytes) -> int:
    copied = 0
    while copied < left and (piece := answer.read(min(_PIECE, left - copied))):
        disk.write(piece)
        copied += len(piece)
        on_bytes(len(piece))
    return copied


def _open(url: str, at: int, authorization: str) -> Any:
    headers = {"User-Agent": "windlass", **({"Range": f"bytes={at}-"} if at else {})}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    return urllib.request.build_opener(_KeepsSecretsHome).open(request, timeout=_SILENCE_SECONDS)


class _KeepsSecretsHome(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the authorization goes along only where the host stays the same, never to
    a store behind it."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        """The request after a redirect."""
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        secret = req.unredirected_hdrs.get("Authorization")
        if following and secret and _origin(newurl) == _origin(req.full_url):
            following.add_unredirected_header("Authorization", secret)
        return following


def _refusal(error: urllib.error.HTTPError, file: ModelFile) -> str:
    """Why a source refuses, when trying again may help. Raises StageFailed when it will not."""
    why = f"HTTP {error.code} from {_host(error.url or file.url)}"
    told = error.headers.get("X-Error-Message") or error.headers.get("X-Error-Code") or ""
    error.close()
    if error.code in (408, 425, 429) or error.code >= 500:
        return why
    words = f"{why}: {told}" if told else why
    remedy = (
        "`./inv box.setup` asks for the right to read it anew"
        if error.code in (401, 403)
        else _AGAIN
    )
    raise StageFailed(
        Cause.MODEL_MISSING, f"the source refuses {file.path}", words, remedy, "what came so far"
    )


def _difference(file: ModelFile, path: Path) -> str:
    """What is wrong with a received file, in words; empty when it is what the source says."""
    size = path.stat().st_size
    if size != file.size:
        return f"{size:,} bytes instead of {file.size:,}"
    for kind, expected in (
        ("SHA-256", file.sha256),
        ("git SHA-1", file.git_sha1),
        ("MD5", file.md5),
    ):
        if expected:
            found = _digest(path, kind)
            return "" if found == expected else f"its {kind} is {found}, not {expected}"
    return ""


def _digest(path: Path, kind: str) -> str:
    # SHA-1 and MD5 are what git and S3 keep of a file: they guard against damage on the way, as TLS
    # does against people.
    sha = {"SHA-256": hashlib.sha256, "git SHA-1": hashlib.sha1, "MD5": hashlib.md5}[kind]()
    if kind == "git SHA-1":
        sha.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            sha.update(piece)
    return sha.hexdigest()


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _host(url: str) -> str:
    """The host alone: what follows may be a signature."""
    return urlsplit(url).netloc
