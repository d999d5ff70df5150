"""The machine's checks, with an nvidia-smi of our own on the PATH."""

import pytest

from remote.contract.job.checks import Verdict
from remote.payload.preflight import host
from remote.payload.preflight.request import Request

CUDA, CPU = {"device": "cuda"}, {"device": "cpu"}
A10G = "NVIDIA A10G, 23028, 22000, 580.95.05, 8.6"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts an nvidia-smi on the PATH that runs this shell text."""

    def put(text):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{text}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put


def _verdicts(request):
    return {check.name: check.verdict.value for check in host.gpu(request)}


@pytest.mark.parametrize(("recipe", "verdict"), [(CPU, Verdict.OK), (CUDA, Verdict.FAIL)])
def test_a_gpu_is_missed_where_the_recipe_asks_for_one(recipe, verdict, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (check,) = host.gpu(Request(recipe=recipe))
    assert check.verdict is verdict and bool(check.remedy) == (verdict is Verdict.FAIL)


def test_a_gpu_with_room(smi):
    smi(f"echo '{A10G}'")
    request = Request(recipe=CUDA, thresholds={"gpu_gb": 9.7, "capability": 8.0})
    assert _verdicts(request) == {"gpu": "ok", "gpu memory": "ok", "compute capability": "ok"}
    assert "24 GB" in host.gpu(request)[0].measured


def test_a_full_and_an_old_gpu(smi):
    smi("echo 'Tesla T4, 15360, 900, 535.1, 7.5'")
    assert _verdicts(Request(recipe=CUDA, thresholds={"gpu_gb": 9.7, "capability": 8.0})) == {
        "gpu": "ok",
        "gpu memory": "fail",
        "compute capability": "fail",
    }


def test_a_gpu_without_an_estimate_and_one_that_is_not_needed(smi):
    smi(f"echo '{A10G}'")
    assert _verdicts(Request(recipe=CUDA))["gpu memory"] == "skip"
    assert _verdicts(Request(recipe=CPU)) == {"gpu": "ok"}


@pytest.mark.parametrize(
    "text",
    [
        "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
        "echo '[N/A], x'",
        "true",
    ],
)
def test_a_broken_driver_is_no_gpu(smi, text):
    smi(text)
    (check,) = host.gpu(Request(recipe=CUDA))
    assert (check.name, check.verdict) == ("gpu", Verdict.FAIL)


def test_disk_and_memory_against_their_thresholds(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "windlass").mkdir()
    small, huge = (
        Request(thresholds={"disk_gb": 0.001, "host_gb": 0.001}),
        Request(thresholds={"disk_gb": 1e9, "host_gb": 1e9}),
    )
    assert [host.disk(small).verdict, host.memory(small).verdict] == [Verdict.OK, Verdict.OK]
    assert [host.disk(huge).verdict, host.memory(huge).verdict] == [Verdict.FAIL, Verdict.FAIL]
    assert host.python().verdict is Verdict.OK
