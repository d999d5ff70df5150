"""For every test: a project of its own, and an honest word about what this machine lacks."""

import os
import shutil

import pytest

SSHD = shutil.which("sshd", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin")))

os.environ.pop("WINDLASS_PROJECT", None)  # one that is exported is the developer's own


def pytest_collection_modifyitems(items):
    """The longest come first, or one processor ends up with them alone. Without OpenSSH's sshd its tests are skipped, except in CI."""
    items.sort(key=lambda item: item.get_closest_marker("end_to_end") is None)
    if SSHD or os.environ.get("CI"):
        return
    for item in items:
        if item.get_closest_marker("sshd"):
            item.add_marker(pytest.mark.skip(reason="needs sshd: sudo apt-get install openssh-server"))


@pytest.fixture(autouse=True)
def _own_project(tmp_path_factory, monkeypatch):
    """No test ever sees, or touches, the developer's own project, cloud or Ollama."""
    if "WINDLASS_PROJECT" not in os.environ:
        monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path_factory.mktemp("project")))
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
