"""`JOB MINUTES` tells what the box knows of a job around its end, or around now. Standard library
only.

One frame: `{"done": EVIDENCE}` (see `remote.contract.evidence`) or `{"error": {...}}`.
"""

import json
import sys

from remote.contract.paths import BoxPaths
from remote.payload.jobs import supervise
from remote.payload.telemetry import vicinity


def main() -> None:
    """The command line."""
    box = BoxPaths.of_release()
    try:
        told = {
            "done": (
                vicinity.evidence_of(
                    box, supervise.status(box, sys.argv[1]), float(sys.argv[2])
                ).to_json()
            )
        }
    except supervise.Refused as refusal:
        told = {"error": refusal.words}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
