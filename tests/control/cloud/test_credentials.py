"""Credentials and settings of the user's that do not work: CredentialsMissing (24), by profile and
way, with the command that fixes it."""

import base64
import hashlib
import inspect
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import botocore.credentials
import botocore.exceptions
import pytest

from remote.contract.job.exits import Exit
from remote.control.cloud.account import credentials, refusals
from remote.control.cloud.account.endpoint import AwsEndpoint
from remote.control.cloud.ec2.provider import Ec2
from remote.control.config.inventory import Ec2Entry
from remote.control.errors import CloudError, CredentialsMissing

KEYS = "aws_access_key_id = AKIAREAL\naws_secret_access_key = a-long-secret\n"
ROLE = "role_arn = arn:aws:iam::1:role/x\n"
GOOD = {
    "Version": 1,
    "AccessKeyId": "AKIAPROCESS",
    "SecretAccessKey": "of-a-process",
    "SessionToken": "token",
}


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    monkeypatch.setattr(credentials, "_has_terminal", lambda: False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in (
        "AWS_DEFAULT_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_ENDPOINT_URL",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path):
    (tmp_path / ".aws").mkdir()
    return tmp_path


@pytest.fixture
def profile(home, monkeypatch):
    """Sets the profile `dev`; the text may go on with other sections."""

    def write(text):
        content = text if isinstance(text, bytes) else f"[profile dev]\n{text}".encode()
        (home / ".aws/config").write_bytes(content)
        monkeypatch.setenv("AWS_PROFILE", "dev")

    return write


@pytest.fixture
def program(home):
    """A `credential_process` of these lines of shell."""

    def write(lines):
        path = home / "program"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        return f"credential_process = {path} --token not-to-be-shown\n"

    return write


def ask():
    return AwsEndpoint("us-east-1", "ubuntu").client("ec2")


def refused():
    with pytest.raises(CredentialsMissing) as caught:
        ask()
    error = caught.value
    assert type(error) is CredentialsMissing and error.exit_code == Exit.CREDENTIALS and error.why
    assert "`" in error.remedy and error.remedy.endswith("then repeat the command")
    assert "not-to-be-shown" not in "\n".join(error.lines()) and "a-long-secret" not in "\n".join(
        error.lines()
    )
    return error


# ---- credential_process ----


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("echo hello", "printed no JSON object"),
        ("true", "printed no JSON object"),
        ("echo '[1]'", "printed no JSON object"),
        ("echo '\"text\"'", "printed no JSON object"),
        (r"printf '\377\376'", "printed no JSON object"),
        ("head -c 3000000 /dev/zero | tr '\\0' '['", "printed no JSON object"),
        ("echo '{\"Version\": 1}'", "without AccessKeyId, SecretAccessKey"),
        (f"echo '{json.dumps({**GOOD, 'SecretAccessKey': 5})}'", "without SecretAccessKey as text"),
        (f"echo '{json.dumps({**GOOD, 'Version': 2})}'", "Unsupported version '2'"),
        (f"echo '{json.dumps({**GOOD, 'Expiration': 'tomorrow'})}'", "Expiration that is no time"),
        (f"echo '{json.dumps({**GOOD, 'Expiration': '2020-01-01T00:00:00Z'})}'", "expired"),
        ("echo >&2 not logged in; exit 3", "ended with code 3: not logged in"),
        ("kill -9 $$", "ended with code -9"),
    ],
)
def test_a_program_that_gives_no_credentials(profile, program, lines, why):
    profile(program(lines))
    error = refused()
    assert why in error.why
    assert (
        error.where.startswith("profile dev (credential_process /")
        and 'sh -c "$(aws configure get credential_process' in error.remedy
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("credential_process = /nowhere/program --token not-to-be-shown", "No such file"),
        ("credential_process = /", "ermission denied"),
        ("credential_process =", "cannot be run"),
        ('credential_process = "unclosed', "closing quotation"),
    ],
)
def test_a_program_that_is_none(profile, text, why):
    profile(text)
    assert why in refused().why


def test_a_program_that_hangs_is_ended(profile, program, monkeypatch):
    monkeypatch.setattr(credentials, "PROCESS_SECONDS", {True: 60.0, False: 0.5})
    profile(program("sleep 1000"))  # a child that holds the pipes goes on
    begun = time.monotonic()
    assert "did not end within" in refused().why
    refused()
    assert time.monotonic() - begun < 20, "who asks next is told at once"


