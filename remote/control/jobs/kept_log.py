"""The log of a job whose box is gone, out of the bucket."""

import os
from pathlib import Path

from remote.contract import digest
from remote.control.cloud import bucket
from remote.control.config.inventory import Inventory


def bring(inventory: Inventory, box: str, job_id: str, log: Path) -> str:
    """Bring what the box spilled of the job's log to `log`; returns where it lay, or nothing where there is no more than `log` holds.

    Raises CloudError where the bucket cannot be asked.
    """
    found = bucket.of_entry(inventory.storage.bucket, inventory.box(box))
    manifest = found.manifest(job_id) if found else None
    path = f"jobs/{job_id}/log"
    kept = manifest.files.get(path) if manifest else None
    if found is None or manifest is None or kept is None or (log.exists() and log.stat().st_size >= kept.size):
        return ""
    beside = log.with_name(f".{log.name}.kept")
    try:
        found.download(manifest, path, beside)
        if digest.of_file(beside) != kept.sha256:
            return ""
        os.replace(beside, log)
    finally:
        beside.unlink(missing_ok=True)
    return found.place(job_id)
