import subprocess

import httpx
import pytest

from remote.contract.job import locks
from remote.control import locking
from remote.control.errors import LaptopError

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def wheels(*names: str) -> list[dict]:
    """Files of `pylock.toml`, each with a hash of its own."""
    return [
        {"url": f"https://files.example/{name}", "hashes": {"sha256": f"{number:064}"}}
        for number, name in enumerate(names)
    ]


def numbers(entry: str) -> list[int]:
    return [
        int(line.rsplit(":", 1)[1].rstrip(" \\")) for line in entry.splitlines() if "--hash" in line
    ]


def entry(name: str, *names: str, marker: str = "") -> str:
    return locking._entry(
        {"name": name, "version": "1.0", "marker": marker, "wheels": wheels(*names)}
    )[1]


def test_only_the_wheels_of_some_box_are_locked():
    whole = entry(
        "fast",
        "fast-1.0-cp311-abi3-manylinux2014_x86_64.whl",
        "fast-1.0-cp311-abi3-manylinux_2_28_aarch64.whl",
        "fast-1.0-cp311-abi3-musllinux_1_2_x86_64.whl",
        "fast-1.0-cp311-abi3-macosx_11_0_arm64.whl",
        "fast-1.0-cp311-abi3-win_amd64.whl",
        "fast-1.0-cp314-cp314t-manylinux_2_28_x86_64.whl",
        "fast-1.0-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "fast-1.0-cp315-cp315-manylinux_2_28_x86_64.whl",
        "fast-1.0-cp311-abi3-manylinux_2_99_x86_64.whl",
    )
    assert numbers(whole) == [0, 1, 6]
    assert numbers(entry("plain", "plain-1.0-py3-none-any.whl")) == [0]


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("x-1.0-cp311-abi3-manylinux_2_28_x86_64.whl",),
        ("x-1.0-cp314-abi3-manylinux_2_28_aarch64.whl",),
    ],
)
def test_a_package_that_some_box_would_have_to_build_is_refused(names):
    with pytest.raises(LaptopError, match="x has no wheel for Python 3"):
        entry("x", *names)


def test_a_marker_stays_where_it_decides():
    everywhere = "sys_platform != 'emscripten' and python_full_version < '3.15'"
    assert entry("x", "x-1.0-py3-none-any.whl", marker=everywhere).splitlines()[0] == "x==1.0 \\"
    older = "python_full_version < '3.12'"
    assert (
        entry("x", "x-1.0-py3-none-any.whl", marker=older).splitlines()[0] == f"x==1.0 ; {older} \\"
    )
    assert not any(target.has("sys_platform == 'win32'") for target in locking.TARGETS)


def page(*names: str) -> str:
    links = (
        f'<a href="/whl/cpu/{name.replace("+", "%2B")}#sha256={number:064}">{name}</a>'
        for number, name in enumerate(names)
    )
    return f"<html><body>{'<br/>'.join(links)}</body></html>"


def test_torchs_hashes_are_those_that_its_index_lists(monkeypatch):
    kinds = [
        (f"cp3{minor}", machine) for minor in range(11, 15) for machine in ("x86_64", "aarch64")
    ]
    wanted = [
        f"torch-2.13.0+cpu-{python}-{python}-manylinux_2_28_{machine}.whl"
        for python, machine in kinds
    ]
    others = [
        "torch-2.12.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.13.0+cpu-cp311-cp311-win_amd64.whl",
    ]
    request = httpx.Request("GET", locks.CPU_INDEX)
    monkeypatch.setattr(
        httpx,
        "get",
        lambda url, **_: httpx.Response(200, text=page(*wanted, *others), request=request),
    )
    found = locking.torch_for_cpu("2.13.0", "")
    assert found.startswith("torch==2.13.0+cpu \\\n") and numbers(found) == list(range(8))


def test_where_torchs_index_cannot_be_read_the_hashes_of_the_same_version_hold(monkeypatch):
    def unreachable(url, **_):
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(httpx, "get", unreachable)
    before = (
        locking.rendered("other", "1", "", [A])
        + "\n"
        + locking.rendered("torch", "2.13.0+cpu", "", [B, C])
        + "\n"
    )
    assert (
        locking.torch_for_cpu("2.13.0", before)
        == f"torch==2.13.0+cpu \\\n    --hash=sha256:{B} \\\n    --hash=sha256:{C}"
    )
    with pytest.raises(LaptopError, match=r"torch 2\.14\.0\+cpu cannot be read") as caught:
        locking.torch_for_cpu("2.14.0", before)
    assert "no route" in caught.value.why


def test_without_uv_or_with_what_does_not_fit_one_clear_error(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError("uv")

    monkeypatch.setattr(subprocess, "run", absent)
    with pytest.raises(LaptopError, match="no `uv`"):
        locking._uv("pyproject.toml")

    def refuses(*_, **__):
        raise subprocess.CalledProcessError(1, "uv")

    monkeypatch.setattr(subprocess, "run", refuses)
    with pytest.raises(LaptopError, match="no packages that fit together"):
        locking._uv("pyproject.toml")
