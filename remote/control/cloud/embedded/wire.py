"""HTTP in front of moto: who may ask, what Windlass adds, and what must be guarded and saved.

```
GET  /windlass/instances                all that are not terminated, as below
GET  /windlass/instances/<id>           {"id", "name", "type", "state", "host", "port", "user", "disk", "log"}
GET  /windlass/instances/<id>/console   the console as text
     /windlass/imds/<id>/latest/...     IMDSv2 of that box;  POST .../power is its shutdown command
     anything else                      the AWS wire API
```
"""

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from moto.ec2.models.instances import Instance
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Request, Response

from remote.control.cloud.embedded import catalog, metadata, peer
from remote.control.cloud.embedded.account import Account

Environ = dict[str, Any]
_LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Call:
    """One request to the AWS API, as far as it must be known here. `operation` is empty where it stands in the path (S3)."""

    service: str
    operation: str
    region: str = ""

    @classmethod
    def of(cls, environ: Environ) -> "Call":
        """Read a request's service from its signature, its operation from its body or header."""
        scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0].split("/")
        region, service = scope[2:4] if len(scope) == 5 else ("", "")
        if service == "ec2":
            return cls(service, _form(environ).get("Action", [""])[0], region)
        return cls(service, environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2], region)

    def changes_ec2(self) -> bool:
        """Whether what EC2 knows may be different afterwards."""
        return self.service == "ec2" and not self.operation.startswith(("Describe", "Get"))


class Wire:
    """The WSGI application of the embedded cloud."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if not _is_own(environ):
            return Response("only this user's own programs may ask", status=403)(environ, start_response)
        if environ["PATH_INFO"].startswith("/windlass/"):
            return self._own(Request(environ))(environ, start_response)
        call = Call.of(environ)
        # Fault injection belongs here: a fault that matches `call` is answered in the service's own error shape, and moto is not asked.
        if call.service == "pricing":
            return self._price_list(call, Request(environ))(environ, start_response)
        if call.service != "ec2":
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        with self.account.lock:
            answer = list(self._moto(environ, start_response))
            if call.changes_ec2():
                self.account.save()
        return answer

    def _price_list(self, call: Call, request: Request) -> Response:
        status, answer = catalog.price_list(call.region, call.operation, json.loads(request.get_data()))
        return Response(json.dumps(answer), status=status, mimetype="application/x-amz-json-1.1")

    def _own(self, request: Request) -> Response:
        if request.path == "/windlass/instances":
            return _json([self.account.describe(instance) for instance in self.account.instances() if instance.state != "terminated"])
        kind, instance_id, rest = [*request.path.removeprefix("/windlass/").split("/", 2), "", ""][:3]
        instance = self.account.instance(instance_id)
        if instance is None:
            return _json({"error": f"no instance {instance_id}"}, 404)
        if kind == "imds":
            return self._imds(request, instance, rest)
        if rest == "console":
            return Response(self.account.machine(instance).console(), mimetype="text/plain")
        return _json(self.account.describe(instance))

    def _imds(self, request: Request, instance: Instance, path: str) -> Response:
        if path == "power" and request.method == "POST":
            asked = json.loads(request.get_data())
            self.account.power(instance, asked["action"], asked["minutes"])
            return _json({})
        tokens = self.account.machine(instance).tokens
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, text = metadata.answer(request.method, path, headers, self.account.facts(instance), tokens)
        return Response(text, status=status, mimetype="text/plain")


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value), status=status, mimetype="application/json")


def _form(environ: Environ) -> dict[str, list[str]]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return parse_qs(body.decode())


def _is_own(environ: Environ) -> bool:
    """Neither a web page in the user's browser nor another user of this machine may start processes as this user."""
    host = environ.get("HTTP_HOST", "").rpartition(":")[0]
    return host in _LOOPBACK and "HTTP_ORIGIN" not in environ and peer.is_own(environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"]))
