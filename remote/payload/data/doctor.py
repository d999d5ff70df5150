"""Examines somebody's file of rows as `prepare` would read it: what is in it, what is wrong with
it, and what one should look at before a model learns from it.

    python -m remote.payload.data.doctor FILE [--val FILE] [--json] [--html OUT]

FILE may be a folder. `--json` prints what the page is made of, `--html` writes the page; without
either, the findings are printed. Ends with 0 where nothing is bad, with 11 where something is, or
nothing can be read. Standard library only, but for formats that need more (Parquet, Arrow, Excel,
zstd), and for a `--tokenizer`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.artifacts import row_kinds
from remote.contract.files import atomic
from remote.contract.job.exits import Exit
from remote.payload.data.files.readers import Reading, Unreadable, rows_of
from remote.payload.data.outputs import manifest
from remote.payload.data.reporting import examine, report
from remote.payload.data.reporting.dropped import Dropped
from remote.payload.data.reporting.examine import Figures
from remote.payload.data.sources.corpus import files_of
from remote.payload.data.units import Origin, Reject, Result
from remote.payload.job import StageFailed

_MOST_FILES = 20
_BYTES_A_ROW = 400
"""A guess, for how many rows have their language told."""


@dataclass(frozen=True)
class Asked:
    """What is to be examined, and how."""

    train: Path
    val: Path | None = None
    reading: Reading = field(default_factory=Reading)
    figures: Figures = field(default_factory=Figures)


def examined(asked: Asked) -> dict[str, Any]:
    """Statistics and findings of a file, as `report.page` takes them. Raises StageFailed where
    there is no file with rows."""
    sides = {"val": asked.val, "train": asked.train}
    files = {
        name: files_of(path, asked.reading.kind) for name, path in sides.items() if path is not None
    }
    size = sum(file.stat().st_size for each in files.values() for file in each)
    found = asked.figures.statistics(size, size // _BYTES_A_ROW)
    dropped = Dropped()
    for name, each in files.items():
        for result in _results(each, sides[name] or Path(), asked.reading):
            if isinstance(result, Reject):
                dropped.note(result)
            else:
                found.add(name, result.row)
    told = {
        **found.to_json(),
        "title": asked.train.name,
        "dropped": dropped.to_json(),
        "files": manifest.files_of(
            {
                _name(file, sides[name] or file): file
                for name, each in files.items()
                for file in each[:_MOST_FILES]
            }
        ),
    }
    return examine.concluded(told, asked.figures.training)


def _results(files: Sequence[Path], root: Path, reading: Reading) -> Iterator[Result]:
    """The rows of files; one that cannot be read is a Reject."""
    for file in files:
        name = _name(file, root)
        try:
            yield from rows_of(file, name, reading)
        except ImportError as error:
            yield Reject(f"needs the library {error.name}, which is not here", Origin(name), "read")
        except (Unreadable, OSError, EOFError, ValueError) as error:
            yield Reject(str(error) or type(error).__name__, Origin(name), "read")


def _name(file: Path, root: Path) -> str:
    """What a file is called: by its place below the folder that was named."""
    return file.name if file == root else f"{root.name}/{file.relative_to(root).as_posix()}"


def _asked(words: argparse.Namespace) -> Asked:
    """Raises ValueError for columns that are none."""
    columns = dict(_pair(each) for each in words.columns.split(",") if each.strip())
    names = ("max_length", "batch", "accumulation", "epochs", "tokens_per_second", "hourly_usd")
    training = {name: getattr(words, name) for name in names}
    figures = Figures(training, words.tokenizer)
    return Asked(words.file, words.val, Reading(words.kind, columns), figures)


def _pair(text: str) -> tuple[str, str]:
    ours, _, theirs = text.partition("=")
    if not (ours.strip() and theirs.strip()):
        raise ValueError(f"--columns: {text!r}, and not such as `instruction=question`")
    return ours.strip(), theirs.strip()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="doctor")
    parser.add_argument("file", type=Path)
    parser.add_argument("--val", type=Path)
    parser.add_argument("--kind", default="", choices=["", *row_kinds.KINDS])
    parser.add_argument("--columns", default="")
    parser.add_argument("--tokenizer", type=Path)
    for name in ("max-length", "batch", "accumulation"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("epochs", "tokens-per-second", "hourly-usd"):
        parser.add_argument(f"--{name}", type=float)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--html", type=Path)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = _arguments().parse_args(arguments)
    try:
        told = examined(_asked(words))
    except (StageFailed, OSError, ValueError) as error:
        why = getattr(error, "why", "")
        print(f"{error}{f': {why}' if why else ''}", file=sys.stderr)
        return Exit.DATA
    if words.html:
        atomic.write_text(words.html, report.page(told))
    if words.json:
        print(json.dumps(told))
    elif not words.html:
        _tell(told)
    return Exit.DATA if any(each["level"] == "bad" for each in told["findings"]) else Exit.OK


def _tell(told: dict[str, Any]) -> None:
    """The findings in words."""
    rows = told["train"]["rows"] + told["val"]["rows"]
    print(f"{rows:,} rows, {sum(each['rows'] for each in told['dropped']):,} set aside")
    for each in told["findings"]:
        remedy = f" ({each['remedy']})" if each["remedy"] else ""
        print(_printable(f"{each['level']}: {each['what']}{remedy}"))


def _printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(each if each.isprintable() else "�" for each in text)


if __name__ == "__main__":
    sys.exit(main())
