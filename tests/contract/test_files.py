"""Names and sizes that another machine tells: what no folder can hold is refused, and all else is
taken."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.files import listing

SHA = "a" * 64


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a/b",
        "with space",
        "new\nline",
        "-dash",
        "größe",
        "caf\udce9",
        ".hidden",
        "..odd",
        "a" * 255,
    ],
)
def test_a_name(name):
    assert listing.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../b",
        "/a",
        "a/",
        "a//b",
        "./a",
        "a\0b",
        "a" * 256,
        "a/" * 2500 + "a",
        "\ud800",
        7,
        None,
        ["a"],
        b"a",
    ],
)
def test_no_name(name):
    with pytest.raises(ValueError, match=r"name|surrogates"):
        listing.check_name(name)


@pytest.mark.parametrize("names", [["a", "a"], ["a", "a/b"], ["a/b/c", "a/b"], ["a/b/c", "a"]])
def test_names_that_stand_in_each_others_way(names):
    with pytest.raises(ValueError, match=r"twice|at once"):
        listing.check_names(names)


def test_seventeen_million_files_are_refused_at_once():
    began = time.monotonic()
    with pytest.raises(ValueError, match="17,000,000 files"):
        listing.check_names(range(17_000_000))
    assert time.monotonic() - began < 1
    listing.check_names([f"folder/{number}" for number in range(listing.MOST_FILES)])


@pytest.mark.parametrize(
    "sha256", [SHA.upper(), SHA[1:], SHA + "a", f"{'../' * 21}a", SHA + "\n", 7, None]
)
def test_no_digest(sha256):
    with pytest.raises(ValueError, match="SHA-256"):
        listing.check_sha256(sha256)


@pytest.mark.parametrize(
    "size", [-1, 1.5, True, "1", None, listing.LARGEST_BYTES + 1, float("inf"), 10**400]
)
def test_no_size(size):
    with pytest.raises(ValueError, match="a size of"):
        listing.check_size(size)


@given(
    st.lists(
        st.text(st.characters(blacklist_categories=[]), max_size=12)
        | st.text("a/.\0\n", max_size=8),
        max_size=8,
    )
)
def test_what_is_taken_can_be_made(tmp_path_factory, names):
    try:
        listing.check_names(names)
    except ValueError:
        return
    folder = tmp_path_factory.mktemp("made")
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(exist_ok=False)
        assert place.resolve().is_relative_to(folder)
