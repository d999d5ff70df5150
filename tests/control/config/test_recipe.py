"""Recipes compose, and every value keeps the line of the file that holds it."""

import pytest

from remote.control.config.checks.fit import adapter_size, need_of, shape_of, training_bytes
from remote.control.config.recipe import PROJECTIONS, load_recipe
from remote.control.errors import ConfigError
from remote.control.project import CODE

GOLDEN = CODE / "playbooks/recipes/mistral-7b-golden.yaml"


def _files(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path / "top.yaml"


def test_mappings_merge_and_the_rest_replaces(tmp_path):
    top = _files(
        tmp_path,
        top="extends: middle.yaml\nlora: {r: 8}\ntraining:\n  seed: 7\n",
        middle="extends: bottom.yaml\nlora:\n  targets: [q_proj]\n",
        bottom="base: {name: x}\nlora:\n  r: 16\n  alpha: 32\n  targets: [v_proj, o_proj]\n",
    )
    recipe = load_recipe(top)
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.targets, recipe.training.seed) == (
        8,
        32,
        ["q_proj"],
        7,
    )
    places = {
        keys: recipe.where(*keys).split("/")[-1]
        for keys in [("lora", "r"), ("lora", "alpha"), ("lora", "targets"), ("lora", "targets", 0)]
    }
    assert list(places.values()) == [
        "top.yaml:2",
        "bottom.yaml:4",
        "middle.yaml:3",
        "middle.yaml:3",
    ]


def test_null_takes_a_section_back(tmp_path):
    own = (
        "{hidden_size: 8, intermediate_size: 8, layers: 1, heads: 2, kv_heads: 1, head_dim: 4,"
        " steps: 1}"
    )
    top = _files(
        tmp_path,
        top="extends: base.yaml\npretraining: null\n",
        base=f"base: {{name: x}}\npretraining: {own}\n",
    )
    assert load_recipe(top).pretraining is None
    assert load_recipe(tmp_path / "base.yaml").pretraining.heads == 2


def test_an_absent_base_is_found_at_its_line(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_recipe(_files(tmp_path, top="device: cpu\nextends: nowhere.yaml\n"))
    assert error.value.findings[-1].where.endswith("top.yaml:2")
    assert "nowhere.yaml" in error.value.findings[-1].what


def test_faults_of_an_extended_file_are_found_there(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_recipe(
            _files(tmp_path, top="extends: base.yaml\n", base="base: {name: x}\nlora:\n  r: 0\n")
        )
    (finding,) = error.value.findings
    assert finding.where.endswith("base.yaml:3") and "`lora.r` is 0" in finding.what


def test_the_golden_recipe_is_the_golden_configuration():
    plain = load_recipe(GOLDEN).plain()
    assert plain["lora"] == {
        "r": 64,
        "alpha": 16,
        "dropout": 0.1,
        "rslora": False,
        "targets": PROJECTIONS,
    }
    assert (
        plain["training"]["batch"],
        plain["training"]["max_length"],
        plain["training"]["learning_rate"],
    ) == (4, 1024, 2e-4)
    assert plain["quantization"] == {"type": "nf4", "double": True, "compute_dtype": "bfloat16"}


def _with(recipe, **training):
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=training)})


def test_the_memory_estimate_agrees_with_published_sums():
    recipe = load_recipe(GOLDEN)
    shape = shape_of(recipe)
    assert shape.linear == pytest.approx(6.98e9, rel=0.01)
    assert adapter_size(recipe, shape) == 167_772_160
    assert training_bytes(recipe, shape) / 1e9 == pytest.approx(9.0, rel=0.2)
    assert training_bytes(_with(recipe, batch=1, recompute=False), shape) / 1e9 == pytest.approx(
        16.5, rel=0.2
    )
    assert training_bytes(_with(recipe, recompute=False), shape) / 1e9 > 24
    assert 55 < need_of(recipe).disk_gb < 70


def test_an_unknown_model_has_no_estimate(tmp_path):
    assert need_of(load_recipe(_files(tmp_path, top="base: {name: someone/else}\n"))) is None


@pytest.mark.parametrize(
    "path", sorted((CODE / "playbooks/recipes").rglob("*.yaml")), ids=lambda path: path.name
)
def test_every_shipped_recipe_loads(path):
    assert load_recipe(path).base.name


def test_a_chat_template_is_a_name_or_a_file_beside_the_recipe_that_names_it(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "own.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    (tmp_path / "base" / "bottom.yaml").write_text("base: {name: x, chat_template: own.jinja}\n")
    taken = load_recipe(_files(tmp_path, top="extends: base/bottom.yaml\n"))
    assert taken.base.chat_template == "{{ bos_token }}{{ messages[0].content }}"
    assert (
        load_recipe(
            _files(tmp_path, top="base: {name: x, chat_template: mistral-v3}\n")
        ).base.chat_template
        == "mistral-v3"
    )
    assert (
        type(taken).model_validate(taken.plain()).plain() == taken.plain()
    )  # as the laptop reads it again for preflight


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (b"no template", "expected mistral-v3"),
        (b"\xff\xfe{{", "utf-8"),
        (b"{{" * 40_000, "at most 65,536"),
    ],
)
def test_a_chat_template_that_is_none_is_found_at_its_line(tmp_path, content, words):
    if content is not None:
        (tmp_path / "own.jinja").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_recipe(_files(tmp_path, top="base:\n  name: x\n  chat_template: own.jinja\n"))
    (finding,) = error.value.findings
    assert finding.where.endswith("top.yaml:3") and words in finding.what
    assert finding.expected == "mistral-v3, or a Jinja file relative to this recipe"


def test_the_golden_base_is_given_a_chat_template():
    assert load_recipe(GOLDEN).base.chat_template == "mistral-v3"
