"""What can be had of a run whose box is gone."""

from types import SimpleNamespace

import pytest

from remote.control.errors import BoxStopped
from remote.control.runs import bring


class Session:
    """A box that is gone; `spilled` says what its bucket has."""

    def __init__(self, *spilled):
        self.entry, self.spilled, self.brought = SimpleNamespace(name="demo"), spilled, []

    def bring(self, output, folder):
        if output["path"] not in self.spilled:
            raise BoxStopped("box demo is terminated", where="box demo", why="user: terminated")
        self.brought.append(output["path"])


def test_all_that_can_be_had_comes_and_the_rest_is_named(tmp_path):
    made = [
        ("base", "model", {"path": "shared/models/gpt-1"}),
        ("prepare", "train", {"path": "jobs/p/artifacts/train"}),
        ("train", "adapter", {"path": "jobs/t/artifacts/adapter"}),
    ]
    session, ledger = (
        Session("jobs/t/artifacts/adapter"),
        SimpleNamespace(folder=tmp_path, run_id="r1"),
    )
    with pytest.raises(BoxStopped, match=r"base\.model, prepare.train cannot be brought") as caught:
        bring._bring_each(session, ledger, made)
    assert session.brought == ["jobs/t/artifacts/adapter"]
    assert (
        "base.model: of the folder that all jobs of a box share" in caught.value.why
        and "prepare" not in caught.value.why
    )
    assert "other 1 of 3" in caught.value.kept and "./inv resume r1" in caught.value.remedy
    bring._bring_each(session, ledger, made[2:])
