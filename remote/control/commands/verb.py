"""`@verb` makes an Invoke task whose failures are errors for people, not tracebacks."""

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any

from invoke import Exit as Leave
from invoke import task

from remote.contract.exits import Exit
from remote.control import console
from remote.control.commands import output
from remote.control.commands.words import VerbTask

INTERRUPTED = "interrupted; nothing was undone"


def verb(*args: Any, **options: Any) -> Any:
    """Like `invoke.task`, for functions that may raise WindlassError. A task with a `json` parameter prints its errors as JSON too."""
    if len(args) == 1 and callable(args[0]):
        return task(_guarded(args[0]), klass=VerbTask)
    return lambda function: task(*args, klass=VerbTask, **options)(_guarded(function))


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        # What a command loads (EC2's model alone is 80 000 objects) stays to its end: searching it for garbage took a tenth of the time.
        gc.set_threshold(100_000, 20, 20)
        with answered(bool(kwargs.get("json"))):
            return function(*args, **kwargs)

    return guarded


@contextlib.contextmanager
def answered(as_json: bool) -> Iterator[None]:
    """What is raised inside is told, to a script as JSON too, and becomes Invoke's Exit with its code."""
    try:
        with console.aside(as_json):  # a script reads standard output: it holds the document alone
            yield
    except KeyboardInterrupt:
        console.complain(INTERRUPTED)
        raise Leave(code=int(Exit.INTERRUPTED)) from None
    except BrokenPipeError:
        output.drop()
        raise Leave(code=0) from None
    except Exception as error:
        raise Leave(code=_explain(error, as_json)) from None


def _explain(error: Exception, as_json: bool) -> int:
    from remote.control.faults import as_error

    if isinstance(error, Leave):
        if error.message:
            console.complain(error.message)
        return int(error.code)
    told = as_error(error)
    if as_json:
        try:
            console.print_json(told.to_json())
        except BrokenPipeError:  # nobody reads it; people are still told
            output.drop()
    console.complain("\n".join(told.lines()))
    return int(told.exit_code)
