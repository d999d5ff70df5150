"""A dataset of the Hugging Face hub, at one commit: `hf://NAME@REVISION`.

Entry: `path`, that address, REVISION a commit's 40 digits; `config` and `split` (`train`) as its
card or its files' names have them, or `files`, patterns such as `data/*.parquet`; `kind` of its
rows and `columns`; `license`, else what its card says, and `licenses` allowed
(`licenses.ALLOWED`).

Each file is a unit: fetched, checked against the hash that the commit has of it, read, removed.
`HF_TOKEN` and `HF_ENDPOINT` are honoured, as by every tool of the hub: list them as the recipe's
`secrets`.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from remote.contract.job.jobs import Cause
from remote.payload.data import licenses
from remote.payload.data.engine import Context
from remote.payload.data.files.readers import SUFFIXES, Reading, rows_of, suffix_of
from remote.payload.data.units import Given, Result, Unit
from remote.payload.job import StageFailed

SCHEME = "hf://"
CARD = "README.md"
_ADDRESS = re.compile(r"hf://(?:datasets/)?((?:[\w.-]+/)?[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SPLITS = ("train", "training", "test", "testing", "eval", "evaluation", "validation", "valid")
"""Words in the names of files that tell of a split, as `datasets` takes them; `dev` and `val`, too
short to be one by chance, stand beside them."""
_SHORT_SPLITS = ("dev", "val")


@dataclass(frozen=True)
class Address:
    """A repository of data, and a revision; empty where none is named."""

    name: str
    revision: str = ""

    @classmethod
    def of(cls, text: str) -> "Address":
        """Out of `hf://NAME@REVISION`. Raises StageFailed."""
        found = _ADDRESS.fullmatch(text)
        if not found:
            raise StageFailed(
                Cause.CONFIG,
                f"{text!r} is no dataset of the hub",
                "one is written hf://OWNER/NAME@COMMIT",
                "correct `path`",
            )
        return cls(found[1], found[2] or "")

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class HubSource:
    """A dataset at one commit. `entry` is the recipe's, `folder` where files lie while they are
    read."""

    entry: Mapping[str, Any]
    address: Address
    folder: Path

    def units(self) -> Iterator[Unit]:
        """A unit a file. Raises StageFailed for what is not pinned, not there, not to be had, or
        under a licence that is not allowed."""
        shutil.rmtree(self.folder, ignore_errors=True)  # what a killed worker left
        api, name = api_of_hub(), self.address.name
        with asking(self.address):
            self._refuse_unpinned(api)
            info = api.dataset_info(name, revision=self.address.revision, files_metadata=True)
            files = {file.rfilename: file for file in info.siblings}
            card = self._card(api) if CARD in files else ""
        told = self._licences(card)
        chosen = chosen_files(list(files), _configs(card), self.entry)
        for file in chosen or [_nothing(self.address, list(files))]:
            known = files[file]
            mark = f"sha256:{known.lfs.sha256}" if known.lfs else f"git:{known.blob_id}"
            what = {"file": file, "mark": mark, "license": told, "commit": self.address.revision}
            yield Unit(file, mark, known.size or 0, what)

    def read(self, unit: Unit) -> Iterator[Result]:
        """The rows of a file; each row's source is the dataset's name, unless it names another."""
        reading = Reading(self.entry.get("kind") or "", self.entry.get("columns") or {})
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = self._fetched(unit, Path(folder))
            for result in rows_of(path, f"{self.address}/{unit.id}", reading):
                yield self._named(result) if isinstance(result, Given) else result

    def _named(self, given: Given) -> Given:
        row = given.row
        is_own = row.source and not row.source.startswith(SCHEME)  # a text is named by its file
        return given if is_own else replace(given, row=replace(row, source=self.address.name))

    def _fetched(self, unit: Unit, folder: Path) -> Path:
        api = api_of_hub()
        try:
            path = Path(
                api.hf_hub_download(
                    self.address.name,
                    unit.what["file"],
                    repo_type="dataset",
                    revision=self.address.revision,
                    local_dir=folder,
                )
            )
        except (OSError, _http_error()) as error:
            raise ValueError(f"it cannot be fetched: {_first_line(error)}") from None
        if mark_of(path, unit.what["mark"]) != unit.what["mark"]:
            raise ValueError("what came is not what the commit has: its hash is another")
        return path

    def _refuse_unpinned(self, api: Any) -> None:
        revision = self.address.revision
        if _COMMIT.fullmatch(revision):
            return
        now = api.dataset_info(self.address.name, revision=revision or None).sha
        raise StageFailed(
            Cause.CONFIG,
            f"{self.address} is not pinned",
            "a branch or tag moves, and with it the rows" if revision else "it names no commit",
            f"write `path: {SCHEME}{self.address.name}@{now}`, which is what it means now",
        )

    def _card(self, api: Any) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = api.hf_hub_download(
                self.address.name,
                CARD,
                repo_type="dataset",
                revision=self.address.revision,
                local_dir=folder,
            )
            return Path(path).read_text(encoding="utf-8", errors="replace")

    def _licences(self, card: str) -> list[str]:
        told = self.entry.get("license") or ""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / CARD).write_text(card)
            allowed = self.entry.get("licenses") or licenses.ALLOWED
            licenses.check(str(self.address), told, allowed, Path(folder))
            return [told] if told else licenses.card_licenses(Path(folder))


def open_source(entry: Mapping[str, Any], context: Context) -> HubSource:
    """The dataset of an entry."""
    return HubSource(entry, Address.of(str(entry["path"])), context.folder / "hub")


def api_of_hub() -> Any:
    """The hub's client. Stages run offline (`quiet`): who asks it means to go out."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import disable_progress_bars

    constants.HF_HUB_OFFLINE = False
    disable_progress_bars()
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)


