"""Puts what `prepare` made into the bucket: `s3://BUCKET/datasets/NAME/`, the manifest last, so
that one that is there names files that are there. Standard library, and boto3 for a profile.

    python -m remote.payload.transfer.datasets

reads `{"root", "run_id", "name", "files"}` on standard input, puts them there, and prints the
place; what is wrong goes to standard error.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from remote.contract.artifacts.upload import UploadGrant, dataset_folder
from remote.contract.job.paths import BoxPaths
from remote.payload import environment
from remote.payload.transfer import bucket, grants

MANIFEST = "manifest.json"
_NO_RIGHT = "there is no right to write to a bucket on this box: `storage.bucket` names none"


def publish(root: Path, run_id: str, name: str, files: Mapping[str, Path]) -> str:
    """Put files there by their names, and return the place. Raises bucket.Unreachable, OSError."""
    grant = _grant(root, run_id)
    folder = dataset_folder(name)
    to = bucket.Bucket(grant)
    for file in sorted(files, key=lambda each: (each == MANIFEST, each)):
        to.put_file(f"{folder}{file}", files[file])
    return f"s3://{grant.bucket}/{folder}"


def published(root: Path, run_id: str, name: str, files: Mapping[str, Path]) -> str:
    """The same, by the environment's Python where an instance profile is to be used and this one
    has no boto3. Raises bucket.Unreachable, OSError."""
    python = _with_boto3(_grant(root, run_id), root)
    if python is None:
        return publish(root, run_id, name, files)
    asked = {
        "root": str(root),
        "run_id": run_id,
        "name": name,
        "files": {file: str(path) for file, path in files.items()},
    }
    done = subprocess.run(
        [str(python), "-m", "remote.payload.transfer.datasets"],
        input=json.dumps(asked).encode(),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise bucket.Unreachable(words[0] if words else f"exit code {done.returncode}")
    return done.stdout.decode().strip()


def _grant(root: Path, run_id: str) -> UploadGrant:
    grant = grants.of_run(root, run_id)
    if grant is None:
        raise bucket.Unreachable(_NO_RIGHT)
    return grant


def _with_boto3(grant: UploadGrant, root: Path) -> Path | None:
    """Another Python that is needed, and there."""
    if not grant.profile or importlib.util.find_spec("boto3"):
        return None
    requirements = environment.requirements_file("requirements.txt")
    return environment.find(requirements, BoxPaths(root).environments)


def main() -> None:
    """The command line."""
    asked = json.load(sys.stdin)
    files = {name: Path(path) for name, path in asked["files"].items()}
    try:
        print(publish(Path(asked["root"]), asked["run_id"], asked["name"], files))
    except (bucket.Unreachable, OSError) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
