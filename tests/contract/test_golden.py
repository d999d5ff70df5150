"""The golden configuration and the deviations from it."""

import copy

from remote.contract.job.checks import Check, Verdict
from remote.contract.job.golden import GOLDEN, deviations


def _golden():
    recipe = {}
    for key, value in GOLDEN.items():
        section, name = key.split(".")
        recipe.setdefault(section, {})[name] = copy.deepcopy(value)
    return recipe


def test_the_golden_recipe_has_no_deviation():
    recipe = _golden()
    recipe["lora"]["targets"].reverse()
    assert deviations(recipe) == []


def test_each_deviation_is_named():
    recipe = _golden()
    recipe["lora"].update(r=16, targets=["q_proj"])
    recipe["training"]["learning_rate"] = 1e-5
    del recipe["quantization"]["double"]
    assert [str(item) for item in deviations(recipe)] == [
        "double: nothing, golden true",
        "r: 16, golden 64",
        "targets: [q_proj], golden [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]",
        "learning_rate: 1e-05, golden 0.0002",
    ]


def test_an_empty_recipe_deviates_everywhere():
    assert len(deviations({})) == len(GOLDEN)


def test_a_check_survives_the_wire():
    check = Check("disk", "1 GB", "2 GB", Verdict.FAIL, "free space")
    assert Check.from_json(check.to_json()) == check
