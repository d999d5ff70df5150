"""The locks of a box's Python environment: every package of it, by version and by the SHA-256 of
each wheel that it may be.

`requirements.txt` says what is wanted. Beside it lie `requirements.cpu.lock` and
`requirements.cuda.lock`, which `./inv dev.lock` makes of it in pip's own format. They hold for
Linux on x86_64 and aarch64 and for `PYTHONS`.
"""

import re
from pathlib import Path

PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
"""What wheels of every locked package are there for."""

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where the builds of torch without GPU packages are published: PyPI has them only for some
systems."""

_ENTRY = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)(?:[^\n]*\\\n)*[^\n]*$", re.MULTILINE)


def lock_of(requirements: Path, flavour: str) -> Path:
    """The lock of a requirements file for `cpu` or `cuda`; the file itself where none lies beside
    it: then it is one."""
    lock = requirements.with_suffix(f".{flavour}.lock")
    return lock if lock.exists() else requirements


def entries(lock: str) -> dict[str, str]:
    """By package, its whole entry in the text of a lock: the version and all hashes."""
    return {found[1]: found[0] for found in _ENTRY.finditer(lock)}


def versions(lock: str) -> dict[str, str]:
    """By package, the version that the text of a lock names."""
    return {found[1]: found[2] for found in _ENTRY.finditer(lock)}
