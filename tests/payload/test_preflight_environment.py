"""An environment that is missing, broken, mute or dead: failing checks, never a crash."""

import sys

import pytest

from remote.contract.job.checks import Verdict
from remote.contract.job.paths import BoxPaths
from remote.payload import environment as environments
from remote.payload.preflight.environment import Probe, locked
from remote.payload.preflight.request import Request

REQUIREMENTS = environments.requirements_file("requirements.txt")


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """Makes an environment whose interpreter is this shell text."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def put(text):
        folder = BoxPaths.of_release().environments / environments.key_of(
            REQUIREMENTS, environments.flavour()
        )
        python = folder / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{text}\n")
        python.chmod(0o755)
        (folder / environments.MARKER).write_text("{}")

    return put


def _checks(**words):
    return Probe(Request(recipe={"device": "cpu"}, **words)).checks()


def test_no_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (check,) = _checks()
    assert (check.name, check.verdict) == (
        "environment",
        Verdict.FAIL,
    ) and "./inv deploy" in check.remedy


def test_an_interpreter_that_does_not_run(interpreter):
    interpreter("echo 'error while loading shared libraries' >&2; exit 127")
    (check,) = _checks()
    assert check.verdict is Verdict.FAIL and "exit code 127: error while loading" in check.measured


def test_a_probe_that_hangs_is_ended_and_named(interpreter):
    interpreter("""echo '{"begin": "4-bit matmul"}'; sleep 600 & wait""")
    (check,) = _checks(probe_seconds=0.5)
    assert (check.name, check.measured) == ("4-bit matmul", "the probe gave no answer in 0.5 s")


def test_a_probe_that_dies_keeps_what_came_before(interpreter):
    good = (
        '{"check": {"name": "torch", "measured": "1", "expected": "1", "verdict": "ok", "remedy":'
        ' ""}}'
    )
    interpreter(
        f"""echo '{{"begin": "versions"}}'; echo '{good}'; echo '{{"begin": "4-bit matmul"}}'; kill -SEGV $$"""
    )
    first, second = _checks()
    assert (first.name, first.verdict) == ("torch", Verdict.OK)
    assert (second.name, second.verdict) == (
        "4-bit matmul",
        Verdict.FAIL,
    ) and "SIGSEGV" in second.measured


def test_an_environment_without_torch(interpreter):
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(REQUIREMENTS.parents[2])!r});"
        " sys.modules['torch'] = None; runpy.run_module('remote.payload.preflight.probe',"
        " run_name='__main__')"
    )
    interpreter(f'exec {sys.executable} -I -c "{code}"')
    found = {check.name: check for check in _checks()}
    assert (
        found["4-bit matmul"].verdict is Verdict.FAIL and "torch" in found["4-bit matmul"].measured
    )
    assert found["cuda"].verdict in (Verdict.FAIL, Verdict.SKIP)
    assert set(locked(REQUIREMENTS)) <= set(found)


def test_the_locked_versions():
    assert set(locked(REQUIREMENTS)) == {"torch", "transformers", "peft", "bitsandbytes"}