def test_a_program_is_run_once_for_all_regions(profile, program, home):
    profile(program(f"echo run >> {home}/runs; echo '{json.dumps(GOOD)}'"))
    for region in ("us-east-1", "eu-west-1"):
        for service in ("ec2", "sts"):
            client = AwsEndpoint(region, "ubuntu").client(service)
            assert (
                client.meta.region_name == region
                and client._request_signer._credentials.access_key == "AKIAPROCESS"
            )
    assert (home / "runs").read_text() == "run\n"


def test_a_program_that_fails_later_is_told_as_well(profile, program, home):
    soon = (datetime.now(UTC) + timedelta(minutes=11)).isoformat(timespec="seconds")
    profile(
        program(
            f"test -e {home}/ran && echo garbage && exit; touch {home}/ran; echo"
            f" '{json.dumps({**GOOD, 'Expiration': soon})}'"
        )
    )
    found = ask()._request_signer._credentials
    found._expiry_time = datetime.now(UTC)
    with (
        pytest.raises(CredentialsMissing) as caught,
        refusals.explained(refusals.Context("gpu", "us-east-1")),
    ):
        found.get_frozen_credentials()
    assert "printed no JSON object" in caught.value.why and "profile dev" in caught.value.where


def test_a_program_of_the_profile_that_a_role_leads_to(profile, program):
    profile(f"{ROLE}source_profile = q\n[profile q]\n{program('echo hello')}")
    assert "printed no JSON" in refused().why


# ---- Profiles and files ----


SSO = "sso_session = corp\nsso_account_id = 1\nsso_role_name = r\n"
CORP = "[sso-session corp]\nsso_start_url = https://x.example\n"
CONFIGS = {
    "MFA without a terminal": (
        f"{ROLE}source_profile = q\nmfa_serial = arn:aws:iam::1:mfa/me\n[profile q]\n{KEYS}",
        "get-session-token",
    ),
    "a loop": (
        f"{ROLE}source_profile = q\n[profile q]\n{ROLE}source_profile = dev\n",
        "correct that profile",
    ),
    "a loop of one": (f"{ROLE}source_profile = dev\n", "correct that profile"),
    "a source that is not there": (f"{ROLE}source_profile = absent\n", "correct that profile"),
    "a role without a source": (ROLE, "correct that profile"),
    "two sources": (
        f"{ROLE}source_profile = q\ncredential_source = Environment\n[profile q]\n{KEYS}",
        "correct that profile",
    ),
    "a source of no kind": (f"{ROLE}credential_source = Bogus\n", "correct that profile"),
    "a token file that is not there": (
        f"{ROLE}web_identity_token_file = /nowhere/token\n",
        "web_identity_token_file",
    ),
    "half a key": ("aws_access_key_id = AKIA\n", "correct that profile"),
    "SSO, not logged in": (f"{SSO}{CORP}sso_region = us-east-1\n", "aws sso login --profile dev"),
    "SSO without a session": (SSO, "correct that profile"),
    "SSO in a region that is none": (f"{SSO}{CORP}sso_region = us east\n", "correct that profile"),
    "an address that is none": (
        f"{KEYS}endpoint_url = garbage\n",
        "correct `endpoint_url` of profile dev",
    ),
    "half an address": (f"{KEYS}endpoint_url = http://\n", "correct `endpoint_url` of profile dev"),
    "defaults that are none": (
        f"{KEYS}defaults_mode = bogus\n",
        "correct `defaults_mode` of profile dev",
    ),
    "an endpoint mode that is none": (
        f"{KEYS}sts_regional_endpoints = bogus\n",
        "correct `sts_regional_endpoints` of profile dev",
    ),
    "services that are not there": (
        f"{KEYS}services = nosuch\n",
        "correct `services` of profile dev",
    ),
    "a number that is none": (
        f"{KEYS}metadata_service_timeout = bogus\n",
        "correct `metadata_service_timeout` of profile dev",
    ),
    "a metadata mode that is none": (
        f"{KEYS}ec2_metadata_service_endpoint_mode = ipv9\n",
        "correct `ec2_metadata_service_endpoint_mode`",
    ),
    "checksums that are none": (
        f"{KEYS}request_checksum_calculation = bogus\n",
        "correct `request_checksum_calculation`",
    ),
    "a line without =": (f"{KEYS}region us-east-1\n", "+4 "),
    "a key twice": ("region = a\nregion = b\n", "+3 "),
    "nested nonsense": (f"{KEYS}s3 =\n  garbage\n", "aws configure list"),
    "a section that does not end": (b"[profile dev\nregion = x\n", "+1 "),
    "no section": (b"region = x\n", "+1 "),
    "no text": (b"\xff\xfe\x00[", "aws configure list"),
    "another profile": (b"[profile other]\nregion = us-east-1\n", "export AWS_PROFILE=other"),
    "no profile": (b"", "unset AWS_PROFILE"),
}


