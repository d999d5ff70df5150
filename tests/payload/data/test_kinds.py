import json
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.contract.artifacts.rows import NotARow, Row
from remote.payload.data.engine import Context, Engine
from remote.payload.data.kinds import trees
from remote.payload.data.kinds.modules import module_of, routed
from remote.payload.data.sources import kinds
from remote.payload.data.units import Given, Reject
from remote.payload.job import StageFailed

OWN = {"license": "own"}


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (each if isinstance(each, str) else json.dumps(each) for each in records)
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.fixture
def read(tmp_path):
    """The rows and the rejects of some records, as a set of the entry given."""

    def of(records, **entry):
        write(tmp_path / "set" / "rows.jsonl", records)
        return read_of(tmp_path, {"path": "set/rows.jsonl", **OWN, **entry})

    return of


def read_of(root, entry):
    entry = {"type": "kinds", **entry}
    source = kinds.open_source(entry, Context(root, root, {}))
    results = [result for unit in source.units() for result in source.read(unit)]
    rows = [each.row for each in results if isinstance(each, Given)]
    return rows, [each for each in results if isinstance(each, Reject)]


def said(row):
    return [(turn.role, turn.content) for turn in row.messages]


def reasons(rejects):
    return [each.reason for each in rejects]


def test_each_kind_is_told_by_its_fields(read):
    rows, rejects = read(
        [
            {"instruction": "Additionne.", "input": "1 1", "output": "2"},
            {"instruction": "Combien ?", "reasoning": "Un et un font deux.", "output": "2"},
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            {"text_1": "Qui tire ?", "text_2": "Le treuil tire.", "group": 7},
        ],
        prompt="Trouve le passage.",
    )
    assert rejects == []
    assert [said(row) for row in rows] == [
        [("user", "Additionne.\n\n1 1"), ("assistant", "2")],
        [("user", "Combien ?"), ("assistant", "Un et un font deux.\n\n2")],
        [("user", "a"), ("assistant", "b")],
        [("user", "Trouve le passage.\n\nQui tire ?"), ("assistant", "Le treuil tire.")],
    ]
    assert [row.source for row in rows] == ["rows"] * 4
    assert rows[3].group == "7"


def test_what_is_wrong_with_a_record_is_named_by_line_and_the_rest_goes_on(read):
    rows, rejects = read(
        [
            {"text_1": "a", "text_2": "a"},
            {"text_1": "a", "text_2": " "},
            "{",
            {"instruction": "a", "output": 3},
            {"nothing": 1},
            {"prompt": {"role": "prompter", "text": "a", "replies": "b"}},
            {"prompt": {"role": "judge", "text": "a"}},
            {"instruction": "a", "output": "b", "module": 3},
            {"instruction": "a", "output": "b"},
        ]
    )
    assert len(rows) == 1
    assert [each.origin.line for each in rejects] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert reasons(rejects)[:4] == [
        "`text_1` and `text_2` are the same",
        "`text_2` is empty",
        "not JSON: Expecting property name enclosed in double quotes",
        "`output` is a number, not text",
    ]
    assert reasons(rejects)[5:] == [
        "`replies` is no list of messages",
        "a message has the role 'judge': a role is prompter (user) or assistant",
        "`module` is a number, not text",
    ]


def node(role, text, *replies, **more):
    return {"role": role, "text": text, "replies": list(replies), **more}


TREE = node(
    "prompter",
    "Bonjour",
    node("assistant", "Salut", rank=1),
    node(
        "assistant",
        "Bonjour !",
        node("prompter", "Merci", node("assistant", "De rien")),
        node(
            "prompter", "Et toi ?", node("assistant", "Bien"), node("assistant", "x", deleted=True)
        ),
        rank=0,
    ),
)


