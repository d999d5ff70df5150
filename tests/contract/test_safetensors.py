import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.contract.artifacts import safetensors
from tests.contract.safetensors_files import write_safetensors

GOOD = {
    "b": ("F32", [2, 1], b"12345678"),
    "a": ("BF16", [3], b"123456"),
    "scalar": ("U8", [], b"1"),
    "none": ("F16", [0], b""),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.safetensors"


def test_a_good_file_passes(path):
    write_safetensors(path, GOOD)
    assert safetensors.check(path) == 4
    assert safetensors.read_header(path)["b"] == {
        "dtype": "F32",
        "shape": [2, 1],
        "data_offsets": [0, 8],
    }


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
        ([], "not an object"),
        ({"a": entry(shape=(1 << 70,), offsets=(0, 1 << 72))}, "no natural number"),
        ({"a": entry(shape=(1,) * 99)}, "more than 16"),
        ({"a": entry(shape=())}, "does not fit F32"),
        ({"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, "described wrongly"),
        ({"a": {"dtype": "F32", "shape": "22", "data_offsets": [0, 8]}}, "no natural number"),
        ({"a\x1b[2J\n": 7}, r"tensor 'a\\x1b\[2J\\n' is described wrongly"),
        ({"a": "\x1b]0;x\x07" * 99}, "described wrongly"),
        ({"a": [[[[7]]]]}, "nested deeper"),
        (b"[" * 50_000 + b"]" * 50_000, "nested"),
        (b"{nope", "Expecting property name"),
        (b"\xff\xfe{}", "damaged"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "damaged"),
        (b'{"a": 1, "a": 2}', "twice"),
    ],
)
def test_what_is_off_is_named(path, header, says):
    write_safetensors(path, {"a": ("F32", [2], b"12345678")}, header)
    with pytest.raises(ValueError, match=says) as caught:
        safetensors.check(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "it is a Git LFS pointer",
        ),
        (b"<html><body>404</body></html>", "it is an HTML page"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00", "it is gzip"),
        (b"\x80\x02}q\x00(X\x04\x00\x00\x00", "it is a pickle"),
        (b"", "a length of 0 bytes in a file of 0"),
    ],
)
def test_a_file_of_another_kind_is_named(path, content, says):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        safetensors.check(path)


def outcome(path, raw):
    path.write_bytes(raw)
    began = time.monotonic()
    try:
        safetensors.check(path)
    except ValueError as error:
        assert str(error).isprintable() and len(str(error)) < 600
    assert time.monotonic() - began < 2


fuzzed = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None
)


@fuzzed
@given(
    changes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=8)
)
def test_a_file_with_other_bytes_here_and_there(path, changes):
    write_safetensors(path, GOOD)
    raw = bytearray(path.read_bytes())
    for at, value in changes:
        raw[at % len(raw)] = value
    outcome(path, bytes(raw))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["F32", "BF16", "F4"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), inner)
    ),
    max_leaves=20,
)


@fuzzed
@given(
    header=st.dictionaries(st.text(max_size=5), values, max_size=4)
    | st.binary(max_size=200)
    | values,
    data=st.binary(max_size=40),
)
def test_any_header_is_read_or_a_value_error(path, header, data):
    write_safetensors(path, {"a": ("U8", [len(data)], data)}, header)
    outcome(path, path.read_bytes())


def test_a_huge_length_is_not_believed(path):
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="no safetensors header"):
        safetensors.check(path)
