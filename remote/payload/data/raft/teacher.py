"""A teacher: a larger model behind an OpenAI-compatible or an Ollama endpoint, asked for words.

Every answer is kept under the digest of its question: a run that goes on, or comes again, pays for
nothing twice and gets the same words. What a teacher says is checked by whoever asked; here only
that it is text, whole and of bounded size. Its key is in a variable of the environment, named by
the recipe, and goes to that one address alone: a redirect is not followed.
"""

import contextlib
import http.client
import json
import os
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from remote.contract.artifacts.rows import NotARow, text_of
from remote.contract.files import atomic, digest, typed, untrusted_json
from remote.contract.job.jobs import Cause
from remote.contract.logs.masking import MASK, MIN_LENGTH
from remote.payload.job import StageFailed

APIS = {"openai": "/chat/completions", "ollama": "/api/chat"}
_ANSWER_BYTES = 4 << 20
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LONGEST_WAIT = 60.0
_TOLD_EVERY = 30.0
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_THOUGHTS = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NotAnswered(ValueError):
    """This one question got no usable answer; says why."""


class _Busy(Exception):
    """Worth asking again, after `seconds` if the teacher said so."""

    def __init__(self, why: str, seconds: float | None = None) -> None:
        super().__init__(why)
        self.seconds = seconds


def _say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class Settings:
    """Who is asked and how. `url` is the API's base (`https://api.mistral.ai/v1`, or
    `http://127.0.0.1:11434` of an Ollama); `parameters` go with each question; `seconds` may one
    answer take, `tries` are made, `parallel` questions asked at once; with `json_mode` the API is
    told to answer with a JSON object."""

    url: str
    model: str
    api: str = "openai"
    seconds: float = 120.0
    tries: int = 6
    parallel: int = 4
    json_mode: bool = True
    parameters: dict[str, Any] = field(default_factory=lambda: {"temperature": 0})


