"""`@verb` makes an Invoke task whose failures are errors for people, not tracebacks."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from invoke import Argument, Task, task
from invoke import Exit as Leave

from remote.contract.job.exits import Exit
from remote.control.commands.program import output
from remote.control.output import console

INTERRUPTED = "interrupted; nothing was undone"
SHORT = {"box": "b", "dry-run": "n", "follow": "f", "json": "j", "queue": "q", "yes": "y"}
"""The flags that have a letter too: each letter means the same wherever it is. (Invoke would take
the first one that is free.)"""


class VerbTask(Task):  # type: ignore[misc]
    """A task whose `words` may stand behind its name without their flags.

    Invoke hands a bare word on to those that must be given; to one that has a default, and to one
    whose default is a tuple, which takes any number, `command_line` puts the flag before it. `rest`
    is the flag that gets all words behind the first one.
    """

    def __init__(
        self,
        body: Callable[..., Any],
        positional: Sequence[str] | None = None,
        rest: str = "",
        **options: Any,
    ) -> None:
        defaults = {
            name: parameter.default
            for name, parameter in list(inspect.signature(body).parameters.items())[1:]
        }
        needed = [
            name for name in positional or defaults if defaults[name] is inspect.Parameter.empty
        ]
        many = [name for name in positional or () if defaults[name] == ()]
        super().__init__(
            body,
            positional=needed,
            iterable=[*many, *options.pop("iterable", ())],
            auto_shortflags=False,
            **options,
        )
        self.words, self.rest = tuple(needed if positional is None else positional), rest

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        """Like Invoke's; one that takes any number begins with none."""
        return dict(super().arg_opts(name, None if default == () else default, taken_names))

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Like Invoke's, with the letters of `SHORT`."""
        arguments: list[Argument] = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            argument.names += tuple(SHORT[name] for name in argument.names if name in SHORT)
        return arguments


def verb(*args: Any, **options: Any) -> Any:
    """Like `invoke.task`, for functions that may raise WindlassError. A task with a `json`
    parameter prints its errors as JSON too."""
    if len(args) == 1 and callable(args[0]):
        return task(_guarded(args[0]), klass=VerbTask)
    return lambda function: task(*args, klass=VerbTask, **options)(_guarded(function))


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with answered(bool(kwargs.get("json"))):
            return function(*args, **kwargs)

    return guarded


@contextlib.contextmanager
def answered(as_json: bool) -> Iterator[None]:
    """What is raised inside is told, to a script as JSON too, and becomes Invoke's Exit with its
    code."""
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
