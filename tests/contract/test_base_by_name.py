"""A base model on the box by its name: the one that is there is found, and chosen where only one
fits."""

import pytest

from remote.contract.artifacts import base_models
from remote.contract.job.stages import needs_base

TINY, OTHER = "tiny-mistral-0123456789ab", "tiny-mistral-ba9876543210"
BIG = "mistralai--Mistral-7B-v0.3"


@pytest.fixture
def root(tmp_path):
    def holds(*folders):
        for name in folders:
            (tmp_path / "shared/models" / name).mkdir(parents=True)
            (tmp_path / "shared/models" / name / "config.json").write_text("{}")
        return tmp_path

    return holds


@pytest.mark.parametrize(
    ("folders", "asked", "found"),
    [
        ([TINY], TINY, TINY),
        ([TINY], "tiny-mistral", TINY),
        ([TINY], "windlass/tiny-mistral", TINY),
        ([TINY, BIG], "tiny-mistral", TINY),
        ([TINY, OTHER], "tiny-mistral", None),
        ([TINY, OTHER], OTHER, OTHER),
        ([BIG], "mistralai/Mistral-7B-v0.3", BIG),
        ([BIG], "Mistral-7B-v0.3", BIG),
        ([BIG], "Mistral-7B", None),
        ([BIG], "Mistral-7B-v0.2", None),
        ([], "tiny-mistral", None),
    ],
)
def test_a_name_is_the_one_model_that_fits(root, folders, asked, found):
    box = root(*folders)
    path = box / base_models.place(asked)
    expected = box / "shared/models" / found if found else path
    assert base_models.found(path, box, None) == expected
    recipes = {"base": {"name": asked, "path": str(box / "nowhere")}}
    assert base_models.found(box / "nowhere", box, recipes) == (
        expected if found else box / "nowhere"
    )
    assert base_models.found(box / "another", box, recipes) == box / "another", (
        "what was asked for is never replaced"
    )


def test_a_path_goes_before_a_name(root, tmp_path):
    box = root(TINY)
    (tmp_path / "mine").mkdir()
    assert (
        base_models.found(tmp_path / "mine", box, {"base": {"name": "tiny-mistral"}})
        == tmp_path / "mine"
    )


def test_what_is_there_leaves_out_what_is_on_its_way(root):
    box = root(BIG, TINY)
    (box / "shared/models/.half.partial").mkdir()
    (box / "shared/models/empty").mkdir()
    (box / f"shared/models/{BIG}.json").write_text("{}")
    assert (
        base_models.there(box) == sorted([BIG, TINY]) and base_models.there(box / "nowhere") == []
    )


@pytest.mark.parametrize(
    ("uses", "wiring", "needed"),
    [
        ("train", {}, True),
        ("train", {"base": "base.model"}, False),
        ("train", {"base": "box:/models/x"}, False),
        ("train", {"base": "box:shared/models/x"}, True),
        ("pull", {}, False),
        ("no-such-stage", {}, False),
    ],
)
def test_which_stages_take_a_base_by_its_name(uses, wiring, needed):
    assert needs_base(uses, wiring) is needed
