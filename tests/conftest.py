"""For every test: a project of its own, and an honest word about what this machine lacks."""

import os
import shutil

import pytest

SSHD = shutil.which("sshd", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin")))


os.environ.pop("WINDLASS_PROJECT", None)  # one that is exported is the developer's own


def pytest_collection_modifyitems(items):
    """Tests that need OpenSSH's sshd are skipped without it, except in CI, where they must run."""
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
