"""Base models in a box's shared place: their names, and the list of what one consists of. Standard
library only.

```
<root>/shared/models/<folder>/        the files; or a link to a folder that was adopted
<root>/shared/models/<folder>.json    its manifest, written last: what came from where, with sizes
and digests
```
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json

_KEPT_SUFFIXES = (".safetensors", ".json", ".model", ".txt", ".jinja")
_KEPT_NAMES = ("tokenizer.model.v1", "tokenizer.model.v2", "tokenizer.model.v3", "LICENSE")
_MODELS = "shared/models"
_LEFT_OUT = ("consolidated",)
"""Mistral's own format: the same weights a second time."""


@dataclass(frozen=True)
class ModelFile:
    """One file to fetch. `sha256` of its content where the source tells it; else `git_sha1` (of the
    blob) or `md5`; or neither."""

    path: str
    size: int
    url: str
    sha256: str = ""
    git_sha1: str = ""
    md5: str = ""


@dataclass(frozen=True)
class ModelFetch:
    """A base model to fetch: `name` as recipes say it, `asked` as the inventory says it, `revision`
    as the source pins it.

    `authorization` is the header that the source wants: a secret, for standard input alone.
    """

    name: str
    asked: str
    source: str
    revision: str
    files: tuple[ModelFile, ...]
    authorization: str = field(default="", repr=False)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @classmethod
    def from_json(cls, text: str) -> "ModelFetch":
        """Read it; raises ValueError, KeyError or TypeError when it is none."""
        raw = untrusted_json.loads_object(text)
        return cls(**{**raw, "files": tuple(ModelFile(**file) for file in raw["files"])})

    def to_json(self) -> str:
        """As one JSON object, secret included."""
        return json.dumps(asdict(self))


def folder_name(name: str) -> str:
    """The folder of a base model under `models/`: `mistralai/Mistral-7B-v0.3` is
    `mistralai--Mistral-7B-v0.3`."""
    return name.strip("/").replace("/", "--")


def place(name: str) -> str:
    """Where a base model lies in the shared place, relative to the box's root."""
    return f"{_MODELS}/{folder_name(name)}"


def found(path: Path, root: Path, recipe: Mapping[str, Any] | None) -> Path:
    """`path`; or, where nothing is there, the one model of the shared place that it names; for the
    recipe's own `base.path` else the one that its `base.name` names. Another base that was asked
    for and is not there is never replaced by the recipe's.
    """
    if path.exists():
        return path
    models = root / _MODELS
    base = (recipe or {}).get("base") or {}
    named = (
        base.get("name")
        if base.get("path") and path == root / Path(str(base["path"])).expanduser()
        else None
    )
    asked = [path.name] * (path.parent == models) + [folder_name(str(named))] * bool(named)
    return next(
        (models / fit[0] for name in asked if len(fit := _fitting(models, name)) == 1), path
    )


def there(root: Path) -> list[str]:
    """The folders of the base models that lie in the shared place, by name."""
    models = root / _MODELS
    if not models.is_dir():
        return []
    return sorted(
        each.name
        for each in models.iterdir()
        if not each.name.startswith(".") and (each / "config.json").is_file()
    )


def _fitting(models: Path, name: str) -> list[str]:
    """The folders that a name means: the very one; else by its last part, or one pre-trained on the
    box, whose name goes on."""
    if (models / name).is_dir():
        return [name]
    mine = re.compile(rf"(.+--)?{re.escape(name.rsplit('--', 1)[-1])}(-[0-9a-f]{{12}})?")
    return [folder for folder in there(models.parent.parent) if mine.fullmatch(folder)]


def is_wanted(path: str) -> bool:
    """Whether training or export needs a file: safetensors, configuration and tokenizer at the top,
    nothing twice or pickled."""
    if "/" in path or path.startswith((".", *_LEFT_OUT)):
        return False
    return path.endswith(_KEPT_SUFFIXES) or path in _KEPT_NAMES


def lacks(paths: Iterable[str]) -> str:
    """What a list of files lacks to be a base model, in words; empty when it lacks nothing that its
    names can tell."""
    names = set(paths)
    if "config.json" not in names:
        return "config.json"
    return "" if any(name.endswith(".safetensors") for name in names) else "weights in safetensors"
