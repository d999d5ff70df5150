"""The Python modules below a folder, and their names."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remote.contract.files import digest, regular_files

MAX_BYTES = 5_000_000
"""A longer file is data that looks like Python."""
_SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist"}


@dataclass(frozen=True)
class Module:
    """A file: `name` as Python imports it, `file` relative to the folder."""

    name: str
    file: str
    path: Path
    is_package: bool
    digest: str = ""

    @property
    def package(self) -> str:
        """What its relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


def modules_of(root: Path) -> list[Module]:
    """All modules, by name. Raises OSError."""
    found = []
    for path in _files(root):
        with regular_files.opened(path) as file:
            mark = digest.of_bytes(file.read(MAX_BYTES + 1))
        place = path.relative_to(root).as_posix()
        found.append(Module(_name(root, path), place, path, path.name == "__init__.py", mark))
    return sorted(found, key=lambda module: (module.name, module.file))


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not (Path(folder) / name / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            path = Path(folder) / name
            if name.endswith(".py") and path.is_file() and not path.is_symlink():
                yield path


def _name(root: Path, path: Path) -> str:
    """As Python would import it: from the folder above the package, or from `src`."""
    base = root
    while (base / "__init__.py").is_file() and base.parent != base:
        base = base.parent
    if base == root and path.is_relative_to(root / "src"):
        base = root / "src"
    parts = list(path.relative_to(base).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
