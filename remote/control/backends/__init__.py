"""Where jobs run: one interface, `base.Backend`, and the places behind it."""

from typing import TYPE_CHECKING

from remote.control.config.inventory import LocalEntry
from remote.control.progress import Bytes, Say, no_bytes, silent

if TYPE_CHECKING:
    from remote.control.backends.base import Backend, Record
    from remote.control.config.inventory import BoxEntry, Inventory


def of_entry(
    entry: "BoxEntry",
    inventory: "Inventory",
    run_id: str = "",
    record: "Record | None" = None,
    may_launch: bool = True,
    say: Say = silent,
    progress: Bytes = no_bytes,
) -> "Backend":
    """The backend of an entry of the inventory, for the run `run_id`, whose ledger `record` writes.

    Without `may_launch` a box that does not run is an error. `say` takes what it does, line by
    line; `progress` shows what moves.
    """
    from remote.control.backends.local import LocalBackend
    from remote.control.backends.ssh import SshBackend

    place = LocalBackend if isinstance(entry, LocalEntry) else SshBackend
    return place(entry, inventory, run_id, record, may_launch, say, progress)
