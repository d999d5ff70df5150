from pathlib import Path

import pytest

from remote.contract.job.jobs import Cause
from remote.payload.job import explained


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(28, "No space left on device", "/x/y"), Cause.DISK_FULL),
        (OSError(122, "Disk quota exceeded"), Cause.DISK_FULL),
        (
            RuntimeError(
                "Error while serializing: I/O error: No space left on device (os error 28)"
            ),
            Cause.DISK_FULL,
        ),
        (MemoryError(), Cause.OUT_OF_MEMORY),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), Cause.OUT_OF_MEMORY),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes"
            ),
            Cause.OUT_OF_MEMORY,
        ),
        (
            RuntimeError(
                "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be"
            ),
            Cause.GPU_FAULT,
        ),
        (RuntimeError("CUDA error: device-side assert triggered"), None),
        (OSError(2, "No such file or directory"), None),
        (ValueError("a bug"), None),
    ],
)
def test_what_the_box_lacks_is_told_from_bugs(error, cause):
    found = explained(error, Path("/root"))
    assert (found.cause if found else None) is cause
    assert found is None or found.remedy
