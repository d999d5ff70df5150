"""Data recipes compose; what they name of the laptop travels, what they name of its environment is
handed on."""

import pytest

from remote.control.config.data_recipe import DataRecipe, load_data_recipe, needs_libraries
from remote.control.config.data_sources import SOURCES
from remote.control.config.data_steps import RULES, STEPS
from remote.control.errors import ConfigError
from remote.control.project import CODE


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    for name in ("rows.jsonl", "held.jsonl", "names.txt", "scores.db"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "playbooks/data").mkdir(parents=True)
    return tmp_path


def load(project, text, **others):
    for name, content in {"top": text, **others}.items():
        (project / f"playbooks/data/{name}.yaml").write_text(content)
    return load_data_recipe("top")


def test_what_is_not_said_is_for_the_box_to_know(project):
    recipe = load(project, "name: a\nsources: [{type: corpus, path: rows.jsonl}]\n")
    told = recipe.plain()
    assert told["sources"] == [{"type": "corpus", "path": "input:sources-1-path"}]
    assert told["split"]["validation"] == 0.2 and told["steps"] == [] and told["seed"] == 42


def test_files_of_the_laptop_are_inputs_and_others_stay_what_they_are(project):
    recipe = load(
        project,
        """\
name: a
sources:
  - {type: corpus, path: "s3://bucket/prefix/", local: rows.jsonl}
  - {type: corpus, path: "box:~/rows"}
  - {type: corpus, path: "box:shared/rows.jsonl"}
  - {type: kinds, path: rows.jsonl, steps: [{type: redact, names: names.txt}]}
steps:
  - {type: redact, names: [Ada]}
split: {held_out: held.jsonl}
""",
    )
    assert {file.name: file.value for file in recipe.files} == {
        "sources-1-local": "rows.jsonl",
        "sources-4-path": "rows.jsonl",
        "sources-4-steps-1-names": "names.txt",
        "split-held_out": "held.jsonl",
    }
    told = recipe.plain()
    assert [source["path"] for source in told["sources"]] == [
        "s3://bucket/prefix/",
        "~/rows",
        "shared/rows.jsonl",
        "input:sources-4-path",
    ]
    assert told["sources"][0]["local"] == "input:sources-1-local"
    assert told["sources"][3]["steps"] == [
        {"type": "redact", "names": "input:sources-4-steps-1-names"}
    ]
    assert told["steps"] == [{"type": "redact", "names": ["Ada"]}]
    assert told["split"]["held_out"] == "input:split-held_out"


def test_it_builds_on_another_and_a_fault_is_told_where_it_stands(project):
    base = "name: base\nsources: [{type: corpus, path: rows.jsonl}]\nseed: 7\n"
    recipe = load(project, "extends: base.yaml\nname: own\n", base=base)
    assert (recipe.name, recipe.seed) == ("own", 7)
    assert recipe.where("seed").endswith("base.yaml:3")
    with pytest.raises(ConfigError) as error:
        load(project, "extends: base.yaml\nname: own\n", base=base.replace("rows.jsonl", "no"))
    assert error.value.findings[0].where.endswith("base.yaml:2")


def test_the_variables_that_it_names_wherever_it_does(project):
    recipe = load(
        project,
        """\
name: a
sources:
  - {type: database, secret: SCORES_URL, query: SELECT 1 ORDER BY 1}
steps:
  - {type: raft, teacher: {url: "https://a.example/v1", model: m, key: TEACHER_KEY}}
secrets: [OTHER]
""",
    )
    assert recipe.plain()["secrets"] == ["OTHER", "SCORES_URL", "TEACHER_KEY"]
    lines = {name: recipe.where_secret(name).split(":")[-1] for name in recipe.secret_names}
    assert lines == {"OTHER": "6", "SCORES_URL": "3", "TEACHER_KEY": "5"}


@pytest.mark.parametrize(
    ("source", "step", "needs"),
    [
        ("{type: corpus, path: rows.jsonl}", "{type: deduplicate}", False),
        ("{type: corpus, path: 'box:/a/rows.jsonl.gz'}", "{type: quality, like: gopher}", False),
        ("{type: corpus, path: 'box:/a/rows.parquet'}", "{type: deduplicate}", True),
        ("{type: corpus, path: 'box:/a/folder'}", "{type: deduplicate}", True),
        ("{type: corpus, path: 's3://b/rows.jsonl'}", "{type: deduplicate}", True),
        ("{type: corpus, path: rows.jsonl}", "{type: deduplicate, near: 0.9}", True),
        ("{type: corpus, path: rows.jsonl}", "{type: language, keep: [fr]}", True),
        ("{type: corpus, path: rows.jsonl}", "{type: chunk}", False),
        ("{type: corpus, path: rows.jsonl}", "{type: chunk, tokenizer: 'box:/m'}", True),
        ("{type: kinds, path: rows.jsonl, steps: [{type: language, keep: [fr]}]}", "", True),
        ("{type: archives, path: rows.jsonl}", "", True),
    ],
)
def test_which_recipes_need_the_libraries_of_the_box(project, source, step, needs):
    recipe = load(project, f"name: a\nsources: [{source}]\nsteps: [{step}]\n")
    assert needs_libraries(recipe.plain()) is needs


def test_a_rule_of_ones_own_is_a_rule_that_there_is(project):
    head = "name: a\nsources: [{type: corpus, path: rows.jsonl}]\nsteps:\n"
    rules = "  - {type: quality, like: gopher, max_words: null, min_words: 3}\n"
    assert load(project, head + rules).plain()["steps"] == [
        {"type": "quality", "like": "gopher", "max_words": None, "min_words": 3}
    ]
    for fault in ("min_wrods: 3", "min_words: few"):
        with pytest.raises(ConfigError) as error:
            load(project, f"{head}  - {{type: quality, {fault}}}\n")
        assert error.value.findings[0].where.endswith("top.yaml:4")


def test_every_source_and_step_that_the_box_has_can_be_written_and_no_other():
    folder = CODE / "remote/payload/data"
    for models, where, function in (
        (SOURCES, "sources", "open_source"),
        (STEPS, "steps", "make_step"),
    ):
        modules = {
            path.stem
            for path in (folder / where).glob("*.py")
            if f"def {function}(" in path.read_text()
        }
        assert {model.model_fields["type"].default for model in models} == modules


def test_the_rules_are_those_of_the_box():
    from remote.payload.data.steps import quality

    assert sorted(RULES) == sorted(quality.RULES)


@pytest.mark.parametrize(
    "path", sorted((CODE / "playbooks/data").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_shipped_recipe_loads(path):
    assert isinstance(load_data_recipe(path), DataRecipe)
