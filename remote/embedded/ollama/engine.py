"""Keeps a few models loaded: the first request loads, idle ones leave after their `keep_alive`, the
longest unused makes room."""

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from remote.contract.files import untrusted_json
from remote.control.output.sanitize import plain
from remote.control.project import CODE
from remote.embedded.ollama.store import Stored, verify
from remote.embedded.ollama.wire import Refusal

MAX_LOADED = 2
CONTEXT = 4096
_KEEP_SECONDS = 300.0
MAX_CONTEXT = 1 << 17
"""Positions at most, for a model that does not say for how many it was trained."""
_SILENCE_SECONDS = 600.0
"""How long a runner may be silent at work. A long prompt is read for minutes before the first
token; some grammars never end."""
_RENDER_SECONDS = 30.0
"""What a GGUF's own template may take: it is code of whoever made the file, and llama.cpp runs it
without a bound."""
_LOAD_SECONDS = 60.0
_LOAD_BYTES_PER_SECOND = 20e6


@dataclass
class Runner:
    """A loaded model. `expires_at` is on the clock of `time.time`; `users` counts the requests it
    serves just now."""

    stored: Stored
    context: int
    process: asyncio.subprocess.Process
    http: httpx.AsyncClient
    keep_seconds: float = _KEEP_SECONDS
    expires_at: float = 0.0
    used_at: float = 0.0
    users: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """llama.cpp works on one answer at a time; who waits here is not taken for one whose answer is
    stuck."""

    def touch(self) -> None:
        """Note that it was used just now."""
        self.used_at = time.time()
        self.expires_at = self.used_at + self.keep_seconds

    @property
    def is_alive(self) -> bool:
        """Whether its process still runs."""
        return self.process.returncode is None

    async def ask(self, path: str, body: Any) -> Any:
        """One short request to llama.cpp's server; raises Refusal with its own words. A runner that
        does not answer in time is ended."""
        with self._watched(path, _RENDER_SECONDS):
            reply = await self.http.post(path, json=body, timeout=_RENDER_SECONDS)
        if reply.is_error:
            raise Refusal(reply.status_code, _words(reply.content))
        return reply.json()

    async def ask_in_turn(self, path: str, body: Any) -> Any:
        """`ask` for what goes through the model, once no answer is on its way."""
        async with self.turn:
            return await self.ask(path, body)

    async def stream(self, path: str, body: Any) -> AsyncGenerator[dict[str, Any]]:
        """The events of a streamed request. Leaving the iteration ends the work behind it."""
        patience = httpx.Timeout(None, read=_SILENCE_SECONDS)
        async with self.turn:
            with self._watched(path, _SILENCE_SECONDS):
                async with self.http.stream("POST", path, json=body, timeout=patience) as reply:
                    if reply.is_error:
                        raise Refusal(reply.status_code, _words(await reply.aread()))
                    async for line in reply.aiter_lines():
                        if line.startswith("error:"):
                            raise Refusal(500, _words(line.removeprefix("error:").encode()))
                        if line.startswith("data: {"):
                            yield untrusted_json.loads_object(line.removeprefix("data: "))

    @contextlib.contextmanager
    def _watched(self, path: str, seconds: float) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            self.kill()
            raise Refusal(
                500,
                f"llama.cpp was silent for {seconds:.0f} s at {path}, so the model was unloaded",
            ) from error
        except httpx.HTTPError as error:
            raise Refusal(
                500, f"the model runner stopped: {error or type(error).__name__}"
            ) from error

    def kill(self) -> None:
        """End its process at once; the next sweep clears it away."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> None:
        """Unload."""
        await self.http.aclose()
        self.kill()
        await self.process.wait()


@dataclass
class Engine:
    """The loaded models by their file: names of one file share a runner. `folder` takes llama.cpp's
    logs."""

    folder: Path
    loaded: dict[Path, Runner] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @contextlib.asynccontextmanager
    async def using(
        self, stored: Stored, context: int = 0, keep_seconds: float | None = None
    ) -> AsyncIterator[Runner]:
        """The runner of a model, loaded where needed, and kept while the block runs. `context` is
        cut to what the model was trained for."""
        await asyncio.to_thread(verify, stored)
        runner = await self._acquire(
            stored, min(context or CONTEXT, stored.gguf.context_length or MAX_CONTEXT)
        )
        runner.keep_seconds = _KEEP_SECONDS if keep_seconds is None else keep_seconds
        runner.touch()
        try:
            yield runner
        finally:
            runner.users -= 1
            runner.touch()
            await asyncio.shield(self.sweep())

    async def unload(self, stored: Stored) -> None:
        """Let a model leave as soon as nobody uses it."""
        if runner := self.loaded.get(stored.path):
            runner.expires_at = runner.keep_seconds = 0
            await self.sweep()

    async def sweep(self) -> None:
        """Unload what has expired or died, and what was deleted."""
        async with self._changed:
            for path, runner in list(self.loaded.items()):
                if not runner.users and (
                    runner.expires_at <= time.time() or not runner.is_alive or not path.exists()
                ):
                    await self._unload(path)
            self._changed.notify_all()

    async def sweep_forever(self) -> None:
        """`sweep` every second."""
        while True:
            await asyncio.sleep(1)
            await self.sweep()

    async def end(self) -> None:
        """Unload everything."""
        for path in list(self.loaded):
            await self._unload(path)

    async def _acquire(self, stored: Stored, context: int) -> Runner:
        async with self._changed:
            while not (runner := await self._room_or_runner(stored, context)):
                await self._changed.wait()
            runner.users += 1
            return runner

    async def _room_or_runner(self, stored: Stored, context: int) -> Runner | None:
        """The fitting runner, a new one, or None while every place is taken by a busy one."""
        runner = self.loaded.get(stored.path)
        if runner and runner.is_alive and runner.context == context:
            runner.stored = stored
            return runner
        idle = [path for path, other in self.loaded.items() if not other.users]
        if runner and runner.users:
            return None
        if runner or len(self.loaded) >= MAX_LOADED:
            if not idle:
                return None
            await self._unload(
                stored.path if runner else min(idle, key=lambda path: self.loaded[path].used_at)
            )
        self.loaded[stored.path] = await self._load(stored, context)
        return self.loaded[stored.path]

    async def _load(self, stored: Stored, context: int) -> Runner:
        key, log = secrets.token_hex(16), self.folder / f"runner-{stored.manifest.model[7:19]}.log"
        wish = {
            "model": str(stored.path),
            "context": context,
            "threads": max(1, (os.cpu_count() or 2) // 2),
            "key": key,
        }
        with open(log, "wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "remote.embedded.ollama.runner",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=CODE,
            )
        patience = _LOAD_SECONDS + stored.size / _LOAD_BYTES_PER_SECOND
        try:
            url = await asyncio.wait_for(_greeting(process, wish, log), patience)
        except TimeoutError:
            raise Refusal(
                500,
                f"llama.cpp did not load the model in {patience:.0f} s; its chat template may"
                " not end",
            ) from None
        http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False
        )
        return Runner(stored, context, process, http)

    async def _unload(self, path: Path) -> None:
        await self.loaded.pop(path).end()


async def _greeting(process: asyncio.subprocess.Process, wish: dict[str, Any], log: Path) -> str:
    if not process.stdin or not process.stdout:
        raise RuntimeError("the runner was started without pipes")
    try:
        process.stdin.write(json.dumps(wish).encode() + b"\n")
        line = await process.stdout.readline()
        if line:
            return str(untrusted_json.loads_object(line)["url"])
    except BaseException:
        process.kill()
        await process.wait()
        raise
    await process.wait()
    errors = [text for text in log.read_text(errors="replace").splitlines() if " E " in text]
    why = errors[0].partition(" E ")[2] if errors else f"exit code {process.returncode}"
    raise Refusal(500, f"llama.cpp could not load the model: {plain(why.strip())[:300]}")


def _words(content: bytes) -> str:
    try:
        return str(untrusted_json.loads_object(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:300]
