"""A request that is refused before moto sees it, in the words and the shape of the service that was
asked."""

import json
from dataclasses import dataclass
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from remote.embedded.cloud.faults import Fault

_S3_OPERATIONS = {
    ("GET", True): "GetObject",
    ("HEAD", True): "HeadObject",
    ("PUT", True): "PutObject",
    ("DELETE", True): "DeleteObject",
    ("POST", True): "PutObject",
    ("POST", False): "DeleteObjects",
    ("GET", False): "ListObjectsV2",
    ("HEAD", False): "HeadBucket",
    ("PUT", False): "CreateBucket",
    ("DELETE", False): "DeleteBucket",
}

_EC2 = {
    "permission": (
        403,
        "UnauthorizedOperation",
        (
            "You are not authorized to perform this operation. {who} is not authorized to perform:"
            " {what}"
        ),
    ),
    "throttle": (503, "RequestLimitExceeded", "Request limit exceeded."),
    "credentials": (400, "ExpiredToken", "The security token included in the request is expired"),
    "clock-skew": (400, "RequestExpired", "Request has expired."),
}
_S3 = {
    "permission": (403, "AccessDenied", "{who} is not authorized to perform: {what}"),
    "throttle": (503, "SlowDown", "Please reduce your request rate."),
    "credentials": (400, "ExpiredToken", "The provided token has expired."),
    "clock-skew": (
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
    ),
}
_QUERY = {
    "permission": (403, "AccessDenied", "{who} is not authorized to perform: {what}"),
    "throttle": (400, "Throttling", "Rate exceeded"),
    "credentials": (403, "ExpiredToken", "The security token included in the request is expired"),
    "clock-skew": (
        403,
        "SignatureDoesNotMatch",
        "Signature expired: the request is too old, or the clock is off",
    ),
}
_JSON = {
    "permission": (400, "AccessDeniedException", "{who} is not authorized to perform: {what}"),
    "throttle": (400, "ThrottlingException", "Rate exceeded"),
    "credentials": (
        400,
        "ExpiredTokenException",
        "The security token included in the request is expired",
    ),
    "clock-skew": (
        400,
        "InvalidSignatureException",
        "Signature expired: the request is too old, or the clock is off",
    ),
}
_TABLES = {"ec2": _EC2, "s3": _S3, "iam": _QUERY, "sts": _QUERY}


@dataclass(frozen=True)
class Call:
    """One signed request to the AWS API, as far as it must be known before moto. All empty for one
    that is not signed.

    `service` and `operation` are named as in IAM's actions (`ec2`, `RunInstances`); `form` holds
    EC2's parameters.
    """

    service: str = ""
    operation: str = ""
    region: str = ""
    key: str = ""
    is_dry_run: bool = False

    @classmethod
    def of(
        cls, method: str, path: str, query: str, authorization: str, target: str, body: bytes
    ) -> "Call":
        """Read a request's service from its signature (of a presigned URL, too), its operation from
        its body, its target or its path."""
        signed = (
            authorization.partition("Credential=")[2].partition(",")[0]
            or parse_qs(query).get("X-Amz-Credential", [""])[0]
        )
        scope = signed.split("/")
        if len(scope) != 5:
            return cls()
        key, _, region, service, _ = scope
        if service == "s3":
            operation = _S3_OPERATIONS.get((method, bool(path.strip("/").partition("/")[2])), "")
            return cls(service, operation, region, key)
        form = parse_qs(body.decode(errors="replace")) if service in _TABLES else {}
        operation = form.get("Action", [""])[0] or target.rpartition(".")[2]
        return cls(service, operation, region, key, form.get("DryRun", [""])[0] == "true")

    @property
    def action(self) -> str:
        """`ec2:RunInstances`."""
        return f"{self.service}:{self.operation}"

    def changes_ec2(self) -> bool:
        """Whether what EC2 knows may be different afterwards."""
        return self.service == "ec2" and not self.operation.startswith(("Describe", "Get"))


def refusal(call: Call, fault: Fault) -> Response:
    """The answer to a request that a fault strikes."""
    status, code, message = _TABLES.get(call.service, _JSON)[fault.kind]
    who = f"User: arn:aws:iam::123456789012:user/{call.key}"
    return error(call.service, status, code, message.format(who=who, what=call.action))


def dry_run() -> Response:
    """EC2's answer to a request that would have been allowed."""
    return error(
        "ec2", 412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set."
    )


def error(service: str, status: int, code: str, message: str) -> Response:
    """An error in the service's own protocol."""
    if service not in _TABLES:
        body = json.dumps({"__type": code, "message": message})
        return Response(
            body, status, {"x-amzn-ErrorType": code}, content_type="application/x-amz-json-1.1"
        )
    told = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    request = "windlass-fault"
    bodies = {
        "ec2": (
            f"<Response><Errors><Error>{told}</Error></Errors><RequestID>{request}</RequestID></Response>"
        ),
        "s3": f"<Error>{told}<RequestId>{request}</RequestId></Error>",
    }
    query = (
        f"<ErrorResponse><Error><Type>Sender</Type>{told}</Error>"
        f"<RequestId>{request}</RequestId></ErrorResponse>"
    )
    return Response(
        f'<?xml version="1.0" encoding="UTF-8"?>\n{bodies.get(service, query)}',
        status,
        content_type="text/xml",
    )
