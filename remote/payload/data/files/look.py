"""A look at the first rows of a file: which kind they are taken for, which other kinds would fit,
and what is wrong with those that cannot be read.

python -m remote.payload.data.files.look REQUEST, which is JSON: `path`, `rows`, `kind`, `columns`.
The answer is JSON on standard output. Standard library only, but for formats that need more.
"""

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from remote.contract.artifacts import row_kinds
from remote.payload.data.files.lines import PACKED
from remote.payload.data.files.readers import (
    Object,
    Reading,
    Unreadable,
    format_of,
    objects_in,
    remedy_for,
    rows_of,
)
from remote.payload.data.sources.corpus import files_of
from remote.payload.data.units import Given, Reject
from remote.payload.job import StageFailed

LOOKED_AT = 100
"""So many objects of the first file are looked at."""


def looked(path: Path, rows: int, reading: Reading) -> dict[str, Any]:
    """What the first file is. Raises StageFailed, Unreadable, OSError."""
    files = files_of(path, reading.kind)
    first = files[0]
    found = format_of(first)
    objects = [] if found == "text" else _first_objects(first)
    results = list(itertools.islice(rows_of(first, first.name, reading), LOOKED_AT))
    named = [row_kinds.renamed(each, reading.columns) for each in objects]
    given = [each for each in results if isinstance(each, Given)]
    return {
        "file": first.name,
        "files": len(files),
        "format": found or "json lines",
        "packing": _packing(first),
        "kind": reading.kind or row_kinds.likely_kind(named) or ("text" if found == "text" else ""),
        "fits": _fits(named),
        "names": list(objects[0]) if objects else [],
        "seen": len(results),
        "rows": [{"where": str(each.origin), "row": each.row.to_json()} for each in given[:rows]],
        "bad": [
            {"where": str(each.origin), "reason": each.reason}
            for each in results
            if isinstance(each, Reject)
        ],
    }


def sentence(told: Mapping[str, Any]) -> str:
    """The same in words, for a log."""
    more = f" and {told['files'] - 1} more" if told["files"] > 1 else ""
    packing = f", {told['packing']}" if told["packing"] else ""
    words = f"{told['file']}{more}: {told['format']}{packing}, taken for {told['kind']} rows"
    if told["rows"]:
        first = told["rows"][0]
        words += f"; the first one ({first['where']}): {json.dumps(first['row'])[:500]}"
    return words


def _first_objects(file: Path) -> list[dict[str, Any]]:
    objects = itertools.islice(objects_in(file, file.name), LOOKED_AT)
    return [each.value for each in objects if isinstance(each, Object)]


def _fits(objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """The kinds that objects have the fields of, those that fit most first."""
    counts = Counter(kind for each in objects for kind in row_kinds.kinds_of(each))
    return [kind for kind, _ in counts.most_common()]


def _packing(file: Path) -> str:
    with file.open("rb") as content:
        first = content.read(8)
    return next((name for mark, name in PACKED.items() if first.startswith(mark)), "")


def asked(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request; `error`, with a `remedy`, where the file cannot be read."""
    path = Path(request["path"])
    reading = Reading(request.get("kind") or "", request.get("columns") or {})
    try:
        return looked(path, int(request.get("rows") or 1), reading)
    except StageFailed as failure:
        return {"error": failure.what, "why": failure.why, "remedy": failure.remedy}
    except (Unreadable, OSError, EOFError, ValueError) as error:
        return {"error": f"{path.name}: {error}", "remedy": remedy_for(path)}


if __name__ == "__main__":
    print(json.dumps(asked(json.loads(sys.argv[1]))))
