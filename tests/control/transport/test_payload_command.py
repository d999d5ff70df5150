import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.contract.job.jobs import Cause
from remote.control.errors import JobFailed, PreflightFailed
from remote.control.transport.payload import call, lines_of, payload_command

WORDS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=20)


def echo_release(home, root):
    """A current release whose one module answers with its arguments."""
    package = home / root / "releases" / "d" / "remote" / "payload"
    package.mkdir(parents=True)
    (package / "echo.py").write_text(
        "import json, sys\nprint(json.dumps({'done': {'words': sys.argv[1:]}}))\n"
    )
    (home / root / "current").symlink_to("releases/d")


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(WORDS, max_size=4))
def test_any_word_arrives_as_it_is(box, words):
    root = "a root; with 'quotes'"
    if not (box.home / root).exists():
        echo_release(box.home, root)
    assert call(box, payload_command(root, "echo", *words)) == {"words": words}


def test_nothing_deployed(box):
    with pytest.raises(PreflightFailed, match="nothing is deployed") as caught:
        call(box, payload_command("windlass", "supervise", "status", "x"))
    assert caught.value.remedy == "`./inv deploy fake`"


def test_an_older_release_names_the_remedy(box):
    echo_release(box.home, "windlass")
    with pytest.raises(PreflightFailed, match="of an older Windlass") as caught:
        call(box, payload_command("windlass", "newest"))
    assert caught.value.remedy == "`./inv deploy fake`, then the same command"


@pytest.mark.parametrize(
    "body",
    [
        "import argparse; argparse.ArgumentParser(prog='follow').parse_args()",
        (
            "import argparse; p = argparse.ArgumentParser();"
            " p.add_subparsers(dest='verb').add_parser('status'); p.parse_args()"
        ),
        (
            "import argparse; p = argparse.ArgumentParser(); p.add_argument('id');"
            " p.add_argument('more'); p.parse_args()"
        ),
        (
            "from dataclasses import make_dataclass; make_dataclass('Question', ['jobs'])(jobs=[],"
            " seen={})"
        ),
    ],
)
def test_an_older_release_that_does_not_know_a_word_names_the_remedy(box, body):
    echo_release(box.home, "windlass")
    (box.home / "windlass/current/remote/payload/follow.py").write_text(body)
    with pytest.raises(PreflightFailed, match="of an older Windlass") as caught:
        call(box, payload_command("windlass", "follow", "--tail=100"))
    assert caught.value.remedy == "`./inv deploy fake`, then the same command"


def test_no_python(box):
    with pytest.raises(PreflightFailed, match="no python3") as caught:
        call(box, "no-such-program-here")
    assert "apt-get install -y python3" in caught.value.remedy


def test_complaint_of_the_box(box):
    words = {"cause": "disk_full", "what": "full", "why": "so", "remedy": "rm", "kept": "all"}
    with pytest.raises(JobFailed) as caught:
        call(box, f"echo {json.dumps(json.dumps({'error': words}))}; exit 1")
    error = caught.value
    assert (error.cause, error.what, error.why, error.remedy, error.kept) == (
        Cause.DISK_FULL,
        "full",
        "so",
        "rm",
        "all",
    )
    assert error.where == box.where


def test_a_crash_on_the_box_is_told_with_its_last_words(box):
    with pytest.raises(JobFailed, match="failed on the box") as caught:
        call(box, "echo Traceback >&2; echo ValueError: odd >&2; exit 1")
    assert "exit code 1: Traceback | ValueError: odd" in caught.value.why


def test_lines_are_handed_on_as_they_come(box):
    said = []
    assert call(
        box,
        """echo plain; echo '{"line": "framed"}'; echo '{"done": {"a": 1}}'""",
        on_line=said.append,
    ) == {"a": 1}
    assert said == ["plain", "framed"]


@given(st.lists(st.binary(max_size=5)), st.integers(1, 7))
def test_lines_out_of_any_chunks(parts, size):
    whole = b"\n".join(part.replace(b"\n", b"") for part in parts)
    chunks = [whole[at : at + size] for at in range(0, len(whole), size)]
    expected = whole.split(b"\n")
    assert list(lines_of(chunks, "box")) == (expected[:-1] if expected[-1] == b"" else expected)


def test_a_line_of_a_megabyte_arrives(box):
    said = []
    call(
        box,
        """head -c 3000000 /dev/zero | tr '\\0' x; echo; echo '{"done": {}}'""",
        on_line=said.append,
    )
    assert said == ["x" * 3_000_000]


def test_a_line_without_an_end_is_given_up(box, monkeypatch):
    """A box that is broken must not fill the laptop's memory."""
    endless, had = (b"x" * 1000 for _ in iter(int, 1)), []
    with pytest.raises(JobFailed, match="does not end") as caught:
        list(lines_of((had.append(1) or chunk for chunk in endless), box.where, 10_000))
    assert caught.value.where == box.where and len(had) == 11 and "xxx" in caught.value.why
    with pytest.raises(JobFailed, match="does not end"):
        call(box, "head -c 70000000 /dev/zero")
