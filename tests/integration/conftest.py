"""For integration tests: a project whose one box is in the embedded cloud."""

import pytest

from remote.control.cloud import embedded

INVENTORY = """\
default_box: demo
boxes:
  demo:
    provider: embedded
"""


@pytest.fixture(scope="module")
def embedded_project(tmp_path_factory):
    """A project folder of the module's own, with one embedded box `demo`. The cloud starts on
    demand, and is down afterwards."""
    root = tmp_path_factory.mktemp("embedded")
    (root / "inventory.yaml").write_text(INVENTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_PROJECT", str(root))
        yield root
        embedded.down()