def test_a_tree_becomes_its_best_conversation(read):
    rows, rejects = read([{"message_tree_id": "t1", "prompt": TREE}])
    assert rejects == []
    assert [said(row) for row in rows] == [
        [
            ("user", "Bonjour"),
            ("assistant", "Bonjour !"),
            ("user", "Merci"),
            ("assistant", "De rien"),
        ]
    ]
    assert rows[0].group == "rows/t1"


def test_all_ways_through_a_tree_are_one_group_and_learn_each_answer_once(read):
    rows, _ = read([{"message_tree_id": "t1", "prompt": TREE}], paths="all")
    learnt = [[turn.content for turn in row.messages if turn.is_learnt] for row in rows]
    assert learnt == [["Bonjour !", "De rien"], ["Bien"], ["Salut"]]
    assert {row.group for row in rows} == {"rows/t1"}


def flat(raw, parent=None, tree="t1"):
    name = f"{tree}-{raw['text']}"
    kept = {key: value for key, value in raw.items() if key != "replies"}
    yield {"message_id": name, "parent_id": parent, "message_tree_id": tree, **kept}
    for reply in raw["replies"]:
        yield from flat(reply, name, tree)


def test_messages_a_line_give_the_same_rows_as_nested_ones(read):
    nested, _ = read([{"message_tree_id": "t1", "prompt": TREE}], paths="all")
    lines = [*flat(TREE), *flat(TREE, tree="t2")]
    rows, rejects = read(lines, paths="all")
    assert rejects == []
    assert [said(row) for row in rows] == 2 * [said(row) for row in nested]
    assert [row.group for row in rows] == ["rows/t1"] * 3 + ["rows/t2"] * 3


def test_messages_that_hang_on_nothing_or_on_each_other_are_named(read):
    lines = list(flat(TREE))
    lost = {**lines[1], "message_id": "lost", "parent_id": "gone"}
    ring = [
        {**lines[1], "message_id": "r1", "parent_id": "r2"},
        {**lines[1], "message_id": "r2", "parent_id": "r1"},
    ]
    rows, rejects = read([*lines, lost, *ring])
    assert len(rows) == 1
    assert [each.origin.line for each in rejects] == [9, 10, 11]
    assert reasons(rejects)[0].startswith("its parent 'gone' is not in its tree")
    assert read(lines[1:])[1][0].reason.startswith("the tree t1: 0 of its messages have no parent")


def test_what_hangs_on_a_deleted_message_goes_with_it(read):
    lines = list(flat(TREE))
    deleted = [{**each, "deleted": each["text"] == "Bonjour !"} for each in lines]
    rows, rejects = read(deleted)
    assert [row.answer for row in rows] == ["Salut"] and rejects == []


def test_a_tree_that_nobody_answers_and_roles_out_of_turn(read):
    rows, rejects = read(
        [
            {"prompt": node("prompter", "a", node("prompter", "b"))},
            {"prompt": node("prompter", "a", node("prompter", "b", node("assistant", "c")))},
            {"prompt": node("prompter", "a", deleted=True)},
        ]
    )
    assert rows == []
    assert [each.partition(":")[0] for each in reasons(rejects)] == [
        "no message of the assistant",
        "message 2 is the user's, and the assistant's is due there",
        "its first message is deleted",
    ]


