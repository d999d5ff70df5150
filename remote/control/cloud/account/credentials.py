"""The user's own AWS credentials and settings, found as every AWS tool finds them; what is wrong
with them is told by profile and way.

They are resolved once a command, before the first request: what fails there fails with botocore's
own errors, but also with whatever a program, a file or a prompt behind them fails with. All of it
is CredentialsMissing, with the command that fixes it.
"""

import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from remote.contract.files import untrusted_json
from remote.control import secrets
from remote.control.errors import CloudError, CredentialsMissing

PROCESS_SECONDS = {True: 120.0, False: 30.0}
"""How long a `credential_process` may take: with a terminal, where it may ask something, and
without."""

_ERROR_SECONDS = 30.0
"""So long a failure holds: of many regions that are asked, one waits for a program that hangs."""

_LONGEST = 400
_OF_CREDENTIALS = (
    "aws_",
    "AWS_ACCESS",
    "AWS_SE",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG",
    "AWS_SHARED",
    "credential_",
    "sso_",
    "login_",
    "role_",
    "source_profile",
    "mfa_",
    "region",
    "output",
)
"""How settings begin that lead to credentials, or are of no account here: what is wrong with them,
the way tells."""

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class Way:
    """By which way the credentials come: of which profile, what in it leads to them, and the
    command that renews them."""

    profile: str
    how: str
    remedy: str
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"profile {self.profile} ({self.how})" if self.profile else self.how


