"""Python environments on the box, made once for each set of requirements and kept. Standard library only.

On a box `receive.py` makes them. Outside one `python3 -m remote.payload.environment make --into FOLDER requirements.txt` does, and prints
the interpreter's path.
An environment is `<shared>/environments/<key>/`: the key is of the requirements' text, Python's version and cpu or cuda,
and `complete.json`, written last, says that it is whole.
"""

import argparse
import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from remote.contract import atomic

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
MARKER = "complete.json"
OLDEST_PYTHON = (3, 11)
"""What the locked transformers and mistral-common install on; all else on the box runs on 3.10 too."""
_LARGE = re.compile(r"Downloading (\S+?)-\d\S* \((\d+\.\d [MG]B)\)")

Say = Callable[[str], None]


class Impossible(Exception):
    """The environment cannot be made: cause, what, why, remedy."""

    def __init__(self, cause: str, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.words = {"cause": cause, "what": what, "why": why, "remedy": remedy, "kept": "other environments are untouched"}


def requirements_file(name: str) -> Path:
    """A requirements file by path, or by its name in this release."""
    beside = Path(__file__).resolve().parent / name
    return Path(name) if Path(name).exists() or not beside.exists() else beside


def flavour() -> str:
    """`cuda` where an NVIDIA driver is, else `cpu`."""
    if Path("/proc/driver/nvidia/version").exists():
        return "cuda"
    tool = shutil.which("nvidia-smi")
    works = tool and subprocess.run([tool, "-L"], capture_output=True, check=False, timeout=30).stdout.strip()
    return "cuda" if works else "cpu"


def key_of(requirements: Path, kind: str) -> str:
    """The environment's name."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return hashlib.sha256("\0".join((requirements.read_text(), version, kind)).encode()).hexdigest()[:16]


def find(requirements: Path, environments: Path) -> Path | None:
    """The interpreter of a whole environment, or None."""
    folder = environments / key_of(requirements, flavour())
    interpreter = folder / "venv" / "bin" / "python"
    return interpreter if (folder / MARKER).exists() and interpreter.exists() else None


def make(requirements: Path, environments: Path, say: Say) -> Path:
    """The interpreter of the environment for `requirements`, made where it is missing or only half made. Raises Impossible."""
    if found := find(requirements, environments):
        return found
    _refuse_old_python(requirements)
    kind = flavour()
    folder = environments / key_of(requirements, kind)
    environments.mkdir(parents=True, exist_ok=True)
    with environments.joinpath(f".{folder.name}.lock").open("w") as lock:
        _wait_for(lock, say)
        if found := find(requirements, environments):
            return found
        return _build(requirements, folder, kind, say)


def _refuse_old_python(requirements: Path) -> None:
    if sys.version_info[:2] < OLDEST_PYTHON and "transformers==" in requirements.read_text():
        found, needed = (".".join(map(str, version)) for version in (sys.version_info[:2], OLDEST_PYTHON))
        remedy = "use a box whose python3 is new enough, such as Ubuntu 24.04"
        raise Impossible("config", f"the box's python3 is {found}; training needs {needed} or newer", remedy=remedy)


def _wait_for(lock: object, say: Say) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        say("another deploy is making this environment: waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)  # type: ignore[arg-type]


def _build(requirements: Path, folder: Path, kind: str, say: Say) -> Path:
    started = time.monotonic()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    say(f"environment {folder.name}: Python {version}, {kind}, out of {requirements.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    interpreter = folder / "venv" / "bin" / "python"
    install = _with_uv if kind == "cuda" and shutil.which("uv") else _with_pip
    install(requirements, interpreter, kind, say)
    installed = _run([str(interpreter), "-m", "pip", "freeze"], lambda line: None) if install is _with_pip else []
    seconds = time.monotonic() - started
    atomic.write_json(folder / MARKER, {"python": version, "flavour": kind, "installed": installed, "seconds": round(seconds, 1)})
    say(f"environment {folder.name} is whole after {seconds:.0f} s")
    return interpreter


def _with_uv(requirements: Path, interpreter: Path, kind: str, say: Say) -> None:
    _phase("uv venv", ["uv", "venv", "--quiet", "--python", sys.executable, str(interpreter.parents[1])], say)
    _phase("uv pip install", ["uv", "pip", "install", "--python", str(interpreter), "-r", str(requirements)], say)


def _with_pip(requirements: Path, interpreter: Path, kind: str, say: Say) -> None:
    try:
        _phase("venv", [sys.executable, "-m", "venv", str(interpreter.parents[1])], say)
    except Impossible as failure:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        remedy = f"on the box: `sudo apt-get install -y {package}`, then `./inv deploy`"
        raise Impossible("config", "the box's python3 cannot make environments", failure.words["why"], remedy) from None
    extra = _torch_of_cpu(requirements, interpreter, say) if kind == "cpu" else []
    install = [str(interpreter), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    _phase("pip install", [*install, *extra, "-r", str(requirements)], say)


def _torch_of_cpu(requirements: Path, interpreter: Path, say: Say) -> list[str]:
    """What makes pip take a torch without GPU packages, where its default one has them."""
    pinned = re.search(r"^torch==([^\s;#]+)", requirements.read_text(), re.MULTILINE)
    if not pinned or "+" in pinned.group(1):
        return []
    _newer_pip(interpreter, say)
    if not _brings_gpu_packages(_report(interpreter, pinned.group(0))):
        say(f"{pinned.group(0)}: the default build is for the CPU")
        return []
    say(f"{pinned.group(0)}: no GPU here, taking the CPU build from {CPU_INDEX}")
    constraints = interpreter.parents[2] / "constraints.txt"
    atomic.write_text(constraints, f"torch=={pinned.group(1)}+cpu\n")
    return ["--extra-index-url", CPU_INDEX, "--constraint", str(constraints)]


def _newer_pip(interpreter: Path, say: Say) -> None:
    # Ubuntu 22.04's pip 22.0 cannot report what it would install.
    answer = subprocess.run([str(interpreter), "-m", "pip", "--version"], capture_output=True, text=True, check=False)
    if int((re.search(r"pip (\d+)", answer.stdout) or ["", "99"])[1]) < 23:
        _phase("a newer pip", [str(interpreter), "-m", "pip", "install", "--quiet", "--upgrade", "pip"], say)


def _report(interpreter: Path, requirement: str) -> dict[str, object]:
    ask = ["install", "--quiet", "--no-input", "--dry-run", "--no-deps", "--report", "-", requirement]
    answer = subprocess.run([str(interpreter), "-m", "pip", *ask], capture_output=True, text=True, check=False)
    try:
        metadata: dict[str, object] = json.loads(answer.stdout)["install"][0]["metadata"]
    except (ValueError, LookupError, RecursionError):
        return {}  # an old pip, or nothing found: the installation itself says what is wrong
    return metadata


def _brings_gpu_packages(metadata: dict[str, object]) -> bool:
    needs = metadata.get("requires_dist", [])
    names = [str(need) for need in needs] if isinstance(needs, list) else []
    is_cpu = str(metadata.get("version", "")).endswith("+cpu")
    return not is_cpu and any(name.startswith(("nvidia-", "cuda-", "triton")) for name in names)


def _phase(name: str, words: Sequence[str], say: Say) -> None:
    started = time.monotonic()
    _run(words, say)
    say(f"{name}: {time.monotonic() - started:.1f} s")


def _run(words: Sequence[str], say: Say) -> list[str]:
    lines: list[str] = []
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(words, text=True, errors="replace", **pipes) as process:  # type: ignore[call-overload]
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if told := _worth_telling(line.strip()):
                say(told)
    if process.returncode:
        raise _failure(words, lines)
    return lines


def _worth_telling(line: str) -> str:
    """Of pip's many lines: the large downloads, the installation, the errors."""
    if large := _LARGE.match(line):
        return f"downloading {large[1]} ({large[2]})"
    if line.startswith("Installing collected packages:"):
        return f"installing {line.count(',') + 1} packages"
    return line if line.lower().startswith("error") else ""


def _failure(words: Sequence[str], lines: list[str]) -> Impossible:
    said = " | ".join([line for line in lines if line][-4:])
    if any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
        remedy = "on the box: `df -h`, free space, then `./inv deploy`"
        return Impossible("disk_full", "the box's disk is full: the environment was not made", said, remedy)
    name = " ".join(Path(word).name for word in words[:4])
    remedy = "mend what pip says above, then `./inv deploy`"
    return Impossible("code", f"the Python environment was not made: `{name} ...` failed", said, remedy)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="environment")
    parser.add_argument("verb", choices=("make",))
    parser.add_argument("requirements")
    parser.add_argument("--into", type=Path, required=True, help="the folder of environments")
    options = parser.parse_args()
    try:
        print(make(requirements_file(options.requirements), options.into.absolute(), lambda line: print(line, file=sys.stderr, flush=True)))
    except Impossible as failure:
        sys.exit("\n".join(text for text in failure.words.values() if text))


if __name__ == "__main__":
    main()
