"""The wrapper: what it hands on, when it makes .venv, and what it says where it can't."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote.contract.job.exits import Exit

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """The wrapper and a lock file, with an interpreter in .venv that prints its arguments."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/laptop.lock").write_text("# nothing\n")
    shutil.copy(ROOT / "inv", tmp_path / "inv")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    python.chmod(0o755)
    shutil.copy(tmp_path / "requirements/laptop.lock", tmp_path / ".venv/installed.lock")
    return tmp_path


def call(checkout: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [checkout / "inv", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("typed", "handed_on"),
    [
        (["demo"], ["demo"]),
        ([], []),
        (["cloud", "down"], ["cloud", "down"]),
        (["logs", "--help"], ["logs", "--help"]),
        (["model.ask", "m", "two words; $(rm)"], ["model.ask", "m", "two words; $(rm)"]),
        (["--list"], ["--list"]),
    ],
)
def test_words(checkout, typed, handed_on):
    assert call(checkout, *typed).stdout.split("|")[:-1] == [
        "-P",
        "-m",
        "remote.control.commands",
        *handed_on,
    ]


def test_an_env_that_cannot_block_signals_is_done_without(checkout, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/env").write_text(
        '#!/bin/sh\ncase "$1" in --*) exit 125;; esac\nexec /usr/bin/env "$@"\n'
    )
    (tmp_path / "old/env").chmod(0o755)
    done = call(checkout, "demo", PATH=f"{tmp_path / 'old'}:{os.environ['PATH']}")
    assert (done.returncode, done.stdout.split("|")[-2]) == (0, "demo")


@pytest.mark.parametrize("after", [0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5])
def test_ctrl_c_in_the_first_second_is_one_line(after):
    words = [ROOT / "inv", "receipt", "nothing-of-that-name"]
    started = subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    )
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGINT)
    told, said = started.communicate(timeout=60)
    assert "Traceback" not in said and not told
    # Before bash has a trap, nothing at all is said; after half a second the command may have given
    # its answer, and be on its way out.
    ended = started.returncode in (Exit.INTERRUPTED, -signal.SIGINT)
    is_one_line = ended and said in ("", "interrupted; nothing was undone\n")
    is_answer = said.startswith("error: ") and "fix: " in said
    assert is_one_line or (is_answer and started.returncode in (Exit.NOT_FOUND, -signal.SIGINT))


def test_ctrl_c_while_the_environment_is_made_is_one_line(checkout, tmp_path):
    (tmp_path / "python").write_text(f"""#!/bin/sh
case "$*" in
  *venv*) echo making >> {tmp_path}/made; trap 'echo Traceback >&2; exit 1' INT; sleep 30 & wait;;
  *) exit 0;;
esac
""")
    (tmp_path / "python").chmod(0o755)
    (checkout / ".venv/installed.lock").unlink()
    only = {"PYTHON": str(tmp_path / "python"), "PATH": "/usr/bin:/bin"}
    started = subprocess.Popen(
        [checkout / "inv", "demo"], stderr=subprocess.PIPE, text=True, process_group=0, env=only
    )
    while not (tmp_path / "made").exists():
        time.sleep(0.02)
    time.sleep(0.2)
    os.killpg(started.pid, signal.SIGINT)
    said = started.communicate(timeout=20)[1]
    assert (started.returncode, said.splitlines()[1:]) == (130, ["interrupted; nothing was undone"])
    assert not (checkout / ".venv/installed.lock").exists()


def test_what_cannot_be_installed_is_told_and_leaves_no_stamp(checkout):
    shutil.rmtree(checkout / ".venv")
    (checkout / "requirements/laptop.lock").write_text(
        "no-such-package-of-windlass==1 --hash=sha256:00\n"
    )
    done = call(
        checkout,
        "demo",
        PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
        PIP_INDEX_URL="file:///nowhere",
        PIP_NO_INDEX="1",
    )
    assert done.returncode != 0
    assert "making .venv" in done.stderr and "fix:" in done.stderr
    assert not (checkout / ".venv/installed.lock").exists()


def test_a_python_without_venv_is_told_with_the_apt_command(checkout, tmp_path):
    python = tmp_path / "python-without-venv"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    (checkout / ".venv/installed.lock").unlink()
    done = call(checkout, "demo", PYTHON=str(python), PATH="/usr/bin:/bin")
    assert (done.returncode, "sudo apt-get install python3-venv" in done.stderr) == (2, True)


def test_the_tab_key_installs_nothing(checkout):
    (checkout / ".venv/installed.lock").unlink()
    done = call(checkout, "--complete", "--", "./inv", "st")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (checkout / ".venv/installed.lock").exists()
