"""GPUs by either way, where the driver is played by a script and by a module of nvidia-ml-py's
shape."""

import sys
import textwrap

import pytest

from remote.contract.telemetry.samples import Gpu
from remote.payload.telemetry import gpus
from tests.integration.boxes import await_true

SMI = """\
#!/bin/sh
case "$*" in *KNOWN*) ;; *) echo 'Field "x" is not a valid field to query.'; exit 2;; esac
echo "0, NVIDIA A10G, 93, 22000, 23028, 287.5, 71, 0, 0x0000000000000004"
echo "1, NVIDIA A10G, [N/A], 0, 23028, [Not Supported], 88, [N/A], 0x0000000000000060"
"""

NVML = """\
class NVMLError(Exception): pass
NVML_TEMPERATURE_GPU = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 0
class Told: gpu, used, total = 50, 10e9, 20e9
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(handle): return "Played"
def nvmlDeviceGetUtilizationRates(handle): return Told
def nvmlDeviceGetMemoryInfo(handle): return Told
def nvmlDeviceGetPowerUsage(handle): raise NVMLError()
def nvmlDeviceGetTemperature(handle, sensor): return 60
def nvmlDeviceGetCurrentClocksThrottleReasons(handle): return 0x81
def nvmlDeviceGetTotalEccErrors(handle, kind, counter): return 7
"""


@pytest.fixture(autouse=True)
def _no_module_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """An `nvidia-smi` of our own, alone in PATH but for the system's."""
    path = tmp_path / "bin" / "nvidia-smi"
    path.parent.mkdir()
    path.write_text(SMI.replace("KNOWN", "clocks"))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    return path


@pytest.mark.parametrize("known", ["clocks_event_reasons.active", "clocks_throttle_reasons.active"])
def test_by_nvidia_smi_of_new_drivers_and_old_ones(tool, tmp_path, known):
    tool.write_text(SMI.replace("KNOWN", known))
    ask = gpus.way(tmp_path)
    first, second = ask()
    assert (first.index, first.name, first.busy, first.watts, first.celsius) == (
        0,
        "NVIDIA A10G",
        0.93,
        287.5,
        71.0,
    )
    assert (first.slowed, first.ecc_errors) == ("", 0)
    assert (first.memory_gb, first.memory_total_gb) == (
        pytest.approx(23.069, abs=1e-3),
        pytest.approx(24.147, abs=1e-3),
    )
    assert (second.busy, second.watts, second.slowed, second.ecc_errors) == (
        None,
        None,
        "heat, heat (hardware)",
        None,
    )


def test_by_nvidia_ml_py_where_an_environment_has_it(tool, tmp_path):
    module = tmp_path / "abc/venv/lib/python3.12/site-packages/pynvml.py"
    module.parent.mkdir(parents=True)
    module.write_text(NVML)
    assert gpus.way(tmp_path)() == [Gpu(0, "Played", 0.5, 10.0, 20.0, None, 60.0, "power brake", 7)]


def test_a_library_without_a_driver_gives_way_to_the_tool(tool, tmp_path):
    module = tmp_path / "abc/venv/lib/python3.12/site-packages/pynvml.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        textwrap.dedent(NVML).replace("def nvmlInit(): pass", "def nvmlInit(): raise NVMLError()")
    )
    assert len(gpus.way(tmp_path)()) == 2


def test_no_driver_no_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    watch = gpus.Watch(tmp_path, 0.01)
    assert watch.latest(5.0) == [] and not watch.is_silent


@pytest.mark.parametrize(
    "script",
    ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho 'No devices were found'\n", "#!/bin/sh\nsleep 60\n"],
)
def test_a_driver_that_does_not_answer_is_silent_and_holds_nobody_up(
    tool, tmp_path, monkeypatch, script
):
    tool.write_text(script)
    monkeypatch.setattr(gpus, "FRESH_SECONDS", 0.05)
    monkeypatch.setattr(gpus, "_ANSWER_SECONDS", 0.2)
    watch = gpus.Watch(tmp_path, 0.05)
    assert watch.latest(0.1) == []
    await_true(lambda: watch.is_silent)
