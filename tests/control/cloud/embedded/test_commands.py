import json

import pytest
from invoke import Context
from invoke import Exit as Leave

from remote.contract.job.exits import Exit
from remote.control.commands.boxes import cloud


@pytest.fixture(autouse=True)
def own_project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))


def test_status_of_a_cloud_that_is_down(capsys):
    cloud.status(Context(), json=True)
    assert json.loads(capsys.readouterr().out) == {"up": False, "instances": []}


def test_down_of_a_cloud_that_is_down(capsys):
    cloud.down(Context(), json=True)
    told = capsys.readouterr()
    assert json.loads(told.out) == {"up": False, "was_up": False}
    assert "was not up" in told.err


def test_the_console_of_another_providers_box_is_refused(capsys, tmp_path):
    (tmp_path / "inventory.yaml").write_text(
        "default_box: lab\nboxes:\n  lab: {provider: static, host: gpu.example.org, user: me}\n"
    )
    with pytest.raises(Leave) as caught:
        cloud.console(Context())
    assert caught.value.code == Exit.CLOUD
    assert "provider is static" in capsys.readouterr().err


def test_faults_are_injected_shown_and_taken_back(capsys):
    try:
        cloud.fault(Context(), kind="capacity", zone="us-east-1a", json=True, dry_run=True)
        assert json.loads(capsys.readouterr().out) == [{"kind": "capacity", "zone": "us-east-1a"}]
        cloud.fault(Context(), kind="capacity", zone="us-east-1a", count="2")
        cloud.fault(Context(), kind="throttle")
        assert "1 fault injected; capacity zone us-east-1a count 2" in capsys.readouterr().out
        cloud.fault(Context(), json=True)
        standing = json.loads(capsys.readouterr().out)
        assert [(each["kind"], each["count"]) for each in standing] == [
            ("capacity", 2),
            ("throttle", None),
        ]
        cloud.fault(Context(), kind="throttle", clear=True, dry_run=True)
        cloud.fault(Context(), kind="capacity", clear=True)
        assert "1 fault would be taken back; throttle" in capsys.readouterr().out
        cloud.fault(Context(), json=True)
        assert [each["kind"] for each in json.loads(capsys.readouterr().out)] == ["throttle"]
        cloud.fault(Context(), clear=True)
        assert "1 fault taken back" in capsys.readouterr().out
    finally:
        cloud.down(Context())


def test_a_fault_that_does_not_exist_is_explained(capsys):
    try:
        with pytest.raises(Leave) as caught:
            cloud.fault(Context(), kind="gremlins", dry_run=True)
        assert caught.value.code == Exit.CLOUD
        assert "there are capacity, quota" in capsys.readouterr().err
    finally:
        cloud.down(Context())
