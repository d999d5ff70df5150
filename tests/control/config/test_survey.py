"""`inv check` as a whole: one playbook on a box, or everything that lies in the project."""

import json
import os
import subprocess

from remote.control.config.checks.survey import survey
from remote.control.config.inventory import read_inventory
from remote.control.project import CODE
from tests.integration.typed import command_of


def _inv(project, *words):
    environment = {**os.environ, "WINDLASS_PROJECT": str(project), "PYTHONPATH": str(CODE)}
    command = command_of(*words)
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=project, check=False
    )


def test_everything_shipped_is_right():
    found = survey(*read_inventory(), None, None)
    assert found.findings == []
    assert "inventory.yaml" in found.checked and "playbooks/golden-path.yaml" in found.checked


def test_a_playbook_that_does_not_fit_the_default_box():
    assert any(
        "no GPU" in finding.what
        for finding in survey(*read_inventory(), "golden-path", None).findings
    )


def test_findings_of_inventory_and_playbook_come_together(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(
        "default_box: demo\nboxes: {demo: {provider: embeded}}\n"
    )
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "mine.yaml").write_text("name: mine\nstages: {a: {use: train}}\n")
    found = survey(*read_inventory(), None, None).findings
    assert [finding.where for finding in found] == [
        "inventory.yaml:2",
        "playbooks/mine.yaml:2",
        "playbooks/mine.yaml:2",
    ]


def test_the_command_exits_with_10_and_says_file_and_line(tmp_path):
    (tmp_path / "bad.yaml").write_text("name: bad\nstages:\n  train: {uses: trian}\n")
    answer = _inv(tmp_path, "check", "bad.yaml", "--json")
    assert answer.returncode == 10
    assert (
        "bad.yaml:3: `train` uses `trian`, which does not exist" in answer.stderr
        and "Traceback" not in answer.stderr
    )
    (finding,) = json.loads(answer.stdout)["findings"]
    assert finding["where"] == "bad.yaml:3" and "`train`" in finding["remedy"]


def test_the_command_says_ok(tmp_path):
    answer = _inv(tmp_path, "check")
    assert (answer.returncode, answer.stdout[:3]) == (0, "ok:"), answer.stderr
