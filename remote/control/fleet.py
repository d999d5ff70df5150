"""Several boxes at once: the same work on each, side by side, and what came of it as one result or
one error."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from remote.control.errors import BoxUnreachable, FleetFailed, WindlassError
from remote.control.faults import as_error

_AT_ONCE = 32


class Named(Protocol):
    """Anything with a box's name: an entry of the inventory, or a Box."""

    @property
    def name(self) -> str:
        """The box's name."""


One = TypeVar("One", bound=Named)
Found = TypeVar("Found")
Say = Callable[[str], None]
"""Takes a line of progress."""


@dataclass(frozen=True)
class Outcome(Generic[One, Found]):
    """What came of the work on one box: `found`, or the error."""

    one: One
    found: Found | None
    error: WindlassError | None = None


def or_raise(
    outcomes: Sequence[Outcome[Any, Found]], recorded: Callable[[Any], Any] = lambda found: found
) -> list[Found]:
    """What was found for each box; raises the error of a single one, or FleetFailed with `recorded`
    of those that went well."""
    errors = {outcome.one.name: outcome.error for outcome in outcomes if outcome.error}
    if errors and len(outcomes) == 1:
        raise next(iter(errors.values()))
    if errors:
        raise FleetFailed(errors, [_record(outcome, recorded) for outcome in outcomes])
    return [cast(Found, outcome.found) for outcome in outcomes]


def found(ones: Sequence[One], look: Callable[[One], Found | None]) -> dict[str, Found]:
    """What `look` finds for each box, by name, without those where it finds nothing; silent. Raises
    like `or_raise`."""
    looked = or_raise(outcomes_of(ones, lambda one, _: look(one)))
    return {one.name: found for one, found in zip(ones, looked, strict=True) if found is not None}


def outcomes_of(
    ones: Sequence[One],
    work: Callable[[One, Say], Found],
    on_progress: Callable[[One, str], None] = lambda one, text: None,
    on_end: Callable[[Outcome[One, Found]], None] = lambda outcome: None,
    seconds: float | None = None,
) -> list[Outcome[One, Found]]:
    """The outcome for each box, in order; never raises for what `work` raises.

    With `seconds`, what has not ended by then is left behind, and its outcome is BoxUnreachable.
    The threads are daemons: Ctrl-C and a bound end the command, not the last of 64 boxes.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Outcome[One, Found]]] = queue.SimpleQueue()
    for number in range(len(ones)):
        todo.put(number)

    def labour() -> None:
        while True:
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            done.put((number, _outcome(ones[number], work, on_progress)))

    for _ in range(min(len(ones), _AT_ONCE)):
        threading.Thread(target=labour, daemon=True, name="fleet").start()
    return _gathered(ones, done, on_end, seconds)


def _outcome(
    one: One, work: Callable[[One, Say], Found], on_progress: Callable[[One, str], None]
) -> Outcome[One, Found]:
    try:
        return Outcome(one, work(one, lambda text: on_progress(one, text)))
    except Exception as error:
        return Outcome(one, None, as_error(error))


def _gathered(
    ones: Sequence[One],
    done: "queue.SimpleQueue[tuple[int, Outcome[One, Found]]]",
    on_end: Callable[[Outcome[One, Found]], None],
    seconds: float | None,
) -> list[Outcome[One, Found]]:
    ends = None if seconds is None else time.monotonic() + seconds
    outcomes: dict[int, Outcome[One, Found]] = {}
    while len(outcomes) < len(ones):
        try:
            number, outcome = done.get(
                timeout=None if ends is None else max(0.0, ends - time.monotonic())
            )
        except queue.Empty:
            break
        outcomes[number] = outcome
        on_end(outcome)
    late = f"no answer within {seconds or 0:g} s"
    return [
        outcomes.get(number) or Outcome(one, None, BoxUnreachable(late, where=f"box {one.name}"))
        for number, one in enumerate(ones)
    ]


def _record(outcome: Outcome[Any, Any], recorded: Callable[[Any], Any]) -> Any:
    return (
        {"box": outcome.one.name, **outcome.error.to_json()}
        if outcome.error
        else recorded(outcome.found)
    )
