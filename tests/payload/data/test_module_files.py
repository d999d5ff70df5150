"""A pair of files for each module."""

from collections import Counter

import pytest

from remote.contract.artifacts.row_kinds import parse_row
from remote.contract.artifacts.rows import Row
from remote.payload.data.outputs import module_files
from remote.payload.data.split import chosen


def rows_of(path):
    return [
        parse_row(line, path.name, number)
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
    ]


def test_by_prefix_a_row_is_on_the_side_of_its_group(tmp_path):
    rows = [
        Row.of(f"q {each}", "a", group=f"g{each % 20}", source=f"set [MOD=m{each % 2}]")
        for each in range(100)
    ]
    rows += [
        Row.of("alone", "a", group="x", source="set"),
        Row.of("few", "a", group="y", source="[MOD=few]"),
    ]
    split = chosen(Counter(row.group for row in rows), 0.2, "42")
    told = module_files.write(tmp_path / "modules", lambda: iter(rows), "prefix", 0.2, split)
    assert sorted(told) == ["few", "m0", "m1"]
    for name in ("m0", "m1"):
        val = rows_of(tmp_path / "modules" / name / "val.jsonl")
        assert val and all(split.validates(row.group) for row in val)
        assert told[name]["train"]["rows"] + told[name]["val"]["rows"] == 50
    assert told["few"]["train"]["rows"] == 1  # never all of them held out


def test_by_group_each_module_is_split_by_what_is_asked(tmp_path):
    rows = [
        Row.of(f"What does {name} do, {each // 2}?", f"{each}", group=name)
        for name in ("app.one", "app.two", "../out")
        for each in range(40)
    ]
    split = chosen(Counter(row.group for row in rows), 0.2, "42")
    told = module_files.write(tmp_path / "modules", lambda: iter(rows), "group", 0.2, split)
    assert sorted(told) == ["app.one", "app.two"]
    for name in told:
        train, val = (
            rows_of(tmp_path / "modules" / name / f"{side}.jsonl") for side in ("train", "val")
        )
        assert len(val) == 8 and len(train) == 32
        assert not {row.asked for row in train} & {row.asked for row in val}


@pytest.mark.parametrize("by", ["prefix", "group"])
def test_without_a_module_there_is_no_file(tmp_path, by):
    rows = [Row.of("q", "a", group="not a name/")]
    split = chosen(Counter({"not a name/": 1}), 0.2, "42")
    assert module_files.write(tmp_path / "modules", lambda: iter(rows), by, 0.2, split) == {}
