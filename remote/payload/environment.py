"""Python environments on the box, made once for each lock and kept. Standard library only.

On a box `receive.py` makes them. Outside one `python3 -m remote.payload.environment make --into
FOLDER requirements.txt` does, and prints the interpreter's path.
An environment is `<shared>/environments/<key>/`: the key is of the lock's text
(`remote.contract.job.locks`), Python's version and cpu or cuda, and `complete.json`, written last,
says that it is whole, of which lock, and what is in it.

Every package comes as a wheel whose SHA-256 the lock names, and nothing is built. pip is the one
that Python brings: none is fetched.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from remote.contract.files import atomic, untrusted_json
from remote.contract.job import locks

MARKER = "complete.json"
OLDEST_PYTHON, NEWEST_PYTHON = locks.PYTHONS[0], locks.PYTHONS[-1]
"""What the locked packages install on; all else on the box runs on 3.10 too."""
TELL_SECONDS = 10.0
"""How often a line tells how far pip is."""
_LOOK_SECONDS = 1.0
_LARGE = re.compile(r"Downloading (\S+?)-\d\S* \((\d+\.\d [MG]B)\)")
_CHECKED = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
_LIST = (
    "import json; from importlib.metadata import distributions as d;"
    " print(json.dumps(sorted({f'{x.name}=={x.version}' for x in d()})))"
)

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]
"""Told what goes on, and how many bytes of how many are done."""


class Impossible(Exception):
    """The environment cannot be made: cause, what, why, remedy."""

    def __init__(self, cause: str, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.words = {
            "cause": cause,
            "what": what,
            "why": why,
            "remedy": remedy,
            "kept": "other environments are untouched",
        }


def requirements_file(name: str) -> Path:
    """A requirements file by path, or by its name in this release."""
    beside = Path(__file__).resolve().parent / name
    return Path(name) if Path(name).exists() or not beside.exists() else beside


def flavour() -> str:
    """`cuda` where an NVIDIA driver is, else `cpu`."""
    if Path("/proc/driver/nvidia/version").exists():
        return "cuda"
    tool = shutil.which("nvidia-smi")
    works = (
        tool
        and subprocess.run(
            [tool, "-L"], capture_output=True, check=False, timeout=30
        ).stdout.strip()
    )
    return "cuda" if works else "cpu"


def key_of(requirements: Path, kind: str) -> str:
    """The environment's name."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    lock = locks.lock_of(requirements, kind).read_text()
    return hashlib.sha256("\0".join((lock, version, kind)).encode()).hexdigest()[:16]


def find(requirements: Path, environments: Path) -> Path | None:
    """The interpreter of a whole environment, or None."""
    folder = _folder(requirements, environments, flavour())
    interpreter = folder / "venv" / "bin" / "python"
    return interpreter if (folder / MARKER).exists() and interpreter.exists() else None


def lock_digest(interpreter: Path) -> str:
    """The SHA-256 of the lock that the environment of `interpreter` was installed from; empty where
    it is of none."""
    try:
        return str(
            untrusted_json.read_object(interpreter.parents[2] / MARKER).get("lock_sha256", "")
        )
    except (OSError, ValueError, IndexError):
        return ""


def make(
    requirements: Path, environments: Path, say: Say, progress: Progress | None = None
) -> Path:
    """The interpreter of the environment for `requirements`, made where it is missing or only half
    made. Raises Impossible."""
    if found := find(requirements, environments):
        return found
    kind = flavour()
    _refuse_other_python(locks.lock_of(requirements, kind))
    folder = _folder(requirements, environments, kind)
    environments.mkdir(parents=True, exist_ok=True)
    with environments.joinpath(f".{folder.name}.lock").open("w") as lock:
        _wait_for(lock, say)
        if found := find(requirements, environments):
            return found
        return _build(
            locks.lock_of(requirements, kind), folder, kind, say, progress or _in_lines(say)
        )


def _folder(requirements: Path, environments: Path, kind: str) -> Path:
    # Its true path, whoever links to it: scripts in an environment name their interpreter in full.
    return environments.resolve() / key_of(requirements, kind)


def _refuse_other_python(lock: Path) -> None:
    if OLDEST_PYTHON <= sys.version_info[
        :2
    ] <= NEWEST_PYTHON or "transformers" not in locks.versions(lock.read_text()):
        return
    found, oldest, newest = (
        ".".join(map(str, version))
        for version in (sys.version_info[:2], OLDEST_PYTHON, NEWEST_PYTHON)
    )
    remedy = "use a box whose python3 is one of these, such as Ubuntu 24.04"
    raise Impossible(
        "config",
        f"the box's python3 is {found}; training needs {oldest} to {newest}",
        remedy=remedy,
    )


