import re
from pathlib import Path

import pytest

from remote.contract.job import locks
from remote.control.project import CODE

REQUIREMENTS = CODE / "remote/payload/requirements.txt"
HASH = r"    --hash=sha256:[0-9a-f]{64}"


def text_of(flavour: str) -> str:
    return locks.lock_of(REQUIREMENTS, flavour).read_text()


@pytest.mark.parametrize("flavour", ["cpu", "cuda"])
def test_every_package_of_a_lock_has_its_version_and_hashes(flavour):
    text = text_of(flavour)
    entries = locks.entries(text)
    assert len(entries) > 60 and list(entries) == sorted(entries)
    for name, entry in entries.items():
        assert re.fullmatch(rf"{re.escape(name)}==\S+( ; [^\n]+)?( \\\n{HASH})+", entry), entry
    assert text == text.splitlines(keepends=True)[0] + "".join(
        f"{entry}\n" for entry in entries.values()
    )


@pytest.mark.parametrize("flavour", ["cpu", "cuda"])
def test_a_lock_agrees_with_what_is_required(flavour):
    wanted, locked = locks.versions(REQUIREMENTS.read_text()), locks.versions(text_of(flavour))
    assert (
        len(wanted) > 10 and {name: locked[name].removesuffix("+cpu") for name in wanted} == wanted
    )


def test_the_lock_for_the_cpu_has_the_same_packages_but_for_the_gpus():
    cpu, cuda = locks.versions(text_of("cpu")), locks.versions(text_of("cuda"))
    of_the_gpu = cuda.keys() - cpu.keys()
    assert {"triton", "nvidia-cublas", "cuda-bindings"} < of_the_gpu
    assert (
        all(re.match("(nvidia|cuda|triton)", name) for name in of_the_gpu)
        and not cpu.keys() - cuda.keys()
    )
    assert (cpu.pop("torch"), cuda["torch"]) == ("2.13.0+cpu", "2.13.0") and all(
        cuda[name] == version for name, version in cpu.items()
    )
    assert [name for name in cpu if re.match("(nvidia|cuda|triton)", name)] == ["nvidia-ml-py"]


@pytest.mark.parametrize("flavour", ["cpu", "cuda"])
def test_torch_has_a_wheel_for_each_python_and_machine(flavour):
    assert locks.entries(text_of(flavour))["torch"].count("--hash") == 2 * len(locks.PYTHONS)


@pytest.mark.parametrize(
    "path", sorted((CODE / "requirements").glob("*.lock")), ids=lambda path: path.name
)
def test_every_package_of_the_laptop_has_hashes_too(path):
    entries = locks.entries(path.read_text())
    assert len(entries) >= 6 and all(re.search(HASH, entry) for entry in entries.values())


def test_what_the_boxs_tests_bring_along_is_what_the_laptops_tests_have():
    brought, own = (
        locks.versions((CODE / f"requirements/{name}.lock").read_text())
        for name in ("box-tests", "dev")
    )
    assert "pytest" in brought and brought.items() <= own.items()


def test_a_file_without_locks_beside_it_is_one_itself(tmp_path: Path):
    alone = tmp_path / "mine.txt"
    hashes = [f" \\\n    --hash=sha256:{each}" for each in ("ab", "cd", "ef")]
    alone.write_text(
        f"small==1{hashes[0]}\nother==2 ; python_version < '4'{hashes[1]}{hashes[2]}\n"
    )
    assert locks.lock_of(alone, "cpu") == alone
    assert locks.versions(alone.read_text()) == {"small": "1", "other": "2"}
    assert [entry.count("--hash") for entry in locks.entries(alone.read_text()).values()] == [1, 2]
    beside = tmp_path / "mine.cpu.lock"
    beside.write_text("")
    assert (locks.lock_of(alone, "cpu"), locks.lock_of(alone, "cuda")) == (beside, alone)
