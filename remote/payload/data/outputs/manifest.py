"""What a dataset was made of and what came of it, as `manifest.json`: sources with the version of
each unit, recipe, counts after each step, split, files with their SHA-256, tokens."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remote.contract.files import digest
from remote.payload.data.engine import Engine, Prepared
from remote.payload.data.parts import Part
from remote.payload.data.split import Split


def manifest_of(
    engine: Engine,
    prepared: Prepared,
    split: Split,
    counts: Mapping[str, int],
    files: Mapping[str, Path],
    statistics: Mapping[str, Any],
) -> dict[str, Any]:
    """As plain JSON. A unit's `digest` is what its source knows it by: a SHA-256, an ETag."""
    recipe = engine.context.recipe
    return {
        "name": recipe["name"],
        "recipe": dict(recipe),
        "recipe_sha256": digest.of_value(dict(recipe)),
        "sources": sources_of(engine, prepared),
        "units": [{**asdict(part), **_listed(engine, part)} for part in prepared.passes[0][1]],
        "steps": steps_of(prepared),
        "split": split.to_json(),
        "counts": dict(counts),
        "files": files_of(files),
        "tokens": tokens_of(statistics),
    }


def sources_of(engine: Engine, prepared: Prepared) -> list[dict[str, Any]]:
    """Each entry of the recipe: its type, what it reads, its units, and how many rows were read of
    it and are left."""
    entries = engine.context.recipe.get("sources") or ()
    units = Counter(_number(name) for name in engine.listed)
    read, kept = _rows_by_source(prepared.passes[0][1]), _rows_by_source(prepared.parts)
    return [
        {
            "type": str(entry["type"]),
            "where": where_of(entry),
            "units": units[number],
            "read": read[number],
            "kept": kept[number],
        }
        for number, entry in enumerate(entries)
    ]


def where_of(entry: Mapping[str, Any]) -> str:
    """What an entry reads, for people: never a secret, only the name of its variable."""
    told = entry.get("path") or entry.get("name") or entry.get("secret") or ""
    return str(told)


def steps_of(prepared: Prepared) -> list[dict[str, Any]]:
    """How many rows were left after each step, and what it set aside."""
    return [
        {
            "step": name,
            "rows": sum(part.rows for part in parts),
            "dropped": dict(sum((Counter(part.dropped) for part in parts), Counter())),
        }
        for name, parts in prepared.passes
    ]


def files_of(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of each."""
    return {
        name: {"bytes": path.stat().st_size, "sha256": digest.of_file(path)}
        for name, path in files.items()
    }


def tokens_of(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """How tokens were counted, and what came of it in train and val."""
    names = ("count", "total", "mean", "p50", "p95", "max")
    return {
        "tokenizer": statistics["tokenizer"],
        **{
            side: {
                **{name: statistics[side]["tokens"].get(name, 0) for name in names},
                "learnt": statistics[side]["learnt_tokens"],
                "rows": statistics[side]["tokenized"],
            }
            for side in ("train", "val")
        },
    }


def _listed(engine: Engine, part: Part) -> dict[str, Any]:
    unit = engine.listed.get(part.unit)
    told = {"license": unit.what["license"]} if unit and "license" in unit.what else {}
    return {"digest": unit.digest, "bytes": unit.size, **told} if unit else {}


def _rows_by_source(parts: list[Part]) -> "Counter[int]":
    found: Counter[int] = Counter()
    for part in parts:
        found[_number(part.unit)] += part.rows
    return found


def _number(unit: str) -> int:
    return int(unit.partition("/")[0])