@dataclass
class Teacher:
    """Asks, as often as it takes. `folder` keeps the answers; `say` takes a line of progress every
    half minute, a sign of life. Threads may share it."""

    settings: Settings
    folder: Path
    key: str = field(default="", repr=False)
    say: Callable[[str], None] = _say
    wait: float = 1.0
    _asked: int = 0
    _kept: int = 0
    _told: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, system: str, question: str) -> str:
        """What the teacher says. Raises NotAnswered for this question, StageFailed where it answers
        nobody."""
        body = self._body(system, question)
        path = self._path(body)
        said = _kept_answer(path)
        if said is None:
            said = self._fetched(body)
            atomic.write_json(path, {"answer": said})
            self._count(new=1)
        else:
            self._count(kept=1)
        return said

    def end(self) -> None:
        """Whoever waits to ask again gives up."""
        self._ended.set()

    def _count(self, new: int = 0, kept: int = 0) -> None:
        with self._lock:
            self._asked += new
            self._kept += kept
            is_due = time.monotonic() - self._told >= _TOLD_EVERY
            if is_due:
                self._told = time.monotonic()
                self.say(f"teacher: {self._asked} answers, {self._kept} kept from before")

    def _path(self, body: Mapping[str, Any]) -> Path:
        key = digest.of_value([self.settings.url, self.settings.api, body])
        return self.folder / key[:2] / f"{key[2:34]}.json"

    def _body(self, system: str, question: str) -> dict[str, Any]:
        settings = self.settings
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        asked = {"model": settings.model, "messages": messages, "stream": False}
        if settings.api == "ollama":
            form = {"format": "json"} if settings.json_mode else {}
            return {**asked, **form, "options": dict(settings.parameters)}
        form_of = {"response_format": {"type": "json_object"}} if settings.json_mode else {}
        return {**asked, **form_of, **settings.parameters}

    def _fetched(self, body: Mapping[str, Any]) -> str:
        """The answer of the endpoint, asked again while it is busy."""
        pause, why = 0.0, ""
        for number in range(self.settings.tries):
            if self._ended.wait(pause):
                raise NotAnswered("stopped")
            try:
                return _said(self._sent(body), self.settings.api, self.key)
            except _Busy as error:
                told = self.wait * 2.0**number if error.seconds is None else error.seconds
                pause, why = min(told, _LONGEST_WAIT), str(error)
        self.end()
        raise StageFailed(
            Cause.CONFIG,
            f"the teacher does not answer: {self.settings.url}",
            f"{self.settings.tries} times: {why}",
            "see whether it runs and how much one may ask of it, then `./inv resume`",
            f"{self._asked + self._kept} answers: they are not asked for again",
        )

    def _sent(self, body: Mapping[str, Any]) -> bytes:
        """The bytes of one reply."""
        request = urllib.request.Request(  # noqa: S310  (open_teacher lets http and https through)
            self.settings.url.rstrip("/") + APIS[self.settings.api],
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "User-Agent": "windlass"},
            method="POST",
        )
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        try:
            with self._opener.open(request, timeout=self.settings.seconds) as answer:
                return _all_of(answer, self.settings.seconds)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise _Busy(f"{type(error).__name__}: {reason}") from None

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        host = urllib.parse.urlsplit(self.settings.url).hostname
        own = [urllib.request.ProxyHandler({})] if host in _LOOPBACK else []
        return urllib.request.build_opener(_NoRedirect(), *own)

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        """Raise what an HTTP status means."""
        words = _words(error, self.key)
        if error.code in _AGAIN:
            raise _Busy(f"HTTP {error.code} {words}", _seconds_in(error.headers)) from None
        if error.code in (400, 413, 422):
            raise NotAnswered(f"the teacher refused: HTTP {error.code} {words}") from None
        self.end()
        remedy = {
            401: "give it a key that it takes: `key:` of `teacher:` names the variable",
            403: "give it a key that may use this model: `key:` of `teacher:` names the variable",
            404: "correct `url:` (an OpenAI-compatible one mostly ends in `/v1`), `api:` or"
            " `model:` of `teacher:`",
        }.get(error.code, "correct `teacher:` of the recipe")
        raise StageFailed(
            Cause.CONFIG,
            f"the teacher refuses: HTTP {error.code}",
            f"{self.settings.url}: {words}",
            f"{remedy}; then `./inv run` it anew",
        ) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key and the documents are for the address that the recipe names."""

    def redirect_request(self, *_: Any) -> None:
        return None


def open_teacher(entry: Mapping[str, Any], folder: Path) -> Teacher:
    """The teacher of a recipe's entry: the fields of Settings, and `key`,
    the NAME of the variable that holds it. Raises StageFailed for what cannot be."""
    settings = _settings(entry)
    parts = _split(settings.url)
    key = _key(str(entry.get("key") or ""))
    if key and parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise _wrong(f"its key would travel to {parts.hostname} for everyone to read: use https")
    return Teacher(settings, folder, key)


def _settings(entry: Mapping[str, Any]) -> Settings:
    given = {name: value for name, value in entry.items() if name != "key"}
    known = {each.name for each in fields(Settings)}
    if foreign := next((name for name in given if name not in known), ""):
        raise _wrong(f"`{foreign}` is no setting of it")
    if missing := next((name for name in ("url", "model") if not entry.get(name)), ""):
        raise _wrong(f"`{missing}` is missing")
    try:
        settings = typed.read(Settings, given)
    except (TypeError, ValueError) as error:
        raise _wrong(str(error)) from None
    if settings.api not in APIS:
        raise _wrong(f"`api` is {settings.api!r}, not {' or '.join(APIS)}")
    if not (settings.seconds > 0 and 1 <= settings.tries <= 20 and 1 <= settings.parallel <= 64):
        raise _wrong("`seconds` above 0, `tries` from 1 to 20, `parallel` from 1 to 64")
    return settings


def _split(url: Any) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url if isinstance(url, str) else "")
        if parts.scheme in ("http", "https") and parts.hostname and not parts.username:
            return parts
    except ValueError:
        pass
    raise _wrong("`url` is no address such as https://api.mistral.ai/v1, without a password")


def _key(name: str) -> str:
    """The value of the variable; empty where none is named."""
    if not name:
        return ""
    if not _VARIABLE.fullmatch(name):
        # Not the words: they may be the key itself.
        raise _wrong("`key` is the NAME of a variable, such as TEACHER_API_KEY, never the key")
    value = os.environ.get(name, "").strip()
    if not value.isascii() or not value.isprintable():
        raise _wrong(f"the variable {name} holds characters that no key has")
    if value:
        return value
    raise StageFailed(
        Cause.CONFIG,
        f"the teacher's key is not there: the variable {name} is empty",
        "a job gets the variables that `secrets:` of its recipe, or of inventory.yaml, names",
        f"add {name} to `secrets:`, `read -rs {name} && export {name}`, then `./inv resume`",
    )


def _wrong(what: str) -> StageFailed:
    return StageFailed(
        Cause.CONFIG,
        f"`teacher:` of the recipe: {what}",
        "it has `url`, `model`, and maybe `api`, `key`, `seconds`, `tries`, `parallel`,"
        " `json_mode`, `parameters`",
        "correct the recipe, then `./inv run` it anew",
    )


def _kept_answer(path: Path) -> str | None:
    try:
        said = untrusted_json.read_object(path, _ANSWER_BYTES * 2)["answer"]
        return text_of(said, "it")
    except (OSError, ValueError, KeyError):
        return None


def _all_of(answer: http.client.HTTPResponse, seconds: float) -> bytes:
    """A reply of bounded size, within its time also where it comes byte by byte."""
    ends, found = time.monotonic() + seconds, bytearray()
    while piece := answer.read1(1 << 16):
        found += piece
        if len(found) > _ANSWER_BYTES:
            raise NotAnswered(f"the teacher said more than {_ANSWER_BYTES:,} bytes")
        if time.monotonic() > ends:
            raise _Busy(f"no whole answer within {seconds:g} s")
    return bytes(found)


def _said(reply: bytes, api: str, key: str) -> str:
    """The words in a reply. Raises _Busy for what is no reply of that API, NotAnswered for one
    without usable words."""
    try:
        told = untrusted_json.loads_object(reply, max_bytes=_ANSWER_BYTES)
        if api == "ollama":
            message, ended = told["message"], told.get("done_reason")
        else:
            message, ended = told["choices"][0]["message"], told["choices"][0].get("finish_reason")
        content = message["content"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Busy(f"no reply of the {api} API: {type(error).__name__}: {error}"[:300]) from None
    if ended in ("length", "content_filter"):
        raise NotAnswered(f"the teacher's answer was cut off: {ended}")
    try:
        text = _THOUGHTS.sub("", text_of(content, "the teacher's answer"), count=1).strip()
    except NotARow as error:
        raise NotAnswered(str(error)) from None
    if not text or "\0" in text:
        raise NotAnswered("the teacher's answer is empty, or no text")
    if len(key) >= MIN_LENGTH and key in text:
        raise NotAnswered("the teacher's answer holds the key")
    return text


def _words(error: urllib.error.HTTPError, key: str) -> str:
    """The beginning of what came with a status, printable, without the key."""
    content = b""
    with contextlib.suppress(OSError, http.client.HTTPException):
        content = error.read(2000)
    text = content.decode("utf-8", "replace")
    text = text.replace(key, MASK) if len(key) >= MIN_LENGTH else text
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]


def _seconds_in(headers: Any) -> float | None:
    told = str(headers.get("Retry-After") or "")
    return float(told) if re.fullmatch(r"\d{1,6}", told) else None