class _Kept:
    """The one session of this process, or why there is none; and the way of its credentials."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.session: Any = None
        self.way: Way | None = None
        self.error: CloudError | None = None
        self.failed_at = 0.0


_kept = _Kept()


def forget() -> None:
    """Let the next request resolve everything anew."""
    _kept.forget()


def session(region: str) -> Any:
    """A boto3 session with the user's credentials; `region` is where those are asked for that come
    from AWS. Raises CredentialsMissing."""
    with _kept.lock:
        if _kept.error and time.monotonic() - _kept.failed_at < _ERROR_SECONDS:
            raise _kept.error
        if _kept.session is None:
            try:
                _kept.session = _made(region)
            except CloudError as error:
                _kept.error, _kept.failed_at = error, time.monotonic()
                raise
        return _kept.session


@contextmanager
def told() -> Iterator[None]:
    """Whatever credentials or settings of the user's fail with inside the block, as
    CredentialsMissing; CloudError where none answers."""
    from botocore.exceptions import ConnectionError, HTTPClientError

    try:
        yield
    except CloudError:
        raise
    except (ConnectionError, HTTPClientError) as error:
        raise explained(error) if _culprit(error) else _silent(error) from None
    # A program's output, a prompt without a terminal, a value in a file: anything may come.
    except Exception as error:
        raise explained(error) from None


def explained(error: Exception) -> CredentialsMissing:
    """The error for what went wrong on the way to the credentials, or with the settings beside
    them."""
    way = _kept.way or Way(
        "", "AWS's configuration files", "`aws configure list` shows what is in force"
    )
    kind, why = type(error).__name__, _in_words(error)
    if kind == "ProfileNotFound":
        return _no_profile(way.profile, why)
    if kind == "ConfigParseError":
        facts: dict[str, Any] = getattr(error, "kwargs", {})
        return _broken_file(str(facts.get("path", "")), _in_words(facts.get("error", error)))
    what, remedy = f"the AWS credentials of {way} cannot be had", way.remedy
    if kind in ("EOFError", "RefreshWithMFAUnsupportedError"):
        why, remedy = (
            "a code of the MFA device is asked for, and there is no terminal to type it in",
            _mfa_remedy(way),
        )
    elif kind == "MissingDependencyException":
        remedy = "`rm -r .venv` and the same command install what `aws login` needs, botocore[crt]"
    elif culprit := _culprit(error):
        what, remedy = (
            f"`{culprit}`, which every AWS tool reads, cannot be used",
            _setting_remedy(culprit, way),
        )
    elif kind in (
        "InfiniteLoopConfigError",
        "PartialCredentialsError",
        "InvalidConfigError",
        "InvalidRegionError",
    ):
        remedy = (
            f"correct that profile in {_files()}; `aws sts get-caller-identity --profile"
            f" {shlex.quote(way.profile)}` tries it"
        )
    elif kind == "JSONDecodeError":
        why = f"a credential_process printed no JSON ({why})"
    return CredentialsMissing(
        what, where=str(way), why=why, remedy=f"{remedy}; then repeat the command"
    )


def led_astray(error: Exception) -> str:
    """Where a request went that nobody answered, if a setting of the user's led it there:
    `endpoint_url of profile dev`; else nothing."""
    culprit = _culprit(error)
    return (
        ""
        if not culprit or _kept.way is None
        else culprit
        if culprit.startswith("AWS_")
        else f"{culprit} of profile {_kept.way.profile}"
    )


def refused(why: str) -> tuple[str, str] | None:
    """For credentials that AWS itself refuses: why, with profile and way, and the command that
    renews them; None where none were used."""
    return (
        (f"{why}; asked with {_kept.way}", f"{_kept.way.remedy}; then repeat the command")
        if _kept.way
        else None
    )


def _made(region: str) -> Any:
    import boto3
    import botocore.session

    core = botocore.session.Session()
    profile = str(core.get_config_variable("profile") or "default")
    _kept.way = Way(profile, "its settings", "`aws configure list` shows what is in force")
    with told():
        _kept.way = way = _way(profile, _settings(core, profile))
        if {"role_arn", "mfa_serial"} <= way.settings.keys() and not _has_terminal():
            raise EOFError
        made = boto3.session.Session(region_name=region, botocore_session=core)
        _bound_processes(core, profile)
        if found := made.get_credentials():
            fixed = found.get_frozen_credentials()
            secrets.know(fixed.secret_key, fixed.token)
    return made


def _settings(core: Any, profile: str) -> dict[str, str]:
    """What a profile and the profiles it leads to say; raises botocore's error where there is none
    of that name."""
    from botocore.exceptions import ProfileNotFound

    profiles = core.full_config.get("profiles", {})
    if profile not in profiles and profile != "default":
        raise ProfileNotFound(profile=profile)
    found: dict[str, str] = {}
    seen: set[str] = set()
    while profile in profiles and profile not in seen:
        seen.add(profile)
        found = {
            **{key: value for key, value in profiles[profile].items() if isinstance(value, str)},
            **found,
        }
        profile = str(profiles[profile].get("source_profile", ""))
    return found


def _way(profile: str, settings: Mapping[str, str]) -> Way:
    of, environment = (
        f"--profile {shlex.quote(profile)}",
        {name: value for name, value in os.environ.items() if name.startswith("AWS_")},
    )
    if environment.get(_KEYS[0]):
        remedy = (
            f"export new ones, or `unset {' '.join(_KEYS)}` to use profile {profile}; `aws sts"
            " get-caller-identity` tries them"
        )
        return Way("", f"the variables {_KEYS[0]} and {_KEYS[1]}", remedy, environment)
    if "role_arn" in settings:
        source = (
            settings.get("source_profile")
            or settings.get("credential_source")
            or settings.get("web_identity_token_file", "nothing")
        )
        how = f"role {settings['role_arn']} by way of {source}"
        return Way(
            profile,
            how,
            f"`aws sts get-caller-identity {of}` shows whether it may be assumed;"
            f" {_renewal(settings, of)}",
            settings,
        )
    return Way(profile, _how(settings), _renewal(settings, of), {**settings, **environment})


def _how(settings: Mapping[str, str]) -> str:
    if "credential_process" in settings:
        return (  # its words may hold secrets
            "credential_process"
            f" {next(iter(settings['credential_process'].split()), 'without a program')}"
        )
    if name := settings.get("sso_session") or settings.get("sso_start_url"):
        return f"sso {name}"
    if name := settings.get("login_session"):
        return f"`aws login` as {name}"
    return "access keys" if "aws_access_key_id" in settings else "which names no credentials"


def _renewal(settings: Mapping[str, str], of: str) -> str:
    if "sso_session" in settings or "sso_start_url" in settings:
        return f"`aws sso login {of}`"
    if "login_session" in settings:
        return f"`aws login {of}`"
    if "credential_process" in settings:
        return (
            f'`sh -c "$(aws configure get credential_process {of})"` must print JSON with Version'
            " 1, AccessKeyId and SecretAccessKey"
        )
    again = (
        f"log in again (`aws sso login {of}`, or `aws login {of}`), or give new keys: `aws"
        f" configure {of}`"
    )
    return f"{again}; `aws sts get-caller-identity {of}` tries them"


def _culprit(error: Exception) -> str:
    """The setting whose value the error repeats, or the empty string."""
    settings = _kept.way.settings if _kept.way else {}
    named = (
        name
        for name, value in settings.items()
        if not name.startswith(_OF_CREDENTIALS) and len(value) > 1 and value in str(error)
    )
    return next(named, "")


def _silent(error: Exception) -> CloudError:
    what = f"AWS does not answer, which gives the credentials of {_kept.way}"
    return CloudError(
        what,
        where=str(_kept.way),
        why=_in_words(error),
        remedy="check the laptop's network and proxy, then repeat the command",
    )


def _no_profile(profile: str, why: str) -> CredentialsMissing:
    import botocore.session

    try:
        known = botocore.session.Session(
            session_vars={"profile": (None, None, None, None)}
        ).available_profiles
    except Exception:  # the error is told anyway; the list is a help
        known = []
    there = (
        f"`export AWS_PROFILE={shlex.quote(known[0])}` (there are {', '.join(known[:10])})"
        if known
        else "`unset AWS_PROFILE`"
    )
    remedy = (
        f"{there}, or make it with `aws configure sso --profile {shlex.quote(profile)}`; then"
        " repeat the command"
    )
    return CredentialsMissing(
        f"no AWS credentials: there is no profile {profile}",
        where=f"AWS_PROFILE={profile}, in {_files()}",
        why=why,
        remedy=remedy,
    )


def _broken_file(path: str, why: str) -> CredentialsMissing:
    line = re.search(r"\bline:?\s*(\d+)", why)
    edit = f"${{EDITOR:-vi}} {f'+{line[1]} ' if line else ''}{shlex.quote(path)}"
    remedy = f"correct it: `{edit}`; `aws configure list` tells whether it can be read"
    return CredentialsMissing(
        "an AWS configuration file cannot be parsed",
        where=f"{path}{f':{line[1]}' if line else ''}",
        why=why,
        remedy=f"{remedy}; then repeat the command",
    )


def _mfa_remedy(way: Way) -> str:
    serial = shlex.quote(way.settings.get("mfa_serial", "ARN"))
    return (
        "type the command in a terminal; or without one take a session first, `aws sts"
        f" get-session-token --serial-number {serial} --token-code CODE`, and export its three"
        f" values as {', '.join(_KEYS)}"
    )


def _setting_remedy(culprit: str, way: Way) -> str:
    if culprit.startswith("AWS_"):
        return f"correct that variable, or `unset {culprit}`"
    command = f"aws configure set {culprit} VALUE --profile {shlex.quote(way.profile)}"
    return f"correct `{culprit}` of profile {way.profile} in {_files()}: `{command}`"


def _files() -> str:
    config, keys = (
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    )
    return f"{config} or {keys}"


def _in_words(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


# ---- credential_process ----


def _bound_processes(core: Any, profile: str) -> None:
    """Let the `credential_process` of the profile be run by a bounded hand: botocore's own waits
    for ever, and reads anything."""
    from botocore.credentials import ProcessProvider

    resolver = core.get_component("credential_provider")
    name = ProcessProvider.METHOD
    resolver.insert_after(name, ProcessProvider(profile, lambda: core.full_config, popen=_Process))
    resolver.remove(name)  # the first of that name: botocore's


class _Process:
    """A `credential_process` as botocore drives it, and its answer held to what is documented.
    Raises CredentialRetrievalError."""

    def __init__(self, words: list[str], **streams: Any) -> None:
        self._words, self._seconds = words, PROCESS_SECONDS[_has_terminal()]
        try:
            self._process = subprocess.Popen(words, **streams)
        except (OSError, ValueError, IndexError) as error:
            raise self._failed(
                f"cannot be run: {getattr(error, 'strerror', None) or error}"
            ) from None
        self.returncode = 0

    def communicate(self) -> tuple[bytes, bytes]:
        """What it printed; `returncode` is 0, for any other end is an error."""
        try:
            out, said = self._process.communicate(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            for stream in (
                self._process.stdout,
                self._process.stderr,
            ):  # what it started may hold them open
                if stream:
                    stream.close()
            self._process.wait()
            raise self._failed(f"did not end within {self._seconds:.0f} s") from None
        if self._process.returncode:
            words = " ".join(said.decode(errors="replace").split())
            raise self._failed(
                f"ended with code {self._process.returncode}: {words or 'it said nothing'}"
            )
        return self._judged(out), said

    def _judged(self, out: bytes) -> bytes:
        try:
            answer = untrusted_json.loads_object(out, max_bytes=1 << 20)
        except ValueError as error:
            raise self._failed(f"printed no JSON object ({error})") from None
        needed = (
            "AccessKeyId",
            "SecretAccessKey",
            *(name for name in ("SessionToken", "Expiration") if answer.get(name) is not None),
        )
        if wrong := [
            name for name in needed if not isinstance(answer.get(name), str) or not answer[name]
        ]:
            raise self._failed(f"printed JSON without {', '.join(wrong)} as text")
        if "Expiration" in needed and not re.match(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d", answer["Expiration"]
        ):
            raise self._failed("printed an Expiration that is no time in ISO 8601")
        return out

    def _failed(self, why: str) -> Exception:
        from botocore.exceptions import CredentialRetrievalError

        program = self._words[0] if self._words else "nothing"
        error: Exception = CredentialRetrievalError(
            provider="credential_process", error_msg=f"{program} {why}"
        )
        return error
