"""Ollama's HTTP API as a Starlette application. `access` says who may ask."""

import asyncio
import contextlib
import errno
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from remote.contract.files import untrusted_json
from remote.control.serving import names
from remote.embedded.cloud import peer
from remote.embedded.ollama import options, rendering, wire
from remote.embedded.ollama.access import Access, IsOwn
from remote.embedded.ollama.answer import answer, read_message, read_question
from remote.embedded.ollama.engine import Engine
from remote.embedded.ollama.store import Manifest, Store, Stored, check, is_inside, verify
from remote.embedded.ollama.wire import Refusal, Reply

VERSION = "0.30.0+windlass"
"""The Ollama whose API this is."""

MAX_BODY = 16 << 20
"""Bytes of a request's JSON; files go by /api/blobs."""


def make_app(
    store: Store, engine: Engine, origins: Sequence[str] = (), is_own: IsOwn = peer.is_own
) -> Starlette:
    """The application over a store and an engine. `origins` are those whose web pages may ask."""
    api = _Api(store, engine)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(engine.sweep_forever())
        yield
        sweeping.cancel()
        await engine.end()

    routes = [
        Route("/", _alive, methods=["GET"]),
        Route("/api/version", _version, methods=["GET"]),
        Route("/api/tags", api.tags, methods=["GET"]),
        Route("/api/ps", api.loaded, methods=["GET"]),
        Route("/api/show", api.show, methods=["POST"]),
        Route("/api/blobs/{digest}", api.blob, methods=["HEAD", "POST"]),
        Route("/api/create", api.create, methods=["POST"]),
        Route("/api/copy", api.copy, methods=["POST"]),
        Route("/api/delete", api.delete, methods=["DELETE"]),
        Route("/api/generate", api.generate, methods=["POST"]),
        Route("/api/chat", api.chat, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        Refusal: _refused,
        OSError: _disk,
        HTTPException: _http,
        ClientDisconnect: _gone,
        Exception: _fault,
    }
    middleware = [Middleware(Access, origins=origins, is_own=is_own)]
    if origins:
        middleware.append(
            Middleware(
                CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"]
            )
        )
    return Starlette(
        routes=routes, exception_handlers=handlers, middleware=middleware, lifespan=lifespan
    )


class _Api:
    def __init__(self, store: Store, engine: Engine) -> None:
        self.store, self.engine = store, engine

    async def tags(self, _: Request) -> Response:
        return JSONResponse(
            {"models": [listed for stored in self.store.all() if (listed := _listed(stored))]}
        )

    async def loaded(self, _: Request) -> Response:
        runners = self.engine.loaded.values()
        times = [min(runner.expires_at or 0, 4e9) for runner in runners]
        until = [datetime.fromtimestamp(moment, timezone.utc).isoformat() for moment in times]
        shown = [
            {**listed, "expires_at": moment, "size_vram": 0, "context_length": runner.context}
            for runner, moment in zip(runners, until, strict=True)
            if (listed := _listed(runner.stored))
        ]
        return JSONResponse({"models": shown})

    async def show(self, request: Request) -> Response:
        stored = self.store.get(_name(await _body(request)))
        check(stored)
        return JSONResponse(_shown(stored))

    async def blob(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        exists = self.store.blob(digest).exists()
        if request.method == "HEAD":
            return Response(status_code=200 if exists else 404)
        if not exists:
            await self.store.receive(digest, request.stream(), _length(request))
        return Response(status_code=200 if exists else 201)

    async def create(self, request: Request) -> Response:
        body = await _body(request)
        name = _name(body)
        if not names.is_valid(name):
            raise Refusal(400, f"invalid model name: {name!r}")
        if not body.get("from") and not body.get("files"):
            raise Refusal(400, "neither 'from' or 'files' was specified")
        return await _reply(request, body, self._creating(name, body))

    async def copy(self, request: Request) -> Response:
        body = await _body(request)
        self.store.put(
            str(body.get("destination", "")), self.store.get(str(body.get("source", ""))).manifest
        )
        return Response(status_code=200)

    async def delete(self, request: Request) -> Response:
        self.store.delete(_name(await _body(request)))
        await self.engine.sweep()
        return Response(status_code=200)

    async def generate(self, request: Request) -> Response:
        return await self._answer(request, is_chat=False)

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, is_chat=True)

    async def _answer(self, request: Request, is_chat: bool) -> Response:
        body = await _body(request)
        question = read_question(self.store.get(_name(body)), body, is_chat)
        streamed = {**body, "stream": False} if question.render_only else body
        return await _reply(
            request,
            streamed,
            answer(self.engine, question),
            lambda pieces: wire.joined(pieces, is_chat),
        )

    async def _creating(self, name: str, body: dict[str, Any]) -> AsyncGenerator[Reply]:
        base = self._base(body)
        yield {"status": "parsing GGUF"}
        stored = Stored(names.full(name), base, self.store.blob(base.model), wire.now())
        await asyncio.to_thread(verify, stored)
        manifest = await asyncio.to_thread(_manifest, base, body)
        _check_quantization(str(body.get("quantize") or "").upper(), stored.gguf.quantization)
        yield {"status": f"using existing layer {manifest.model}"}
        yield {"status": "writing manifest"}
        self.store.put(name, manifest)
        yield {"status": "success"}

    def _base(self, body: dict[str, Any]) -> Manifest:
        if body.get("adapters"):
            raise Refusal(
                400,
                "the embedded Ollama takes merged models only: `./inv export` merges the adapter",
            )
        if body.get("from"):
            return self.store.get(str(body["from"])).manifest
        files = body["files"]
        if not isinstance(files, dict) or len(files) != 1:
            raise Refusal(400, "files: expected one GGUF file")
        ((file, digest),) = files.items()
        if not is_inside(file):
            raise Refusal(400, f"invalid file path: {file!r}")
        blob = self.store.blob(str(digest))
        if not blob.exists():
            raise Refusal(400, f"blob {digest} not found")
        return Manifest(model=blob.name.replace("-", ":"))


def _check_quantization(wanted: str, found: str) -> None:
    if wanted and wanted != found:
        raise Refusal(
            400,
            f"the embedded Ollama does not quantize {found} to {wanted}: export with `quantize:"
            f" {wanted.lower()}`",
        )


def _manifest(base: Manifest, body: dict[str, Any]) -> Manifest:
    """`base` with what the request says on top, as a Modelfile's words replace those of its
    FROM."""
    template, licenses = (
        wire.text_of(body, "template") or base.template,
        body.get("license") or base.license,
    )
    if template:
        rendering.check(template)
    licenses = [licenses] if isinstance(licenses, str) else licenses
    if not isinstance(licenses, list) or not all(isinstance(text, str) for text in licenses):
        raise Refusal(400, "license: expected text, or a list of texts")
    return Manifest(
        model=base.model,
        template=template,
        system=wire.text_of(body, "system") or base.system,
        license=licenses,
        parameters={**base.parameters, **options.checked(wire.object_of(body, "parameters"))},
        messages=[read_message(item) for item in wire.list_of(body, "messages")] or base.messages,
    )


def _listed(stored: Stored) -> Reply | None:
    """A model as lists have it; None where its file is gone or damaged."""
    try:
        check(stored)
        return _described(stored)
    except (Refusal, FileNotFoundError):
        return None


def _described(stored: Stored) -> Reply:
    return {
        "name": stored.name,
        "model": stored.name,
        "modified_at": stored.modified_at,
        "size": stored.size,
        "digest": stored.manifest.digest,
        "details": _details(stored),
    }


def _details(stored: Stored) -> Reply:
    gguf = stored.gguf
    size = (
        f"{gguf.parameters / 1e9:.1f}B"
        if gguf.parameters >= 1e9
        else f"{gguf.parameters / 1e6:.2f}M"
    )
    family = {"family": gguf.architecture, "families": [gguf.architecture]}
    return {
        "parent_model": "",
        "format": "gguf",
        **family,
        "parameter_size": size,
        "quantization_level": gguf.quantization,
    }


def _shown(stored: Stored) -> Reply:
    manifest, gguf = stored.manifest, stored.gguf
    listed = (
        (key, item)
        for key, value in manifest.parameters.items()
        for item in (value if isinstance(value, list) else [value])
    )
    parameters = [f"{key:<30} {json.dumps(item)}" for key, item in listed]
    template = manifest.template or gguf.chat_template or rendering.PLAIN
    lines = [
        f"FROM {stored.path}",
        f'TEMPLATE """{template}"""',
        *(f"PARAMETER {line}" for line in parameters),
    ]
    info = {
        key: None if isinstance(value, list) or _is_no_number(value) else value
        for key, value in gguf.metadata.items()
    }
    return {
        "modelfile": "\n".join(lines),
        "parameters": "\n".join(parameters),
        "template": template,
        "system": manifest.system,
        "license": "\n".join(manifest.license),
        "details": _details(stored),
        "capabilities": ["completion"],
        "model_info": {**info, "general.parameter_count": gguf.parameters},
        "modified_at": stored.modified_at,
    }


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)  # JSON has no word for it


