import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remote.payload import environment
from remote.payload.environment import Impossible


@pytest.fixture
def requirements(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("torch==2.13.0\nsmall==1\n")
    return path


@pytest.fixture
def commands(monkeypatch):
    """Commands are noted, not run; those that make a venv leave its interpreter."""
    found = []

    def run(words, say):
        found.append([str(word) for word in words])
        if "venv" in words:
            python = Path(words[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
        return []

    monkeypatch.setattr(environment, "_run", run)
    monkeypatch.setattr(environment, "flavour", lambda: "cpu")
    monkeypatch.setattr(environment, "_newer_pip", lambda interpreter, say: None)
    monkeypatch.setattr(environment, "_report", lambda interpreter, requirement: {"version": "2.13.0+cpu"})
    return found


def test_the_real_thing_in_small(tmp_path):
    requirements = tmp_path / "empty.txt"
    requirements.write_text("# nothing\n")
    words = [sys.executable, "-m", "remote.payload.environment", "make", "--into", str(tmp_path / "environments"), str(requirements)]
    answer = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    interpreter = Path(answer.stdout.strip())
    assert subprocess.run([interpreter, "-c", "print('alive')"], capture_output=True, text=True, check=True).stdout == "alive\n"
    assert "is whole after" in answer.stderr
    again = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert (again.stdout, again.stderr) == (answer.stdout, "")


def test_the_key_is_of_text_python_and_flavour(requirements):
    keys = {environment.key_of(requirements, "cpu"), environment.key_of(requirements, "cuda")}
    requirements.write_text("torch==2.13.1\n")
    keys.add(environment.key_of(requirements, "cpu"))
    assert len(keys) == 3 and all(len(key) == 16 for key in keys)


def test_made_once_and_a_partial_one_is_made_anew(requirements, tmp_path, commands):
    said = []
    interpreter = environment.make(requirements, tmp_path / "e", said.append)
    count = len(commands)
    assert environment.make(requirements, tmp_path / "e", said.append) == interpreter and len(commands) == count
    (interpreter.parents[2] / environment.MARKER).unlink()
    (interpreter.parents[2] / "leftover").write_text("x")
    environment.make(requirements, tmp_path / "e", said.append)
    assert len(commands) == 2 * count and not (interpreter.parents[2] / "leftover").exists()


def test_an_interrupted_making_leaves_no_marker(requirements, tmp_path, commands, monkeypatch):
    def fail(*words):
        raise Impossible("code", "no")

    monkeypatch.setattr(environment, "_torch_of_cpu", fail)
    with pytest.raises(Impossible):
        environment.make(requirements, tmp_path / "e", print)
    assert environment.find(requirements, tmp_path / "e") is None


def test_a_cpu_build_is_taken_as_it_is(requirements, tmp_path, commands):
    environment.make(requirements, tmp_path / "e", print)
    install = next(words for words in commands if "install" in words)
    assert "--extra-index-url" not in install and install[-2:] == ["-r", str(requirements)]


def test_a_gpu_build_is_avoided_where_there_is_no_gpu(requirements, tmp_path, commands, monkeypatch):
    metadata = {"version": "2.13.0", "requires_dist": ["filelock", "nvidia-cublas-cu12==12.8; platform_system == 'Linux'"]}
    monkeypatch.setattr(environment, "_report", lambda interpreter, requirement: metadata)
    environment.make(requirements, tmp_path / "e", print)
    install = next(words for words in commands if "install" in words)
    assert install[install.index("--extra-index-url") + 1] == environment.CPU_INDEX
    assert Path(install[install.index("--constraint") + 1]).read_text() == "torch==2.13.0+cpu\n"


def test_on_a_gpu_box_the_default_build_with_uv_where_there_is_one(requirements, tmp_path, commands, monkeypatch):
    monkeypatch.setattr(environment, "flavour", lambda: "cuda")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    environment.make(requirements, tmp_path / "e", print)
    assert [words[:3] for words in commands] == [["uv", "venv", "--quiet"], ["uv", "pip", "install"]]
    commands.clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    environment.make(requirements, tmp_path / "f", print)
    assert [words[1:4] for words in commands] == [["-m", "venv", commands[0][-1]], ["-m", "pip", "install"], ["-m", "pip", "freeze"]]
    assert "--extra-index-url" not in commands[1]


def test_without_venv_the_apt_command_is_named(requirements, tmp_path, commands, monkeypatch):
    def no_venv(words, say):
        raise Impossible("code", "x", "ensurepip is not available")

    monkeypatch.setattr(environment, "_run", no_venv)
    with pytest.raises(Impossible) as caught:
        environment.make(requirements, tmp_path / "e", print)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"sudo apt-get install -y python{version}-venv" in caught.value.words["remedy"]
    assert "ensurepip" in caught.value.words["why"]


def test_a_python_too_old_for_training_is_named_before_anything_is_fetched(tmp_path, commands, monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 10, 12))
    training = tmp_path / "training.txt"
    training.write_text("transformers==5.23.0\n")
    monkeypatch.setattr(environment, "find", lambda *_: None)
    with pytest.raises(Impossible, match=r"python3 is 3\.10; training needs 3\.11"):
        environment.make(training, tmp_path / "e", print)
    assert not commands


def test_a_failing_command_is_told_with_its_last_words():
    with pytest.raises(Impossible) as caught:
        environment._run([sys.executable, "-c", "print('one'); print('ERROR: no such thing'); raise SystemExit(3)"], print)
    assert caught.value.words["cause"] == "code" and "one | ERROR: no such thing" in caught.value.words["why"]
    with pytest.raises(Impossible) as caught:
        environment._run([sys.executable, "-c", "raise SystemExit('OSError: [Errno 28] No space left on device')"], print)
    assert caught.value.words["cause"] == "disk_full"


def test_of_what_pip_says_little_is_told():
    lines = (
        "Collecting torch==2.13.0", "  Using cached x.whl", "Downloading xllamacpp-2026.10.11549-cp310-abi3-linux.whl (33.8 MB)",
        "Downloading annotated_doc-0.0.7-py3-none-any.whl (5.3 kB)", "Installing collected packages: a, b, c", "ERROR: no",
    )  # fmt: skip
    told = [environment._worth_telling(line) for line in lines]
    assert told == ["", "", "downloading xllamacpp (33.8 MB)", "", "installing 3 packages", "ERROR: no"]


def test_a_second_deploy_waits_for_the_first(requirements, tmp_path, commands, monkeypatch):
    key, said = environment.key_of(requirements, "cpu"), []
    (tmp_path / "e").mkdir()
    held = (tmp_path / "e" / f".{key}.lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)

    def say(line):
        said.append(line)
        if not held.closed:
            (tmp_path / "e" / key / "venv" / "bin").mkdir(parents=True)
            (tmp_path / "e" / key / "venv" / "bin" / "python").symlink_to(sys.executable)
            (tmp_path / "e" / key / environment.MARKER).write_text("{}")
            held.close()  # the other deploy is done

    assert environment.make(requirements, tmp_path / "e", say) == tmp_path / "e" / key / "venv" / "bin" / "python"
    assert said == ["another deploy is making this environment: waiting for it"] and not commands


def test_flavour_is_one_of_two():
    assert environment.flavour() in ("cpu", "cuda")


def test_requirements_by_name_lie_in_the_release(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert environment.requirements_file("requirements.txt") == Path(environment.__file__).parent / "requirements.txt"
    (tmp_path / "mine.txt").write_text("")
    assert environment.requirements_file("mine.txt") == Path("mine.txt") and os.path.exists("mine.txt")
