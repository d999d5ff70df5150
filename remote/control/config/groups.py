"""Boxes alike and boxes together: what `count` and `groups` of the inventory mean, and what two of
its keys say of each other."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from remote.control.config.yaml import explain
from remote.control.config.yaml.section import NAME_PATTERN
from remote.control.config.yaml.source import Source
from remote.control.errors import Finding
from remote.control.output.suggestion import suggestion

if TYPE_CHECKING:
    from remote.control.config.inventory import BoxEntry, CloudEntry, Inventory


def expanded(boxes: Mapping[str, "BoxEntry"]) -> tuple[dict[str, "BoxEntry"], dict[str, list[str]]]:
    """Every single box by name, and the group of each entry that has a `count`: `trainer` of 2 is
    `trainer-1` and `trainer-2`."""
    single: dict[str, BoxEntry] = {}
    groups: dict[str, list[str]] = {}
    for name, entry in boxes.items():
        if _count(entry) == 1:
            single[name] = entry
            continue
        groups[name] = names_of(name, _count(entry))
        single.update(
            {each: entry.model_copy(update={"name": each, "count": 1}) for each in groups[name]}
        )
    return single, groups


def names_of(name: str, count: int) -> list[str]:
    """The names of `count` boxes alike."""
    return [f"{name}-{number}" for number in range(1, count + 1)]


def origin(name: str, written: Any) -> str:
    """The key under which the file holds a box: `trainer` for `trainer-2`. `written` is the file's
    `boxes`."""
    base, _, number = name.rpartition("-")
    is_counted = (
        isinstance(written, dict)
        and name not in written
        and isinstance(written.get(base), dict)
        and number.isdigit()
    )
    return base if is_counted else name


def findings(inventory: "Inventory", source: Source) -> Iterator[Finding]:
    """What no single key can tell: names that collide, groups of nobody, and keys that contradict
    each other."""
    single, counted = expanded(inventory.boxes)
    yield from _names(inventory, counted, source)
    yield from _groups(inventory, single, counted, source)
    seen: dict[str, str] = {}
    for name, entry in inventory.boxes.items():
        if hasattr(entry, "count"):
            of_cloud = cast("CloudEntry", entry)  # their types import this module
            yield from _contradictions(name, of_cloud, source)
            yield from _adopted(name, of_cloud, seen, source)


def _names(
    inventory: "Inventory", counted: Mapping[str, list[str]], source: Source
) -> Iterator[Finding]:
    for name, alike in counted.items():
        where = source.where("boxes", name, "count")
        if not re.match(NAME_PATTERN, alike[-1]):
            yield Finding(
                where,
                f"the name `{alike[-1]}` is too long",
                "at most 40 characters",
                f"shorten `{name}`",
            )
        for each in (each for each in alike if each in inventory.boxes):
            what = f"`boxes.{each}` is also box {each.rpartition('-')[2]} of `{name}`"
            yield Finding(
                source.where("boxes", each), what, "each box once", "rename one of the two"
            )
    if inventory.default_box in counted:
        first = counted[inventory.default_box][0]
        what = f"`default_box` names {len(counted[inventory.default_box])} boxes"
        yield Finding(source.where("default_box"), what, "one box", f"write `default_box: {first}`")


def _groups(
    inventory: "Inventory",
    single: Mapping[str, "BoxEntry"],
    counted: Mapping[str, list[str]],
    source: Source,
) -> Iterator[Finding]:
    known = [*counted, *single]
    for group, members in inventory.groups.items():
        where = source.where("groups", group)
        if group in known:
            yield Finding(
                where,
                f"the group `{group}` has the name of a box",
                "a name of its own",
                "rename the group",
            )
        if not members:
            yield Finding(
                where,
                f"the group `{group}` is empty",
                "at least one box",
                f"write `{group}: [{next(iter(single), '...')}]`",
            )
        for number, member in enumerate(members):
            if member not in known:
                remedy = suggestion(member, known) or "name one of those, or add the box"
                at = source.where("groups", group, number)
                yield Finding(
                    at, f"no box `{member}` for the group `{group}`", explain.one_of(known), remedy
                )


def _contradictions(name: str, entry: "CloudEntry", source: Source) -> Iterator[Finding]:
    def at(*keys: str | int) -> str:
        return source.where("boxes", name, *keys)

    if entry.zone and entry.zone[:-1] != entry.region:
        yield _elsewhere(at("zone"), f"boxes.{name}", entry.zone, entry.region)
    for number, other in enumerate(entry.fallbacks):
        if other.zone and other.region and other.zone[:-1] != other.region:
            yield _elsewhere(
                at("fallbacks", number, "zone"),
                f"boxes.{name}.fallbacks.{number}",
                other.zone,
                other.region,
            )
    if entry.reach == "bastion" and entry.bastion is None:
        remedy = "add `bastion:` with host, user and host_key"
        yield Finding(
            at("reach"), f"`boxes.{name}.reach` is bastion, and none is named", "`bastion`", remedy
        )
    if entry.bastion and entry.reach != "bastion":
        remedy = "add `reach: bastion`, or remove `bastion`"
        yield Finding(
            at("bastion"), f"`boxes.{name}.bastion` is never used", "`reach: bastion`", remedy
        )
    markets = {entry.market, *(other.market for other in entry.fallbacks)}
    if entry.max_spot_usd and "spot" not in markets:
        remedy = "add `market: spot`, or remove `max_spot_usd`"
        yield Finding(
            at("max_spot_usd"),
            f"`boxes.{name}.max_spot_usd` is never used",
            "`market: spot`",
            remedy,
        )


def _elsewhere(where: str, shown: str, zone: str, region: str) -> Finding:
    return Finding(
        where,
        f"`{shown}.zone` {zone} is not in {region}",
        f"a zone such as {region}a",
        f"write `zone: {region}{zone[-1]}`",
    )


def _adopted(
    name: str, entry: "CloudEntry", seen: dict[str, str], source: Source
) -> Iterator[Finding]:
    if entry.instance_id is None:
        return
    where = source.where("boxes", name, "instance_id")
    if entry.count > 1:
        yield Finding(
            where,
            f"`boxes.{name}` is one instance and {entry.count} boxes",
            "one of the two",
            "remove `count`",
        )
    if entry.instance_id in seen:
        what = f"{entry.instance_id} is box `{seen[entry.instance_id]}` too"
        yield Finding(where, what, "each instance once", "remove one of the two")
    seen[entry.instance_id] = name


def _count(entry: "BoxEntry") -> int:
    return entry.count if hasattr(entry, "count") else 1
