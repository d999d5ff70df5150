"""Templates: what nobody fills in is an error, and the filters quote."""

import shlex

import jinja2
import pytest

from remote.control import text


@pytest.fixture
def write(tmp_path, monkeypatch):
    (tmp_path / "templates").mkdir()
    monkeypatch.setattr(text, "SHIPPED", tmp_path)
    text._environment.cache_clear()
    yield (tmp_path / "templates" / "some.j2").write_text
    text._environment.cache_clear()


def test_a_name_that_nobody_fills_is_an_error(write):
    write("{{ box }} {{ later }}")
    with pytest.raises(jinja2.UndefinedError, match="later"):
        text.render("some.j2", box="demo")


def test_filters_quote(write):
    write("{{ value | shell }}\n{{ value | json }}\n")
    value = 'it\'s $(here) "é"'
    assert text.render("some.j2", value=value) == f'{shlex.quote(value)}\n"it\'s $(here) \\"é\\""\n'
