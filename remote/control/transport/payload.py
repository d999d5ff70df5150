"""Commands of the release on the box: how they are spelled, run and understood.

A payload command answers with JSON lines on standard output: `{"line": ...}` for people as it goes,
at the end either `{"done": {...}}` or `{"error": {"cause", "what", "why", "remedy", "kept"}}`.
"""

import contextlib
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from remote.contract.files import untrusted_json
from remote.contract.job.jobs import Cause
from remote.control.errors import BoxUnreachable, Busy, JobFailed, PreflightFailed, WindlassError
from remote.control.output.sanitize import counted, last_lines, sized
from remote.control.transport.base import (
    MOST_ANSWER_BYTES,
    Stdin,
    Stream,
    Transport,
    deploying,
    endless,
)

NOT_DEPLOYED = 78
NO_PYTHON = 127
LONGEST_LINE_BYTES = MOST_ANSWER_BYTES
"""The longest line that is said for good reason tells which contents of some hundred thousand files
a box lacks."""

MOST_BYTES = 256 << 20
"""All that a payload command says, the lines for people included."""

MOST_LINES, LONGEST_SAID = 100_000, 8 << 20
"""What a box says for people as it works: so many lines, of so many characters each."""

LONGEST_WORDS = 8000
"""Characters of each part of what it complains about."""

QUERY_SECONDS = 120.0
"""What a question may take whose answer lies ready on the box."""

SILENCE_SECONDS = 3600.0
"""How long work on a box may go on without a word: it builds environments, fetches models, puts
checkpoints into a bucket."""

_OLDER = re.compile(
    rb"No module named '?remote\.payload\b"
    # What argparse says to a word that it does not know, and a class of the contract to a field.
    rb"|^\S+: error: (?:unrecognized arguments|argument .*invalid choice|the following arguments"
    rb" are required|ambiguous option)"
    rb"|^TypeError: (?:\w+\.)?__init__\(\) got an unexpected keyword argument",
    re.MULTILINE,
)
"""What a release says that does not know the command: releases that are out there say it for
ever."""


def payload_command(box_root: str, module: str, *args: str) -> str:
    """The shell command that runs `remote.payload.MODULE` of the current release with the system's
    Python."""
    words = " ".join(shlex.quote(word) for word in (f"remote.payload.{module}", *args))
    folder = on_box(f"{box_root}/current")
    return (
        f'cd -- {folder} 2>/dev/null || exit {NOT_DEPLOYED}; PYTHONPATH="$PWD" exec python3 -m'
        f" {words}"
    )


def on_box(path: str) -> str:
    """A path of the box as a word for its shell: absolute, or in the user's home, wherever the
    shell starts."""
    return shlex.quote(path) if path.startswith("/") else '"$HOME"/' + shlex.quote(path)


