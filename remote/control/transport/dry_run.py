"""A way to nowhere: says what would run, runs nothing."""

from collections.abc import Callable, Iterator

from remote.control.printable import counted
from remote.control.transport.base import Result, Stdin


class DryRunTransport:
    """Hands every command to `say` and answers with nothing, successfully."""

    def __init__(self, where: str, say: Callable[[str], None]) -> None:
        self.where = where
        self.round_trips = self.bytes_sent = 0
        self._say = say

    def exec(self, command: str, stdin: Stdin = b"", timeout: float | None = None) -> Result:
        """Say the command."""
        self._tell(command, stdin)
        return Result(0, b"", b"", 0.0)

    def open(self, command: str, stdin: Stdin = b"", timeout: float | None = None, silence: float | None = None) -> "DryRunStream":
        """Say the command."""
        self._tell(command, stdin)
        return DryRunStream()

    def another(self) -> "DryRunTransport":
        """One more way to nowhere."""
        return DryRunTransport(self.where, self._say)

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> "DryRunTransport":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _tell(self, command: str, stdin: Stdin) -> None:
        self.round_trips += 1
        size = len(stdin) if isinstance(stdin, bytes) else _size_of(stdin)
        self._say(f"would run on {self.where}: {command}" + (f"  (with {counted(size, 'byte')} on standard input)" if size else ""))


class DryRunStream:
    """No output, success."""

    exit_code = 0
    stderr = b""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def __enter__(self) -> "DryRunStream":
        return self

    def __exit__(self, *exception: object) -> None:
        return None


def _size_of(stdin: object) -> int:
    seek, tell = getattr(stdin, "seek", None), getattr(stdin, "tell", None)
    if seek is None or tell is None:
        return 0
    at = tell()
    size = seek(0, 2) - at
    seek(at)
    return int(size)
