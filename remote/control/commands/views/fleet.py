"""The same work on one or several boxes, as people and scripts see it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from remote.control import fleet
from remote.control.fleet import Found, One, Say
from remote.control.output import console

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory


def each(
    ones: Sequence[One],
    work: Callable[[One, Say], Found],
    shown: Callable[[Found], str],
    recorded: Callable[[Found], Any] = lambda found: found,
) -> list[Found]:
    """What `work(one, say)` returns for each box, in order. `shown` is the result as a line,
    `recorded` as JSON.

    One box: its progress as lines, its error as it is. Several: side by side, one line a box; when
    all have ended, the errors together as FleetFailed, with `recorded` of those that went well.
    Work on the others goes on when one fails.
    """
    if len(ones) == 1:
        found = work(ones[0], lambda text: console.say(text, "dim"))
        console.tell(shown(found))
        return [found]
    with console.lines_of([one.name for one in ones]) as line:
        outcomes = fleet.outcomes_of(
            ones,
            work,
            lambda one, text: line(one.name, text.removeprefix(f"{one.name}: "), None),
            lambda done: line(
                done.one.name,
                done.error.what if done.error else shown(cast(Found, done.found)),
                done.error is None,
            ),
        )
    return fleet.or_raise(outcomes, recorded)


def as_one(records: list[Any], names: Sequence[str], inventory: "Inventory") -> Any:
    """What a command tells scripts: the record itself where one box was named, or none; a list for
    several names or a group."""
    is_one = len(names) < 2 and not any(name in inventory.groups for name in names)
    return records[0] if is_one else records
