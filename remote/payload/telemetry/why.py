"""`JOB MINUTES` tells what the box knows of a job around its end, or around now. Standard library
only.

One frame: `{"done": EVIDENCE}` (see `remote.contract.telemetry.evidence`) or `{"error": {...}}`.
"""

import json
import sys

from remote.contract.job.paths import BoxPaths
from remote.payload.jobs import supervise
from remote.payload.telemetry import job_context


def main() -> None:
    """The command line."""
    box = BoxPaths.of_release()
    try:
        told = {
            "done": (
                job_context.evidence_of(
                    box, supervise.status(box, sys.argv[1]), float(sys.argv[2])
                ).to_json()
            )
        }
    except supervise.Refused as refusal:
        told = {"error": refusal.words}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
