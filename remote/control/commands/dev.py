"""For developers: test, lint, locks, and the pages of the docs that are made from the code."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from invoke import Collection, Exit

from remote.control.commands.verb import verb
from remote.control.project import CODE, state_folder

collection = Collection()


@verb(
    help={
        "only": "paths or a pytest expression's file, such as tests/control",
        "options": "further words for pytest, such as '-x -k ledger'",
    }
)
def test(context: Any, only: str = "", options: str = "") -> None:
    """Run every test: the laptop's, and the box's in the box's own Python environment (made on first use)."""
    _install_developer_packages()
    chosen = only.split() or ["tests"]
    box_tests = [path for path in ([*chosen] if only else ["tests/payload/box"]) if path.startswith("tests/payload/box")]
    laptop_tests = [path for path in chosen if path not in box_tests]
    failed = False
    if box_tests:
        failed |= _pytest(_box_python(), [*box_tests, *options.split()], PYTHONPATH=f"{CODE}{os.pathsep}{_pytest_for_the_box()}")
    if laptop_tests:
        words = [*laptop_tests, "--ignore=tests/payload/box", *options.split()]
        failed |= _test_the_laptop(words, side_by_side=not only)
    if failed:
        raise Exit("error: a test failed; its name stands above", code=1)


@verb
def lint(context: Any) -> None:
    """Check style (ruff), types (mypy) and who may import whom (import-linter)."""
    _install_developer_packages()
    bin_folder = Path(sys.executable).parent
    words = (["ruff", "check", "."], ["mypy"], ["lint-imports"])
    failed = [
        command[0] for command in words if subprocess.run([str(bin_folder / command[0]), *command[1:]], cwd=CODE, check=False).returncode
    ]
    if failed:
        raise Exit(f"error: {', '.join(failed)} found something; it stands above", code=1)


@verb
def lock(context: Any) -> None:
    """Resolve pyproject.toml into requirements/*.lock, with hashes (needs uv)."""
    words = [
        "uv",
        "pip",
        "compile",
        "pyproject.toml",
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
        "--no-header",
        "--quiet",
    ]
    for name, extra in {"laptop": [], "dev": ["--group", "dev"]}.items():
        subprocess.run([*words, *extra, "-o", f"requirements/{name}.lock"], cwd=CODE, check=True)


def _test_the_laptop(words: list[str], side_by_side: bool) -> bool:
    """Whether a test failed. Side by side, boxes are slow at times: what fails there is asked again alone, and named."""
    environments = str(_environments())
    # One worker more than processors: most tests wait for boxes. A file's tests share its boxes, so they stay together.
    workers = [f"--numprocesses={(os.cpu_count() or 1) + 1}", "--dist=loadfile", "--no-loadscope-reorder"] if side_by_side else []
    if not _pytest(sys.executable, [*words, *workers], WINDLASS_ENVIRONMENTS=environments):
        return False
    if not side_by_side:
        return True
    print("what failed is run again, alone:", file=sys.stderr)
    again = ["--last-failed", "--last-failed-no-failures=none", "--verbose"]
    return _pytest(sys.executable, [*words, *again], WINDLASS_ENVIRONMENTS=environments)


def _install_developer_packages() -> None:
    lock, stamp = CODE / "requirements" / "dev.lock", Path(sys.prefix) / "installed-dev.lock"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return
    print("installing the developers' packages (once) ...", file=sys.stderr)
    subprocess.run(_installer("--require-hashes", "-r", str(lock)), cwd=CODE, check=True)
    stamp.write_bytes(lock.read_bytes())


def _installer(*words: str) -> list[str]:
    from shutil import which

    if which("uv"):
        return ["uv", "pip", "install", "--quiet", "--python", sys.executable, *words]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]


def _box_python() -> str:
    """The interpreter of the box environment, made on this machine by the very code that makes it on a box."""
    words = [sys.executable, "-m", "remote.payload.environment", "make", "--into", str(_environments()), "requirements.txt"]
    made = subprocess.run(words, cwd=CODE, stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout.strip().splitlines()[-1]


def _environments() -> Path:
    return state_folder() / "environments"


def _pytest_for_the_box() -> Path:
    """pytest beside the box environment rather than in it: what is tested is what a box has."""
    from importlib.metadata import version

    packages = [f"{name}=={version(name)}" for name in ("pytest", "pytest-timeout")]
    folder = state_folder() / "pytest" / "-".join(packages).replace("==", "-")
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        subprocess.run(_installer("--target", str(partial), *packages), check=True)
        partial.rename(folder)
    return folder


def _pytest(python: str, words: list[str], **environment: str) -> bool:
    return subprocess.run([python, "-m", "pytest", *words], cwd=CODE, env=os.environ | environment, check=False).returncode != 0


collection.add_task(lock)
