"""Boxes by their entry in the inventory, whoever provides them. The one door to this folder."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from remote.control.cloud import endpoint, identity, keys, refusals
from remote.control.cloud.box import Box, State
from remote.control.cloud.ec2 import Ec2, is_gone, project_instances, tag
from remote.control.cloud.provider import Plan, Progress, Provider
from remote.control.cloud.static import Static
from remote.control.errors import BoxStopped, BoxUnreachable, WindlassError
from remote.control.transport import known_hosts

COLUMNS = ("name", "provider", "id", "state", "type", "region", "address", "up since (UTC)", "$/h", "note")
"""What the cells of a row of `report` are."""

_KEYS = ("name", "provider", "id", "state", "type", "region", "address", "up_since", "usd_per_hour", "note")

_STATE_SHOWN = {"terminated": "absent"}


def find(entry: Any) -> Box | None:
    """The box of an entry as it stands, or None when it was never launched or is terminated."""
    return _provider(entry).find()


def plan(entry: Any) -> Plan:
    """What `ready` would do for an entry; changes nothing, costs nothing."""
    return _provider(entry).plan()


def ready(entry: Any, on_progress: Progress) -> Box:
    """The box, launched or started where needed, with SSH answering and its host key pinned. `plan` tells what this would do."""
    keys.private_key(entry)
    return _provider(entry).ready(on_progress)


def running(entry: Any) -> Box:
    """The box, if it runs and its host key is pinned. Raises BoxStopped, BoxUnreachable or ConfigError with what mends it."""
    keys.private_key(entry)
    box = find(entry)
    if box is None:
        raise _never_launched(entry)
    if box.state != "running":
        remedy = f"`./inv start {entry.name}`"
        raise BoxStopped(f"box {entry.name} is {box.state}", where=box.where, remedy=remedy, kept="its disk, with all jobs on it")
    if not known_hosts.pinned(box.host_key_alias):
        what, why = f"the host key of box {entry.name} is not known here", "it was never pinned on this laptop"
        raise BoxUnreachable(what, where=box.where, why=why, remedy=f"`./inv start {entry.name}` reads it from the console and pins it")
    return box


def start(entry: Any, on_progress: Progress) -> Box:
    """Like `ready`, but raises BoxStopped instead of launching a new box."""
    if find(entry) is None:
        raise _never_launched(entry)
    return ready(entry, on_progress)


def stop(entry: Any, on_progress: Progress = lambda line: None) -> Box | None:
    """Stop the box and wait; None when there is none. A host that stands is left running."""
    return _provider(entry).stop(on_progress)


def terminate(entry: Any, on_progress: Progress = lambda line: None, instance_id: str | None = None) -> Box | None:
    """Remove the box for good, with its disk and its pinned key, and wait; None when there is none."""
    return _provider(entry).terminate(on_progress, instance_id)


def forget_host_key(entry: Any) -> bool:
    """Unpin the box's host key; the next start reads it anew from the console. Returns whether one was pinned."""
    box = find(entry)
    return known_hosts.forget(box.host_key_alias) if box else False


def listing(inventory: Any) -> list[Box]:
    """Every box of the inventory and every instance of this project that the inventory does not name.

    A box that is not there has the state `terminated`; one whose provider can't be asked is `unknown`, its note says why.
    """
    found: list[Box] = []
    groups: dict[tuple[str, str], list[Any]] = {}
    for entry in inventory.boxes.values():
        groups.setdefault((entry.provider, getattr(entry, "region", "")), []).append(entry)
    for entries in groups.values():
        found += _listed(entries)
    return found


def report(boxes: Iterable[Box]) -> list[list[str]]:
    """Rows for a table with the heads `COLUMNS`."""
    return [["" if fact is None else _shown(fact) for fact in record(box).values()] for box in boxes]


