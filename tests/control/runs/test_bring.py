"""What can be had of a run whose box is gone."""

from types import SimpleNamespace

import pytest

from remote.control.backends.resolved import StageArtifact
from remote.control.errors import BoxStopped
from remote.control.runs import artifacts


class Gone:
    """A box that is gone; `spilled` says what its bucket has."""

    name = "demo"

    def __init__(self, *spilled):
        self.spilled, self.brought = spilled, []

    def fetch(self, made, folder):
        if made.path not in self.spilled:
            raise BoxStopped("box demo is terminated", where="box demo", why="user: terminated")
        self.brought.append(made.path)


def test_all_that_can_be_had_comes_and_the_rest_is_named(tmp_path):
    made = [
        ("base", "model", StageArtifact("shared/models/gpt-1", 1, "0" * 64, True)),
        ("prepare", "train", StageArtifact("jobs/p/artifacts/train", 1, "0" * 64, False)),
        ("train", "adapter", StageArtifact("jobs/t/artifacts/adapter", 1, "0" * 64, True)),
    ]
    box, ledger = (Gone("jobs/t/artifacts/adapter"), SimpleNamespace(folder=tmp_path, run_id="r1"))
    with pytest.raises(BoxStopped, match=r"base\.model, prepare.train cannot be brought") as caught:
        artifacts._bring_each(box, ledger, made)
    assert box.brought == ["jobs/t/artifacts/adapter"]
    assert (
        "base.model: of the folder that all jobs of a box share" in caught.value.why
        and "prepare" not in caught.value.why
    )
    assert "other 1 of 3" in caught.value.kept and "./inv resume r1" in caught.value.remedy
    artifacts._bring_each(box, ledger, made[2:])


def test_a_damaged_file_that_two_stages_name_is_told_once_with_what_mends_it():
    ledger = SimpleNamespace(run_id="haul-1")
    rows = [("count.blob", "/a/blob", "damaged"), ("pull.blob", "/a/blob", "damaged")]
    with pytest.raises(artifacts.ArtifactsDamaged, match=r"^1 damaged: /a/blob$") as caught:
        artifacts.require_whole(ledger, rows)
    assert caught.value.remedy.startswith("`./inv pull haul-1`")
