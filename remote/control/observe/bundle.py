"""Everything about a run in one file, for a bug report: masked, and without keys, artifacts or
checkpoints."""

import io
import platform
import re
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from remote.contract.files import atomic
from remote.contract.logs.masking import MASK
from remote.control import project, secrets
from remote.control.errors import WindlassError
from remote.control.observe import diagnosis, find, show
from remote.control.output import json_text, timefmt
from remote.control.progress import Say, silent, warning
from remote.control.targets import Choose, nobody

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import Inventory
    from remote.control.runs.ledger import Ledger

KEPT_BYTES = 8 * 1024 * 1024
"""Of a longer file only the end is packed."""

_MINUTES = 120.0
_LEFT_OUT = ("artifacts", "lock")
_FAULTS = 3
_SECONDS = 30.0
_PACKAGES = ("invoke", "paramiko", "boto3", "pydantic", "rich", "httpx", "moto")

_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:hf_|gh[pousr]_|github_pat_|sk-|xox[abpr]-)[A-Za-z0-9_-]{16,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{16,}",
    re.DOTALL,
)
"""What looks like a key, whoever's it is: private keys, tokens of Hugging Face, GitHub, OpenAI and
Slack, key ids of AWS, passwords in addresses, bearer tokens."""

_SYSTEM = """\
{{ uname -a; python3 --version; uptime; free -m; df -h; nvidia-smi; }} 2>&1
cd -- {root} 2>/dev/null || exit 0
ls -la . releases jobs 2>&1 | tail -200
for log in sampler.log jobs/{job}/supervisor.log; do echo "== $log"; tail -c 65536 "$log"; done 2>&1
"""

_README = """\
What Windlass packed about {name} on {day}, for a bug report.

Not in it: artifacts, checkpoints, data, keys, anything of ~/.ssh or of .windlass but reports of
faults. Masked as *** are the values of the variables that inventory.yaml names under `secrets:`,
those of tokens and keys in the environment of whoever packed it, signatures of presigned addresses,
and what looks like a key. Names of hosts, boxes, buckets and files, and addresses, are as they are:
look through it before you hand it on.
{unmasked}
"""


@dataclass(frozen=True)
class Packed:
    """The file that was written, and what is in it: bytes by name."""

    path: Path
    files: dict[str, int]


def place_of(to: str) -> Path:
    """The file or folder that is meant; a folder, which need not be there yet, where it ends in a
    slash; here when it is empty."""
    path = Path(to).expanduser().absolute()
    if to.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
    return path


def pack(name: str, to: Path, inventory: "Inventory", say: Say, choose: Choose = nobody) -> Packed:
    """Write the bundle of the run, job or box of that name (the newest run when it is empty) to the
    file or folder `to`.

    `say` hears what could not be packed; `choose` says which run is meant where several are alive.
    Raises NotFound where nothing is known of it.
    """
    secrets.know_names(list(inventory.secrets))
    found = find.find(name, "", _MINUTES, lambda: inventory, say, choose)
    called = _file_name(found.evidence.run_id or found.evidence.state.job_id or found.box)
    contents = {path: _clean(content) for path, content in _contents(inventory, found, say)}
    contents = {"README.txt": _readme(called, inventory), **contents}
    path = to / f"windlass-{called}.tar.gz" if to.is_dir() else to
    with (
        atomic.writing(path, mode=0o600) as file,
        tarfile.open(fileobj=file, mode="w:gz") as archive,
    ):
        for inside, content in contents.items():
            _add(archive, f"windlass-{called}/{inside}", content)
    return Packed(path, {inside: len(content) for inside, content in contents.items()})


def _contents(inventory: "Inventory", found: find.Found, say: Say) -> Iterator[tuple[str, bytes]]:
    yield "versions.json", _json(_versions())
    if (file := project.find_file("inventory.yaml")).exists():
        yield "inventory.yaml", file.read_bytes()
    yield from _of_laptop(found.ledger)
    yield from _of_job(found)
    for label in _other_stages(found):
        run_id = found.evidence.run_id
        try:
            yield from _of_job(find.find(run_id, label, _MINUTES, lambda: inventory, silent))
        except WindlassError as error:
            say(warning(f"not packed: {label}: {error.what}"))
    if found.box:
        yield from _of_system(inventory, found, say)


