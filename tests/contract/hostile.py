"""Files and JSON as nobody should write them: the same for the tests of every reader."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text()
    | st.sampled_from(["\0", "x" * 5000, "../.."]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
"""Any JSON value, senseless numbers and words among them."""


def changed(record: dict[str, object]) -> st.SearchStrategy[dict[str, object]]:
    """A record of which some values are something else, and some keys are not there."""
    values = {name: st.just(value) | JSON for name, value in record.items()}
    return st.fixed_dictionaries({}, optional={**values, "more": JSON})


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _two_gigabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2 << 30)  # a hole: it costs no disk


FILES: dict[str, Callable[[Path], object]] = {
    "50,000 brackets": lambda path: path.write_text("[" * 50_000 + "]" * 50_000),
    "50,000 braces": lambda path: path.write_text('{"status":' * 50_000 + "1" + "}" * 50_000),
    "random bytes": lambda path: path.write_bytes(bytes(range(256)) * 3),
    "nothing": lambda path: path.write_bytes(b""),
    "a list": lambda path: path.write_text("[1, 2]"),
    "null": lambda path: path.write_text("null"),
    "a number of 5,000 digits": lambda path: path.write_text('{"pid": ' + "9" * 5000 + "}"),
    "half a character": lambda path: path.write_text(
        json.dumps({"status": "\ud800", "job_id": "\udfff"})
    ),
    "UTF-16": lambda path: path.write_bytes('{"status": "RUNNING"}'.encode("utf-16")),
    "a folder": lambda path: path.mkdir(),
    "a named pipe": _fifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link to itself": lambda path: path.symlink_to(path),
    "2 GB": _two_gigabytes,
}
"""What may stand in a record's place, by its name; each makes it at a path where nothing is yet."""
