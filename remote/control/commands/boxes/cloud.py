"""The embedded cloud: `cloud.up`, `cloud.down`, `cloud.status`, `cloud.console`, `cloud.fault`."""

from typing import Any

from invoke import Collection

from remote.control.commands.program.verb import verb

_JSON = {"json": "tell the result as JSON on standard output"}


@verb(help=_JSON)
def up(_context: Any, json: bool = False) -> None:
    """Start the embedded cloud.

    Commands that need it start it by themselves.
    """
    from remote.control.cloud import embedded
    from remote.control.output import console

    url = embedded.endpoint()
    if json:
        console.print_json({"up": True, "url": url})
    console.tell(f"the embedded cloud is up at {url}")


@verb(help={**_JSON, "dry-run": "only show what would be stopped"})
def down(_context: Any, dry_run: bool = False, json: bool = False) -> None:
    """Stop every embedded box and the embedded cloud; disks stay."""
    from remote.control.cloud import embedded
    from remote.control.output import console

    if dry_run:
        _show(json)
        return
    was_up = embedded.down()
    if json:
        console.print_json({"up": False, "was_up": was_up})
    console.tell(
        "the embedded cloud is down; the disks of its boxes stay"
        if was_up
        else "the embedded cloud was not up"
    )


@verb(help=_JSON)
def status(_context: Any, json: bool = False) -> None:
    """Show whether the embedded cloud is up, and its instances."""
    _show(json)


@verb(
    positional=["name"],
    help={"name": "the box, by its name in inventory.yaml (default: its default_box)"},
)
def console(_context: Any, name: str = "") -> None:
    """Print the console of an embedded box.

    It holds its boots, its user-data's output and its host key.
    """
    from remote.control.config.inventory import load_inventory
    from remote.control.operations.embedded_cloud import console_of
    from remote.control.output.console import write

    write(console_of(load_inventory().box(name or None)))


@verb(
    positional=["kind"],
    help={
        "kind": (
            "what goes wrong: capacity, quota, spot-price, no-subnet, subnet-full, permission,"
            " throttle, credentials, clock-skew, console-late, disk-full, hang-user-data, host-key,"
            " imds, reboot, stop, terminate, rebalance, spot-notice (without it: shows the faults"
            " that stand)"
        ),
        "box": "only for this box, by its name or instance id",
        "zone": "only in this availability zone",
        "region": "only in this region",
        "type": "only for this instance type",
        "market": "only for spot or on-demand",
        "operation": "only for this operation: RunInstances, s3:PutObject, ec2:Describe*",
        "count": "so often (default: until cleared)",
        "seconds": "of spot-notice (120), console-late (30), clock-skew (3600)",
        "clear": "take back the faults of that kind and box, or all",
        "dry-run": "only show what would be done",
        **_JSON,
    },
)
def fault(
    _context: Any,
    kind: str = "",
    box: str | None = None,
    zone: str | None = None,
    region: str | None = None,
    type: str | None = None,
    market: str | None = None,
    operation: str | None = None,
    count: str | None = None,
    seconds: str | None = None,
    clear: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Inject a fault into the embedded cloud, list faults, or remove one."""
    from remote.control.cloud import embedded
    from remote.control.commands.views.boxes import cloud as view
    from remote.control.operations import embedded_cloud
    from remote.control.output import console

    asked = {
        "kind": kind,
        "box": box,
        "zone": zone,
        "region": region,
        "type": type,
        "market": market,
        "operation": operation,
        "count": count,
        "seconds": seconds,
    }
    given = {name: value for name, value in asked.items() if value}
    if clear:
        told = embedded_cloud.take_back(given, dry_run)
    elif kind:
        told = [embedded_cloud.inject(given, dry_run)]
    else:
        told = embedded.faults(embedded.endpoint())
    if json:
        console.print_json(told)
    would = "would be " if dry_run else ""
    done = f"{would}taken back" if clear else f"{would}injected" if kind else "standing"
    console.tell(view.faults(told, done))


def _show(as_json: bool) -> None:
    from remote.control.cloud import embedded
    from remote.control.commands.views.boxes import cloud as view
    from remote.control.output import console

    record = embedded.running()
    instances = embedded.listing(record["url"]) if record else []
    if as_json:
        console.print_json({"up": record is not None, **(record or {}), "instances": instances})
        return
    console.tell(view.state(record))
    if instances:
        console.print_table("", view.INSTANCES, view.instances(instances))


collection = Collection(up, down, status, console, fault)