def _of_laptop(ledger: "Ledger | None") -> Iterator[tuple[str, bytes]]:
    """The run's folder, and the newest reports of faults."""
    for path in sorted(ledger.folder.rglob("*")) if ledger else ():
        inside = path.relative_to(ledger.folder)  # type: ignore[union-attr]
        if (
            path.is_file()
            and not path.is_symlink()
            and inside.parts[0] not in _LEFT_OUT
            and not path.name.startswith(".")
        ):
            yield f"run/{inside.as_posix()}", _end_of(path)
    faults = sorted((project.root() / ".windlass" / "faults").glob("*.txt"))[-_FAULTS:]
    yield from ((f"faults/{path.name}", _end_of(path)) for path in faults)


def _of_job(found: find.Found) -> Iterator[tuple[str, bytes]]:
    told = diagnosis.account(found)
    folder = f"jobs/{_file_name(found.label)}"
    yield f"{folder}/why.txt", f"{show.text(told, diagnosis.span(found.evidence))}\n".encode()
    yield f"{folder}/evidence.json", _json(told.record)


def _other_stages(found: find.Found) -> list[str]:
    from remote.control.runs.state import state_of

    stages = state_of(found.ledger).stages.values() if found.ledger else ()
    return [stage.label for stage in stages if stage.job_id and stage.label != found.label]


def _of_system(inventory: "Inventory", found: find.Found, say: Say) -> Iterator[tuple[str, bytes]]:
    """What the box says of itself."""
    from remote.control.cloud import boxes

    try:
        box = boxes.running(inventory.box(found.box))
        said = _system(box, found.evidence.state.job_id, say)
    except WindlassError as error:
        say(warning(f"not packed: what box {found.box} says of itself: {error.what}"))
    else:
        yield f"box/{found.box}.txt", said


def _system(box: "Box", job_id: str, say: Say) -> bytes:
    import shlex

    from remote.control.transport.connect import connect
    from remote.control.transport.payload import on_box

    with connect(box, say) as transport:
        return transport.exec(
            _SYSTEM.format(root=on_box(box.root), job=shlex.quote(job_id)), timeout=_SECONDS
        ).stdout


def _versions() -> dict[str, object]:
    from remote.control.project import code_state

    packages = {name: metadata.version(name) for name in _PACKAGES if _is_installed(name)}
    return {
        "windlass": code_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
    }


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


# ---- what may be shown ----


def _clean(content: bytes) -> bytes:
    text = secrets.masked(content.decode(errors="surrogateescape"))
    return _SHAPES.sub(MASK, text).encode(errors="surrogateescape")


def _readme(called: str, inventory: "Inventory") -> bytes:
    import os

    unset = [name for name in inventory.secrets if not os.environ.get(name)]
    words = (
        f"\nNot set where this was packed, so only boxes could mask them: {', '.join(unset)}.\n"
        if unset
        else ""
    )
    return _README.format(
        name=called, day=f"{timefmt.minute(time.time())} UTC", unmasked=words
    ).encode()


def _file_name(told: str) -> str:
    """What a box calls a run or a job, as the name of a file: it leads nowhere else."""
    return re.sub(r"[^A-Za-z0-9._-]|^\.+", "_", told)


def _json(value: object) -> bytes:
    return json_text.document(value).encode() + b"\n"


def _end_of(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - KEPT_BYTES))
        content = file.read(KEPT_BYTES)
    if size <= KEPT_BYTES:
        return content
    # Whole lines: what is left of a secret that was cut would not be masked.
    cut, end, rest = content.partition(b"\n")
    return f"[the first {size - KEPT_BYTES + len(cut + end)} bytes are left out]\n".encode() + rest


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(content))
