"""The embedded cloud: `cloud.up`, `cloud.down`, `cloud.status`, `cloud.console`."""

from typing import Any

from invoke import Collection

from remote.control.commands.verb import verb

_JSON = {"json": "tell the result as JSON on standard output"}


@verb(help=_JSON)
def up(_context: Any, json: bool = False) -> None:
    """Starts the embedded cloud, unless it runs. Commands that need it do so by themselves."""
    from remote.control import console
    from remote.control.cloud.embedded import client

    url = client.endpoint()
    if json:
        console.print_json({"up": True, "url": url})
    console.say(f"the embedded cloud is up at {url}")


@verb(help={**_JSON, "dry-run": "only show what would be stopped"})
def down(_context: Any, dry_run: bool = False, json: bool = False) -> None:
    """Stops every embedded box and ends the cloud; their disks stay."""
    from remote.control import console
    from remote.control.cloud.embedded import client

    if dry_run:
        _show(json)
        return
    was_up = client.down()
    if json:
        console.print_json({"up": False, "was_up": was_up})
    console.say("the embedded cloud is down; the disks of its boxes stay" if was_up else "the embedded cloud was not up")


@verb(help=_JSON)
def status(_context: Any, json: bool = False) -> None:
    """Shows whether the embedded cloud is up, and its instances."""
    _show(json)


@verb(positional=["name"], help={"name": "the box, by its name in inventory.yaml (default: its default_box)"})
def console(_context: Any, name: str | None = None) -> None:
    """Prints the console of an embedded box: its boots, its user-data's output, its host key."""
    from remote.control.cloud import boxes
    from remote.control.cloud.embedded import client
    from remote.control.config.inventory import load_inventory
    from remote.control.errors import BoxStopped, CloudError

    entry = load_inventory().box(name)
    if entry.provider != "embedded":
        raise CloudError(f"box {entry.name} is not in the embedded cloud", where="inventory.yaml", why=f"its provider is {entry.provider}")
    box = boxes.find(entry)
    if box is None:
        raise BoxStopped(f"box {entry.name} was never launched", remedy=f"./inv launch {entry.name}")
    print(client.console(client.endpoint(), box.id), end="")


def _show(as_json: bool) -> None:
    from remote.control import console
    from remote.control.cloud.embedded import client

    record = client.running()
    instances = client.listing(record["url"]) if record else []
    if as_json:
        console.print_json({"up": record is not None, **(record or {}), "instances": instances})
        return
    console.say(f"the embedded cloud is up at {record['url']} (process {record['pid']})" if record else "the embedded cloud is down")
    if instances:
        columns = ("id", "name", "type", "state", "host", "port", "user", "disk")
        console.print_table("", columns, [[instance[column] for column in columns] for instance in instances])


collection = Collection(up, down, status, console)
