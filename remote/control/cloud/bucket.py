"""The bucket of the inventory, for one run: the right to write there, what boxes have spilled, and
the way back."""

import io
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote.contract.artifacts.upload import (
    MANIFEST_BYTES,
    PIECE_BYTES,
    Kept,
    Manifest,
    Piece,
    UploadGrant,
    dataset_folder,
    manifest_key,
    prefix_of,
)
from remote.contract.files import atomic
from remote.control.cloud.account import endpoint, refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.config.inventory import HostEntry
from remote.control.errors import CloudError
from remote.control.project import identity

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry

FETCH_SECONDS = 6 * 3600
LONGEST_GRANT_SECONDS = 7 * 86400
"""What AWS signs at most."""

MOST_POSTED_BYTES = 5 << 30
"""What S3 takes as one object by POST."""

RANGE_BYTES, RANGES_AT_ONCE = 4 << 20, 4
"""How an object is fetched: so many ranges of it at once."""


class BrokenOff(Exception):
    """The connection to the bucket is lost; says why. Whoever asks again for the rest may well get
    it."""


@dataclass(frozen=True)
class Spilled:
    """What lies in a bucket of one job: so many bytes, the newest of them written at `at`."""

    job_id: str
    size: int
    at: datetime


@dataclass(frozen=True)
class Bucket:
    """A bucket, asked in its own region. Every method raises CloudError where it is not there or
    may not be used.

    `mark` is that of the project whose jobs are meant; empty: of this one.
    """

    name: str
    at: Endpoint
    box: str = ""
    profile: bool = False
    mark: str = ""

    def grant(
        self, run_id: str, seconds: float, always: bool, datasets: Iterable[str] = ()
    ) -> UploadGrant:
        """The right to spill the jobs of a run, and to put datasets of these names there, for so
        many seconds where it is presigned."""
        seconds = min(seconds, LONGEST_GRANT_SECONDS)
        jobs = f"{self.prefix}{run_id}-"
        with self._explained():
            post = self._s3.generate_presigned_post(
                self.name,
                f"{jobs}${{filename}}",
                Conditions=[["content-length-range", 0, PIECE_BYTES + 1024]],
                ExpiresIn=int(seconds),
            )
            rights = {name: self._dataset_fields(name, seconds) for name in datasets}
        expires = time.time() + seconds
        return UploadGrant(
            run_id,
            self.name,
            self.at.region,
            self.prefix,
            post["url"],
            post["fields"],
            expires,
            self.profile,
            always,
            rights,
        )

    def _dataset_fields(self, name: str, seconds: float) -> dict[str, str]:
        post = self._s3.generate_presigned_post(
            self.name,
            f"{dataset_folder(name)}${{filename}}",
            Conditions=[["content-length-range", 0, MOST_POSTED_BYTES]],
            ExpiresIn=int(seconds),
        )
        return dict(post["fields"])

    def manifest(self, job_id: str) -> Manifest | None:
        """What lies there of a job, or None."""
        with self._explained():
            try:
                answer = self._s3.get_object(
                    Bucket=self.name, Key=manifest_key(self._folder(job_id))
                )
            except self._s3.exceptions.NoSuchKey:
                return None
            content = answer["Body"].read(MANIFEST_BYTES + 1)
        try:
            found = Manifest.from_json(content)
        except (ValueError, KeyError, TypeError):
            return None
        return found if found.job_id == job_id else None

    def fetching(self, manifest: Manifest) -> dict[str, Any]:
        """What a box needs to bring that job: see `remote.payload.transfer.upload`."""
        folder = self._folder(manifest.job_id)
        keys = [piece.key for kept in manifest.files.values() for piece in kept.pieces(folder)]
        with self._explained():
            urls = {
                key: self._s3.generate_presigned_url(
                    "get_object", {"Bucket": self.name, "Key": key}, FETCH_SECONDS
                )
                for key in keys
            }
        return {"manifest": asdict(manifest), "folder": folder, "urls": urls}

    def download(self, manifest: Manifest, path: str, destination: Path) -> None:
        """Write the file that stood under `path` of the box's root to `destination`, whole or not
        at all; the caller verifies."""
        try:
            with atomic.writing(destination) as file:
                pieces = self.pieces(manifest.job_id, manifest.files[path])
                file.writelines(map(self.fetch, pieces))
        except BrokenOff as error:
            where = self.place(manifest.job_id)
            raise CloudError(
                "the bucket broke off",
                where=where,
                why=str(error),
                remedy="run the same command again",
            ) from None

    def pieces(self, job_id: str, kept: Kept) -> Iterator[Piece]:
        """The objects that hold a job's file, in order."""
        return kept.pieces(self._folder(job_id))

    def fetch(self, piece: Piece) -> bytes:
        """The content of an object. Raises BrokenOff, CloudError where it is not there as it
        was."""
        with self._explained():
            return fetch(self._s3, self.name, piece.key, piece.size)

    def sweep(self, run_id: str) -> int:
        """Remove what no manifest of the run's jobs names any more, such as older checkpoints;
        returns how many objects went."""
        with self._explained():
            keys = [each["Key"] for each in objects(self._s3, self.name, f"{self.prefix}{run_id}-")]
            named: set[str] = set()
            for job_id in {key.removeprefix(self.prefix).split("/")[0] for key in keys}:
                manifest, folder = self.manifest(job_id), self._folder(job_id)
                pieces = (
                    (kept.pieces(folder) for kept in manifest.files.values()) if manifest else ()
                )
                named |= {manifest_key(folder), *(piece.key for each in pieces for piece in each)}
            stale = [key for key in keys if key not in named]
            delete(self._s3, self.name, stale)
        return len(stale)

    def spilled(self) -> list[Spilled]:
        """What lies there of the project's jobs, of every run."""
        found: dict[str, Spilled] = {}
        with self._explained():
            for each in objects(self._s3, self.name, self.prefix):
                job_id = each["Key"].removeprefix(self.prefix).split("/")[0]
                before = found.get(job_id, Spilled(job_id, 0, each["LastModified"]))
                found[job_id] = Spilled(
                    job_id, before.size + each["Size"], max(before.at, each["LastModified"])
                )
        return list(found.values())

    def of_projects(self) -> "list[Bucket]":
        """The bucket as each project sees it that has put jobs there, this one first: another
        checkout is another project."""
        with self._explained():
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix="windlass/", Delimiter="/"
            )
            marks = [
                each["Prefix"].split("/")[1]
                for page in pages
                for each in page.get("CommonPrefixes", ())
            ]
        return [
            self,
            *(replace(self, mark=mark) for mark in marks if mark != identity.project_mark()),
        ]

    def remove(self, job_id: str) -> None:
        """Remove all that lies there of a job: first its manifest, without which the rest is
        nothing."""
        folder = self._folder(job_id)
        with self._explained():
            delete(self._s3, self.name, [manifest_key(folder)])
            delete(
                self._s3, self.name, [each["Key"] for each in objects(self._s3, self.name, folder)]
            )

    @property
    def prefix(self) -> str:
        """Where the project's jobs lie."""
        return prefix_of(self.mark or identity.project_mark())

    def place(self, job_id: str) -> str:
        """The job's place for people."""
        return f"s3://{self.name}/{self._folder(job_id)}"

    def _folder(self, job_id: str) -> str:
        return f"{self.prefix}{job_id}/"

    @property
    def _s3(self) -> Any:
        return self.at.client("s3")

    def _explained(self) -> AbstractContextManager[None]:
        return refusals.explained(
            refusals.Context(self.box, self.at.region, regions=self.at.regions)
        )


