"""Models on disk: blobs named by their SHA-256, and manifests that give blobs a name. Every change
is a rename."""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from remote.contract.files import atomic, digest, untrusted_json
from remote.control.errors import ArtifactCorrupt
from remote.control.output.sanitize import plain
from remote.control.serving import names
from remote.control.serving.gguf import Gguf, read_gguf
from remote.embedded.ollama.wire import Refusal

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_UNNAMED_SECONDS = 24 * 3600
_DISK_RESERVE = 512 << 20
"""Bytes of the disk that no upload may take."""
_LOOK_EVERY = 64 << 20

Identity = tuple[int, ...]
_proven: set[tuple[Path, Identity]] = set()
"""Blobs whose bytes were seen to have their digest, as they were then: gigabytes are not read again
for each load."""


@dataclass(frozen=True)
class Manifest:
    """What a name stands for. `model` is the digest of a GGUF blob; the rest are the words of a
    Modelfile."""

    model: str
    template: str = ""
    system: str = ""
    license: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """What `Store.put` wrote. Raises ValueError for anything else."""
        value = untrusted_json.read_object(path)
        kinds = {
            "model": str,
            "template": str,
            "system": str,
            "license": list,
            "parameters": dict,
            "messages": list,
        }
        if not set(value) <= set(kinds) or not all(
            isinstance(item, kinds[key]) for key, item in value.items()
        ):
            raise ValueError("no manifest of a model")
        if not _DIGEST.fullmatch(value.get("model", "")):
            raise ValueError("a manifest without the digest of a model")
        return cls(**value)

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
        return _head(self.path, _identity(self.path))

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

    async def receive(self, name: str, pieces: AsyncIterator[bytes], size: int = 0) -> None:
        """Keep an upload once its bytes have the digest that its name claims. `size` is what its
        sender says, where it does."""
        path = self.blob(name)
        self._check_room(size)
        arriving = path.with_name(
            f".{secrets.token_hex(8)}.partial"
        )  # two may send the same file at once
        try:
            sha = await self._write(arriving, pieces)
            if sha != path.name.removeprefix("sha256-"):
                raise Refusal(400, f'digest mismatch, expected "{name}", got "sha256:{sha}"')
            os.replace(arriving, path)
            _proven.add((path, _identity(path)))
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
        except (FileNotFoundError, ValueError):
            raise Refusal(404, f"model '{name}' not found") from None

    def all(self) -> list[Stored]:
        """Every model, the latest first. A manifest that cannot be read is passed over."""
        stored = []
        for path in self._manifests.glob("*.json"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                stored.append(self._read(path))
        return sorted(stored, key=lambda item: item.modified_at, reverse=True)

    def delete(self, name: str) -> None:
        """Remove a name, and its blob when no other name needs it."""
        stored = self.get(name)
        self._path(name).unlink()
        if all(other.path != stored.path for other in self.all()):
            stored.path.unlink(missing_ok=True)

    def prune(self) -> None:
        """Remove what nobody can ask for: half uploads, and blobs without a name that are older
        than a day."""
        models = self.all()
        needed = {stored.path for stored in models}
        all_known = len(models) == sum(
            1 for _ in self._manifests.glob("*.json")
        )  # else a blob may belong to a damaged manifest
        for path in self._blobs.iterdir():
            is_half = path.name.endswith(".partial")
            if is_half or (
                all_known
                and path not in needed
                and time.time() - path.stat().st_mtime > _UNNAMED_SECONDS
            ):
                path.unlink(missing_ok=True)

    async def _write(self, path: Path, pieces: AsyncIterator[bytes]) -> str:
        """Write what arrives, down to the disk, while there is room; its SHA-256."""
        sha, look_at = sha256(), _LOOK_EVERY
        with open(path, "wb") as file:
            async for piece in pieces:
                sha.update(piece)
                file.write(piece)
                if file.tell() >= look_at:
                    self._check_room(0)
                    look_at = file.tell() + _LOOK_EVERY
            file.flush()
            os.fsync(file.fileno())
        return sha.hexdigest()

    def _check_room(self, size: int) -> None:
        free = shutil.disk_usage(self._blobs).free
        if free - size < _DISK_RESERVE:
            what = f"a file of {size:,} bytes" if size else "more of this file"
            raise Refusal(
                507,
                f"no space left on device for {what}: {free:,} bytes are free, of which"
                f" {_DISK_RESERVE:,} stay so",
            )

    def _path(self, name: str) -> Path:
        return self._manifests / f"{quote(_checked(name), safe='')}.json"

    def _read(self, path: Path) -> Stored:
        manifest = Manifest.read(path)
        modified = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).isoformat()
        return Stored(
            unquote(path.name.removesuffix(".json")), manifest, self.blob(manifest.model), modified
        )


def _checked(name: str) -> str:
    if not names.is_valid(name):
        raise Refusal(400, f"invalid model name: {name!r}")
    return names.full(name)


def check(stored: Stored) -> None:
    """Refuse a model file that llama.cpp could not load, in words that say why."""
    try:
        head = stored.gguf
        told = (
            head.architecture,
            head.quantization,
            head.chat_template,
            head.special("bos"),
            head.special("eos"),
        )
        why = (
            ""
            if head.context_length >= 0 and all(isinstance(each, str) for each in told)
            else "its head says what cannot be"
        )
    except ArtifactCorrupt as error:
        why = error.why
    except FileNotFoundError:
        why = "its file is gone"
    except (ValueError, TypeError, OverflowError) as error:
        why = f"a property of its head is of a wrong type: {error}"
    if why:
        raise Refusal(400, f"invalid GGUF {stored.manifest.model[:19]}: {plain(why)}")


def verify(stored: Stored) -> None:
    """`check`, and refuse a file that is no longer the bytes its name says. Reads the whole file
    where it was not read before."""
    check(stored)
    seen = (stored.path, _identity(stored.path))
    if seen in _proven:
        return
    if digest.of_file(stored.path) != stored.path.name.removeprefix("sha256-"):
        why = (
            "its bytes do not have that digest: the file was changed or is damaged; install the"
            " model again"
        )
        raise Refusal(400, f"invalid GGUF {stored.manifest.model[:19]}: {why}")
    _proven.add(seen)


def _identity(path: Path) -> Identity:
    """Differs once the file was replaced or written to."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=64)
def _head(path: Path, identity: Identity) -> Gguf:
    return read_gguf(path)


def is_inside(path: str) -> bool:
    """Whether a file name in a create request is relative and stays where it is."""
    return bool(path) and not Path(path).is_absolute() and ".." not in Path(path).parts
