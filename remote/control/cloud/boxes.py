"""Boxes by their entry in the inventory, whoever provides them. The one door to this folder."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from remote.control.cloud.access import keys
from remote.control.cloud.account import endpoint
from remote.control.cloud.box import Box, State
from remote.control.cloud.ec2 import instances, transitions
from remote.control.cloud.ec2.instances import Instance
from remote.control.cloud.ec2.offers import regions_of
from remote.control.cloud.local import Local
from remote.control.cloud.provider import Mode, Plan, Progress, Provider, Wanted
from remote.control.cloud.static import Static
from remote.control.config.inventory import CloudEntry, Ec2Entry, EmbeddedEntry, StaticEntry
from remote.control.errors import BoxStopped, BoxUnreachable, WindlassError
from remote.control.project import history, identity
from remote.control.ssh import known_hosts

if TYPE_CHECKING:
    from remote.control.cloud.ec2.provider import Ec2
    from remote.control.config.inventory import BoxEntry, Inventory


def find(entry: "BoxEntry") -> Box | None:
    """The box of an entry as it stands, in whichever region, or None when it was never launched or
    is terminated."""
    return _provider(entry).find()


def plan(entry: "BoxEntry", mode: Mode = "auto") -> Plan:
    """What `ready` would do for an entry in that mode, and why; changes nothing, costs nothing."""
    return _provider(entry).plan(mode)


def ready(
    entry: "BoxEntry",
    on_progress: Progress,
    mode: Mode = "auto",
    wait_seconds: float = 0.0,
    set_deadlines: "Callable[[BoxEntry, Box], None] | None" = None,
    losses: Mapping[str, str] | None = None,
) -> Box:
    """The box, launched or started where needed, with SSH answering and its host key pinned. `plan`
    tells what this would do.

    Without capacity it is tried again for `wait_seconds`. `set_deadlines` is called once SSH
    answers, to set the clocks. `mode="fresh"` where a box exists needs its name in `losses`, with
    the instance id of `plan(...).replaces` whose loss was agreed to: it ends once the new one is
    up.
    """
    keys.private_key(entry)
    set_clocks = partial(set_deadlines, entry) if set_deadlines else None
    wanted = Wanted(mode, wait_seconds, set_clocks, (losses or {}).get(entry.name, ""))
    return _provider(entry).ready(on_progress, wanted)


def running(entry: "BoxEntry") -> Box:
    """The box, if it runs and its host key is pinned. Raises BoxStopped, BoxUnreachable or
    ConfigError with what fixes it."""
    keys.private_key(entry)
    box = find(entry)
    if box is None:
        raise _never_launched(entry)
    if box.state != "running":
        remedy = f"`./inv start {entry.name}`"
        raise BoxStopped(
            f"box {entry.name} is {box.state}",
            where=box.where,
            remedy=remedy,
            kept="its disk, with all jobs on it",
        )
    if box.provider != "local" and not known_hosts.pinned(box.host_key_alias):
        what, why = (
            f"the host key of box {entry.name} is not known here",
            "it was never pinned on this laptop",
        )
        raise BoxUnreachable(
            what,
            where=box.where,
            why=why,
            remedy=f"`./inv start {entry.name}` reads it from the console and pins it",
        )
    return box


def start(
    entry: "BoxEntry",
    on_progress: Progress,
    wait_seconds: float = 0.0,
    set_deadlines: "Callable[[BoxEntry, Box], None] | None" = None,
) -> Box:
    """Like `ready`, but raises BoxStopped instead of launching a new box."""
    return ready(entry, on_progress, "reuse", wait_seconds, set_deadlines)


def stop(entry: "BoxEntry", on_progress: Progress = lambda line: None) -> Box | None:
    """Stop the box and wait; None when there is none. A host that stands is left running; a spot
    box raises CloudError."""
    return _provider(entry).stop(on_progress)


def reboot(entry: "BoxEntry", on_progress: Progress = lambda line: None) -> Box:
    """Restart a running box and wait until SSH answers again. Raises BoxStopped when it does not
    run."""
    keys.private_key(entry)
    return _provider(entry).reboot(on_progress)


def admit(entry: "BoxEntry", on_progress: Progress = lambda line: None) -> None:
    """Let this laptop's present address reach port 22 of the box, and the one before no more."""
    _provider(entry).admit(on_progress)


