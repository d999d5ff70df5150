"""A hub of models on loopback with the Hugging Face hub's API: real HTTP, redirects to a store on
another origin, gates, faults."""

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_datasets import DatasetRoutes
from tests.tokenizer_files import sentencepiece, tokenizer_json, words

LARGE = (".safetensors", ".model", ".bin")


def tiny_model(vocabulary=8, width=4):
    """A whole model, as transformers saves one, and what else such repositories hold."""
    return {
        "config.json": json.dumps({"model_type": "mistral", "vocab_size": vocabulary}).encode(),
        "generation_config.json": b"{}",
        "tokenizer_config.json": b"{}",
        "tokenizer.json": tokenizer_json(words(vocabulary)),
        "tokenizer.model": sentencepiece(words(vocabulary)),
        "model.safetensors": safetensors(
            {
                "model.embed_tokens.weight": [vocabulary, width],
                "lm_head.weight": [vocabulary, width],
            }
        ),
        "consolidated.safetensors": b"the same once more",
        "pytorch_model.bin": b"pickled",
        "README.md": b"# hello",
        "original/params.json": b"{}",
    }


WANTED = {
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "model.safetensors",
}
"""Of a tiny model, what training needs."""


def safetensors(shapes):
    """The bytes of a file with tensors of these shapes."""
    header, end = {}, 0
    for name, (rows, width) in shapes.items():
        header[name] = {
            "dtype": "BF16",
            "shape": [rows, width],
            "data_offsets": [end, end + 2 * rows * width],
        }
        end += 2 * rows * width
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(index % 251 for index in range(end))


@dataclass
class Hub:
    """What the server knows. `gated` repositories want one of `tokens`; the store sends `cut` bytes
    and hangs up, `cuts` times; `is_full`, it takes nothing."""

    url: str = ""
    store: str = ""
    repos: dict = field(default_factory=dict)
    datasets: dict = field(default_factory=dict)
    objects: dict = field(default_factory=dict)
    is_full: bool = False
    gated: set = field(default_factory=set)
    tokens: set = field(default_factory=set)
    revisions: dict = field(default_factory=lambda: {"main": "a" * 40})
    cut: int = 0
    cuts: int = 0
    damaged: set = field(default_factory=set)
    honours_ranges: bool = True
    requests: list = field(default_factory=list)

    def sent(self, path):
        """The ranges that were asked of the store for a file."""
        return [
            asked["range"]
            for asked in self.requests
            if asked["origin"] == "store" and asked["path"].endswith(path)
        ]


class _Handler(DatasetRoutes, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def do_POST(self):
        self._answer(with_body=True)

    def do_PUT(self):
        self.put_object(urlsplit(self.path).path, self._body())

    def _body(self):
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, with_body):
        hub, asked = self.server.hub, urlsplit(self.path)
        origin = "store" if self.server.is_store else "hub"
        authorization = self.headers.get("Authorization", "")
        hub.requests.append(
            {
                "origin": origin,
                "path": asked.path,
                "range": self.headers.get("Range", ""),
                "authorization": authorization,
            }
        )
        token = authorization.removeprefix("Bearer ")
        if self.server.is_store:
            self._content(unquote(asked.path).lstrip("/"), with_body)
        elif asked.path.startswith("/api/models/"):
            self._describe(
                *asked.path.removeprefix("/api/models/").split("/revision/"), parse_qs(asked.query)
            )
        elif not self.answer_datasets(asked.path, self._body(), token, with_body):
            self._resolve(unquote(asked.path), token, with_body)

    def _describe(self, repo, revision, query):
        hub = self.server.hub
        revision = unquote(revision)
        if repo not in hub.repos:
            return self._say(
                401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            )
        sha = hub.revisions.get(revision) or (
            revision if revision in hub.revisions.values() else None
        )
        if sha is None:
            return self._say(
                404,
                {
                    "X-Error-Code": "RevisionNotFound",
                    "X-Error-Message": f"Invalid rev id: {revision}",
                },
            )
        assert query == {"blobs": ["true"]}
        siblings = [_sibling(name, content) for name, content in hub.repos[repo].items()]
        return self._say(
            200, {}, json.dumps({"id": repo, "sha": sha, "siblings": siblings}).encode()
        )

    def _resolve(self, path, token, with_body):
        hub = self.server.hub
        is_cache = path.startswith("/api/resolve-cache/models/")
        repo, _, rest = (
            path.removeprefix("/api/resolve-cache/models").lstrip("/").partition("/resolve/")
        )
        name = rest.partition("/")[2]
        if repo in hub.gated and token not in hub.tokens:
            code = 403 if token else 401
            return self._say(
                code,
                {
                    "X-Error-Code": "GatedRepo",
                    "X-Error-Message": f"Access to model {repo} is restricted.",
                },
            )
        if name.endswith(LARGE):
            return self._say(302, {"Location": f"{hub.store}/{repo}/{name}?signature=secret"})
        if not is_cache:
            return self._say(307, {"Location": f"/api/resolve-cache/models{path}"})
        return self._content(f"{repo}/{name}", with_body)

    def _content(self, path, with_body):
        hub = self.server.hub
        repo, name = path.rsplit("/", 1)
        content = hub.repos[repo][name]
        if name in hub.damaged:
            content = content[:-1] + b"?"
        at = (
            int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
            if hub.honours_ranges
            else 0
        )
        self.send_response(206 if at else 200)
        self.send_header("Content-Length", str(len(content) - at))
        self.end_headers()
        if not with_body:
            return
        piece = content[at:]
        if self.server.is_store and hub.cuts and hub.cut < len(piece):
            hub.cuts -= 1
            self.wfile.write(piece[: hub.cut])
            self.close_connection = True
            return
        self.wfile.write(piece)
        return

    def _say(self, status, headers, body=b"", length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


def _sibling(name, content):
    told = {
        "rfilename": name,
        "size": len(content),
        "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
    }
    large = {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "pointerSize": 130,
    }
    return {**told, "lfs": large} if name.endswith(LARGE) else told


@contextlib.contextmanager
def serving():
    """A hub and its store, each on a port of its own."""
    hub = Hub()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2)]
    for server, is_store in zip(servers, (False, True), strict=True):
        server.hub, server.is_store, server.daemon_threads = hub, is_store, True
    hub.url, hub.store = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        for server in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
