"""`./inv test` that is ended: nothing that it started is left, whoever detached itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote.control.project import CODE

STARTED = """
import subprocess, sys, time
from pathlib import Path
from remote.control.commands import dev
dev._PATIENCE_SECONDS, dev._GRACE_SECONDS = 5.0, 0.2
try:
    dev._run([sys.executable, {child!r}, {folder!r}])
except KeyboardInterrupt:
    sys.exit(130)
"""
CHILD = """
import os, signal, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
sleep = [sys.executable, "-c", "import time; time.sleep(120)"]
deaf = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"]
detached = [subprocess.Popen(each, start_new_session=True).pid for each in (sleep, deaf)]
pids = [subprocess.Popen(sleep).pid, *detached]
(folder / "pids.part").write_text(" ".join(map(str, [os.getpid(), *pids])))
(folder / "pids.part").rename(folder / "pids")
try:
    time.sleep(120)
except KeyboardInterrupt:
    (folder / "took down").touch()
"""


def is_there(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_what_was_started_is_ended(tmp_path, number, code):
    (tmp_path / "child.py").write_text(CHILD)
    words = [
        sys.executable,
        "-c",
        STARTED.format(child=str(tmp_path / "child.py"), folder=str(tmp_path)),
    ]
    surroundings = os.environ | {"PYTHONPATH": str(CODE)}
    started = subprocess.Popen(
        words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=surroundings
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(map(is_there, pids))
    started.send_signal(number)
    said = started.communicate(timeout=30)[1]
    assert (started.returncode, said) == (code, "ending what was started ...\n")
    assert not any(map(is_there, pids))
    assert (
        tmp_path / "took down"
    ).exists()  # asked as Ctrl-C asks, so that it takes down what it has set up
