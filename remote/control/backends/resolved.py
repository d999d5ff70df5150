"""What a stage's input or output is, once it is known: where it lies, or its value.

The ledger holds each as a JSON object, which `kind` tells apart.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.files import digest, typed
from remote.contract.job.jobs import Artifact
from remote.control.errors import ArtifactCorrupt
from remote.control.project import name_of, path_of


@dataclass(frozen=True)
class StageArtifact:
    """A file or folder that a job left where it ran: `box` is the name of that place, `path` is
    relative to Windlass's root there."""

    path: str
    size: int
    sha256: str
    is_folder: bool
    box: str = ""
    kind: str = field(default="artifact", init=False)

    @property
    def identity(self) -> str:
        """What two inputs that are the same have in common."""
        return self.sha256

    @property
    def artifact(self) -> Artifact:
        """The artifact itself. Raises ArtifactCorrupt for one that cannot be: its path becomes the
        name of a file here."""
        artifact = Artifact(self.path, self.size, self.sha256, self.is_folder)
        try:
            artifact.check()
        except ValueError as error:
            raise ArtifactCorrupt(
                "the ledger names an artifact that cannot be",
                why=str(error),
                remedy="`./inv resume` makes it anew",
            ) from None
        return artifact


@dataclass(frozen=True)
class LaptopFile:
    """A file or folder on the laptop; `path` as `remote.control.project` names it."""

    path: str
    sha256: str
    kind: str = field(default="file", init=False)

    @classmethod
    def of(cls, path: Path, sha256: str | None = None) -> "LaptopFile":
        """The file at `path`; `sha256` where its digest is known already."""
        return cls(name_of(path), sha256 or digest.of_path(path))

    @property
    def identity(self) -> str:
        """What two inputs that are the same have in common."""
        return self.sha256

    @property
    def local_path(self) -> Path:
        """Where it lies."""
        return path_of(self.path)


@dataclass(frozen=True)
class BoxPath:
    """A file or folder that is on the box already, by its path there."""

    path: str
    kind: str = field(default="box", init=False)

    @property
    def identity(self) -> str:
        """What two inputs that are the same have in common."""
        return self.path


@dataclass(frozen=True)
class PlainValue:
    """A plain value, such as a model's name."""

    value: Any
    kind: str = field(default="value", init=False)

    @property
    def identity(self) -> Any:
        """What two inputs that are the same have in common."""
        return self.value


Resolved = StageArtifact | LaptopFile | BoxPath | PlainValue

_KINDS: dict[str, type[Any]] = {
    "artifact": StageArtifact,
    "file": LaptopFile,
    "box": BoxPath,
    "value": PlainValue,
}


def of_json(raw: Any) -> Resolved:
    """One out of the ledger. Raises KeyError, TypeError or ValueError for what is none."""
    told = {name: value for name, value in raw.items() if name != "kind"}
    found: Resolved = typed.read(_KINDS[raw["kind"]], told)
    return found
