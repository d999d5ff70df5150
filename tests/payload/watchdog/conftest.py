"""A real HTTP server that answers as a test wants, and keeps what it was asked."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Web:
    """`answer(method, path, headers)` gives status, text and further headers."""

    def __init__(self):
        self.asked, self.answer = [], lambda method, path, headers: (200, "", {})
        web = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                web.asked.append((self.command, self.path, dict(self.headers), body))
                status, text, further = web.answer(self.command, self.path, self.headers)
                self.send_response_only(status)
                for name, value in {
                    "Date": self.date_time_string(),
                    "Content-Length": str(len(text)),
                    **further,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_PUT = do_POST = _any

            def log_message(self, *_args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def web():
    web = Web()
    yield web
    web.close()