def terminate(
    entry: "BoxEntry",
    on_progress: Progress = lambda line: None,
    instance_id: str | None = None,
    is_agreed: bool = False,
) -> Box | None:
    """Remove the box for good, with its disk and its pinned key, and wait; None when there is none.

    An adopted instance is only ended when somebody agreed to that: else CloudError.
    """
    return _provider(entry).terminate(on_progress, instance_id, is_agreed)


def ended_by(box: Box) -> str:
    """Why the box stopped or ended: `WHO: what (the cloud's code)`, WHO being spot, itself, user,
    capacity, cloud or unknown.

    Empty while it lives, and for a host that stands. `unknown` when the cloud no longer remembers
    the instance (AWS: after an hour).
    """
    if not box.id:
        return ""
    instance = instances.by_id(endpoint.of_box(box), box.id, box.name)
    return (
        transitions.describe(instance)
        if instance
        else f"unknown: the cloud no longer remembers {box.id}"
    )


def forget_host_key(entry: "BoxEntry") -> bool:
    """Unpin the box's host key; the next start reads it anew from the console. Returns whether one
    was pinned."""
    box = find(entry)
    return known_hosts.forget(box.host_key_alias) if box else False


def forgotten(inventory: "Inventory") -> list[CloudEntry]:
    """An entry for each instance launched here and not known to have ended whose box the inventory
    does not name any more, or names as another provider's."""
    kinds: dict[str, Any] = {"ec2": Ec2Entry, "embedded": EmbeddedEntry}
    missing = [
        each
        for each in history.launched()
        if getattr(inventory.boxes.get(each.box), "provider", "") != each.provider
    ]
    return [
        kinds[each.provider].model_construct(name=each.box, region=each.region)
        for each in missing
        if each.provider in kinds
    ]


def listing(inventory: "Inventory") -> list[Box]:
    """Every box of the inventory, in its order, then every instance of this project that the
    inventory does not name.

    All regions are asked at once, with one request each. A box that is not there has the state
    `terminated`; one whose provider can't be asked is `unknown`, its note says why.
    """
    entries = list(inventory.boxes.values())
    lost = forgotten(inventory)
    providers = dict.fromkeys(
        entry.provider for entry in (*entries, *lost) if isinstance(entry, CloudEntry)
    )
    if providers:
        # damaged, it is the error of the whole listing, not a note on each box
        identity.project_mark()
    clouds: dict[str, _Cloud] = {
        provider: _Cloud.asked(provider, entries, lost) for provider in providers
    }
    shown = instances.map_concurrently(
        lambda entry: _or_unknown(entry, partial(_shown_of, clouds)), entries
    )
    return [
        *(box for some in shown for box in some),
        *(stray for cloud in clouds.values() for stray in cloud.strays()),
    ]


def unknown(boxes: Iterable[Box]) -> list[str]:
    """In words, those of which nobody says whether they run: expired credentials, a host whose key
    is not known."""
    return [f"{box.name}: {box.note}" for box in boxes if box.state == "unknown"]


def _never_launched(entry: "BoxEntry") -> BoxStopped:
    why = "it was never launched, or is terminated"
    return BoxStopped(
        f"there is no box {entry.name}",
        where=f"box {entry.name}",
        why=why,
        remedy=f"`./inv launch {entry.name}`",
    )


def _provider(entry: "BoxEntry") -> Provider:
    if isinstance(entry, CloudEntry):
        return _ec2(entry, endpoint.of_entry(entry))
    return Static(entry) if isinstance(entry, StaticEntry) else Local(entry)


def _ec2(entry: CloudEntry, there: endpoint.Endpoint) -> "Ec2":
    # All that launches belongs to it, and no static box needs that.
    from remote.control.cloud.ec2.provider import Ec2

    return Ec2(entry, there)


