"""The rights to write to the bucket that the laptop left on the box: `<root>/grant.json`, for its
owner alone. Standard library only."""

import fcntl
import json
import time
from dataclasses import asdict
from pathlib import Path

from remote.contract.artifacts.upload import UploadGrant
from remote.contract.files import atomic, untrusted_json


def take(root: Path, grant: UploadGrant) -> None:
    """Keep a grant in place of its run's older one; those of no use any more are dropped."""
    with (root / ".grant.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        grants = {**_all(root), grant.run_id: grant}
        text = json.dumps(
            {run_id: asdict(each) for run_id, each in grants.items() if each.is_good(time.time())}
        )
        atomic.write_text(root / "grant.json", text, mode=0o600)


def of_run(root: Path, run_id: str) -> UploadGrant | None:
    """The grant for the jobs of a run, if it is still of use."""
    grant = _all(root).get(run_id)
    return grant if grant and grant.is_good(time.time()) else None


def _all(root: Path) -> dict[str, UploadGrant]:
    try:
        return {
            run_id: UploadGrant.from_json(raw)
            for run_id, raw in untrusted_json.read_object(root / "grant.json").items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
