"""The table in the docs is the enum."""

import re
from pathlib import Path

from remote.contract.job.exits import MEANING, Exit
from remote.contract.job.jobs import Cause

PAGE = Path(__file__).parents[2] / "docs" / "exit-codes.md"


def test_the_page_lists_every_code_with_its_meaning():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", PAGE.read_text(), re.M)
    assert rows == [(str(int(code)), code.name, MEANING[code]) for code in Exit]


def test_every_cause_has_an_exit_code_of_its_own_and_is_found_by_it():
    codes = [cause.exit_code for cause in Cause]
    assert len(set(codes)) == len(codes)
    assert [Cause.of_exit(int(code)) for code in codes] == list(Cause)
    assert Cause.of_exit(1) is Cause.CODE
