import json

import pytest
from invoke import Context
from invoke import Exit as Leave

from remote.contract.exits import Exit
from remote.control.commands import cloud


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
    (tmp_path / "inventory.yaml").write_text("default_box: lab\nboxes:\n  lab: {provider: static, host: gpu.example.org, user: me}\n")
    with pytest.raises(Leave) as caught:
        cloud.console(Context())
    assert caught.value.code == Exit.CLOUD
    assert "provider is static" in capsys.readouterr().err
