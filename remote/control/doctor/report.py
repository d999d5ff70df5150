"""The whole examination: laptop first, then every account, side by side."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from remote.contract.job.checks import Check, Verdict
from remote.contract.job.exits import Exit
from remote.control.cloud import static
from remote.control.cloud.box import Box
from remote.control.config.inventory import BoxEntry, CloudEntry, Inventory, LocalEntry
from remote.control.doctor import laptop
from remote.control.doctor.account import Account
from remote.control.errors import WindlassError
from remote.control.output.sanitize import counted
from remote.control.transport.connect import connect

_AT_ONCE = 8
LAPTOP = "laptop"

Row = tuple[str, Check]
"""Of what (`laptop`, or a box's name) and the check."""


class Unwell(WindlassError):
    """At least one check failed."""

    exit_code = Exit.PREFLIGHT


def examine(inventory: Inventory, entries: Sequence[BoxEntry]) -> list[Row]:
    """Every check of the laptop and of the boxes `entries`; boxes that ask for the same are
    examined once."""
    rows = [(LAPTOP, check) for check in laptop.checks(inventory)]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as workers:
        for entry, checks in workers.map(
            lambda entry: (entry, list(_checks(entry, inventory.storage.bucket))), _unlike(entries)
        ):
            rows += [(entry.name, check) for check in checks]
    return rows


def require_well(rows: Sequence[Row]) -> None:
    """Raise Unwell when a check failed."""
    failed = [
        f"{check.name} ({subject})" for subject, check in rows if check.verdict is Verdict.FAIL
    ]
    if failed:
        what = f"{len(failed)} of {counted(len(rows), 'check')} failed: {', '.join(failed)}"
        raise Unwell(
            what,
            remedy="fix what the table names, then `./inv doctor` again",
            kept="everything; nothing was changed",
        )


def _checks(entry: BoxEntry, bucket: str | None) -> Iterable[Check]:
    if isinstance(entry, CloudEntry):
        return Account(entry, bucket).checks()
    if isinstance(entry, LocalEntry):
        return [Check("host", "this machine, without SSH", "this machine", Verdict.OK)]
    try:
        box = static.Static(entry).find()
    except WindlassError as error:
        return [
            Check(
                "host key",
                getattr(error, "findings", [error])[0].what,
                "named in the inventory",
                Verdict.FAIL,
                error.remedy,
            )
        ]
    named = Check("host", f"{box.address}, its host key is named", "named", Verdict.OK)
    return [named, _entered(box)]


def _entered(box: Box) -> Check:
    try:
        with connect(box) as transport:
            transport.exec("true")
    except WindlassError as error:
        told = f"{error.what}; {error.why}" if error.why else error.what
        return Check("SSH", told, "lets you in", Verdict.FAIL, error.remedy)
    return Check("SSH", "lets you in", "lets you in", Verdict.OK)


def _unlike(entries: Iterable[BoxEntry]) -> list[BoxEntry]:
    """One of those that differ in their name alone, as the members of a `count` do."""
    seen: dict[str, BoxEntry] = {}
    for entry in entries:
        seen.setdefault(entry.model_dump_json(exclude={"name"}), entry)
    return list(seen.values())
