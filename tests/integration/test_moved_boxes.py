"""A box that is stopped, started or terminated between two commands of one session: seen at its
next deploy."""

import pytest

from remote.control.backends.ssh import SshBackend
from remote.control.cloud import boxes
from remote.control.config.inventory import load_inventory
from remote.control.errors import BoxStopped
from remote.control.project import CODE
from remote.control.runs.ledger import Ledger
from remote.control.transport.connect import connect
from tests.integration.boxes import mark_environment


@pytest.fixture(params=["has answered", "was never asked"])
def session(embedded_project, request):
    """A session whose box runs, with code of no release on it yet, whether it was spoken to or
    not."""
    inventory = load_inventory()
    entry = inventory.box()
    box = boxes.ready(entry, lambda line: None)
    with connect(box) as transport:
        mark_environment(transport, CODE / "remote/payload/requirements.txt")
    ledger = Ledger.create("moved")
    with SshBackend(entry, inventory, ledger.run_id, ledger.append) as driven:
        way = driven.transport
        if request.param == "has answered":
            way.exec("true")
        yield driven


@pytest.mark.parametrize("how", [boxes.stop, boxes.terminate])
def test_a_deploy_to_a_box_that_is_gone_says_so_at_once(session, how):
    how(session.entry)
    with pytest.raises(BoxStopped, match="is gone") as caught:
        session.deploy()
    assert caught.value.why.startswith("user:") and "`./inv resume" in caught.value.remedy


def test_a_deploy_goes_to_the_address_that_the_box_has_now(session):
    was = session.box.address
    boxes.stop(session.entry)
    boxes.start(session.entry, lambda line: None)
    assert session.deploy() and session.box.address != was
    assert (
        session.transport.exec("readlink windlass/current").text.strip().endswith(session.deploy())
    )