def _wait_for(lock: object, say: Say) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        say("another deploy is making this environment: waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)  # type: ignore[arg-type]


def _build(lock: Path, folder: Path, kind: str, say: Say, progress: Progress) -> Path:
    started = time.monotonic()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    say(f"environment {folder.name}: Python {version}, {kind}, out of {lock.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    interpreter = folder / "venv" / "bin" / "python"
    if kind == "cuda" and shutil.which("uv"):
        _with_uv(lock, interpreter, say)
    else:
        _with_pip(lock, interpreter, say, progress)
    seconds = time.monotonic() - started
    facts = {
        "python": version,
        "flavour": kind,
        "lock": lock.name,
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
    }
    atomic.write_json(
        folder / MARKER,
        {**facts, "installed": _installed(interpreter), "seconds": round(seconds, 1)},
    )
    say(f"environment {folder.name} is whole after {seconds:.0f} s")
    return interpreter


def _installed(interpreter: Path) -> list[str]:
    """Every package of an environment with its version, pip's own too."""
    answer = _run([str(interpreter), "-I", "-c", _LIST], lambda line: None)
    return [str(name) for name in json.loads(answer[-1])] if answer else []


def _with_uv(lock: Path, interpreter: Path, say: Say) -> None:
    site = interpreter.parents[1] / "lib"
    _phase(
        "uv venv",
        ["uv", "venv", "--quiet", "--python", sys.executable, str(interpreter.parents[1])],
        say,
    )
    with _repeating(TELL_SECONDS, lambda: say(f"installing: {_sized(_bytes_of(site))} so far")):
        _phase(
            "uv pip install",
            ["uv", "pip", "install", "--python", str(interpreter), *_CHECKED, "-r", str(lock)],
            say,
        )


def _with_pip(lock: Path, interpreter: Path, say: Say, progress: Progress) -> None:
    """Fetch all wheels, then unpack them: so each half can tell how far it is, and of the second
    half nothing needs the network."""
    folder = interpreter.parents[2]
    try:
        _phase("venv", [sys.executable, "-m", "venv", str(interpreter.parents[1])], say)
    except Impossible as failure:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        remedy = f"on the box: `sudo apt-get install -y {package}`, then `./inv deploy`"
        raise Impossible(
            "config", "the box's python3 cannot make environments", failure.words["why"], remedy
        ) from None
    wheels = folder / "wheels"
    wheels.mkdir()
    started = time.monotonic()
    _fetch(lock, interpreter, wheels, say)
    say(f"pip download: {time.monotonic() - started:.1f} s, {_sized(_bytes_of(wheels))}")
    _unpack(lock, interpreter, wheels, say, progress)
    shutil.rmtree(wheels)


def _fetch(lock: Path, interpreter: Path, wheels: Path, say: Say) -> None:
    """Every wheel of the lock into a folder, verified."""
    text, scratch = lock.read_text(), wheels.with_name("scratch")
    scratch.mkdir()  # pip's large files: /tmp may be small, or memory
    download = [
        *_pip(interpreter, "download"),
        "--progress-bar",
        "off",
        *_CHECKED,
        "--dest",
        str(wheels),
    ]
    total, begun, here, most = len(locks.versions(text)), 0, 0, 0

    def count(line: str) -> None:
        nonlocal begun  # by name, or where it lies on a disk
        begun += line.startswith(("Collecting ", "Processing "))
        if told := _worth_telling(line):
            say(told)

    def tell() -> None:
        nonlocal most  # in the end pip tidies up
        most = max(most, here + _bytes_of(scratch))
        say(f"fetched {max(0, begun - 1)} of {total} packages, {_sized(most)}")

    with _repeating(TELL_SECONDS, tell):
        if locks.versions(text).get("torch", "").endswith("+cpu"):
            _fetch_torch(locks.entries(text)["torch"], download, wheels, count)
            begun, here = 0, _bytes_of(wheels)
        _run([*download, "--find-links", str(wheels), "-r", str(lock)], count, TMPDIR=str(scratch))
    shutil.rmtree(scratch)


def _fetch_torch(entry: str, download: Sequence[str], wheels: Path, say: Say) -> None:
    """torch without GPU packages: from where pip is set to look, if that has it, else from its own
    index."""
    wanted, scratch = wheels.with_name("torch.lock"), str(wheels.with_name("scratch"))
    atomic.write_text(wanted, entry + "\n")
    try:
        _run([*download, "-r", str(wanted)], lambda line: None, TMPDIR=scratch)
    except Impossible as failure:
        if "No matching distribution" not in failure.words["why"]:
            raise
        _run([*download, "--index-url", locks.CPU_INDEX, "-r", str(wanted)], say, TMPDIR=scratch)


def _unpack(lock: Path, interpreter: Path, wheels: Path, say: Say, progress: Progress) -> None:
    """Install the wheels, and tell how much of what they hold is unpacked. What Python compiles of
    it meanwhile is not counted."""
    site, title = (
        interpreter.parents[1] / "lib",
        f"installing {len(list(wheels.iterdir()))} packages",
    )
    before, total = _bytes_of(site), sum(map(_unpacked, wheels.glob("*.whl")))
    words = [
        *_pip(interpreter, "install"),
        *_CHECKED,
        "--no-index",
        "--find-links",
        str(wheels),
        "-r",
        str(lock),
    ]
    say(title)
    with _repeating(
        _LOOK_SECONDS, lambda: progress(title, min(total, _bytes_of(site) - before), total)
    ):
        _phase("pip install", words, say)


def _pip(interpreter: Path, verb: str) -> list[str]:
    return [str(interpreter), "-m", "pip", verb, "--no-input", "--disable-pip-version-check"]


def _unpacked(wheel: Path) -> int:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        return 0  # pip says it better


def _bytes_of(folder: Path) -> int:
    """Bytes of the files below a folder but what Python compiled; those that go away meanwhile do
    not count."""
    total = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_size
    return total


def _sized(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _in_lines(say: Say) -> Progress:
    """Progress as a line each `TELL_SECONDS`."""
    told_at: float | None = None

    def tell(title: str, done: int, total: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        told_at = told_at or now
        if total and now - told_at >= TELL_SECONDS:
            told_at = now
            say(f"{title}: {100 * done / total:.0f} % of {_sized(total)}")

    return tell


@contextlib.contextmanager
def _repeating(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Do something every so often beside what goes on inside. What takes long is done less often:
    it is to cost little."""
    ended = threading.Event()

    def repeat() -> None:
        pause = seconds
        while not ended.wait(pause):
            began = time.monotonic()
            action()
            pause = max(seconds, 20 * (time.monotonic() - began))

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _phase(name: str, words: Sequence[str], say: Say) -> None:
    started = time.monotonic()
    _run(words, lambda line: say(told) if (told := _worth_telling(line)) else None)
    say(f"{name}: {time.monotonic() - started:.1f} s")


def _run(words: Sequence[str], say: Say, **more: str) -> list[str]:
    """The lines of a command, each told to `say` as it comes; `more` goes into its environment.
    Raises Impossible when it fails."""
    lines: list[str] = []
    surroundings: Mapping[str, str] = {**os.environ, **more}
    with subprocess.Popen(
        words,
        text=True,
        errors="replace",
        env=surroundings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            say(line.strip())
    if process.returncode:
        raise _failure(words, lines)
    return lines


def _worth_telling(line: str) -> str:
    """Of pip's many lines: the large downloads, the errors."""
    if large := _LARGE.match(line):
        return f"downloading {large[1]} ({large[2]})"
    return line if line.lower().startswith("error") else ""


def _failure(words: Sequence[str], lines: list[str]) -> Impossible:
    said = " | ".join([line for line in lines if line][-4:])
    if any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
        remedy = "on the box: `df -h`, free space, then `./inv deploy`"
        return Impossible(
            "disk_full", "the box's disk is full: the environment was not made", said, remedy
        )
    if other := _other_file(lines):
        what = "a package is not the file that the lock names: nothing of it was installed"
        remedy = (
            "on the box: `python3 -m pip config list` names the index, which must give the"
            " published files; then `./inv deploy`"
        )
        return Impossible("artifact", what, other, remedy)
    name = " ".join(Path(word).name for word in words[:4])
    remedy = "fix what pip says above, then `./inv deploy`"
    return Impossible(
        "code", f"the Python environment was not made: `{name} ...` failed", said, remedy
    )


def _other_file(lines: list[str]) -> str:
    """What pip or uv says of a file with another hash; empty where it speaks of none."""
    at = next(
        (
            number
            for number, line in enumerate(lines)
            if "DO NOT MATCH THE HASHES" in line or "Hash mismatch for" in line
        ),
        None,
    )
    told = [] if at is None else [line.strip() for line in lines[at:] if "DO NOT MATCH" not in line]
    return " | ".join(filter(None, told))[:600]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="environment")
    parser.add_argument("verb", choices=("make",))
    parser.add_argument("requirements")
    parser.add_argument("--into", type=Path, required=True, help="the folder of environments")
    options = parser.parse_args()
    try:
        print(
            make(
                requirements_file(options.requirements),
                options.into.absolute(),
                lambda line: print(line, file=sys.stderr, flush=True),
            )
        )
    except Impossible as failure:
        sys.exit("\n".join(text for text in failure.words.values() if text))


if __name__ == "__main__":
    main()