messages = st.recursive(
    st.builds(node, st.sampled_from(["prompter", "assistant"]), st.text(min_size=1)),
    lambda inner: st.builds(
        lambda role, text, replies: node(role, text, *replies),
        st.sampled_from(["prompter", "assistant"]),
        st.text(min_size=1),
        st.lists(inner, max_size=3),
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(messages)
def test_every_answer_of_a_tree_is_learnt_exactly_once(raw):
    def answers(each):
        return (each["role"] == "assistant") + sum(map(answers, each["replies"]))

    try:
        found = list(trees.conversations(trees.nested(raw), "all"))
    except NotARow:
        assert not answers(raw) or "half a character" in str(sys.exc_info()[1])
        return
    assert sum(turn.is_learnt for turns in found for turn in turns) == answers(raw)


def test_a_tree_too_large_is_set_aside():
    many = [node("assistant", "b")] * trees.MAX_MESSAGES
    with pytest.raises(NotARow, match="more than 10,000"):
        trees.nested(node("prompter", "a", *many, node("assistant", "c")))


def test_a_prefix_routes_a_row_to_its_module(read):
    rows, rejects = read(
        [
            {"instruction": "[MOD=Hippocampus] Range ceci.", "output": "ok"},
            {"instruction": "Range ceci.", "output": "ok", "module": "Cortex"},
            {"instruction": "[MOD=Cortex] Range.", "output": "ok", "module": "Cortex"},
            {"text_1": "[MOD=RAG]\nQui ?", "text_2": "Lui."},
            {"instruction": "Rien.", "output": "ok"},
            {"instruction": "[MOD=../../etc] Range.", "output": "ok"},
            {"instruction": "[MOD=A] Range.", "output": "ok", "module": "B"},
            {"instruction": "[MOD=A]", "output": "ok"},
        ],
        name="ensemble",
    )
    assert [module_of(row) for row in rows] == ["Hippocampus", "Cortex", "Cortex", "RAG", ""]
    assert [row.asked for row in rows] == ["Range ceci.", "Range ceci.", "Range.", "Qui ?", "Rien."]
    assert rows[0].source == "ensemble [MOD=Hippocampus]"
    assert rows[-1].source == "ensemble"
    assert reasons(rejects) == [
        "`[MOD=../../etc]` names no module: letters, digits, `_`, `-` and `.`",
        "its prefix says the module A, its field `module` B",
        "what the user says in message 1 is empty",
    ]


def test_a_prefix_may_be_kept(read):
    rows, _ = read([{"instruction": "[MOD=Core] Range.", "output": "ok"}], keep_prefix=True)
    assert rows[0].asked == "[MOD=Core] Range." and module_of(rows[0]) == "Core"


def test_a_module_outlives_the_row_as_json():
    row = routed(Row(text="[MOD=core] Un texte."))
    assert (row.text, row.source, module_of(row)) == ("Un texte.", "[MOD=core]", "core")


def test_a_source_without_a_licence_is_refused_with_the_remedy(tmp_path):
    write(tmp_path / "set" / "rows.jsonl", [{"instruction": "a", "output": "b"}])
    with pytest.raises(StageFailed) as caught:
        read_of(tmp_path, {"path": "set/rows.jsonl"})
    assert caught.value.what == "the source `rows` has no licence"
    assert "`license: own`" in caught.value.remedy


@pytest.mark.parametrize("told", ["CC-BY-NC-4.0", "CC BY-SA 4.0", "other", "research-only"])
def test_a_licence_that_is_not_allowed_is_refused(tmp_path, told):
    write(tmp_path / "rows.jsonl", [{"instruction": "a", "output": "b"}])
    with pytest.raises(StageFailed, match="is not allowed") as caught:
        read_of(tmp_path, {"path": "rows.jsonl", "license": told})
    assert "`licenses:`" in caught.value.remedy
    entry = {"path": "rows.jsonl", "license": told, "licenses": [told.lower()]}
    assert len(read_of(tmp_path, entry)[0]) == 1


@pytest.mark.parametrize(
    ("card", "fits"),
    [
        ("---\nlicense: cc-by-4.0\n---\n", True),
        ("---\nlicense:\n  - mit\n  - 'apache-2.0'\nlanguage: fr\n---\n", True),
        ("---\nlicense: [mit, cc-by-nc-4.0]\n---\n", False),
        ("---\nlanguage: fr\n---\nlicense: mit\n", False),
        ("license: mit\n", False),
    ],
)
def test_the_licence_of_a_dataset_card_counts(tmp_path, card, fits):
    write(tmp_path / "set" / "rows.jsonl", [{"instruction": "a", "output": "b"}])
    (tmp_path / "set" / "README.md").write_text(card)
    for path in ("set", "set/rows.jsonl"):
        if fits:
            assert len(read_of(tmp_path, {"path": path})[0]) == 1
        else:
            with pytest.raises(StageFailed):
                read_of(tmp_path, {"path": path})


def test_records_in_another_language_or_under_another_licence_are_not_needed(read):
    record = {"instruction": "a", "output": "b"}
    rows, rejects = read(
        [
            {**record, "language": "fr"},
            {**record, "lang": "fr-CA"},
            {**record, "language": "en"},
            {**record, "license": "cc-by-nc-4.0"},
            record,
        ],
        languages=["fr"],
    )
    assert len(rows) == 3
    assert reasons(rejects) == ["in 'en', not in fr", "its licence 'cc-by-nc-4.0' is not allowed"]
    assert not any(each.is_bad for each in rejects)


def test_a_quota_takes_so_many_rows_over_all_files_and_keeps_most_when_a_set_grows(tmp_path):
    def rows(numbers):
        return [{"instruction": f"Question {n}", "output": str(n)} for n in numbers]

    write(tmp_path / "set" / "a.jsonl", rows(range(60)))
    write(tmp_path / "set" / "b.jsonl", [*rows(range(50, 100)), "{"])
    entry = {"path": "set", "quota": 30, **OWN}
    first, rejects = read_of(tmp_path, entry)
    assert len(first) == 30 == len({row.asked for row in first})
    assert sum(each.is_bad for each in rejects) == 1
    assert sum(each.reason == "beyond the quota of 30 rows" for each in rejects) >= 70
    assert read_of(tmp_path, entry)[0] == first
    write(tmp_path / "set" / "c.jsonl", rows(range(100, 105)))
    second, _ = read_of(tmp_path, entry)
    assert len({row.asked for row in first} & {row.asked for row in second}) >= 25


def test_the_quota_counts_what_the_steps_before_it_leave(tmp_path, monkeypatch):
    class French:
        def __call__(self, given):
            if "le" in given.row.asked:
                yield given
            else:
                yield Reject("not French", given.origin, "language", is_bad=False)

    name = "remote.payload.data.steps.only_french"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(make_step=lambda *_: French()))
    words = ["le", "the"]
    write(
        tmp_path / "rows.jsonl",
        [{"instruction": f"{words[n % 2]} {n}", "output": "x"} for n in range(40)],
    )
    entry = {"path": "rows.jsonl", "quota": 15, "steps": [{"type": "only_french"}], **OWN}
    rows, rejects = read_of(tmp_path, entry)
    assert len(rows) == 15 and all(row.asked.startswith("le") for row in rows)
    assert reasons(rejects).count("not French") == 20


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "poem"}, {"quota": "many"}, {"paths": "some"}, {"steps": [{"type": "deduplicate"}]}],
)
def test_settings_that_cannot_be_are_refused(read, wrong):
    with pytest.raises(StageFailed, match=next(iter(wrong))):
        read([], **wrong)


def test_a_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StageFailed, match="is not there"):
        read_of(tmp_path, {"path": "nowhere.jsonl", **OWN})


def test_columns_of_other_names_are_read(read):
    rows, _ = read(
        [{"query": "Qui ?", "positive": "Lui."}], columns={"text_1": "query", "text_2": "positive"}
    )
    assert said(rows[0]) == [("user", "Qui ?"), ("assistant", "Lui.")]


def test_the_engine_reads_it(tmp_path):
    write(tmp_path / "rows.jsonl", [{"instruction": f"a {n}", "output": "b"} for n in range(10)])
    entry = {"type": "kinds", "path": "rows.jsonl", "quota": 4, **OWN}
    recipe = {"sources": [entry], "steps": [{"type": "deduplicate"}], "limits": {"workers": 1}}
    engine = Engine(Context(tmp_path, tmp_path / "work", recipe), lambda line: None)
    assert sum(part.rows for part in engine.prepared().parts) == 4
