import pytest
from invoke import Exit as Leave

from remote.control.commands.program import log_options as options


def query(**words):
    return options.query(
        **{
            "stage": "",
            "follow": False,
            "since": "",
            "tail": "",
            "grep": "",
            "level": "info",
            "raw": False,
        }
        | words
    )


def test_options_as_a_query():
    asked = query(since="10m", tail="0", grep="loss", level="warning", follow=True)
    assert (asked.ago, asked.tail, asked.grep, asked.level, asked.follow) == (
        600.0,
        0,
        "loss",
        "warning",
        True,
    )
    assert (query().ago, query().tail) == (None, None)
    assert [
        options.mode(json, raw) for json, raw in ((False, False), (True, False), (False, True))
    ] == ["lines", "json", "raw"]


@pytest.mark.parametrize(
    "off", [{"grep": "("}, {"since": "soon"}, {"level": "loud"}, {"tail": "all"}]
)
def test_what_is_off_is_wrong_usage(off):
    with pytest.raises(Leave, match=next(iter(off))) as caught:
        query(**off)
    assert caught.value.code == 2


def test_two_ways_to_print_are_one_too_many():
    with pytest.raises(Leave, match="choose one"):
        options.mode(True, True)
