"""What a stage makes of a recipe, whoever wrote its job."""

import copy

import pytest

from remote.contract.artifacts.chat_templates import MISTRAL_V3
from remote.contract.job.jobs import Cause
from remote.control.config.recipe import Recipe
from remote.payload.job import StageFailed
from remote.payload.training.settings import Settings

RECIPE = Recipe.model_validate({"base": {"name": "x"}}).plain()


def changed(*keys, value):
    recipe = copy.deepcopy(RECIPE)
    section = recipe
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    return recipe


def test_a_composed_recipe_is_read():
    assert Settings.of_recipe(RECIPE).r == 64
    assert Settings.of_recipe({**RECIPE, "pretraining": {"steps": 1}}).chat_template is None


@pytest.mark.parametrize(
    ("keys", "words", "remedy"),
    [
        (
            ("quantization", "dobule"),
            "`quantization` has the unknown key `dobule`",
            "write `double`",
        ),
        (
            ("quantisation",),
            "the recipe has the unknown key `quantisation`",
            "write `quantization`",
        ),
        (("base", "revision"), "`base` has the unknown key `revision`", "remove it"),
        (("lora", "learning_rate"), "`lora` has the unknown key `learning_rate`", "remove it"),
        (("training", "r"), "`training` has the unknown key `r`", "remove it"),
        (("training", "device"), "`training` has the unknown key `device`", "remove it"),
    ],
)
def test_a_key_that_nobody_reads_is_refused_wherever_it_stands(keys, words, remedy):
    with pytest.raises(StageFailed) as caught:
        Settings.of_recipe(changed(*keys, value=1))
    assert caught.value.cause is Cause.CONFIG
    assert caught.value.why.startswith(words + "; expected ") and caught.value.remedy.startswith(
        remedy
    )


@pytest.mark.parametrize("section", ["base", "quantization", "lora", "training"])
def test_a_section_that_is_none_is_refused(section):
    with pytest.raises(StageFailed, match="nf4") as caught:
        Settings.of_recipe(changed(section, value="nf4"))
    assert caught.value.cause is Cause.CONFIG


def test_a_chat_template_is_a_name_or_a_text():
    assert (
        Settings.of_recipe(changed("base", "chat_template", value="mistral-v3")).chat_template
        == MISTRAL_V3
    )
    assert (
        Settings.of_recipe(changed("base", "chat_template", value="{{ messages }}")).chat_template
        == "{{ messages }}"
    )
    with pytest.raises(StageFailed, match="mistral-v9") as caught:
        Settings.of_recipe(changed("base", "chat_template", value="mistral-v9"))
    assert "expected mistral-v3, or a Jinja template" in caught.value.why
