"""Hostile JSON is a ValueError, whatever is wrong with it; honest JSON is read as json reads it."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.files import untrusted_json

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(DOCUMENTS)
def test_reads_what_json_writes(value):
    text = json.dumps(value)
    assert untrusted_json.loads(text) == untrusted_json.loads(text.encode()) == value


@given(st.binary(max_size=200) | st.text('[]{}",:0123456789.eE+-\\u truefalsn', max_size=200))
def test_bytes_of_any_kind_are_read_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        untrusted_json.loads(data)


@pytest.mark.parametrize("depth", [65, 900, 50_000, 5_000_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_too_deep_is_a_value_error(depth, opening, closing):
    middle = "null"
    with pytest.raises(ValueError, match="nested"):
        untrusted_json.loads(opening * depth + middle + closing * depth)


def test_brackets_within_a_string_and_wide_documents_are_not_deep():
    assert untrusted_json.loads(json.dumps(["[" * 1000])) == ["[" * 1000]
    wide = [{"a": [index]} for index in range(1000)]
    assert untrusted_json.loads(json.dumps(wide)) == wide


def test_the_limit_of_depth_is_exact():
    assert untrusted_json.loads("[" * 64 + "]" * 64)
    with pytest.raises(ValueError, match="64"):
        untrusted_json.loads("[" * 65 + "]" * 65)


def test_size_and_type_are_looked_at(tmp_path):
    with pytest.raises(ValueError, match="at most 10"):
        untrusted_json.loads("[1,2,3,4,5]", max_bytes=10)
    with pytest.raises(ValueError, match="not an object"):
        untrusted_json.loads_object("[]")
    with pytest.raises(ValueError, match="not an array"):
        untrusted_json.loads_list("{}")
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe\x00random")
    with pytest.raises(ValueError):
        untrusted_json.read_object(path)
    path.write_text(" " * 100 + "{}")
    with pytest.raises(ValueError, match="more than 50 bytes"):
        untrusted_json.read_object(path, max_bytes=50)
    assert untrusted_json.read_object(path) == {}


def test_numbers_that_are_too_long_are_value_errors():
    with pytest.raises(ValueError):
        untrusted_json.loads("1" * 100_000)


def test_a_name_that_stands_twice_is_refused_where_that_is_asked():
    assert untrusted_json.loads_object('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="twice"):
        untrusted_json.loads_object('{"x": {"a": 1, "a": 2}}', unique=True)
