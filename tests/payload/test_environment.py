import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from remote.contract.job import locks
from remote.payload import environment
from remote.payload.environment import Impossible


@pytest.fixture
def requirements(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("torch==2.13.0\nsmall==1\n")
    for flavour, torch in (("cpu", "2.13.0+cpu"), ("cuda", "2.13.0")):
        text = (
            f"small==1 \\\n    --hash=sha256:{1:064}\ntorch=={torch} \\\n   "
            f" --hash=sha256:{2:064}\n"
        )
        path.with_suffix(f".{flavour}.lock").write_text(text)
    return path


@pytest.fixture
def commands(monkeypatch):
    """Commands are noted, not run; those that make a venv leave its interpreter."""
    found = []

    def run(words, say, **more):
        if "-c" in words:
            return ['["small==1"]']
        found.append([str(word) for word in words])
        if "venv" in words:
            python = Path(words[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
        return []

    monkeypatch.setattr(environment, "_run", run)
    monkeypatch.setattr(environment, "flavour", lambda: "cpu")
    return found


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip looks into a folder alone; makes a wheel there, and returns its SHA-256."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_NO_CACHE_DIR": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(environment, "flavour", lambda: "cpu")

    def wheel(name, version="1.0", content=""):
        path, about = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{name}.py", f"said = {content!r}\n")
            archive.writestr(
                f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            archive.writestr(
                f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{about}/RECORD", "")
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return wheel


def lock(folder: Path, **hashes: str) -> Path:
    """A requirements file whose lock names these packages, all of version 1.0."""
    path = folder / "requirements.txt"
    path.write_text("".join(f"{name}==1.0\n" for name in hashes))
    text = "".join(
        f"{name}==1.0 \\\n    --hash=sha256:{sha256}\n" for name, sha256 in hashes.items()
    )
    path.with_suffix(".cpu.lock").write_text(text)
    return path


def test_what_the_lock_names_is_installed_and_recorded(index, tmp_path):
    requirements, said, shown = lock(tmp_path, first=index("first"), second=index("second")), [], []
    interpreter = environment.make(
        requirements, tmp_path / "e", said.append, lambda *told: shown.append(told)
    )
    assert subprocess.run([interpreter, "-c", "import first, second"], check=False).returncode == 0
    facts = json.loads((interpreter.parents[2] / environment.MARKER).read_text())
    digest = hashlib.sha256(requirements.with_suffix(".cpu.lock").read_bytes()).hexdigest()
    assert (facts["lock"], facts["lock_sha256"]) == (
        "requirements.cpu.lock",
        digest,
    ) and environment.lock_digest(interpreter) == digest
    assert {"first==1.0", "second==1.0"} <= set(facts["installed"])
    assert not [
        path
        for path in interpreter.parents[2].iterdir()
        if path.name not in ("venv", environment.MARKER)
    ]
    assert "installing 2 packages" in said and all(
        title == "installing 2 packages" and 0 <= done <= total for title, done, total in shown
    )


@pytest.mark.parametrize("late", [False, True])
def test_another_file_of_that_name_and_version_is_refused(index, tmp_path, late, monkeypatch):
    """As a mirror would give it; and where it changes between the fetching and the installation."""
    requirements = lock(tmp_path, first=index("first"), second=index("second"))
    if late:
        fetch = environment._fetch
        monkeypatch.setattr(
            environment,
            "_fetch",
            lambda *words: (fetch(*words), shutil.copy(tmp_path / "other", words[2] / name)),
        )
    name, genuine = (
        "second-1.0-py3-none-any.whl",
        (tmp_path / "index/second-1.0-py3-none-any.whl").read_bytes(),
    )
    found = index("second", content="something else")
    shutil.copy(tmp_path / "index" / name, tmp_path / "other")
    if late:
        (tmp_path / "index" / name).write_bytes(genuine)
    with pytest.raises(Impossible) as caught:
        environment.make(requirements, tmp_path / "e", print)
    words = caught.value.words
    assert (
        words["cause"] == "artifact"
        and "not the file that the lock names" in words["what"]
        and "pip config list" in words["remedy"]
    )
    assert "second==1.0" in words["why"] and found in words["why"]
    assert environment.find(requirements, tmp_path / "e") is None


def test_what_the_lock_gives_no_hash_for_is_refused(index, tmp_path):
    index("first")
    (tmp_path / "requirements.txt").write_text("first==1.0\n")
    with pytest.raises(Impossible, match="environment was not made") as caught:
        environment.make(tmp_path / "requirements.txt", tmp_path / "e", print)
    assert "hash" in caught.value.words["why"].lower()


def test_nothing_is_built_on_a_box(index, tmp_path):
    """A source archive runs what it wants before it is installed, and brings tools that no lock
    names."""
    archive = tmp_path / "index/first-1.0.tar.gz"
    (tmp_path / "first-1.0").mkdir()
    (tmp_path / "first-1.0/setup.py").write_text("raise SystemExit('it was run')")
    subprocess.run(["tar", "-czf", archive, "-C", tmp_path, "first-1.0"], check=True)
    with pytest.raises(Impossible) as caught:
        environment.make(
            lock(tmp_path, first=hashlib.sha256(archive.read_bytes()).hexdigest()),
            tmp_path / "e",
            print,
        )
    assert "No matching distribution" in caught.value.words["why"] and "it was run" not in str(
        caught.value.words
    )


def test_two_folders_that_are_one_share_an_environment_by_its_true_path(index, tmp_path):
    requirements = lock(tmp_path, first=index("first"))
    (tmp_path / "true").mkdir()
    (tmp_path / "box").symlink_to(tmp_path / "true")
    made = environment.make(requirements, tmp_path / "box", print)
    assert (
        made.is_relative_to(tmp_path / "true")
        and environment.make(requirements, tmp_path / "true", pytest.fail) == made
    )
    assert str(made) in (made.parent / "pip").read_text().splitlines()[0]


def test_the_real_thing_in_small(tmp_path):
    requirements = tmp_path / "empty.txt"
    requirements.write_text("# nothing\n")
    words = [
        sys.executable,
        "-m",
        "remote.payload.environment",
        "make",
        "--into",
        str(tmp_path / "environments"),
        str(requirements),
    ]
    answer = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    interpreter = Path(answer.stdout.strip())
    assert (
        subprocess.run(
            [interpreter, "-c", "print('alive')"], capture_output=True, text=True, check=True
        ).stdout
        == "alive\n"
    )
    assert "is whole after" in answer.stderr
    again = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert (again.stdout, again.stderr) == (answer.stdout, "")


def test_the_key_is_of_the_lock_python_and_flavour(requirements):
    keys = {environment.key_of(requirements, "cpu"), environment.key_of(requirements, "cuda")}
    requirements.write_text("torch>=2.13  # what is wanted, in other words\n")
    assert {
        environment.key_of(requirements, "cpu"),
        environment.key_of(requirements, "cuda"),
    } == keys
    lock = requirements.with_suffix(".cpu.lock")
    lock.write_text(lock.read_text().replace(f"{1:064}", f"{3:064}"))
    keys.add(environment.key_of(requirements, "cpu"))
    assert len(keys) == 3 and all(len(key) == 16 for key in keys)


def test_made_once_and_a_partial_one_is_made_anew(requirements, tmp_path, commands):
    said = []
    interpreter = environment.make(requirements, tmp_path / "e", said.append)
    count = len(commands)
    assert (
        environment.make(requirements, tmp_path / "e", said.append) == interpreter
        and len(commands) == count
    )
    (interpreter.parents[2] / environment.MARKER).unlink()
    (interpreter.parents[2] / "leftover").write_text("x")
    environment.make(requirements, tmp_path / "e", said.append)
    assert len(commands) == 2 * count and not (interpreter.parents[2] / "leftover").exists()


def test_an_interrupted_making_leaves_no_marker(requirements, tmp_path, commands, monkeypatch):
    def fail(*words):
        raise Impossible("code", "no")

    monkeypatch.setattr(environment, "_fetch_torch", fail)
    with pytest.raises(Impossible):
        environment.make(requirements, tmp_path / "e", print)
    assert environment.find(requirements, tmp_path / "e") is None


def downloads(commands):
    return [words for words in commands if "download" in words]


def test_every_package_is_checked_and_none_is_built(requirements, tmp_path, commands, monkeypatch):
    environment.make(requirements, tmp_path / "e", print)
    monkeypatch.setattr(environment, "flavour", lambda: "cuda")
    environment.make(requirements, tmp_path / "e", print)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    environment.make(requirements, tmp_path / "f", print)
    fetching = [words for words in commands if {"download", "install"} & set(words)]
    assert len(fetching) == 6 and commands[-1][:3] == ["uv", "pip", "install"]
    for words in fetching:
        assert {"--require-hashes", "--no-deps"} <= set(words) and words[
            words.index("--only-binary") + 1
        ] == ":all:"


def test_a_cpu_build_that_pip_finds_is_taken(requirements, tmp_path, commands):
    environment.make(requirements, tmp_path / "e", print)
    torch, rest = downloads(commands)
    assert (
        "--index-url" not in torch
        and Path(torch[-1]).read_text() == f"torch==2.13.0+cpu \\\n    --hash=sha256:{2:064}\n"
    )
    assert "--index-url" not in rest and rest[-2:] == [
        "-r",
        str(requirements.with_suffix(".cpu.lock")),
    ]


def test_torch_alone_comes_from_its_own_index_where_pips_has_no_cpu_build(
    requirements, tmp_path, commands, monkeypatch
):
    run = environment._run

    def none_there(words, say, **more):
        lines = run(words, say, **more)
        if "download" in words and "--index-url" not in words and words[-1].endswith("torch.lock"):
            raise Impossible(
                "code", "no", "ERROR: No matching distribution found for torch==2.13.0+cpu"
            )
        return lines

    monkeypatch.setattr(environment, "_run", none_there)
    environment.make(requirements, tmp_path / "e", print)
    _, torch, rest = downloads(commands)
    assert (
        torch[torch.index("--index-url") + 1] == locks.CPU_INDEX
        and torch[-1].endswith("torch.lock")
        and "--index-url" not in rest
    )


def test_on_a_gpu_box_the_default_build_with_uv_where_there_is_one(
    requirements, tmp_path, commands, monkeypatch
):
    monkeypatch.setattr(environment, "flavour", lambda: "cuda")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    environment.make(requirements, tmp_path / "e", print)
    assert [words[:3] for words in commands] == [
        ["uv", "venv", "--quiet"],
        ["uv", "pip", "install"],
    ]
    commands.clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    environment.make(requirements, tmp_path / "f", print)
    assert [words[1:4] for words in commands] == [
        ["-m", "venv", commands[0][-1]],
        ["-m", "pip", "download"],
        ["-m", "pip", "install"],
    ]
    assert all("cuda" in words[-1] for words in commands[1:])


def test_without_venv_the_apt_command_is_named(requirements, tmp_path, commands, monkeypatch):
    def no_venv(words, say, **more):
        raise Impossible("code", "x", "ensurepip is not available")

    monkeypatch.setattr(environment, "_run", no_venv)
    with pytest.raises(Impossible) as caught:
        environment.make(requirements, tmp_path / "e", print)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"sudo apt-get install -y python{version}-venv" in caught.value.words["remedy"]
    assert "ensurepip" in caught.value.words["why"]


@pytest.mark.parametrize("version", [(3, 10, 12), (3, 15, 0)])
def test_a_python_without_the_locked_packages_is_named_before_anything_is_fetched(
    tmp_path, commands, monkeypatch, version
):
    monkeypatch.setattr(environment.sys, "version_info", version)
    training = tmp_path / "training.txt"
    training.write_text("transformers==5.23.0\n")
    monkeypatch.setattr(environment, "find", lambda *_: None)
    with pytest.raises(
        Impossible, match=rf"python3 is 3\.{version[1]}; training needs 3\.11 to 3\.14"
    ):
        environment.make(training, tmp_path / "e", print)
    assert not commands


def test_a_failing_command_is_told_with_its_last_words():
    with pytest.raises(Impossible) as caught:
        environment._run(
            [
                sys.executable,
                "-c",
                "print('one'); print('ERROR: no such thing'); raise SystemExit(3)",
            ],
            print,
        )
    assert (
        caught.value.words["cause"] == "code"
        and "one | ERROR: no such thing" in caught.value.words["why"]
    )
    with pytest.raises(Impossible) as caught:
        environment._run(
            [
                sys.executable,
                "-c",
                "raise SystemExit('OSError: [Errno 28] No space left on device')",
            ],
            print,
        )
    assert caught.value.words["cause"] == "disk_full"


def test_of_what_pip_says_little_is_told():
    lines = (
        "Collecting torch==2.13.0",
        "  Using cached x.whl",
        "Downloading xllamacpp-2026.10.11549-cp310-abi3-linux.whl (33.8 MB)",
        "Downloading annotated_doc-0.0.7-py3-none-any.whl (5.3 kB)",
        "Installing collected packages: a",
        "ERROR: no",
    )
    told = [environment._worth_telling(line) for line in lines]
    assert told == ["", "", "downloading xllamacpp (33.8 MB)", "", "", "ERROR: no"]


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

    assert (
        environment.make(requirements, tmp_path / "e", say)
        == tmp_path / "e" / key / "venv" / "bin" / "python"
    )
    assert said == ["another deploy is making this environment: waiting for it"] and not commands


def test_progress_without_a_bar_is_a_line_now_and_then(monkeypatch):
    clock, said = iter([0.5, 5.0, 10.6, 12.0, 21.0]), []
    monkeypatch.setattr(environment.time, "monotonic", lambda: next(clock))
    tell = environment._in_lines(said.append)
    for done in (0, 20, 40, 50, 100):
        tell("installing 72 packages", done * 10**7, 10**9)
    assert said == [
        "installing 72 packages: 40 % of 1.00 GB",
        "installing 72 packages: 100 % of 1.00 GB",
    ]


def test_a_lock_of_nothing_that_was_recorded_is_empty(tmp_path):
    assert (
        environment.lock_digest(Path(sys.executable))
        == environment.lock_digest(Path("/python"))
        == ""
    )
    (tmp_path / environment.MARKER).write_text("[" * 50_000)
    assert environment.lock_digest(tmp_path / "venv/bin/python") == ""


def test_flavour_is_one_of_two():
    assert environment.flavour() in ("cpu", "cuda")


def test_requirements_by_name_lie_in_the_release(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert (
        environment.requirements_file("requirements.txt")
        == Path(environment.__file__).parent / "requirements.txt"
    )
    (tmp_path / "mine.txt").write_text("")
    assert environment.requirements_file("mine.txt") == Path("mine.txt") and os.path.exists(
        "mine.txt"
    )
