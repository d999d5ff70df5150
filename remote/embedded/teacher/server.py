"""The server: chat completions of both APIs, a key where it is told to want one, and faults on
demand.

What it says is made of the sentences of the document in the question, the same each time: for each
of the first ones a question, the sentence as its quote, and its last words as the answer.
"""

import json
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from remote.contract.files import untrusted_json

MODEL = "teacher"
_BODY = 16 << 20
_DOCUMENT = re.compile(r"<DOCUMENT>\n?(.*?)\n?</DOCUMENT>", re.DOTALL)
_SENTENCE = re.compile(r"[^.!?\n][^.!?]{20,}[.!?]")
_ASKED = 3


@dataclass
class Fault:
    """A reply in place of the next answer. Status 0 hangs up without a word."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """On 127.0.0.1. `faults` come first, one a question; then `says` for each, else the sentences
    of its document; once it was asked `fails_after` questions, it is out of order. `asked` are the
    bodies that came."""

    daemon_threads = True

    def __init__(self, port: int = 0, key: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.key = key
        self.says: str | None = None
        self.fails_after: int | None = None
        self.faults: deque[Fault] = deque()
        self.asked: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it answers: of an Ollama as it stands, of OpenAI's API with `/v1`."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "windlass-teacher"

    def do_GET(self) -> None:
        """The models."""
        if self.path == "/v1/models":
            self._reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        elif self.path == "/api/tags":
            self._reply(200, {"models": [{"name": MODEL, "model": MODEL}]})
        else:
            self._error(404, "no such page")

    def do_POST(self) -> None:
        """An answer."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and int(length) <= _BODY):
            self.close_connection = True
            self._error(413, "a body of known length is needed")
            return
        content = self.rfile.read(int(length))
        try:
            body = untrusted_json.loads_object(content)
            question = body["messages"][-1]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            self._error(400, "no chat")
            return
        self._answer(body, str(question))

    def _answer(self, body: dict[str, Any], question: str) -> None:
        server = self.server
        with server.lock:
            server.asked.append(body)
            fault = server.faults.popleft() if server.faults else None
            if server.fails_after is not None and len(server.asked) > server.fails_after:
                fault = Fault(503, b"out of order")
        if fault:
            self._fail(fault)
        elif server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
            self._error(401, f"wrong key: {self.headers.get('Authorization')}")
        elif body.get("model") != MODEL:
            self._error(404, f"no model {body.get('model')}")
        else:
            self._say(server.says if server.says is not None else lessons(question))

    def _say(self, said: str) -> None:
        message = {"role": "assistant", "content": said}
        if self.path == "/v1/chat/completions":
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._reply(200, {"object": "chat.completion", "model": MODEL, "choices": [choice]})
        elif self.path == "/api/chat":
            done = {"done": True, "done_reason": "stop"}
            self._reply(200, {"model": MODEL, "message": message, **done})
        else:
            self._error(404, "no such page")

    def _fail(self, fault: Fault) -> None:
        if not fault.status:
            self.close_connection = True
            return
        self._send(fault.status, fault.body, fault.headers)

    def _error(self, status: int, words: str) -> None:
        self._reply(status, {"error": {"message": words}})

    def _reply(self, status: int, told: dict[str, Any]) -> None:
        self._send(status, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: who asked sees what came of it."""


def lessons(question: str) -> str:
    """What it says to a question with a document in it."""
    found = _DOCUMENT.search(question)
    sentences = _SENTENCE.findall(found[1] if found else question)[:_ASKED]
    items = []
    for sentence in (each.strip() for each in sentences):
        words = sentence.rstrip(".!?").split()
        items.append(
            {
                "question": f"What follows upon “{' '.join(words[:3])}”?",
                "quotes": [sentence],
                "reasoning": "The document says it in so many words.",
                "answer": " ".join(words[-3:]),
            }
        )
    return json.dumps({"items": items})
