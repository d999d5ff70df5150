"""Where jobs run: one interface, `base.Backend`, and the places behind it."""

from typing import TYPE_CHECKING, Any

from remote.control.config.inventory import LocalEntry

if TYPE_CHECKING:
    from remote.control.backends.base import Backend, Record
    from remote.control.config.inventory import BoxEntry


def _no_record(event: str, **facts: Any) -> None:
    """For a command that belongs to no run."""


def of_entry(
    entry: "BoxEntry",
    run_id: str = "",
    record: "Record" = _no_record,
    may_launch: bool = True,
    storage: str | None = None,
) -> "Backend":
    """The backend of an entry of the inventory, for the run `run_id`, whose ledger `record` writes.

    Without `may_launch` a box that does not run is an error; `storage` is the inventory's bucket.
    """
    if isinstance(entry, LocalEntry):
        from remote.control.backends.local import LocalBackend

        return LocalBackend(entry, run_id, record)
    from remote.control.backends.ssh import SshBackend

    return SshBackend(entry, run_id, record, may_launch, storage)