class asking:
    """What the hub refuses, in words. Raises StageFailed."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _traceback: Any) -> None:
        from huggingface_hub import errors

        known = OSError | RuntimeError | errors.HFValidationError | errors.HTTPError
        if not isinstance(error, known):  # RuntimeError: an upload that broke
            return
        refusals = (
            (
                errors.GatedRepoError,
                "is gated",
                "ask for access on its page, and list `HF_TOKEN` under the recipe's `secrets`",
            ),
            (
                errors.RepositoryNotFoundError,
                "is not on the hub, or is private",
                "correct `path`; for a private one list `HF_TOKEN` under the recipe's `secrets`",
            ),
            (errors.RevisionNotFoundError, "has no such revision", "correct it in `path`"),
        )
        told = next((each for each in refusals if isinstance(error, each[0])), None)
        what, remedy = (
            (told[1], told[2])
            if told
            else (
                "cannot be asked for, or sent",
                "see to the network of the box, then `./inv resume`",
            )
        )
        raise StageFailed(
            Cause.CONFIG if told else Cause.DATA,
            f"{self._address} {what}",
            _first_line(error),
            remedy,
        ) from None


def chosen_files(
    files: list[str], configs: list[Mapping[str, Any]], entry: Mapping[str, Any]
) -> list[str]:
    """The files to read, in order: by the patterns of the entry, else as the card parts them, else
    those whose names tell of the split; all where none tells of any. Raises StageFailed for a
    configuration or a split that the card does not have."""
    split = str(entry.get("split") or "train")
    if patterns := list(entry.get("files") or ()) or _patterns(configs, entry, split):
        return sorted(each for each in files if any(_fits(each, one) for one in patterns))
    readable = sorted(
        each for each in files if SUFFIXES.get(suffix_of(each)) and Path(each).name != CARD
    )
    tables = [each for each in readable if SUFFIXES[suffix_of(each)] != "text"] or readable
    config = entry.get("config")
    inside = [each for each in tables if not config or config in Path(each).parts[:-1]]
    if any(_splits_of(each) for each in inside):
        return [each for each in inside if split in _splits_of(each)]
    return inside if split == "train" else []


def mark_of(path: Path, like: str) -> str:
    """A file's hash as the hub tells it: of its bytes, or as git names it."""
    is_git = like.startswith("git:")
    sha = hashlib.sha1(usedforsecurity=False) if is_git else hashlib.sha256()
    if is_git:
        sha.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return f"{'git' if is_git else 'sha256'}:{sha.hexdigest()}"


def _configs(card: str) -> list[Mapping[str, Any]]:
    """`configs` of a card: which files are which split of which configuration."""
    from huggingface_hub import DatasetCard

    try:
        told = DatasetCard(card, ignore_metadata_errors=True).data.to_dict().get("configs")
    except ValueError:  # no YAML
        return []
    return [each for each in told or () if isinstance(each, dict) and each.get("data_files")]


def _patterns(configs: list[Mapping[str, Any]], entry: Mapping[str, Any], split: str) -> list[str]:
    if not configs:
        return []
    named = {str(each.get("config_name") or "default"): each for each in configs}
    only = next(iter(named)) if len(named) == 1 else "default"
    config = str(entry.get("config") or only)
    if config not in named:
        raise _unknown("config", config, list(named))
    parted = _by_split(named[config]["data_files"])
    if split not in parted:
        raise _unknown("split", split, list(parted))
    return parted[split]


def _by_split(told: Any) -> dict[str, list[str]]:
    """`data_files` by split: a card has a path, several, or a list of splits with theirs."""
    given = told if isinstance(told, list) else [told]
    parted: dict[str, list[str]] = {}
    for each in given:
        split, paths = (
            (str(each.get("split", "train")), each.get("path"))
            if isinstance(each, dict)
            else ("train", each)
        )
        parted.setdefault(split, []).extend(map(str, paths if isinstance(paths, list) else [paths]))
    return parted


def _unknown(what: str, asked: str, known: list[str]) -> StageFailed:
    return StageFailed(
        Cause.CONFIG,
        f"the dataset has no {what} {asked!r}",
        f"its card has {', '.join(known)}",
        f"name one of them as `{what}`, or the files themselves as `files`",
    )


def _nothing(address: Address, files: list[str]) -> str:
    raise StageFailed(
        Cause.DATA,
        f"{address} has no file to read for this `split`, `config` or `files`",
        f"its files: {', '.join(sorted(files)[:20])}",
        "name patterns as `files`, such as `data/*.parquet`",
    )


def _fits(file: str, pattern: str) -> bool:
    return fnmatchcase(file, pattern) or fnmatchcase(file, pattern.replace("**/", ""))


def _splits_of(file: str) -> set[str]:
    """The splits that the words in a path tell of, under their usual names."""
    words = set(re.split(r"[^a-z0-9]+", file.lower()))
    found = {word for word in (*_SPLITS, *_SHORT_SPLITS) if word in words}
    usual = {"training": "train", "testing": "test", "eval": "test", "evaluation": "test"}
    return {usual.get(word, "validation" if word[:1] in "vd" else word) for word in found}


def _http_error() -> Any:
    """What the hub's client raises where the network ends, which is no OSError."""
    from huggingface_hub.errors import HTTPError

    return HTTPError


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
