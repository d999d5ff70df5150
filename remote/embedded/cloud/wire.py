"""HTTP in front of moto: who may ask, what Windlass adds, and what must be guarded and saved.

```
GET  /windlass/instances                all that are not terminated, as below
GET  /windlass/instances/<id>           {"id", "name", "type", "zone", "state", "host", "port", ...}
GET  /windlass/instances/<id>/console   the console as text
     /windlass/faults                   GET those that stand; POST {"kind", ...} one more; DELETE
     all, or /windlass/faults/<id>
GET  /windlass/leaks                    {"instances": [ids], "volumes": [ids], ...}
GET  /windlass/calls                    {"user ec2:RunInstances": 2, "box s3:PutObject": 1, ...}
since the cloud came up
     /windlass/imds/<id>/latest/...     IMDSv2 of that box;  POST .../power is its shutdown command
     anything else                      the AWS wire API
```
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from moto.ec2.models.instances import Instance
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Request, Response

from remote.contract.files import untrusted_json
from remote.embedded.cloud import answers, catalog, leaks, peer
from remote.embedded.cloud.account import Account
from remote.embedded.cloud.answers import Call
from remote.embedded.cloud.faults import ANSWERS, Fault
from remote.embedded.instances import metadata

Environ = dict[str, Any]
_LOOPBACK = ("127.0.0.1", "localhost")


class Wire:
    """The WSGI application of the embedded cloud."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._calls: Counter[tuple[str, str]] = Counter()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if self.skew_seconds():
            start_response = _undated(start_response)
        if not _is_own(environ):
            return Response("only this user's own programs may ask", status=403)(
                environ, start_response
            )
        if environ["PATH_INFO"].startswith("/windlass/"):
            return self._own(Request(environ))(environ, start_response)
        call = _call(environ)
        self._calls[call.key, call.action] += 1
        if refusal := self._refusal(call):
            return refusal(environ, start_response)
        if call.service == "pricing":
            return self._price_list(call, Request(environ))(environ, start_response)
        if call.service != "ec2":
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        with self.account.lock:
            answer = list(self._moto(environ, start_response))
        if call.changes_ec2():
            self.account.save()
        return answer

    def skew_seconds(self) -> float:
        """By how much the cloud's clock seems to be off."""
        return sum(
            fault.seconds for fault in self.account.faults.all() if fault.kind == "clock-skew"
        )

    def _refusal(self, call: Call) -> Response | None:
        """The answer that is given before moto is asked, if any."""
        fault = (
            self.account.faults.strike(*ANSWERS, operation=call.action, region=call.region)
            if call.service
            else None
        )
        if fault:
            return answers.refusal(call, fault)
        # RunInstances looks at what is asked for first.
        return answers.dry_run() if call.is_dry_run and call.operation != "RunInstances" else None

    def _price_list(self, call: Call, request: Request) -> Response:
        status, answer = catalog.price_list(
            call.region, call.operation, untrusted_json.loads_object(request.get_data())
        )
        return Response(json.dumps(answer), status=status, mimetype="application/x-amz-json-1.1")

    def _own(self, request: Request) -> Response:
        kind, name, rest = [*request.path.removeprefix("/windlass/").split("/", 2), "", ""][:3]
        if kind == "faults":
            return self._faults(request, name or None)
        if not name:
            return self._told(kind)
        instance = self.account.instance(name)
        if instance is None:
            return _json({"error": f"no instance {name}"}, 404)
        if kind == "imds":
            return self._imds(request, instance, rest)
        if rest == "console":
            return Response(self.account.machine(instance).console(), mimetype="text/plain")
        return _json(self.account.describe(instance))

    def _told(self, kind: str) -> Response:
        tellers: dict[str, Callable[[], object]] = {
            "instances": self.account.listing,
            "leaks": leaks.told,
            "calls": self._calls_told,
        }
        if kind not in tellers:
            return _json({"error": f"nothing is called {kind}"}, 404)
        with self.account.lock:
            return _json(tellers[kind]())

    def _calls_told(self) -> dict[str, int]:
        told = Counter[str]()
        for (key, action), count in self._calls.copy().items():
            told[f"{'box' if key.startswith(metadata.BOX_KEY) else 'user'} {action}"] += count
        return told

    def _faults(self, request: Request, fault_id: str | None) -> Response:
        if request.method == "DELETE":
            return _json([asdict(fault) for fault in self.account.clear(fault_id)])
        if request.method != "POST":
            return _json([asdict(fault) for fault in self.account.faults.all()])
        try:
            fault = Fault.of(untrusted_json.loads_object(request.get_data()))
            self.account.inject(fault)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        return _json(asdict(fault))

    def _imds(self, request: Request, instance: Instance, path: str) -> Response:
        if path == "power" and request.method == "POST":
            asked = untrusted_json.loads_object(request.get_data())
            self.account.power(instance, asked["action"], asked["minutes"])
            return _json({})
        if self.account.ails(instance, "imds"):
            return Response(status=404)
        tokens = self.account.machine(instance).tokens
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, text = metadata.answer(
            request.method, path, headers, self.account.facts(instance), tokens
        )
        return Response(text, status=status, mimetype="text/plain")


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value), status=status, mimetype="application/json")


def _call(environ: Environ) -> Call:
    """The AWS call that a request is. Its body is read where its operation stands there, and left
    to be read again."""
    authorization, body = environ.get("HTTP_AUTHORIZATION", ""), b""
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    return Call.of(
        environ["REQUEST_METHOD"],
        environ["PATH_INFO"],
        environ.get("QUERY_STRING", ""),
        authorization,
        target,
        body,
    )


def _undated(start_response: Callable[..., Any]) -> Callable[..., Any]:
    """Some of moto's answers bear a date of their own; the server's, which may be off, is to be the
    only one."""

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(
            status, [header for header in headers if header[0].lower() != "date"], *rest
        )

    return start


def _is_own(environ: Environ) -> bool:
    """Neither a web page in the user's browser nor another user of this machine may start processes
    as this user."""
    host = environ.get("HTTP_HOST", "").rpartition(":")[0]
    server = (environ["SERVER_NAME"], int(environ["SERVER_PORT"]))
    is_local = host in _LOOPBACK and "HTTP_ORIGIN" not in environ
    return is_local and peer.is_own(environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"]), server)
