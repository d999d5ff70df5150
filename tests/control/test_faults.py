"""Exceptions that nobody foresaw, in words."""

import errno
import os

import pytest

from remote.contract.job.exits import Exit
from remote.control.errors import Fault, LaptopError, NotFound
from remote.control.faults import as_error


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, Exit.DISK_FULL, "disk is full"),
        (errno.EDQUOT, Exit.DISK_FULL, "disk is full"),
        (errno.EACCES, Exit.LAPTOP, "does not let"),
        (errno.EROFS, Exit.LAPTOP, "does not let"),
        (errno.ENOTDIR, Exit.LAPTOP, "not what it should be"),
    ],
)
def test_what_the_system_refused_names_the_file(number, code, words):
    told = as_error(OSError(number, os.strerror(number), "/somewhere/file"))
    assert isinstance(told, LaptopError) and told.exit_code == code
    assert words in told.what and told.where == "/somewhere/file" and told.remedy


def test_an_error_for_people_stays_as_it_is():
    error = NotFound("no such run")
    assert as_error(error) is error


def test_a_fault_whose_report_cannot_be_written_is_told_in_full(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "file"))
    try:
        raise KeyError("label")
    except KeyError as error:
        told = as_error(error)
    assert (
        isinstance(told, Fault)
        and told.exit_code == Exit.UNEXPECTED
        and "KeyError: 'label'" in told.why
    )
    assert "Traceback" in capsys.readouterr().err
