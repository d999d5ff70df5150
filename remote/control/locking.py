"""Makes the locks: of the laptop's packages, of the tests', and of the box's Python environment.
Needs uv, and reads package indexes.

The box's come out of one resolution. The lock for CUDA holds all of it; the one for the CPU leaves
the GPU's packages out and has torch as `CPU_INDEX` publishes it, whose page lists the hashes. Where
that page cannot be read, the hashes that were locked before still hold for the same version of
torch.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomllib

from remote.contract.files import atomic
from remote.contract.job import locks
from remote.control.errors import LaptopError
from remote.control.project import CODE

if TYPE_CHECKING:
    from packaging.tags import Tag

REQUIREMENTS = CODE / "remote/payload/requirements.txt"

_MACHINES = ("x86_64", "aarch64")
_NEWEST_GLIBC = 35
"""Ubuntu 22.04's, 2.35: what needs a newer one is no wheel for every box."""
_OF_THE_GPU = re.compile(r"(nvidia|cuda|triton)(-.*)?")
_ON_EVERY_BOX = ("nvidia-ml-py",)
_SECONDS = 60.0
_OLDEST = ".".join(map(str, locks.PYTHONS[0]))
_LAPTOP = {
    "laptop": ("pyproject.toml",),
    "dev": ("pyproject.toml", "--group", "dev"),
    "box-tests": ("--group", "box-tests", "--constraint", "requirements/dev.lock"),
}


@dataclass(frozen=True)
class Target:
    """A kind of box: Python's version and the machine."""

    python: tuple[int, int]
    machine: str

    def has(self, marker: str) -> bool:
        """Whether a package with this marker belongs on such a box."""
        from packaging.markers import Marker

        version = ".".join(map(str, self.python))
        about = {
            "python_version": version,
            "python_full_version": f"{version}.0",
            "sys_platform": "linux",
            "platform_system": "Linux",
        }
        return (
            Marker(marker).evaluate({**about, "os_name": "posix", "platform_machine": self.machine})
            if marker
            else True
        )

    def tags(self) -> "frozenset[Tag]":
        """The tags of the wheels that pip installs there."""
        from packaging.tags import compatible_tags, cpython_tags

        names = [f"manylinux_2_{minor}" for minor in range(5, _NEWEST_GLIBC + 1)]
        platforms = [
            f"{name}_{self.machine}" for name in (*names, "manylinux2010", "manylinux2014", "linux")
        ]
        interpreter = "cp{}{}".format(*self.python)
        return frozenset(
            (
                *cpython_tags(self.python, platforms=platforms),
                *compatible_tags(self.python, interpreter, platforms),
            )
        )


TARGETS = tuple(Target(python, machine) for python in locks.PYTHONS for machine in _MACHINES)


def lock_everything() -> list[Path]:
    """Make every lock anew; what is locked stays at its version while the requirements admit it.
    Returns the files."""
    files = {name: CODE / "requirements" / f"{name}.lock" for name in _LAPTOP}
    for name, words in _LAPTOP.items():
        _uv(
            *words,
            "--python-version",
            _OLDEST,
            "--generate-hashes",
            "-o",
            f"requirements/{name}.lock",
        )
    return [*files.values(), *lock_the_box(REQUIREMENTS)]


def lock_the_box(requirements: Path) -> list[Path]:
    """Make the locks of a box's requirements file, beside it."""
    cpu, cuda = (requirements.with_suffix(f".{flavour}.lock") for flavour in ("cpu", "cuda"))
    packages = _resolved(requirements, cuda)
    entries = dict(_entry(package) for package in packages)
    version = next((package["version"] for package in packages if package["name"] == "torch"), "")
    without = {
        name: entry
        for name, entry in entries.items()
        if name in _ON_EVERY_BOX or not _OF_THE_GPU.fullmatch(name)
    }
    if version:
        without["torch"] = torch_for_cpu(version, cpu.read_text() if cpu.exists() else "")
    for path, chosen in ((cuda, entries), (cpu, without)):
        head = (
            f"# Made by `./inv dev.lock` out of {requirements.name}. Wheels for Linux on"
            f" {' and '.join(_MACHINES)} alone.\n"
        )
        atomic.write_text(path, head + "".join(f"{entry}\n" for entry in chosen.values()))
    return [cpu, cuda]


