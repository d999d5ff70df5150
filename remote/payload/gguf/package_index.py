"""The package indexes that pip is set up with, asked for one file. Standard library only.

pip itself would build the metadata of a source archive to download it, which here needs a compiler.
"""

import base64
import configparser
import hashlib
import os
import re
import ssl
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, untrusted_json

_PYPI = "https://pypi.org/simple"
_ACCEPT = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.5,"
    " text/html;q=0.2"
)
_TIMEOUT_SECONDS = 60
_LONGEST_LISTING = 32 << 20


class Unreachable(Exception):
    """No configured index or folder gave the file; the message names each that was tried and why it
    failed, without credentials."""


@dataclass(frozen=True)
class Sources:
    """Where pip would look: `indexes` are URLs of simple indexes, `links` are folders or pages of
    files, `certificates` a CA bundle."""

    indexes: tuple[str, ...]
    links: tuple[str, ...] = ()
    certificates: str | None = None


def configured_sources(
    environ: Mapping[str, str] | None = None, files: list[Path] | None = None
) -> Sources:
    """pip's settings, from its configuration files and over them PIP_* in the environment, as pip
    reads them."""
    environ = os.environ if environ is None else environ
    settings = _file_settings(_configuration_files(environ) if files is None else files)
    settings |= {
        name[4:].lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }
    main = [] if _is_true(settings.get("no-index", "")) else [settings.get("index-url", _PYPI)]
    extra = (
        []
        if _is_true(settings.get("no-index", ""))
        else settings.get("extra-index-url", "").split()
    )
    certificates = settings.get("cert") or environ.get("REQUESTS_CA_BUNDLE") or None
    return Sources((*main, *extra), tuple(settings.get("find-links", "").split()), certificates)


def fetch(
    project: str,
    filename: str,
    sha256: str,
    target: Path,
    sources: Sources,
    most_bytes: int = 1 << 30,
) -> None:
    """Write `filename` of `project` to `target`, from the first source whose copy has this SHA-256;
    raises Unreachable.

    Of a copy with more than `most_bytes` no more is read.
    """
    tried = []
    for place in [*sources.links, *sources.indexes]:
        is_index = place not in sources.links
        try:
            url = _find(place, project if is_index else None, filename, sources)
            _download(url, sha256, target, sources, most_bytes)
            return
        except (OSError, ValueError, LookupError) as error:  # urllib's errors are OSErrors
            tried.append(
                f"{_without_credentials(place)}:"
                f" {_without_credentials(str(error)) or type(error).__name__}"
            )
    raise Unreachable("; ".join(tried) or "pip is set to use no index")


def _is_true(value: str) -> bool:
    return value.strip().lower() in ("1", "true", "yes", "on")


def _configuration_files(environ: Mapping[str, str]) -> list[Path]:
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME", "~")).expanduser()
    system = [
        Path(folder) / "pip" / "pip.conf"
        for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
        if folder
    ]
    user = [
        home / ".pip" / "pip.conf",
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf",
    ]
    last = [Path(named)] if named else []
    return [*system, Path("/etc/pip.conf"), *user, Path(sys.prefix) / "pip.conf", *last]


def _file_settings(files: list[Path]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for section in ("global", "download", "install"):
        for path in files:
            parser = configparser.RawConfigParser()
            try:
                parser.read(path)
            except (configparser.Error, UnicodeDecodeError):
                continue  # pip itself complains about it, loudly
            if parser.has_section(section):
                settings |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    return settings


def _find(place: str, project: str | None, filename: str, sources: Sources) -> str:
    """The address of `filename` in a simple index (with `project`), a page of links, or a local
    folder."""
    folder = Path(place.removeprefix("file://"))
    if project is None and folder.is_dir():
        if not (folder / filename).is_file():
            raise LookupError(f"does not hold {filename}")
        return (folder / filename).resolve().as_uri()
    page = f"{place.rstrip('/')}/{project}/" if project else place
    if page.startswith("file:") and page.endswith("/"):
        page += "index.html"
    with _open(page, sources, _ACCEPT) as answer:
        listing, kind, base = (
            answer.read(_LONGEST_LISTING + 1),
            answer.headers.get_content_type(),
            answer.geturl(),
        )
    if len(listing) > _LONGEST_LISTING:
        raise ValueError(f"its list of files is longer than {_LONGEST_LISTING >> 20} MiB")
    for url in _json_links(listing) if kind.endswith("json") else _html_links(listing):
        if urllib.parse.unquote(url.split("#")[0].rsplit("/", 1)[-1]) == filename:
            return _with_credentials_of(place, urllib.parse.urljoin(base, url.split("#")[0]))
    raise LookupError(f"does not list {filename}")


def _json_links(listing: bytes) -> Iterator[str]:
    files = untrusted_json.loads_object(listing).get("files")
    for file in files if isinstance(files, list) else ():
        if isinstance(file, dict) and isinstance(url := file.get("url"), str):
            yield url


def _html_links(listing: bytes) -> Iterator[str]:
    links: list[str] = []

    class Anchors(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            links.extend(value for name, value in attrs if tag == "a" and name == "href" and value)

    Anchors().feed(listing.decode("utf-8", "replace"))
    yield from links


def _download(url: str, sha256: str, target: Path, sources: Sources, most_bytes: int) -> None:
    sha, size = hashlib.sha256(), 0
    with _open(url, sources) as answer, atomic.writing(target) as file:
        while chunk := answer.read(1 << 20):
            size += len(chunk)
            if size > most_bytes:
                raise ValueError(f"its copy is longer than {most_bytes >> 20} MiB")
            sha.update(chunk)
            file.write(chunk)
        if sha.hexdigest() == sha256:
            return
        raise ValueError(f"its copy has the SHA-256 {sha.hexdigest()[:16]}…, not {sha256[:16]}…")


def _open(url: str, sources: Sources, accept: str = "*/*") -> Any:
    parts = urllib.parse.urlsplit(url)
    headers = {"Accept": accept, "User-Agent": "windlass"}
    request = urllib.request.Request(_bare(parts), headers=headers)  # noqa: S310  pip's own settings
    if parts.username:
        pair = (
            f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        )
        request.add_unredirected_header(
            "Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"
        )
    context = (
        ssl.create_default_context(cafile=sources.certificates) if parts.scheme == "https" else None
    )
    return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=context)  # noqa: S310


def _bare(parts: urllib.parse.SplitResult) -> str:
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))


def _with_credentials_of(place: str, url: str) -> str:
    source, target = urllib.parse.urlsplit(place), urllib.parse.urlsplit(url)
    if source.username and not target.username and source.hostname == target.hostname:
        return urllib.parse.urlunsplit(
            target._replace(netloc=f"{source.netloc.rsplit('@', 1)[0]}@{target.netloc}")
        )
    return url


def _without_credentials(text: str) -> str:
    return re.sub(r"(//)[^/@\s]+@", r"\1***@", text)
