"""A background process that does not come up is ended: nobody would find it again."""

from pathlib import Path

import pytest

from remote.control.daemon import Daemon, start_time_of
from remote.control.errors import LaptopError


def test_one_that_never_announces_itself_is_ended(tmp_path, monkeypatch):
    (tmp_path / "mute.py").write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1], 'pid').write_text(str(os.getpid()))\n"
        "print('thinking', flush=True)\n"
        "time.sleep(120)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = Daemon("the mute one", "mute", tmp_path / "folder")
    with pytest.raises(LaptopError, match="did not start") as caught:
        daemon.start(patience_seconds=4)
    assert caught.value.why == "thinking"
    assert start_time_of(int((tmp_path / "folder" / "pid").read_text())) is None
    assert daemon.running() is None


def test_one_that_ends_while_it_is_looked_at_counts_as_none(monkeypatch):
    def gone(path):
        raise ProcessLookupError(3, "No such process", str(path))

    monkeypatch.setattr(Path, "read_text", gone)
    assert start_time_of(1) is None
