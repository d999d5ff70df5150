"""What the NVIDIA GPUs do: asked through nvidia-ml-py where an environment of the box has it, else
through nvidia-smi.

A driver that hangs must not stop whoever asks: `Watch` asks in a thread of its own, and gives what
was told last while it is fresh. Standard library only: nvidia-ml-py is one file, found in the
environments, and loads the driver's own library.
"""

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remote.contract.telemetry.samples import Gpu

Ask = Callable[[], list[Gpu]]

FRESH_SECONDS = 30.0
"""How long an answer stands in for one that does not come."""

_ANSWER_SECONDS = 20.0
_SLOWED = {0x08: "hardware slowdown", 0x20: "heat", 0x40: "heat (hardware)", 0x80: "power brake"}
"""Bits of NVML's clocks event reasons that are no part of ordinary work, unlike idling (1) or
reaching the power limit (4)."""

_FIELDS = (
    "index,name,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu,"
    "ecc.errors.uncorrected.volatile.total"
)
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""The field's name since driver 535, and before: a name that nvidia-smi does not know fails the
whole question."""


class Watch:
    """Asks every `seconds` until the process ends. `latest()` is empty where there is no GPU, or
    none that answers."""

    def __init__(self, environments: Path, seconds: float) -> None:
        self._ask, self._seconds = way(environments), seconds
        self._told: list[Gpu] = []
        self._at = time.monotonic()
        self._has_asked = threading.Event()
        if self._ask is None:
            self._has_asked.set()
        else:
            threading.Thread(target=self._go_on, args=(self._ask,), daemon=True).start()

    @property
    def is_silent(self) -> bool:
        """Whether the driver has not answered for too long."""
        return self._ask is not None and time.monotonic() - self._at > FRESH_SECONDS

    def latest(self, patience_seconds: float = 0.0) -> list[Gpu]:
        """What the GPUs did last; the first answer gets some patience."""
        self._has_asked.wait(patience_seconds)
        return [] if self.is_silent else self._told

    def _go_on(self, ask: Ask) -> None:
        while True:
            if told := ask():
                self._told, self._at = told, time.monotonic()
                self._has_asked.set()
            time.sleep(self._seconds)


def way(environments: Path) -> Ask | None:
    """How to ask on this box; None where no driver is."""
    if nvml := _nvml(environments):
        return lambda: _of_nvml(nvml)
    tool = shutil.which("nvidia-smi")
    return (lambda: _of_tool(tool)) if tool else None


# ---- nvidia-ml-py ----


def _nvml(environments: Path) -> Any | None:
    """The module with the driver loaded, or None."""
    for path in (*environments.glob("*/venv/lib/python3*/site-packages/pynvml.py"), *_importable()):
        with contextlib.suppress(
            Exception
        ):  # another maker's module of that name, or a library without a driver
            specification = importlib.util.spec_from_file_location("pynvml", path)
            module = importlib.util.module_from_spec(specification)  # type: ignore[arg-type]
            sys.modules["pynvml"] = module  # it looks itself up there
            specification.loader.exec_module(module)  # type: ignore[union-attr]
            module.nvmlInit()
            return module if module.nvmlDeviceGetCount() else None
        sys.modules.pop("pynvml", None)
    return None


def _importable() -> list[Path]:
    found = importlib.util.find_spec("pynvml")
    return (
        [Path(found.origin)]
        if found and found.origin and found.origin.endswith("pynvml.py")
        else []
    )


def _of_nvml(nvml: Any) -> list[Gpu]:
    try:
        return [_device(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return []


def _device(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def told(ask: Callable[[], Any]) -> Any | None:
        try:
            return ask()
        except nvml.NVMLError:  # this model, or this slice of one, does not tell
            return None

    name = told(lambda: nvml.nvmlDeviceGetName(handle)) or ""
    busy = told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
    memory = told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    watts = told(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    celsius = told(lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)))
    reasons = told(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    kinds = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    errors = told(lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, *kinds))
    used, total = (memory.used / 1e9, memory.total / 1e9) if memory else (None, None)
    return Gpu(
        index,
        name if isinstance(name, str) else name.decode(),
        busy,
        used,
        total,
        watts,
        celsius,
        slowed(reasons or 0),
        errors,
    )


def slowed(reasons: int) -> str:
    """In words, why the clocks are held back for the GPU's own good; empty in ordinary work."""
    return ", ".join(words for bit, words in _SLOWED.items() if reasons & bit)


# ---- nvidia-smi ----


def _of_tool(tool: str) -> list[Gpu]:
    for reasons in _REASONS:
        words = [tool, f"--query-gpu={_FIELDS},{reasons}", "--format=csv,noheader,nounits"]
        try:
            answer = subprocess.run(
                words,
                capture_output=True,
                text=True,
                check=False,
                timeout=_ANSWER_SECONDS,
                stdin=subprocess.DEVNULL,
            )
            if answer.returncode == 0:
                return [_row(line) for line in answer.stdout.splitlines() if line.strip()]
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return []
    return []


def _row(line: str) -> Gpu:
    index, name, busy, used, total, watts, celsius, errors, reasons = (
        part.strip() for part in line.split(",")
    )
    return Gpu(
        int(index),
        name,
        _number(busy, 0.01),
        _number(used, 2**20 / 1e9),
        _number(total, 2**20 / 1e9),
        _number(watts),
        _number(celsius),
        slowed(int(reasons, 16)) if reasons.startswith("0x") else "",
        int(errors) if errors.isdigit() else None,
    )


def _number(text: str, unit: float = 1.0) -> float | None:
    try:
        return float(text) * unit
    except ValueError:  # [N/A] and its like
        return None