@pytest.mark.parametrize(("text", "remedy"), CONFIGS.values(), ids=CONFIGS)
def test_files_that_give_no_credentials(profile, text, remedy):
    profile(text)
    error = refused()
    assert remedy in error.remedy
    assert "dev" in error.where or "config" in error.where


def test_a_broken_file_hides_no_other_error(profile):
    profile(b"region = x\n")
    assert "us-east-1" in AwsEndpoint("eu-west-1", "ubuntu").regions()
    with pytest.raises(CredentialsMissing):
        Ec2(Ec2Entry(name="gpu", region="us-east-9"), AwsEndpoint("us-east-9", "ubuntu")).find()


def test_a_variable_that_is_off_is_named(profile, monkeypatch):
    profile(KEYS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "garbage")
    assert "`unset AWS_ENDPOINT_URL`" in refused().remedy


def test_an_address_of_the_users_that_does_not_answer_is_named(profile):
    profile(f"{KEYS}endpoint_url = http://127.0.0.1:1\n")
    with pytest.raises(CloudError, match="does not answer") as caught:
        Ec2(Ec2Entry(name="gpu", region="us-east-1"), AwsEndpoint("us-east-1", "ubuntu")).find()
    assert "endpoint_url of profile dev" in caught.value.why


def test_keys_of_the_environment_are_named_as_such(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-long-secret")
    ask()
    error = refusals.of_code(
        "ExpiredToken",
        "The security token included in the request is expired",
        refusals.Context("gpu", "us-east-1"),
    )
    assert (
        "the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in error.why
        and "`unset AWS_ACCESS_KEY_ID" in error.remedy
    )


def test_credentials_that_aws_refuses_are_named_by_profile_and_way(profile):
    profile(KEYS)
    ask()
    error = refusals.of_code("ExpiredToken", "expired", refusals.Context("gpu", "us-east-1"))
    assert (
        type(error) is CredentialsMissing
        and "profile dev (access keys)" in error.why
        and "aws configure --profile dev" in error.remedy
    )


def test_the_embedded_cloud_names_no_profile_of_the_users(profile):
    profile(KEYS)
    error = refusals.of_code("ExpiredToken", "expired", refusals.Context("gpu", "us-east-1"))
    assert "dev" not in error.why


def test_an_mfa_device_is_asked_once_in_a_terminal(profile, monkeypatch):
    asked = []
    monkeypatch.setattr(credentials, "_has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "123456")
    profile(
        f"{ROLE}source_profile = q\nmfa_serial = arn:aws:iam::1:mfa/me\n[profile"
        f" q]\n{KEYS}endpoint_url = http://127.0.0.1:1\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    with pytest.raises(CloudError):
        ask()
    assert len(asked) <= 1


# ---- Every exception of botocore ----


def _made(kind):
    """An exception of that class, with whatever its message wants."""

    class Anything(dict):
        def __missing__(self, key):
            return "x"

    error = kind.__new__(kind)
    Exception.__init__(error, getattr(kind, "fmt", "x").format_map(Anything()))
    error.kwargs = {}
    return error


RAISED = [
    kind
    for _, kind in inspect.getmembers(botocore.exceptions, inspect.isclass)
    if issubclass(kind, botocore.exceptions.BotoCoreError)
]
ALSO = [
    ValueError("x"),
    TypeError("x"),
    KeyError("x"),
    EOFError(),
    OSError(2, "No such file or directory", "/x"),
    RuntimeError("x"),
    IndexError("x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
    AttributeError("x"),
    RecursionError("x"),
]


def is_of_the_network(kind):
    return issubclass(
        kind, botocore.exceptions.ConnectionError | botocore.exceptions.HTTPClientError
    )


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_whatever_botocore_raises_while_it_resolves_credentials(kind, profile):
    profile(KEYS)
    ask()
    with pytest.raises(CloudError) as caught, credentials.told():
        raise _made(kind)
    error = caught.value
    assert type(error) is (CloudError if is_of_the_network(kind) else CredentialsMissing)
    assert error.remedy and (
        kind.__name__ == "ConfigParseError" or "dev" in error.where + error.what
    )


@pytest.mark.parametrize("raised", ALSO, ids=lambda raised: type(raised).__name__)
def test_whatever_else_is_raised_while_it_does(raised, profile):
    profile(KEYS)
    ask()
    with pytest.raises(CredentialsMissing) as caught, credentials.told():
        raise raised
    assert "profile dev (access keys)" in caught.value.where and caught.value.why


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_whatever_botocore_raises_during_a_request(kind, profile):
    profile(KEYS)
    ask()
    with (
        pytest.raises(CloudError) as caught,
        refusals.explained(refusals.Context("gpu", "us-east-1")),
    ):
        raise _made(kind)
    is_ours = any(
        each.__name__ in (*refusals._OF_THE_USER, "NoCredentialsError") for each in kind.__mro__
    )
    assert (type(caught.value) is CredentialsMissing) == is_ours


def test_the_list_of_what_is_the_users_names_classes_that_are():
    assert all(hasattr(botocore.exceptions, name) for name in refusals._OF_THE_USER)


# ---- aws login ----


class SignIn(BaseHTTPRequestHandler):
    """AWS's sign-in service, as far as a refresh asks it."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["DPoP"], body))
        status, answer = self.server.answer
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 200:
            self.send_header("x-amzn-ErrorType", "AccessDeniedException")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def sign_in(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), SignIn)
    server.asked, server.answer = [], (500, {})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SIGNIN", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def login(profile, home):
    """A profile of `aws login`, whose session ends in so many seconds."""
    session = "arn:aws:iam::123456789012:user/me"

    def write(seconds, **changes):
        profile(f"login_session = {session}\nregion = us-east-1\n")
        ends = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        access = {
            "accessKeyId": "ASIALOGIN",
            "secretAccessKey": "of-a-login",
            "sessionToken": "t",
            "accountId": "123456789012",
            "expiresAt": ends,
        }
        token = {
            "accessToken": access,
            "refreshToken": "again",
            "clientId": "same-device",
            "dpopKey": _dpop_key(),
            "tokenType": "aws_sigv4",
            "idToken": "x.y.z",
            **changes,
        }
        folder = home / ".aws/login/cache"
        folder.mkdir(parents=True)
        (folder / f"{hashlib.sha256(session.encode()).hexdigest()}.json").write_text(
            json.dumps(token)
        )

    return SimpleNamespace(write=write, session=session)


def _dpop_key():
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return (
        generate_private_key(SECP256R1())
        .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        .decode()
    )


def test_a_login_that_holds_is_used(login):
    pytest.importorskip("awscrt")
    login.write(3600)
    assert ask()._request_signer._credentials.access_key == "ASIALOGIN"


def test_a_login_that_ran_out_is_refreshed(login, sign_in):
    pytest.importorskip("awscrt")
    login.write(-60)
    fresh = {"accessKeyId": "ASIAFRESH", "secretAccessKey": "fresh-secret", "sessionToken": "t2"}
    sign_in.answer = (
        200,
        {
            "accessToken": fresh,
            "tokenType": "aws_sigv4",
            "expiresIn": 900,
            "refreshToken": "again-2",
        },
    )
    assert ask()._request_signer._credentials.get_frozen_credentials().access_key == "ASIAFRESH"
    ((path, proof, body),) = sign_in.asked
    assert (
        path == "/v1/token"
        and body["refreshToken"] == "again"
        and body["grantType"] == "refresh_token"
    )
    assert json.loads(base64.urlsafe_b64decode(proof.split(".")[0] + "=="))["typ"] == "dpop+jwt"


@pytest.mark.parametrize(
    "error", ["TOKEN_EXPIRED", "USER_CREDENTIALS_CHANGED", "INSUFFICIENT_PERMISSIONS", "SOMETHING"]
)
def test_a_login_that_cannot_be_refreshed_says_aws_login(login, sign_in, error):
    pytest.importorskip("awscrt")
    login.write(-60)
    sign_in.answer = 400, {"error": error, "message": "no"}
    told = refused()
    assert (
        "`aws login --profile dev`" in told.remedy
        and "`aws login` as arn:aws:iam::123456789012:user/me" in told.where
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"dpopKey": "garbage"},
        {"accessToken": {}},
        {"refreshToken": None, "accessToken": None},
        {"clientId": 5},
    ],
)
def test_a_login_whose_file_is_damaged_says_aws_login(login, sign_in, changes):
    pytest.importorskip("awscrt")
    login.write(-60, **changes)
    assert "`aws login --profile dev`" in refused().remedy


def test_no_login_yet_says_aws_login(profile):
    pytest.importorskip("awscrt")
    profile("login_session = me\n")
    assert "`aws login --profile dev`" in refused().remedy


def test_an_environment_of_before_the_login_says_how_to_renew_it(profile, monkeypatch):
    monkeypatch.setattr(botocore.credentials, "EC", None)
    profile("login_session = me\n")
    assert "rm -r .venv" in refused().remedy
