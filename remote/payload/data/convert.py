"""A file or folder of rows as one file of rows of ours, in order, none dropped but what cannot be
read.

python -m remote.payload.data.convert REQUEST, which is JSON: `path`, `to` (.jsonl, .json, either
also .gz), `kind`, `columns`. The answer is JSON on standard output. What cannot be read is beside
the new file, in NAME.rejects.jsonl. Standard library only, but for formats that need more.
"""

import gzip
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

from remote.contract.files import atomic
from remote.contract.job.jobs import Cause
from remote.payload.data.files.readers import (
    Reading,
    Unreadable,
    rejected,
    remedy_for,
    rows_of,
    suffix_of,
)
from remote.payload.data.sources.corpus import files_of
from remote.payload.data.units import Origin, Reject, Result
from remote.payload.job import StageFailed

ENDINGS = (".jsonl", ".json")
_SHOWN = 5


def convert(path: Path, to: Path, reading: Reading) -> dict[str, Any]:
    """Write the rows; what became of them. Raises StageFailed where there is no file of rows."""
    rows, bad = 0, []
    files, aside = files_of(path, reading.kind), to.with_name(f"{to.name}.rejects.jsonl")
    aside.unlink(missing_ok=True)
    is_array = suffix_of(to.name) == ".json"
    with ExitStack() as stack:
        out = _packed(stack.enter_context(atomic.writing(to)), to, stack)
        set_aside: IO[bytes] | None = None
        for result in _results(files, path, reading):
            if isinstance(result, Reject):
                bad.append({"where": str(result.origin), "reason": result.reason})
                if set_aside is None:
                    set_aside = stack.enter_context(atomic.writing(aside))
                told = {**bad[-1], "line": result.sample}
                set_aside.write(json.dumps(told).encode() + b"\n")
                continue
            if is_array:
                out.write(b"[\n" if not rows else b",\n")
            line = result.row.to_line().encode()
            out.write(line.rstrip() if is_array else line)
            rows += 1
        if not rows:  # then nothing is left behind
            why = "; ".join(f"{each['where']}: {each['reason']}" for each in bad[:_SHOWN])
            raise StageFailed(
                Cause.DATA, f"{path.name} holds no row that can be read", why, remedy_for(path)
            )
        if is_array:
            out.write(b"\n]\n")
    return {"rows": rows, "unusable": len(bad), "bad": bad[:_SHOWN], "files": len(files)}


def _results(files: list[Path], root: Path, reading: Reading) -> Iterator[Result]:
    for file in files:
        name = file.relative_to(root).as_posix() if file != root else file.name
        try:
            yield from rows_of(file, name, reading)
        except (Unreadable, OSError, EOFError) as error:
            yield rejected(str(error), Origin(name))


def _packed(file: IO[bytes], to: Path, stack: ExitStack) -> IO[bytes]:
    if to.suffix != ".gz":
        return file
    # Without name and time: the same rows give the same bytes.
    packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    return cast(IO[bytes], stack.enter_context(packed))


def asked(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request; `error`, with a `remedy`, where it cannot be done."""
    reading = Reading(request.get("kind") or "", request.get("columns") or {})
    try:
        return convert(Path(request["path"]), Path(request["to"]), reading)
    except StageFailed as failure:
        return {"error": failure.what, "why": failure.why, "remedy": failure.remedy}
    except OSError as error:
        return {"error": f"{error.filename or request['to']}: {error.strerror or error}"}


if __name__ == "__main__":
    print(json.dumps(asked(json.loads(sys.argv[1]))))
