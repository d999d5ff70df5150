"""The pinned Ollama on a box: the release's own archive, checked against its SHA-256 before a byte
is unpacked. Standard library only.

`python3 -m remote.payload.ollama install`, with the systemd unit on standard input (`@ROOT@` stands
for Windlass's folder). Lies in `<root>/shared/ollama/<version>`, with `current` pointing at it;
runs under systemd where that is there, else it is only
installed: `<root>/shared/ollama/current/bin/ollama serve`.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.artifacts.base_models import ModelFile
from remote.contract.files import atomic, untrusted_json
from remote.contract.job.jobs import Cause
from remote.contract.job.paths import BoxPaths
from remote.payload import command
from remote.payload.job import StageFailed
from remote.payload.transfer import download

UNIT = "windlass-ollama.service"
SYSTEMD = Path("/run/systemd/system")
_ADDRESS = "http://127.0.0.1:11434"
_START_SECONDS = 60.0
_AGAIN = "`./inv box.setup` goes on where this ended"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Release:
    """One archive of a release. `sha256` is of the archive; without one it is refused."""

    version: str
    url: str
    sha256: str


_HOME = "https://github.com/ollama/ollama/releases/download/v0.32.7"
RELEASES = {
    "x86_64": Release(
        "0.32.7",
        f"{_HOME}/ollama-linux-amd64.tar.zst",
        "ed1e39fe8fea90bd7f4c723bd949a2cea3153e111220ec0a183ea5b8dc8b2cae",
    ),
    "aarch64": Release(
        "0.32.7",
        f"{_HOME}/ollama-linux-arm64.tar.zst",
        "413cb50f2fd201b65e17e563c082607bc0ade60d700132c563c7a1c0cd529fde",
    ),
}
"""By `platform.machine()`. The digests are those of the release's own sha256sum.txt as packagers
took them over: docs/setup.md."""


def install(release: Release, root: Path, unit: str, say: Say) -> dict[str, Any]:
    """Unpack the release where it is not there, and run it under systemd where that is there.
    Raises StageFailed."""
    if not release.sha256:
        what, remedy = (
            f"Ollama {release.version} has no checksum here, so it is not installed",
            "install Ollama on the box by hand",
        )
        raise StageFailed(Cause.CONFIG, what, release.url, remedy)
    home = root / "shared" / "ollama"
    folder = home / release.version
    is_new = not (folder / "bin" / "ollama").exists()
    if is_new:
        _unpack(release, folder, say)
    _point(home / "current", folder)
    (home / "models").mkdir(exist_ok=True)
    if not SYSTEMD.exists():
        state = (
            f"installed, not started: there is no systemd; `{home}/current/bin/ollama serve`"
            " runs it"
        )
        return {"version": release.version, "state": state, "was_there": not is_new}
    _serve(unit.replace("@ROOT@", str(root)), release, say)
    return {"version": release.version, "state": f"runs at {_ADDRESS}", "was_there": not is_new}


def _unpack(release: Release, folder: Path, say: Say) -> None:
    archive = ModelFile(
        release.url.rsplit("/", 1)[-1], _size_of(release), release.url, release.sha256
    )
    say(f"Ollama {release.version}: {archive.size / 1e9:.2f} GB from {release.url}")
    downloads = folder.parent / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    download.bring(archive, downloads)
    with atomic.making(folder) as partial:
        words = [
            "tar",
            "-x",
            *(["--zstd"] if archive.path.endswith(".zst") else []),
            "-f",
            str(downloads / archive.path),
            "-C",
            str(partial),
        ]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            full = "No space left" in done.stderr
            remedy = (
                "on the box: `df -h`, free space"
                if full
                else "on the box: `sudo apt-get install -y zstd tar`"
            )
            cause = Cause.DISK_FULL if full else Cause.CONFIG
            raise StageFailed(
                cause,
                "Ollama's archive cannot be unpacked",
                done.stderr.strip()[-300:],
                f"{remedy}, then `./inv box.setup`",
            )
    shutil.rmtree(downloads, ignore_errors=True)


def _size_of(release: Release) -> int:
    """Bytes of the archive, as its server says. The checksum is what decides."""
    request = urllib.request.Request(release.url, headers={"User-Agent": "windlass"}, method="HEAD")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError) as error:
        raise StageFailed(
            Cause.CODE,
            f"Ollama {release.version} cannot be fetched",
            f"{release.url}: {error}",
            _AGAIN,
        ) from None


def _point(link: Path, folder: Path) -> None:
    beside = link.with_name(f".{link.name}.link")
    beside.unlink(missing_ok=True)
    beside.symlink_to(folder.name)
    os.replace(beside, link)


def _serve(unit: str, release: Release, say: Say) -> None:
    """Install the unit, start it, and wait until that very version answers."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    steps = (
        ["tee", f"/etc/systemd/system/{UNIT}"],
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", UNIT],
        ["systemctl", "restart", UNIT],
    )
    for words in steps:
        fed = unit if words[0] == "tee" else ""
        done = subprocess.run(
            [*as_root, *words], input=fed, capture_output=True, text=True, check=False
        )
        if done.returncode:
            why = f"`{' '.join(words)}`: {done.stderr.strip()[-300:]}"
            raise StageFailed(
                Cause.CONFIG,
                "Ollama's service cannot be set up",
                why,
                "let the box's user run sudo without a password",
            )
    say(f"Ollama {release.version}: waiting until it answers at {_ADDRESS}")
    deadline = time.monotonic() + _START_SECONDS
    while (found := _version()) != release.version:
        if time.monotonic() > deadline:
            why = f"at {_ADDRESS} answers {found or 'nothing'}; another Ollama may hold the port"
            remedy = (
                f"on the box: `journalctl -u {UNIT} -n 30`, `sudo systemctl disable --now ollama`,"
                " then `./inv box.setup`"
            )
            raise StageFailed(
                Cause.CONFIG, f"Ollama {release.version} does not answer", why, remedy
            )
        time.sleep(0.5)


def _version() -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{_ADDRESS}/api/version", timeout=5) as answer:
            return str(untrusted_json.loads_object(answer.read())["version"])
    except (OSError, ValueError, KeyError):
        return ""


def _install() -> dict[str, Any]:
    machine = platform.machine()
    if machine not in RELEASES:
        raise StageFailed(
            Cause.CONFIG,
            f"no Ollama is pinned for {machine}",
            remedy="install Ollama on the box by hand",
        )
    return install(RELEASES[machine], BoxPaths.of_release().root, sys.stdin.read(), command.say)


if __name__ == "__main__":
    command.answer(_install, "`./inv box.setup`")