def call(
    transport: Transport,
    command: str,
    stdin: Stdin = b"",
    on_line: Callable[[str], None] | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Run a payload command; returns what it is done with. Raises what it complains about, in its
    own words.

    `seconds` is what it may take in all; without it, it may take as long as it says something
    within SILENCE_SECONDS.
    """
    with transport.open(
        command, stdin, timeout=seconds, silence=None if seconds else SILENCE_SECONDS
    ) as stream:
        return answer(transport, stream, on_line or (lambda line: None))


def answer(
    transport: Transport,
    stream: Stream,
    on_line: Callable[[str], None],
    on_frame: Callable[[dict[str, Any]], None] = lambda frame: None,
) -> dict[str, Any]:
    """What a payload command that runs is done with; `on_frame` gets what it says between. Raises
    what it complains about."""
    for frame in _frames(stream, transport.where, on_line):
        if "error" in frame:
            raise complaint(transport.where, frame["error"])
        if "done" in frame:
            if not isinstance(done := frame["done"], dict):
                raise untold(transport.where, f"it is done with {str(done)[:80]!r}")
            return done
        on_frame(frame)
    raise failure(transport.where, stream.exit_code, stream.stderr)


def lines_of(
    chunks: Iterable[bytes], where: str, longest: int = LONGEST_LINE_BYTES
) -> Iterator[bytes]:
    """Whole lines, without their ends, out of chunks cut anywhere. Raises JobFailed where the box
    `where` says one that does not end."""
    rest, since = bytearray(), time.monotonic()
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        since = time.monotonic() if others else since
        rest += first
        for other in others:
            yield bytes(rest)
            rest = bytearray(other)
        if len(rest) > longest:
            raise endless(where, f"a line of more than {sized(longest)}", bytes(rest[:80]))
        if time.monotonic() - since > SILENCE_SECONDS:
            raise endless(
                where, f"a line that took more than {SILENCE_SECONDS:g} s", bytes(rest[:80])
            )
    if rest:
        yield bytes(rest)


@contextlib.contextmanager
def understood(where: str) -> Iterator[None]:
    """Take what the box `where` told apart: raises PreflightFailed where it lacks something, or
    holds another kind of thing."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise untold(where, f"{type(error).__name__}: {error}") from None


def _frames(stream: Stream, where: str, on_line: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    said = lines = 0
    for line in lines_of(stream, where):
        said += len(line) + 1
        if said > MOST_BYTES:
            raise endless(where, f"more than {sized(MOST_BYTES)}, the last line of", line[:80])
        frame = _frame(line)
        if frame is not None and "line" not in frame:
            yield frame
            continue
        lines += 1
        if lines > MOST_LINES:
            raise endless(where, f"more than {counted(MOST_LINES, 'line')}, the last", line[:80])
        words = line.decode(errors="replace") if frame is None else str(frame["line"])
        on_line(words if len(words) <= LONGEST_SAID else f"{words[:LONGEST_SAID]} …")


def _frame(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):  # a line for people
        return None
    with contextlib.suppress(ValueError):
        return untrusted_json.loads_object(line, lone_surrogates=True)
    return None


def complaint(where: str, told: object) -> WindlassError:
    """What the box `where` complains about, in its own words."""
    words = told if isinstance(told, dict) and isinstance(told.get("what"), str) else {}
    again = f"{deploying(where)}, then run the command again"
    what = words.get("what", "a command on the box failed, and does not say why")[:LONGEST_WORDS]
    text = {
        key: str(words.get(key, again if key == "remedy" else ""))[:LONGEST_WORDS]
        for key in ("why", "remedy", "kept")
    }
    if words.get("busy"):
        return Busy(what, where=where, **text)
    return JobFailed(
        what, cause=Cause(str(words.get("cause", Cause.CODE.value))), where=where, **text
    )


def untold(where: str, why: object) -> PreflightFailed:
    """What the release on the box tells is not as this laptop understands it: it is of another
    Windlass."""
    what = "the code on the box is of another Windlass, and tells things in another way"
    return PreflightFailed(
        what, where=where, why=str(why)[:300], remedy=f"{deploying(where)}, then the same command"
    )


def failure(where: str, exit_code: int, stderr: bytes, broke_off: str = "") -> WindlassError:
    """Why a payload command ended without an answer, as far as its exit code and what it wrote
    tell.

    `broke_off`: what to call the end of a stream for which no program is to blame; BoxUnreachable
    then, and asked again it goes on.
    """
    deploy = deploying(where)
    if exit_code == NOT_DEPLOYED:
        return PreflightFailed("nothing is deployed on the box yet", where=where, remedy=deploy)
    if exit_code == NO_PYTHON:
        return no_python(where, last_lines(stderr))
    if is_older(stderr):
        return older(where)
    why, again = f"exit code {exit_code}: {last_lines(stderr)}", "run the command again"
    if (broke_off and b"Error" not in stderr) or (exit_code == 0 and not stderr):
        return BoxUnreachable(
            broke_off or "the box did not answer",
            where=where,
            why=why if broke_off else "",
            remedy=again,
        )
    return JobFailed(
        "a command of Windlass failed on the box",
        cause=Cause.CODE,
        where=where,
        why=why,
        remedy=f"{deploy}, then {again}",
    )


def is_older(stderr: bytes) -> bool:
    """Whether a command failed because the release on the box is of an older Windlass, which does
    not know it, or a word of it."""
    return _OLDER.search(stderr) is not None


def older(where: str) -> PreflightFailed:
    """The release on the box is of an older Windlass than this laptop."""
    what = "the code on the box is of an older Windlass, and does not know what is asked of it"
    return PreflightFailed(what, where=where, remedy=f"{deploying(where)}, then the same command")


def no_python(where: str, why: str) -> PreflightFailed:
    """The box has no Python that Windlass can use."""
    return PreflightFailed(
        "the box has no python3 of version 3.10 or newer",
        where=where,
        why=why,
        remedy="on the box: `sudo apt-get install -y python3 python3-venv`",
    )
