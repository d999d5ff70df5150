"""When a disk is full."""

import errno
import resource
import subprocess
import sys

import pytest

from remote.contract.files import disk

WRITES = """
import sys
from remote.contract.files import disk
try:
    open(sys.argv[1], "wb").write(bytes(99999))
except OSError as error:
    sys.exit(7 if disk.is_full(error) else 8)
"""


@pytest.mark.parametrize(
    ("number", "is_full"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False), (errno.ENOENT, False)],
)
def test_which_errors_say_so(number, is_full):
    assert disk.is_full(OSError(number, "")) is is_full
    assert not disk.is_full(ValueError(number))


def test_a_limit_to_files_says_so_too(tmp_path):
    limited = subprocess.run(
        [sys.executable, "-c", WRITES, str(tmp_path / "file")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert limited.returncode == 7


def test_amounts_that_differ_never_look_alike():
    assert disk.apart(14_500_000_000, 4_400_000_000) == ["14.5 GB", "4.4 GB"]
    assert disk.apart(104_000_000, 98_000_000) == ["0.104 GB", "0.098 GB"]
    assert disk.apart(1_000_000_001, 1_000_000_000) == ["1.000000001 GB", "1.000000000 GB"]
    assert disk.apart(5e9, 5e9) == ["5.0 GB", "5.0 GB"]
