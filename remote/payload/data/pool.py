"""Work in processes of its own, each with a deadline and a limit of memory: what crashes, hangs or
eats memory is one failed task, and the rest goes on.

`multiprocessing`'s pools hang or fail as a whole when a worker dies (`docs/data.md` has what was
measured), hence a subprocess a worker, that is killed and made anew.
"""

import collections
import contextlib
import importlib
import json
import os
import queue
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from remote.payload.process import end_with_parent

_RECYCLE = 500
"""After so many tasks a worker is made anew: libraries leak."""
_ANSWER_BYTES = 1 << 28


@dataclass(frozen=True)
class Failure:
    """Why a task gave nothing."""

    why: str


class Pool:
    """So many workers. Use as a context manager: leaving it kills them."""

    def __init__(self, workers: int, seconds: float, memory_mb: int) -> None:
        self._tasks: queue.SimpleQueue[tuple[str, Any, Future[Any]] | None] = queue.SimpleQueue()
        self._ahead = 4 * workers
        self._count = workers
        self._limits = (seconds, memory_mb)
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Pool":
        for _ in range(self._count):
            worker = _Worker(*self._limits)
            self._workers.append(worker)
            threading.Thread(target=self._serve, args=(worker,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            self._tasks.put(None)
            worker.close()

    def run(self, function: str, argument: Any) -> Any:
        """The answer to one task, or its Failure."""
        return next(iter(self.map(function, [argument])))[1]

    def map(self, function: str, arguments: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Each argument with its answer or Failure, in order. `function` is `module:name`, takes
        and returns plain JSON. No more are read ahead than keep the workers busy."""
        pending: collections.deque[tuple[Any, Future[Any]]] = collections.deque()
        for argument in arguments:
            future: Future[Any] = Future()
            self._tasks.put((function, argument, future))
            pending.append((argument, future))
            if len(pending) >= self._ahead:
                first, answer = pending.popleft()
                yield first, answer.result()
        for first, answer in pending:
            yield first, answer.result()

    def _serve(self, worker: "_Worker") -> None:
        while (task := self._tasks.get()) is not None:
            function, argument, future = task
            future.set_result(worker.ask(function, argument))


class _Worker:
    """One process; made when it is needed."""

    def __init__(self, seconds: float, memory_mb: int) -> None:
        self._seconds, self._memory_mb = seconds, memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self._is_late = self._is_closed = False

    def ask(self, function: str, argument: Any) -> Any:
        """The answer; a Failure where the process dies, is too late, or says why not."""
        line = b""
        with contextlib.suppress(OSError, ValueError):
            process = self._started()
            assert process.stdin
            process.stdin.write(json.dumps([function, argument]).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process)
        if not line:
            return self._died()
        self._asked += 1
        if self._asked >= _RECYCLE:
            self._kill()
        told = json.loads(line)
        return Failure(told["why"]) if "why" in told else told["answer"]

    def close(self) -> None:
        """End it for good."""
        self._is_closed = True
        self._kill()

    def _kill(self) -> None:
        """End the process with all that it started."""
        process, self._process = self._process, None
        if process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                with contextlib.suppress(OSError):  # what it was still to be told
                    pipe.close()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._is_closed:
            raise OSError("the pool is closed")
        if self._process is None:
            self._asked = 0
            self._process = subprocess.Popen(
                [sys.executable, "-m", "remote.payload.data.pool", str(self._memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        return self._process

    def _line(self, process: "subprocess.Popen[bytes]") -> bytes:
        """The next line; empty where the process ends, or time is up."""
        assert process.stdout
        ends, found = time.monotonic() + self._seconds, bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(max(0.0, ends - time.monotonic())):
                    self._is_late = True
                    return b""
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                found += chunk
                if not chunk or len(found) > _ANSWER_BYTES:
                    return b""
        return bytes(found)

    def _died(self) -> Failure:
        process, is_late = self._process, self._is_late
        self._is_late = False
        if self._is_closed:
            return Failure("stopped")
        if is_late:
            self._kill()
            return Failure(f"not done within {self._seconds:g} s")
        code = process.wait(5) if process else None
        self._kill()
        if code and code < 0:
            return Failure(f"its process was ended by {signal.Signals(-code).name}")
        return Failure("its process ended")


def _main(memory_mb: int) -> None:
    """The worker: one task a line, one answer a line. What libraries print goes to standard
    error."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_answered(*json.loads(line))).encode() + b"\n")
        answers.flush()


def _answered(function: str, argument: Any) -> Mapping[str, Any]:
    module, _, name = function.partition(":")
    try:
        return {"answer": getattr(importlib.import_module(module), name)(argument)}
    except MemoryError:
        return {"why": "it needs more memory than it may have"}
    except Exception as error:
        return {"why": f"{type(error).__name__}: {error}"[:2000]}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command's own process ends the workers
    _main(int(sys.argv[1]))