def torch_for_cpu(version: str, before: str) -> str:
    """torch's entry in the lock for the CPU; `before` is the text of the lock that is there. Raises
    LaptopError."""
    wanted = f"{version}+cpu"
    try:
        return rendered("torch", wanted, "", _published(wanted))
    except OSError as error:
        if locks.versions(before).get("torch") == wanted:
            return locks.entries(before)["torch"]
        where, remedy = (
            f"{locks.CPU_INDEX}/torch/",
            "run the same command where that page can be read",
        )
        raise LaptopError(
            f"the hashes of torch {wanted} cannot be read",
            where=where,
            why=str(error),
            remedy=remedy,
        ) from None


def _published(version: str) -> list[str]:
    """The hashes of torch's wheels without GPU packages, as their index lists them."""
    import httpx

    try:
        page = (
            httpx.get(f"{locks.CPU_INDEX}/torch/", timeout=_SECONDS, follow_redirects=True)
            .raise_for_status()
            .text
        )
    except httpx.HTTPError as error:
        raise OSError(str(error) or type(error).__name__) from None
    links = re.findall(r'href="[^"#]*/([^"/#]+\.whl)#sha256=([0-9a-f]{64})"', page)
    files = {name.replace("%2B", "+"): sha256 for name, sha256 in links}
    return _hashes(
        "torch",
        {name: sha256 for name, sha256 in files.items() if name.startswith(f"torch-{version}-")},
        TARGETS,
    )


def _resolved(requirements: Path, before: Path) -> list[dict[str, Any]]:
    """What uv resolves, each file with its hash. The versions of the lock `before` are kept where
    they fit."""
    with tempfile.TemporaryDirectory() as folder:
        pins, files = Path(folder) / "pins.txt", Path(folder) / "pylock.toml"
        stood = locks.versions(before.read_text()) if before.exists() else {}
        # uv keeps to the versions that its output file has already.
        pins.write_text("".join(f"{name}=={version}\n" for name, version in stood.items()))
        _uv(str(requirements), "--python-version", _OLDEST, "--no-annotate", "-o", str(pins))
        _uv(
            str(pins),
            "--python-version",
            _OLDEST,
            "--no-deps",
            "--format",
            "pylock.toml",
            "-o",
            str(files),
        )
        packages: list[dict[str, Any]] = tomllib.loads(files.read_text())["packages"]
    return [
        package
        for package in packages
        if any(target.has(package.get("marker", "")) for target in TARGETS)
    ]


def _uv(*words: str) -> None:
    command = ["uv", "pip", "compile", "--universal", "--no-header", "--quiet", *words]
    try:
        subprocess.run(command, cwd=CODE, check=True, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        remedy = "`pip install uv`, then the same command"
        raise LaptopError(
            "there is no `uv` on this laptop, which makes the locks", remedy=remedy
        ) from None
    except subprocess.CalledProcessError:
        remedy = f"correct {words[0]}, then `./inv dev.lock`"
        raise LaptopError(
            "uv finds no packages that fit together; it says why above",
            where=words[0],
            remedy=remedy,
        ) from None


def _entry(package: dict[str, Any]) -> tuple[str, str]:
    """A package of `pylock.toml` as its name and its entry in a lock. Raises LaptopError where a
    kind of box has no wheel of it."""
    name, marker = package["name"], package.get("marker", "")
    served = [target for target in TARGETS if target.has(marker)]
    files = {
        wheel["url"].rsplit("/", 1)[-1]: wheel["hashes"]["sha256"]
        for wheel in package.get("wheels", ())
    }
    return name, rendered(
        name,
        package["version"],
        "" if len(served) == len(TARGETS) else marker,
        _hashes(name, files, served),
    )


def _hashes(name: str, files: dict[str, str], served: Iterable[Target]) -> list[str]:
    from packaging.utils import parse_wheel_filename

    chosen = set[str]()
    for target in served:
        tags = target.tags()
        fitting = {
            sha256
            for file, sha256 in files.items()
            if not tags.isdisjoint(parse_wheel_filename(file)[3])
        }
        if not fitting:
            what = (
                f"{name} has no wheel for Python {'.'.join(map(str, target.python))} on"
                f" {target.machine}"
            )
            why = "nothing is built on a box: what a build needs would come unchecked"
            raise LaptopError(
                what, why=why, remedy=f"require another version of {name}, then `./inv dev.lock`"
            )
        chosen |= fitting
    return sorted(chosen)


def rendered(name: str, version: str, marker: str, hashes: Iterable[str]) -> str:
    """An entry of a lock, in pip's format."""
    head = f"{name}=={version}" + (f" ; {marker}" if marker else "")
    return " \\\n".join(_lines(head, hashes))


def _lines(head: str, hashes: Iterable[str]) -> Iterator[str]:
    yield head
    for sha256 in hashes:
        yield f"    --hash=sha256:{sha256}"
