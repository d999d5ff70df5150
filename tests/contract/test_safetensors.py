import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.contract import safetensors
from tests.contract.safetensors_files import write_safetensors

GOOD = {"b": ("F32", [2, 1], b"12345678"), "a": ("BF16", [3], b"123456"), "scalar": ("U8", [], b"1"), "none": ("F16", [0], b"")}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.safetensors"


def test_a_good_file_passes(path):
    write_safetensors(path, GOOD)
    assert safetensors.check(path) == 4
    assert safetensors.read_header(path)["b"] == {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}


def test_metadata_is_no_tensor(path):
    write_safetensors(path, {}, {"__metadata__": {"format": "pt"}})
    assert safetensors.check(path) == 0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 200))
def test_no_part_of_a_file_passes(path, size):
    write_safetensors(path, GOOD)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(size, len(whole) - 1)])
    with pytest.raises(ValueError, match=r".+"):
        safetensors.check(path)


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"a": entry(), "b": entry()}, "begins at byte 0, not 8"),
        ({"a": entry(offsets=(1, 9))}, "begins at byte 1"),
        ({"a": entry(shape=(3,))}, "does not fit F32"),
        ({"a": entry(shape=(-2,))}, "no natural number"),
        ({"a": entry(shape=(True, 2))}, "no natural number"),
        ({"a": entry(shape=(1,), offsets=(0, 4))}, "its header speaks of"),
        ({"a": entry(dtype="F31")}, "described wrongly"),
        ({"a": {"dtype": "F32"}}, "described wrongly"),
        ({"a": 7}, "described wrongly"),
        ([], "no JSON object"),
        (b"{nope", "no JSON"),
        (b'{"a": 1, "a": 2}', "twice"),
    ],
)
def test_what_is_off_is_named(path, header, says):
    write_safetensors(path, {"a": ("F32", [2], b"12345678")}, header)
    with pytest.raises(ValueError, match=says):
        safetensors.check(path)


def test_a_huge_length_is_not_believed(path):
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="no safetensors header"):
        safetensors.check(path)