def fetch(s3: Any, bucket: str, key: str, size: int) -> bytes:
    """The content of an object of `size` bytes, by boto3's own transfer.

    Raises BrokenOff, CloudError for an object of another size, and botocore's errors.
    """
    from boto3.s3.transfer import TransferConfig
    from botocore.exceptions import ConnectionError, HTTPClientError, IncompleteReadError
    from s3transfer.exceptions import RetriesExceededError

    content = _Bounded(size)
    config = TransferConfig(
        multipart_threshold=RANGE_BYTES,
        multipart_chunksize=RANGE_BYTES,
        max_concurrency=RANGES_AT_ONCE,
        preferred_transfer_client="classic",
    )
    try:
        s3.download_fileobj(bucket, key, content, Config=config)
    except RetriesExceededError as error:
        raise BrokenOff(str(error.last_exception)) from None
    except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
        raise BrokenOff(str(error)) from None
    if len(content.getbuffer()) != size:
        what = "an object is shorter than what was put there"
        raise CloudError(what, where=f"s3://{bucket}/{key}")
    return content.getvalue()


class _Bounded(io.BytesIO):
    """Takes so many bytes at most."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def write(self, content: Any, /) -> int:
        if self.tell() + len(content) > self._size:
            raise CloudError("an object is larger than what was put there")
        return super().write(content)


def objects(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """What lies below a prefix, however much that is: `Key`, `Size`, `LastModified`."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", ())


def delete(s3: Any, bucket: str, keys: list[str]) -> None:
    """Remove objects, however many they are."""
    for start in range(0, len(keys), 1000):
        named = [{"Key": key} for key in keys[start : start + 1000]]
        s3.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": True})


def of_entry(name: str | None, entry: "BoxEntry") -> Bucket | None:
    """The inventory's bucket as a box of that entry uses it; None where there is no bucket, or the
    box is no cloud's.

    Raises CloudError for a bucket that is not there; in the embedded cloud, which forgets, it is
    made.
    """
    if name is None or isinstance(entry, HostEntry):
        return None
    there = endpoint.of_entry(entry)
    with refusals.explained(refusals.Context(entry.name, there.region, regions=there.regions)):
        region = _region_of(name, there)
    return Bucket(name, there.in_region(region), entry.name, entry.instance_profile is not None)


def _region_of(name: str, there: Endpoint) -> str:
    from botocore.exceptions import ClientError

    s3 = there.client("s3")
    try:
        return str(s3.head_bucket(Bucket=name).get("BucketRegion") or there.region)
    except ClientError as error:
        answer = error.response
        if answer["Error"]["Code"] == "403":  # HEAD has no body that could say more
            raise refusals.of_code(
                "AccessDenied", f"the bucket {name}: 403", refusals.Context("", there.region)
            ) from None
        if (
            region := answer.get("ResponseMetadata", {})
            .get("HTTPHeaders", {})
            .get("x-amz-bucket-region")
        ):
            return str(region)  # another region's: it may well be used there
        if answer["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        if there.is_billed:
            raise _no_bucket(name, there) from None
    outside = (
        {}
        if there.region == "us-east-1"
        else {"CreateBucketConfiguration": {"LocationConstraint": there.region}}
    )
    s3.create_bucket(Bucket=name, **outside)
    return there.region


def _no_bucket(name: str, there: Endpoint) -> CloudError:
    remedy = (
        f"`aws s3 mb s3://{name} --region {there.region}`, or correct `storage.bucket` in"
        " inventory.yaml"
    )
    return CloudError(
        f"there is no bucket {name}",
        where=f"s3://{name}",
        why="it is named in inventory.yaml",
        remedy=remedy,
    )
