"""The page is made from the code and has not drifted from it."""

from remote.control.config.documentation import page
from remote.control.project import CODE


def test_the_page_is_current():
    assert (CODE / "docs/configuration.md").read_text() == page(), (
        "run `./inv config --docs > docs/configuration.md`"
    )


def test_every_field_is_described():
    assert "| None |" not in page()