async def _reply(
    request: Request,
    body: dict[str, Any],
    replies: AsyncGenerator[Reply],
    join: Callable[[list[Reply]], Reply] = lambda pieces: pieces[-1],
) -> Response:
    """The replies as they come, one JSON object a line, or the whole at once when the caller says
    `"stream": false`."""
    if body.get("stream", True):
        return _Stream(replies)
    collected = await _unless_gone(request, _all(replies))
    return JSONResponse(join(collected)) if collected else Response(status_code=499)


async def _all(replies: AsyncGenerator[Reply]) -> list[Reply]:
    async with contextlib.aclosing(replies):
        return [reply async for reply in replies]


async def _unless_gone(request: Request, work: Awaitable[list[Reply]]) -> list[Reply]:
    """The work's result; nothing when the caller hung up first: then the work is ended."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request.receive))
    await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if working.done():
        return working.result()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return []


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Stream(Response):
    """Newline-delimited JSON. The status goes out with the first reply, so that early errors have
    their own; later ones come as a line."""

    media_type = "application/x-ndjson"

    def __init__(self, replies: AsyncGenerator[Reply]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._replies = replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending, leaving = (
            asyncio.ensure_future(self._send(send)),
            asyncio.ensure_future(_left(receive)),
        )
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not sending.done():
            sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending

    async def _send(self, send: Send) -> None:
        async with (
            contextlib.aclosing(self._replies),
            contextlib.aclosing(_counted(self._replies)) as counted,
        ):
            async for index, reply in counted:
                if index == 0:
                    await send(
                        {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                    )
                await send(
                    {
                        "type": "http.response.body",
                        "body": json.dumps(reply).encode() + b"\n",
                        "more_body": True,
                    }
                )
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _counted(replies: AsyncGenerator[Reply]) -> AsyncGenerator[tuple[int, Reply]]:
    index = 0
    try:
        async for reply in replies:
            yield index, reply
            index += 1
    except Refusal as refusal:
        if index == 0:
            raise
        yield index, {"error": refusal.words}


async def _body(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MAX_BODY:
            raise Refusal(413, f"the request has more than {MAX_BODY:,} bytes")
    try:
        body = untrusted_json.loads_object(bytes(content), max_bytes=MAX_BODY)
        json.dumps(
            body, ensure_ascii=False, allow_nan=False
        ).encode()  # half a surrogate pair, or NaN, could not be passed on
    except ValueError as error:
        raise Refusal(400, f"invalid JSON: {error}") from error
    return body


def _length(request: Request) -> int:
    """The bytes that a sender says will come, or 0."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else 0


def _name(body: dict[str, Any]) -> str:
    name = body.get("model") or body.get("name")
    if not name or not isinstance(name, str):
        raise Refusal(400, "model is required")
    return name


async def _alive(_: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(_: Request) -> Response:
    return JSONResponse({"version": VERSION})


async def _refused(_: Request, refusal: Refusal) -> Response:
    return JSONResponse({"error": refusal.words}, status_code=refusal.status)


async def _http(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


async def _gone(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=499)


async def _fault(_: Request, error: Exception) -> Response:
    return JSONResponse(
        {"error": f"internal error: {type(error).__name__}: {error}"}, status_code=500
    )


async def _disk(_: Request, error: OSError) -> Response:
    words = (
        "no space left on device"
        if error.errno == errno.ENOSPC
        else error.strerror or type(error).__name__
    )
    return JSONResponse(
        {"error": f"{words}: {error.filename or 'the model folder'}"}, status_code=500
    )