def record(box: Box) -> dict[str, Any]:
    """A box as JSON. `up_since` is ISO 8601 in UTC; it and `usd_per_hour` are None while it does not run."""
    is_up = box.state in ("pending", "running")
    up_since = datetime.fromtimestamp(box.launched_at, UTC).isoformat(timespec="seconds") if box.launched_at and is_up else None
    state = _STATE_SHOWN.get(box.state, box.state)
    facts = (box.name, box.provider, box.id, state, box.instance_type, box.region, box.address, up_since)
    return dict(zip(_KEYS, (*facts, box.hourly_usd if is_up else None, box.note), strict=True))


def _never_launched(entry: Any) -> BoxStopped:
    why = "it was never launched, or is terminated"
    return BoxStopped(f"there is no box {entry.name}", where=f"box {entry.name}", why=why, remedy=f"`./inv launch {entry.name}`")


def _provider(entry: Any) -> Provider:
    return Static(entry) if entry.provider == "static" else Ec2(entry, endpoint.of_entry(entry))


def _listed(entries: list[Any]) -> list[Box]:
    """The boxes of one provider in one region, by one request."""
    if entries[0].provider == "static":
        return [box for entry in entries for box in _or_unknown(entry, _static_box)]
    try:
        there = endpoint.of_entry(entries[0], start=False)  # to look must not start anything
        with refusals.explained(refusals.Context("", there.region, regions=there.regions)):
            instances = [each for each in project_instances(there.client("ec2")) if not is_gone(each)]
    except WindlassError as error:
        return [_absent(entry, "unknown", error) for entry in entries]
    named = [box for entry in entries for box in _or_unknown(entry, partial(_boxes_of, instances))]
    return [*named, *_strays(entries, instances)]


def _or_unknown(entry: Any, look: Callable[[Any], list[Box]]) -> list[Box]:
    """What `look` finds; an error, such as a key file that is not there, becomes a note on this one box."""
    try:
        return look(entry)
    except WindlassError as error:
        return [_absent(entry, "unknown", error)]


def _static_box(entry: Any) -> list[Box]:
    return [Static(entry).find()]


def _boxes_of(instances: list[dict[str, Any]], entry: Any) -> list[Box]:
    mine = [instance for instance in instances if tag(instance, identity.BOX_TAG) == entry.name]
    note = "more than one instance is this box" if len(mine) > 1 else ""
    return [Ec2(entry, endpoint.of_entry(entry)).box_of(instance, note) for instance in mine] or [_absent(entry)]


def _strays(entries: list[Any], instances: list[dict[str, Any]]) -> list[Box]:
    """Instances of this project that no entry of this region names: they cost money all the same."""
    names = {entry.name for entry in entries}
    strays = [instance for instance in instances if tag(instance, identity.BOX_TAG) not in names]
    if not strays:
        return []
    some = Ec2(entries[0], endpoint.of_entry(entries[0]))
    note = "not in inventory.yaml: add it there to stop or terminate it"
    return [replace(some.box_of(each, note), name=tag(each, identity.BOX_TAG), key=None) for each in strays]


def _absent(entry: Any, state: State = "terminated", error: WindlassError | None = None) -> Box:
    findings = getattr(error, "findings", ())
    note = "; ".join(finding.what for finding in findings) if findings else error.what if error else ""
    return Box(
        name=entry.name,
        provider=entry.provider,
        id="",
        state=state,
        host=getattr(entry, "host", ""),
        port=getattr(entry, "port", 0),
        user=getattr(entry, "user", ""),
        key=None,
        host_key_alias="",
        instance_type=getattr(entry, "instance_type", ""),
        region=getattr(entry, "region", ""),
        root=entry.root,
        shared=entry.shared,
        launched_at=None,
        hourly_usd=None,
        note=note,
    )


def _shown(fact: Any) -> str:
    if isinstance(fact, float):
        return f"{fact:.3f}"
    return str(fact).replace("T", " ").removesuffix("+00:00") if str(fact).endswith("+00:00") else str(fact)
