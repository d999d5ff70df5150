"""A prepared dataset for others: a folder of Parquet files with a card, and that folder as one
commit of a repository on the Hugging Face hub.

`HF_TOKEN`, one that may write, and `HF_ENDPOINT` are honoured: list them as the recipe's `secrets`.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.files import atomic
from remote.contract.job.jobs import Cause
from remote.payload.data.outputs import parquet as parquet_out
from remote.payload.data.outputs.parquet import Split
from remote.payload.data.sources.hub import CARD, SCHEME, Address, api_of_hub, asking
from remote.payload.job import StageFailed

_DATA = "data/*.parquet"


@dataclass(frozen=True)
class About:
    """What the card tells: never where files of one's own lie. `sources` are in words."""

    name: str
    recipe_sha256: str = ""
    sources: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any], license_name: str = "") -> "About":
        """Out of `prepare`'s manifest. The licence is the one given; else the source's, where all
        are of one."""
        entries = (manifest.get("recipe") or {}).get("sources") or ()
        units = manifest.get("units") or ()
        told = [tuple(unit.get("license") or ()) for unit in units]
        same = told[0] if told and len(set(told)) == 1 else ()
        return cls(
            str(manifest.get("name") or "dataset"),
            str(manifest.get("recipe_sha256") or ""),
            tuple(_sources(entries)),
            (license_name,) if license_name else same,
        )


def _sources(entries: Any) -> list[str]:
    public = [str(each["path"]) for each in entries if each["type"] == "hub"]
    own = Counter(str(each["type"]) for each in entries if each["type"] != "hub")
    return [*public, *(f"{count} × {kind}" for kind, count in sorted(own.items()))]


def write(folder: Path, train: Path, val: Path | None, about: About) -> Path:
    """Make `folder`, whole or not at all: Parquet files of both splits, and the card. `datasets`
    opens it by its path."""
    rows = {"train": train, **({"validation": val} if val else {})}
    features = parquet_out.features_of(rows)
    with atomic.making(folder) as partial:
        splits = parquet_out.write(partial, rows, features)
        atomic.write_text(partial / CARD, _card(about, splits, features))
    return folder


def push_to_hub(folder: Path, path: str, *, is_private: bool = True) -> str:
    """Make what `write` made the content of `hf://OWNER/NAME`, in one commit; returns its address,
    pinned. A repository that is not there is made; Parquet files of an earlier time go; a card that
    is there keeps its words and gets our metadata. Raises StageFailed."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    address = _writable(path)
    name, api = address.name, api_of_hub()
    with asking(address), tempfile.TemporaryDirectory() as scratch:
        api.create_repo(name, repo_type="dataset", private=is_private, exist_ok=True)
        there = set(api.list_repo_files(name, repo_type="dataset"))
        card = (folder / CARD).read_text()
        if CARD in there:
            card = _with_words_of(_fetched(api, name, Path(scratch)), card)
        files = sorted(each.relative_to(folder).as_posix() for each in folder.glob(_DATA))
        gone = sorted(each for each in there - set(files) if Path(each).match(_DATA))
        commit = api.create_commit(
            name,
            [
                *(CommitOperationAdd(file, folder / file) for file in files),
                CommitOperationAdd(CARD, card.encode()),
                *(CommitOperationDelete(file) for file in gone),
            ],
            commit_message=f"{len(files)} files by windlass",
            repo_type="dataset",
        )
    return f"{SCHEME}{name}@{commit.oid}"


def _writable(path: str) -> Address:
    address = Address.of(path)
    if address.revision or "/" not in address.name:
        raise StageFailed(
            Cause.CONFIG,
            f"{path!r} is no repository to write to",
            "a commit is made, and its number is told afterwards"
            if address.revision
            else "it has no owner",
            f"write {SCHEME}OWNER/NAME",
        )
    return address


def _fetched(api: Any, name: str, scratch: Path) -> str:
    path = api.hf_hub_download(name, CARD, repo_type="dataset", local_dir=scratch)
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _with_words_of(theirs: str, ours: str) -> str:
    from huggingface_hub import DatasetCard

    card = DatasetCard(theirs, ignore_metadata_errors=True)
    for key, value in DatasetCard(ours).data.to_dict().items():
        setattr(card.data, key, value)
    return str(card)


def _card(about: About, splits: list[Split], features: Any) -> str:
    from datasets import DatasetInfo
    from datasets.info import DatasetInfosDict
    from datasets.splits import SplitDict, SplitInfo
    from huggingface_hub import DatasetCardData

    parts = SplitDict()
    for split in splits:
        parts[split.name] = SplitInfo(split.name, split.bytes, split.rows)
    size = sum(split.bytes for split in splits)
    info = DatasetInfo(features=features, splits=parts, download_size=size, dataset_size=size)
    configs = [
        {"split": split.name, "path": f"data/{split.name}-*"} for split in splits if split.rows
    ]
    licences = list(about.licences)
    data = DatasetCardData(
        license=licences[0] if len(licences) == 1 else licences or None,
        pretty_name=about.name,
        configs=[{"config_name": "default", "data_files": configs}],
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return f"---\n{data.to_yaml()}\n---\n{_words(about, splits)}"


def _words(about: About, splits: list[Split]) -> str:
    counts = "".join(f"| {split.name} | {split.rows:,} |\n" for split in splits)
    sources = "".join(f"- {source}\n" for source in about.sources)
    made = f"\nMade by the recipe of SHA-256 `{about.recipe_sha256}`" if about.recipe_sha256 else ""
    return (
        f"# {about.name}\n\n| split | rows |\n|---|---|\n{counts}"
        + (f"{made}, out of:\n\n{sources}" if sources and made else "")
        + "\nRows are conversations (`messages`; an assistant's with `weight` 0 are not to be"
        " learnt) or documents (`text`). Rows of one `group` stand on one side of the split.\n"
    )
