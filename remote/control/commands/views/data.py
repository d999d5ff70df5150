"""Rows, and what became of them, for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from remote.control.output import console
from remote.control.output.sanitize import counted

if TYPE_CHECKING:
    from remote.control.operations.data import Converted, Examined, Look, Piece

_FORMATS = {
    "json lines": "JSON Lines",
    "json": "JSON",
    "csv": "CSV",
    "text": "text",
    "excel": "Excel",
    "parquet": "Parquet",
    "arrow": "Arrow",
}
_KINDS = {
    "chat": "conversations",
    "instruction": "instruction rows",
    "completion": "prompts with their completions",
    "text": "documents",
    "corpus": "documents of a corpus",
}
_LONGEST = 1500
_LEARNT = "bold green"


def taken_for(found: "Look") -> str:
    """What a file is taken for, in a sentence."""
    more = f" and {found.files - 1} more" if found.files > 1 else ""
    if found.needs_box:
        return f"{found.file} is {found.needs_box}: its rows are looked at on the box"
    packing = f", packed by {found.packing}" if found.packing else ""
    kind = _KINDS.get(found.kind, "rows")
    if found.kind == "chat" and "conversations" in found.names:
        kind = "conversations (ShareGPT)"
    if found.kind == "instruction" and "instruction" in found.names:
        kind = "instruction rows (Alpaca)"
    others = [f"`--kind {each}`" for each in found.fits if each != found.kind]
    also = f"; {' or '.join(others)} would fit too" if others else ""
    format_name = _FORMATS.get(found.format, found.format)
    return f"{found.file}{more}: {format_name}{packing}, taken for {kind}{also}"


def show_look(found: "Look") -> None:
    """What a file is taken for, and what of its first rows cannot be read."""
    console.tell(taken_for(found))
    if found.bad:
        first = found.bad[0]
        console.tell(
            f"{len(found.bad)} of the first {found.seen} rows cannot be read, such as"
            f" {first['where']}: {first['reason']}",
            "yellow",
        )


def show_row(where: str, sequences: "Sequence[Sequence[Piece]]") -> None:
    """A row as the model reads it: what is learnt behind `>`, the rest behind `|`."""
    for number, pieces in enumerate(sequences, 1):
        part = f", {number} of {len(sequences)}" if len(sequences) > 1 else ""
        console.tell(f"\n{where}{part}", "bold")
        _show_pieces(pieces)


def _show_pieces(pieces: "Sequence[Piece]") -> None:
    for text, is_learnt in pieces:
        for line in _cut(text).split("\n"):
            console.tell(f"{'>' if is_learnt else '|'} {line}", _LEARNT if is_learnt else None)


def show_converted(done: "Converted") -> None:
    """What became of a file's rows."""
    console.tell(f"{counted(done.rows, 'row')} in {done.to}")
    if done.unusable:
        console.tell(f"{done.unusable} cannot be read; in {done.to}.rejects.jsonl", "yellow")
        for each in done.bad:
            console.tell(f"  {each['where']}: {each['reason']}")


def show_examined(name: str, found: "Examined") -> None:
    """What `prepare` would make of a file."""
    values = found.values
    rows = [
        ("rows", values["rows"]),
        ("to train on", values["train_rows"]),
        ("to validate", values["val_rows"]),
        ("set aside", values["rejected"]),
    ]
    console.print_table(name, ("", "rows"), [(what, f"{count:,}") for what, count in rows])
    if found.reasons:
        columns = ("set aside by", "rows", "the first")
        console.print_table("", columns, [(s, f"{n:,}", first) for s, n, first in found.reasons])
    for what in ("rejects", "report"):
        if what in found.files:
            console.tell(f"{what}: {found.files[what]}")


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"
