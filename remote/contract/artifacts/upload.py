"""What of a job is kept in a bucket, so that another box can go on with it. Written by the box,
read by the laptop.

```
s3://BUCKET/windlass/<project mark>/jobs/<job-id>/manifest.json           written last: what it
names is there
                                                /objects/<sha256>/<n>     a file's pieces,
                                                PIECE_BYTES each
```
The right to write there is a `UploadGrant` that the laptop leaves on the box: a presigned POST for
the jobs of one run, good for some hours, or the name of the bucket alone where the box has an
instance profile.

What a data recipe makes and wants there lies under `datasets/NAME/`, each file one object.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from remote.contract.files import listing, typed, untrusted_json

PIECE_BYTES = 32 * 1024 * 1024
"""Files travel in pieces of this size: a presigned POST takes 5 GB at most, and several pieces
travel side by side."""

ON_ITS_WAY = "on its way to "
"""In a job's `kept`: its spill has begun and not ended yet."""

MANIFEST_BYTES = 64 << 20
"""No manifest is larger."""


@dataclass(frozen=True)
class Piece:
    """One object in the bucket: its key, and which bytes of its file it holds."""

    key: str
    offset: int
    size: int


@dataclass(frozen=True)
class Kept:
    """One file: its SHA-256 and its size in bytes."""

    sha256: str
    size: int

    def pieces(self, folder: str) -> Iterator[Piece]:
        """The objects that hold the file, in order; `folder` is the job's in the bucket, with a
        slash at its end."""
        for number, offset in enumerate(range(0, max(self.size, 1), PIECE_BYTES)):
            yield Piece(
                f"{folder}objects/{self.sha256}/{number}",
                offset,
                min(PIECE_BYTES, self.size - offset),
            )


@dataclass(frozen=True)
class Manifest:
    """What of a job lies in the bucket. `ended_at` is that of the job's state then (0 while it
    ran); `what` is for people; `listing` are by their paths relative to the box's root."""

    job_id: str
    ended_at: float
    what: str
    files: dict[str, Kept] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(kept.size for kept in self.files.values())

    def to_json(self) -> str:
        """The manifest as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read a manifest; raises ValueError, KeyError or TypeError when it is none, or names a
        place outside the box's root."""
        manifest = typed.read(
            cls, untrusted_json.loads_object(text, max_bytes=MANIFEST_BYTES, lone_surrogates=True)
        )
        if "/" in listing.check_name(manifest.job_id):
            raise ValueError(f"{manifest.job_id[:80]!r} names no job")
        listing.check_names(manifest.files.keys())
        for path, kept in manifest.files.items():
            _check_place(path)
            listing.check_sha256(kept.sha256)
            listing.check_size(kept.size)
        listing.check_size(manifest.size)  # what it says is counted out piece by piece
        return manifest


@dataclass(frozen=True)
class UploadGrant:
    """The right to spill the jobs of the run `run_id` under `prefix` of `bucket`.

    `url` and `fields` are a presigned POST that ends at `expires` (seconds since the epoch; 0:
    there is none); `profile` says that the box has an instance profile of its own. `always`: every
    checkpoint is spilled as it comes, as on a spot box. `datasets`: the fields of another POST to
    `url` for each dataset, by its name, that the run may put there.
    """

    run_id: str
    bucket: str
    region: str
    prefix: str
    url: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    expires: float = 0.0
    profile: bool = False
    always: bool = False
    datasets: dict[str, dict[str, str]] = field(default_factory=dict)

    def folder(self, job_id: str) -> str:
        """The job's place in the bucket, with a slash at its end."""
        return f"{self.prefix}{job_id}/"

    def place(self, job_id: str) -> str:
        """The job's place for people."""
        return f"s3://{self.bucket}/{self.folder(job_id)}"

    def is_good(self, now: float) -> bool:
        """Whether it is of any use at `now`."""
        return self.profile or now < self.expires

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "UploadGrant":
        """Read a grant; raises ValueError or TypeError when it is none."""
        return typed.read(cls, raw)


def prefix_of(project_mark: str) -> str:
    """Where the project's jobs lie in its bucket."""
    return f"windlass/{project_mark}/jobs/"


def dataset_folder(name: str) -> str:
    """Where a dataset lies in the bucket. Raises ValueError for a name that leads elsewhere."""
    if "/" in listing.check_name(name):
        raise ValueError(f"{name[:80]!r} names no dataset")
    return f"datasets/{name}/"


def dataset_names(recipe: Mapping[str, Any]) -> list[str]:
    """The dataset that a data recipe wants in the bucket: `outputs: {bucket: true}`."""
    outputs = recipe.get("outputs")
    is_wanted = isinstance(outputs, dict) and outputs.get("bucket") is True
    return [str(recipe["name"])] if is_wanted and recipe.get("name") else []


def manifest_key(folder: str) -> str:
    """The manifest in a job's folder of the bucket."""
    return f"{folder}manifest.json"


def _check_place(path: str) -> None:
    parts = PurePosixPath(path).parts
    if len(parts) < 2 or parts[0] not in ("jobs", "shared"):
        raise ValueError(f"a name that leads elsewhere: {path[:200]!r}")
