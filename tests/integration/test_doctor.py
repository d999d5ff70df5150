"""`inv doctor` against the embedded cloud: what is well, and what each fault looks like in the
table."""

import json
import stat

import pytest
from invoke import Collection

from remote.contract.job.checks import Verdict
from remote.control import project
from remote.control.cloud import embedded
from remote.control.cloud.account import endpoint
from remote.control.commands.doctor import doctor
from remote.control.config.inventory import load_inventory
from remote.control.doctor import report
from tests.integration.typed import ended

INVENTORY = """
default_box: demo
boxes:
  demo: {provider: embedded}
  gpu: {provider: embedded, instance_type: g5.2xlarge, market: spot, fallbacks: [{market: on-demand}]}
storage: {bucket: the-bucket}
"""


@pytest.fixture
def inventory(embedded_project):
    (project.root() / "inventory.yaml").write_text(INVENTORY)
    found = load_inventory()
    endpoint.of_entry(found.box()).client("s3").create_bucket(Bucket="the-bucket")
    yield found
    embedded.clear(embedded.endpoint())


def of(rows, subject):
    return {check.name: check for name, check in rows if name == subject}


def failed(inventory):
    rows = report.examine(inventory, [inventory.box()])
    return {check.name: check for _, check in rows if check.verdict is Verdict.FAIL}


def test_a_whole_account_is_well(inventory):
    rows = report.examine(inventory, list(inventory.boxes.values()))
    report.require_well(rows)
    assert of(rows, "laptop")["ollama"].verdict is Verdict.OK
    gpu = of(rows, "gpu")
    assert {"quota L-3819A6DF", "quota L-DB2E81BA"} <= set(gpu)
    assert "8 more" in gpu["quota L-DB2E81BA"].expected
    assert gpu["bucket"].verdict is Verdict.OK
    assert (
        endpoint.of_entry(inventory.box())
        .client("s3")
        .list_objects_v2(Bucket="the-bucket")["KeyCount"]
        == 0
    )


def test_a_bucket_that_is_not_there(inventory):
    endpoint.of_entry(inventory.box()).client("s3").delete_bucket(Bucket="the-bucket")
    assert "bucket" in failed(inventory)


def test_an_open_state_folder(inventory):
    folder = project.root() / ".windlass"
    folder.chmod(0o755)
    assert (
        ".windlass" not in failed(inventory) and stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU
    ), "each command closes it"


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ({"kind": "credentials"}, "credentials"),
        ({"kind": "clock-skew", "seconds": 900}, "clock"),
        ({"kind": "permission", "operation": "RunInstances"}, "permission"),
        ({"kind": "permission", "operation": "DescribeImages"}, "image"),
    ],
)
def test_a_fault_of_the_account_is_one_line_with_its_remedy(inventory, fault, check):
    embedded.inject(embedded.endpoint(), fault)
    found = failed(inventory)[check]
    assert found.measured
    assert found.remedy


def test_the_command(inventory, capsys):
    assert ended(Collection(doctor), "doctor", "--policy", "box") == 0
    assert "the-bucket" in json.dumps(json.loads(capsys.readouterr().out)["Statement"])
