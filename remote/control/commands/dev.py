"""For developers: test, lint, locks, and the pages of the docs that are made from the code."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invoke import Collection, Exit

from remote.control.commands.program.verb import verb
from remote.control.output.console import complain, ended_well
from remote.control.project import CODE, state_folder

collection = Collection()

_MARK = "WINDLASS_STARTED_BY"
_PATIENCE_SECONDS = 30.0
_GRACE_SECONDS = 3.0


@verb(
    help={
        "only": "paths or a pytest expression's file, such as tests/control",
        "options": "further words for pytest, such as '-x -k ledger'",
        "long": "those that take minutes too: kills in every stage, spot boxes taken back",
    }
)
def test(context: Any, only: str = "", options: str = "", long: bool = False) -> None:
    """Run the tests: the laptop's, and the box's.

    The box's tests run in the box's own Python environment, made on first use.
    """
    began = time.monotonic()
    _install_developer_packages()
    chosen = only.split() or ["tests"]
    box_tests = [
        path
        for path in ([*chosen] if only else ["tests/payload/box"])
        if path.startswith("tests/payload/box")
    ]
    laptop_tests = [path for path in chosen if path not in box_tests]
    found = Counter[str]()
    if box_tests:
        found += _test_the_box([*box_tests, *options.split()])
    if laptop_tests:
        words = [*laptop_tests, "--ignore=tests/payload/box", *options.split()]
        words += ["--long"] if long else []
        found += _test_the_laptop(words, map_concurrently=not only)
    told = ", ".join(f"{count} {what}" for what, count in found.items())
    _say(f"{told or 'nothing was tested'}, in {(time.monotonic() - began) / 60:.1f} minutes")
    if found["failed"]:
        raise Exit("error: a test failed; its name stands above", code=1)


@verb
def lint(context: Any) -> None:
    """Check format and style (ruff), types (mypy) and imports (import-linter)."""
    _install_developer_packages()
    bin_folder = Path(sys.executable).parent
    words = (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"], ["lint-imports"])
    failed = [
        command[0] for command in words if _run([str(bin_folder / command[0]), *command[1:]])[0]
    ]
    if failed:
        raise Exit(f"error: {', '.join(failed)} found something; it stands above", code=1)


@verb
def lock(context: Any) -> None:
    """Resolve all requirements into locks with hashes (needs uv).

    The box's too. What is locked stays where it still fits.
    """
    from remote.control.locking import lock_everything

    for path in lock_everything():
        _say(f"made {path.relative_to(CODE)}")


def _test_the_box(words: list[str]) -> Counter[str]:
    _say(
        "the box's tests: its Python environment first (made once; some minutes), then about two"
        " minutes ..."
    )
    return _pytest(_box_python(), words, PYTHONPATH=f"{CODE}{os.pathsep}{_pytest_for_the_box()}")


def _test_the_laptop(words: list[str], map_concurrently: bool) -> Counter[str]:
    """How the tests ended. Side by side, boxes are slow at times: what fails there is asked again
    alone, and named."""
    environments = str(_environments())
    # One worker more than processors: most tests wait for boxes. A file's tests share its boxes, so
    # they stay together.
    count = (os.cpu_count() or 1) + 1
    workers = (
        [f"--numprocesses={count}", "--dist=loadfile", "--no-loadscope-reorder"]
        if map_concurrently
        else []
    )
    _say(
        f"the laptop's tests, {count} side by side ..."
        if map_concurrently
        else "the laptop's tests ..."
    )
    found = _pytest(sys.executable, [*words, *workers], WINDLASS_ENVIRONMENTS=environments)
    if not (found["failed"] and map_concurrently):
        return found
    _say("what failed is run again, alone:")
    words += ["--last-failed", "--last-failed-no-failures=none", "--verbose"]
    again = _pytest(sys.executable, words, WINDLASS_ENVIRONMENTS=environments)
    return found - Counter(failed=found["failed"]) + again


def _install_developer_packages() -> None:
    lock, stamp = CODE / "requirements" / "dev.lock", Path(sys.prefix) / "installed-dev.lock"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return
    _say("installing the developers' packages (once; about half a minute) ...")
    _install("--require-hashes", "-r", str(lock))
    stamp.write_bytes(lock.read_bytes())


def _install(*words: str) -> None:
    """What the installer says is shown only where it fails: it warns of much that is of no matter
    here."""
    from shutil import which

    uv, pip = (
        ["uv", "pip", "install", "--quiet", "--python", sys.executable],
        [sys.executable, "-m", "pip", "install", "--quiet"],
    )
    command = uv if which("uv") else [*pip, "--disable-pip-version-check"]
    code, said = _run([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if code:
        fix = "check the network or the package mirror, then run the same command again"
        raise Exit(
            f"{said.rstrip()}\nerror: the developers' packages could not be installed (see above)\n"
            f"  fix: {fix}",
            code=1,
        )


def _box_python() -> str:
    """The interpreter of the box environment, made on this machine by the very code that makes it
    on a box."""
    words = [
        sys.executable,
        "-m",
        "remote.payload.environment",
        "make",
        "--into",
        str(_environments()),
        "requirements.txt",
    ]
    code, said = _run(words, stdout=subprocess.PIPE)
    if code:
        raise Exit(
            "error: the box's Python environment could not be made (see above)\n  fix: run the same"
            " command again",
            code=1,
        )
    return said.strip().splitlines()[-1]


def _environments() -> Path:
    return state_folder() / "environments"


def _pytest_for_the_box() -> Path:
    """pytest beside the box environment rather than in it: what is tested is what a box has."""
    from remote.contract.files import atomic, digest

    lock = CODE / "requirements" / "box-tests.lock"
    folder = state_folder() / "pytest" / digest.of_file(lock)[:16]
    if not folder.exists():
        with atomic.making(folder) as partial:
            _install("--target", str(partial), "--require-hashes", "-r", str(lock))
    return folder


def _pytest(python: str, words: list[str], **environment: str) -> Counter[str]:
    """How many tests passed, failed and were skipped."""
    from tempfile import TemporaryDirectory
    from xml.etree import ElementTree  # what pytest wrote itself

    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [python, "-m", "pytest", *words, f"--junit-xml={report}"]
        code, _ = _run(command, environment)
        suite = ElementTree.parse(report).find("testsuite") if report.exists() else None  # noqa: S314
    told = (
        {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        if suite is not None
        else {}
    )
    failed = told.get("failures", 0) + told.get("errors", 0)
    skipped = told.get("skipped", 0)
    # Where pytest itself could not work, that is a failure too.
    return Counter(
        passed=max(0, told.get("tests", 0) - failed - skipped),
        failed=failed or int(code != 0),
        skipped=skipped,
    )


def _run(
    command: list[str],
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> tuple[int, str]:
    """Its exit code, and what it wrote to `stdout` where that is a pipe. However this ends, nothing
    that it started is left running: not at Ctrl-C, not at SIGTERM, and not what detached itself."""
    from remote.control import processes

    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    with ended_well():
        marked = {**os.environ, **(environment or {}), _MARK: mark}
        child = subprocess.Popen(
            command, cwd=CODE, env=marked, stdout=stdout, stderr=stderr, text=True
        )
        try:
            said, _ = child.communicate()
        except (KeyboardInterrupt, SystemExit) as ended:
            _say("ending what was started ...")
            _end(child, has_heard=isinstance(ended, KeyboardInterrupt) and _is_in_front())
            raise
        finally:
            processes.end(_MARK, mark, grace_seconds=_GRACE_SECONDS)
    return child.returncode, said or ""


def _end(child: "subprocess.Popen[str]", has_heard: bool) -> None:
    """Ask once, as Ctrl-C does: pytest takes down what its tests have set up. Asked twice it would
    leave it standing."""
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired, KeyboardInterrupt):
        if not has_heard:
            child.send_signal(signal.SIGINT)
        child.wait(_PATIENCE_SECONDS)


def _is_in_front() -> bool:
    """Whether this terminal's Ctrl-C goes to the child too."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def _say(text: str) -> None:
    complain(text)


collection.add_task(lock)