@dataclass(frozen=True)
class _Cloud:
    """What one provider told, region by region: the instances, or the error. `entries` are its
    boxes in the inventory; `any_entry` is one of them, or of those that only the history knows."""

    entries: list[CloudEntry]
    any_entry: CloudEntry
    told: dict[str, list[Instance] | WindlassError]

    @classmethod
    def asked(
        cls, provider: str, entries: "Sequence[BoxEntry]", forgotten: list[CloudEntry]
    ) -> "_Cloud":
        """Ask every region of every entry at once. To look starts nothing."""
        mine = [
            entry
            for entry in entries
            if isinstance(entry, CloudEntry) and entry.provider == provider
        ]
        everything = [*mine, *(entry for entry in forgotten if entry.provider == provider)]
        regions = list(dict.fromkeys(region for entry in everything for region in _regions(entry)))
        try:
            home = endpoint.of_entry(everything[0], start=False)
        except WindlassError as error:
            return cls(mine, everything[0], dict.fromkeys(regions, error))
        ids = [entry.instance_id for entry in mine if entry.instance_id]
        answers = instances.map_concurrently(
            lambda region: _look(home.in_region(region), ids), regions
        )
        return cls(mine, everything[0], dict(zip(regions, answers, strict=True)))

    def of_entry(self, entry: CloudEntry) -> list[Box]:
        """The box of an entry; several, where several instances bear its name."""
        known = [each for region in _regions(entry) for each in self._known(region)]
        mine = [
            each
            for each in known
            if (
                each.id == entry.instance_id
                if entry.instance_id
                else each.tag(identity.BOX_TAG) == entry.name
            )
        ]
        fresh = [each for each in mine if not each.is_replaced]
        doubled = "more than one instance is this box" if len(fresh or mine) > 1 else ""
        notes = {
            each.id: (
                "being replaced: `./inv launch` ends it" if fresh and each.is_replaced else doubled
            )
            for each in mine
        }
        notes |= {each.id: note for each in mine if (note := self._lost(each))}
        if mine:
            return [_ec2(entry, each.there).box_of(each, notes[each.id]) for each in mine]
        errors = (self.told[region] for region in _regions(entry))
        error = next((each for each in errors if isinstance(each, WindlassError)), None)
        return [_absent(entry, "unknown", error) if error else _absent(entry)]

    def strays(self) -> list[Box]:
        """Instances of this project that no entry names: they cost money all the same."""
        names, ids = (
            {entry.name for entry in self.entries},
            {entry.instance_id for entry in self.entries},
        )
        found = [each for region in self.told for each in self._known(region)]
        strays = [
            each for each in found if each.tag(identity.BOX_TAG) not in names and each.id not in ids
        ]
        note = (
            "not in inventory.yaml: add it there, or `./inv reap --everything` once its time is"
            " over"
        )
        shown = [
            (each, _ec2(self.any_entry, each.there).box_of(each, self._lost(each) or note))
            for each in strays
        ]
        return [
            replace(box, name=each.tag(identity.BOX_TAG), key=None, entry=None)
            for each, box in shown
        ]

    def _lost(self, each: Instance) -> str:
        """What is wrong with an instance that this checkout launched and its mark does not find any
        more; else nothing."""
        mark = each.tag(identity.PROJECT_TAG)
        if mark == identity.project_mark() or each.id in {
            entry.instance_id for entry in self.entries
        }:
            return ""
        why, command = identity.lost_sight_of(mark, each.id, each.there.region)
        return f"{why}: `{command}`"

    def _known(self, region: str) -> list[Instance]:
        told = self.told[region]
        return [] if isinstance(told, WindlassError) else told


def _regions(entry: CloudEntry) -> list[str]:
    return list(dict.fromkeys([*regions_of(entry), *history.regions(entry.name)]))


def _look(there: endpoint.Endpoint, ids: list[str]) -> list[Instance] | WindlassError:
    try:
        tagged = instances.of_project(there)
        known = {each.id for each in tagged}
        adopted = instances.by_ids(there, [each for each in ids if each not in known])
        lost = instances.lost_sight_of(None, [there], [*tagged, *adopted])
        return [each for each in (*tagged, *adopted, *lost) if not each.is_gone]
    except WindlassError as error:
        return error


def _shown_of(clouds: dict[str, _Cloud], entry: "BoxEntry") -> list[Box]:
    if isinstance(entry, CloudEntry):
        return clouds[entry.provider].of_entry(entry)
    found = _provider(entry).find()
    return [found] if found else [_absent(entry)]


def _or_unknown(entry: "BoxEntry", look: "Callable[[BoxEntry], list[Box]]") -> list[Box]:
    """What `look` finds; an error, such as a key file that is not there, becomes a note on this one
    box."""
    try:
        return look(entry)
    except WindlassError as error:
        return [_absent(entry, "unknown", error)]


def _absent(
    entry: "BoxEntry", state: State = "terminated", error: WindlassError | None = None
) -> Box:
    findings = getattr(error, "findings", ())
    note = (
        "; ".join(finding.what for finding in findings) if findings else error.what if error else ""
    )
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
