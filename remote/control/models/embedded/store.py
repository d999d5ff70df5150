"""Models on disk: blobs named by their SHA-256, and manifests that give blobs a name. Every change is a rename."""

import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from remote.contract import atomic, digest, untrusted_json
from remote.control.models import names
from remote.control.models.embedded.wire import Refusal
from remote.control.models.gguf import Gguf, read_gguf

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_UNNAMED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Manifest:
    """What a name stands for. `model` is the digest of a GGUF blob; the rest are the words of a Modelfile."""

    model: str
    template: str = ""
    system: str = ""
    license: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Names the content, whatever its name and time."""
        return digest.of_value(asdict(self))


@dataclass(frozen=True)
class Stored:
    """A manifest under its name, with its GGUF."""

    name: str
    manifest: Manifest
    path: Path
    modified_at: str

    @property
    def gguf(self) -> Gguf:
        """The head of the model file."""
        return _head(self.path)

    @property
    def size(self) -> int:
        """Bytes of the model file."""
        return self.path.stat().st_size


class Store:
    """The folder `blobs/` and the folder `manifests/`."""

    def __init__(self, folder: Path) -> None:
        self._blobs, self._manifests = folder / "blobs", folder / "manifests"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._manifests.mkdir(parents=True, exist_ok=True)

    def blob(self, name: str) -> Path:
        """Where the blob `sha256:<hex>` lies or would lie. Raises Refusal for anything else."""
        found = _DIGEST.fullmatch(name)
        if not found:
            raise Refusal(400, f"invalid digest format: {name}")
        return self._blobs / f"sha256-{found[1]}"

    async def receive(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        """Keep an upload once its bytes have the digest that its name claims."""
        path = self.blob(name)
        arriving = path.with_name(f".{secrets.token_hex(8)}.partial")  # two may send the same file at once
        try:
            sha = await _write(arriving, pieces)
            if sha != path.name.removeprefix("sha256-"):
                raise Refusal(400, f'digest mismatch, expected "{name}", got "sha256:{sha}"')
            os.replace(arriving, path)
        finally:
            arriving.unlink(missing_ok=True)
        atomic.sync_folder(self._blobs)

    def put(self, name: str, manifest: Manifest) -> None:
        """Give `manifest` a name; what had it before is replaced in one step."""
        atomic.write_json(self._path(name), asdict(manifest))

    def get(self, name: str) -> Stored:
        """The model of that name; raises Refusal 404 when there is none."""
        full = _checked(name)
        try:
            return self._read(self._path(full))
        except FileNotFoundError:
            raise Refusal(404, f"model '{name}' not found") from None

    def all(self) -> list[Stored]:
        """Every model, the latest first."""
        stored = [self._read(path) for path in self._manifests.glob("*.json")]
        return sorted(stored, key=lambda item: item.modified_at, reverse=True)

    def delete(self, name: str) -> None:
        """Remove a name, and its blob when no other name needs it."""
        stored = self.get(name)
        self._path(name).unlink()
        if all(other.path != stored.path for other in self.all()):
            stored.path.unlink(missing_ok=True)

    def prune(self) -> None:
        """Remove what nobody can ask for: half uploads, and blobs without a name that are older than a day."""
        needed = {stored.path for stored in self.all()}
        for path in self._blobs.iterdir():
            is_half = path.name.endswith(".partial")
            if is_half or (path not in needed and time.time() - path.stat().st_mtime > _UNNAMED_SECONDS):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._manifests / f"{quote(_checked(name), safe='')}.json"

    def _read(self, path: Path) -> Stored:
        manifest = Manifest(**untrusted_json.read_object(path))
        modified = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).isoformat()
        return Stored(unquote(path.name.removesuffix(".json")), manifest, self.blob(manifest.model), modified)


async def _write(path: Path, pieces: AsyncIterator[bytes]) -> str:
    """Write what arrives, down to the disk; its SHA-256."""
    sha = sha256()
    with open(path, "wb") as file:
        async for piece in pieces:
            sha.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return sha.hexdigest()


def _checked(name: str) -> str:
    if not names.is_valid(name):
        raise Refusal(400, f"invalid model name: {name!r}")
    return names.full(name)


@lru_cache(maxsize=64)
def _head(path: Path) -> Gguf:
    # A blob's name is the digest of its bytes, so what was read once stays true.
    return read_gguf(path)


def is_inside(path: str) -> bool:
    """Whether a file name in a create request is relative and stays where it is."""
    return bool(path) and not Path(path).is_absolute() and ".." not in Path(path).parts
