"""Why a run ended or stands still, and everything about it in one file."""

from typing import Any

from remote.control.commands.program.verb import verb

_RUN = (
    "run, its beginning or end, or a job, a box or a group; the run that is alive, else the newest,"
    " when left out"
)


@verb(
    positional=["run"],
    help={
        "run": _RUN,
        "stage": "one stage's label; else the one that failed, or the newest",
        "minutes": "how much of the time before is looked at",
        "json": "print everything that was found as JSON",
    },
)
def why(
    _context: Any, run: str = "", stage: str = "", minutes: int = 30, json: bool = False
) -> None:
    """Explain why a run ended or stands still, and how to go on.

    Asks the box, the bucket and this laptop. Times are UTC.
    """
    from remote.control.commands.program.asking import choose_run
    from remote.control.commands.views.progress import say
    from remote.control.config.inventory import load_inventory
    from remote.control.observe import diagnosis, find, show
    from remote.control.output import console

    found = find.find(run, stage, minutes, load_inventory, say, choose_run)
    told = diagnosis.account(found)
    if json:
        console.print_json(told.record)
    else:
        console.write(f"{show.text(told, diagnosis.span(found.evidence))}\n")


@verb(
    positional=["run"],
    help={
        "run": _RUN,
        "to": "the file to write, or its folder (default: windlass-RUN.tar.gz here)",
        "json": "print its path and contents as JSON",
    },
)
def bundle(_context: Any, run: str = "", to: str = "", json: bool = False) -> None:
    """Pack everything about a run into one file, for a bug report.

    Logs, ledger, measurements and versions; secrets are masked.
    """
    from remote.control.commands.program.asking import choose_run
    from remote.control.commands.views.progress import say
    from remote.control.config.inventory import load_inventory
    from remote.control.observe import bundle as packing
    from remote.control.output import console

    place = packing.place_of(to)
    packed = packing.pack(run, place, load_inventory(), say, choose_run)
    if json:
        console.print_json({"path": str(packed.path), "files": packed.files})
        return
    console.print_table(
        "packed", ("file", "bytes"), [(name, f"{size:,}") for name, size in packed.files.items()]
    )
    console.tell(
        f"{packed.path}: {packed.path.stat().st_size:,} bytes; look through it before you hand"
        " it on"
    )
