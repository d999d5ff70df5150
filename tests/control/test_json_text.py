"""JSON for scripts, and moments in words."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invoke import Exit

from remote.control.commands.program.verb import verb
from remote.control.errors import NotFound
from remote.control.output import console, json_text, timefmt
from remote.control.output.sanitize import counted

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["at", "time", "ended_at", "x"]) | st.text(), inner)
    ),
    max_leaves=20,
)


def _refused(word):
    raise AssertionError(f"{word} is no JSON")


@given(VALUES)
def test_whatever_is_told_is_json_without_control_characters(value):
    for text in (json_text.document(value), json_text.line(value)):
        json.loads(text, parse_constant=_refused)
        assert text.replace("\n", "").isprintable() and "\n" not in json_text.line(value)


def test_times_say_what_they_are():
    told = {
        "at": 1795287672.25,
        "ended_at": 0.0,
        "stops_at": None,
        "time": 12.5,
        "steps": 1795287672,
        "jobs": [{"started_at": 1795287672}],
    }
    assert json.loads(json_text.line(told)) == {
        **told,
        "at": "2026-11-21T19:01:12.250+00:00",
        "ended_at": None,
        "jobs": [{"started_at": "2026-11-21T19:01:12.000+00:00"}],
    }


def test_scripts_get_null_for_what_is_no_number(capsys):
    console.print_json({"loss": math.nan, "eta": [math.inf]})
    assert json.loads(capsys.readouterr().out, parse_constant=_refused) == {
        "loss": None,
        "eta": [None],
    }


@given(st.floats() | st.integers())
def test_every_number_has_words(at):
    for words in (
        timefmt.clock(at),
        timefmt.day(at),
        timefmt.minute(at),
        timefmt.soon(at),
        timefmt.iso(at) or "",
    ):
        assert words.isprintable()


def test_people_are_told_utc():
    assert (
        timefmt.day(1795287672.25) == "2026-11-21 19:01:12"
        and timefmt.clock(0) == timefmt.UNKNOWN
        and timefmt.minute(0) == ""
    )


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [(1, "round trip", "1 round trip"), (0, "file", "0 files"), (2000, "box", "2,000 boxes")],
)
def test_counted(number, noun, words):
    assert counted(number, noun) == words


def test_an_error_that_no_script_reads_is_told_to_people(capfd, monkeypatch):
    def refuse(value):
        raise BrokenPipeError

    @verb
    def broken(_context, json=False):
        raise NotFound("nothing there")

    monkeypatch.setattr(console, "print_json", refuse)
    with pytest.raises(Exit) as left:
        broken.body(None, json=True)
    assert left.value.code == 12 and "nothing there" in capfd.readouterr().err
