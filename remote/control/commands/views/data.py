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


def show_examined(found: "Examined") -> None:
    """What is in a file, what would be dropped, and what one should look at."""
    told = found.told
    sides = [told[name] for name in ("train", "val")]
    about = "about " if told["tokenizer"]["is_estimate"] else ""
    tokens = sum(side["tokens"]["total"] for side in sides)
    rows = [
        ("rows", f"{sum(side['rows'] for side in sides):,}"),
        ("conversations", f"{sum(side['conversations'] for side in sides):,}"),
        ("documents", f"{sum(side['documents'] for side in sides):,}"),
        ("groups", f"{sum(side['groups'] for side in sides):,}"),
        ("tokens", f"{about}{tokens:,}"),
        ("set aside", f"{sum(each['rows'] for each in told['dropped']):,}"),
    ]
    console.print_table(str(told["title"]), ("what", "how many"), rows)
    dropped = [(each["step"], f"{each['rows']:,}", each["reason"]) for each in told["dropped"]]
    if dropped:
        console.print_table("set aside", ("by", "rows", "why"), dropped)
    for each in told["findings"]:
        remedy = f" ({each['remedy']})" if each["remedy"] else ""
        style = {"bad": "red", "warning": "yellow"}.get(each["level"])
        console.tell(f"{each['level']}: {each['what']}{remedy}", style)
    if not told["findings"]:
        console.tell("ok: nothing to look at", "green")
    console.tell(f"the page: {found.page}", whole=True)


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"
