"""How far it is from a verb to the cloud: python benchmarks/paths.py [--json] [--files]

`launch` and `status` of one box of an embedded cloud of its own, in this process, with every module
loaded before: what an import runs is not counted. For `launch`, the frames of the project on the
stack when boto3 is asked for RunInstances, and the files of the project that ran a function until
then; for `status`, the files until the verb has returned, without SSH (`--quick`) and with it.
`--files` names them. Ends with 1 when a goal is missed.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import pkgutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

INVENTORY = "default_box: box\nboxes:\n  box: {provider: embedded, disk_gb: 8}\n"
GOALS = {
    "launch: frames at RunInstances": 8,
    "launch: files until RunInstances": 25,
    "status --quick: files": 12,
    "status: files": 12,
}


@dataclass
class Walk:
    """What ran of the project. `until` is an operation of a cloud's API: what comes after it does
    not count."""

    until: str = ""
    files: set[str] = field(default_factory=set)
    stack: list[str] = field(default_factory=list)

    def record(self, verb: Callable[[], Any]) -> "Walk":
        """Run the verb, all its threads included."""
        threading.setprofile(self._entered)
        sys.setprofile(self._entered)
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                verb()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
        return self

    def _entered(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or self.stack:
            return
        if path := _of_project(frame):
            self.files.add(path)
        elif frame.f_code.co_name == "_make_api_call" and self._is_asked(frame):
            self.stack = [f"{path}: {name}" for path, name in _stack(frame)][::-1]

    def _is_asked(self, frame: FrameType) -> bool:
        return bool(self.until) and frame.f_locals.get("operation_name") == self.until


def main() -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print as JSON, files and frames too")
    parser.add_argument("--files", action="store_true", help="name the frames and files too")
    asked = parser.parse_args()
    launch, quick, status = _measured()
    seen = [len(launch.stack), *(len(walk.files) for walk in (launch, quick, status))]
    figures = dict(zip(GOALS, seen, strict=True))
    if asked.json:
        print(json.dumps({"figures": figures, "goals": GOALS, **_named(launch, quick, status)}))
    else:
        print(f"{'':36}{'seen':>5}  goal")
        for name, goal in GOALS.items():
            print(f"{name:36}{figures[name]:>5}  {goal}")
        for name, lines in _named(launch, quick, status).items() if asked.files else ():
            print("\n  ".join([f"\n{name}:", *lines]))
    sys.exit(any(figures[name] > goal for name, goal in GOALS.items()))


def _measured() -> tuple[Walk, Walk, Walk]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "inventory.yaml").write_text(INVENTORY)
        os.environ["WINDLASS_PROJECT"] = folder
        _load_everything()
        from remote.control.commands.boxes import box, cloud, status

        with contextlib.redirect_stdout(io.StringIO()):
            cloud.up.body(None)
        try:
            return (
                Walk("RunInstances").record(lambda: box.launch.body(None, ("box",), yes=True)),
                Walk().record(lambda: status.status.body(None, ("box",), quick=True)),
                Walk().record(lambda: status.status.body(None, ("box",))),
            )
        finally:
            with contextlib.redirect_stdout(io.StringIO()):
                cloud.down.body(None)


def _load_everything() -> None:
    import remote.contract
    import remote.control

    for package in (remote.contract, remote.control):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def _of_project(frame: FrameType) -> str:
    """The file of a frame that runs a function of the project; else nothing."""
    path = frame.f_code.co_filename
    is_ours = path.startswith(f"{ROOT}/remote/") and frame.f_code.co_name != "<module>"
    return path.removeprefix(f"{ROOT}/") if is_ours else ""


def _stack(frame: FrameType | None) -> Iterator[tuple[str, str]]:
    while frame:
        if path := _of_project(frame):
            yield path, getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        frame = frame.f_back


def _named(launch: Walk, quick: Walk, status: Walk) -> dict[str, list[str]]:
    return {
        "launch: frames": launch.stack,
        "launch: files": sorted(launch.files),
        "status --quick: files": sorted(quick.files),
        "status: files": sorted(status.files),
    }


if __name__ == "__main__":
    main()
