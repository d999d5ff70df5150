"""The machine itself: Python, disk, memory, GPU. Standard library only."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from remote.contract.files.disk import apart
from remote.contract.job.checks import Check, Verdict, judge, skipped
from remote.contract.job.paths import BoxPaths
from remote.payload.environment import OLDEST_PYTHON
from remote.payload.preflight.request import Request

GB = 1e9
_QUERY = "name,memory.total,memory.free,driver_version,compute_cap"


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi sees it; memory in GB."""

    name: str
    total_gb: float
    free_gb: float
    driver: str
    capability: float


def checks(request: Request) -> list[Check]:
    """Everything about the machine."""
    return [python(), disk(request), memory(request), *gpu(request)]


def python() -> Check:
    """The Python that runs Windlass on the box."""
    found = ".".join(map(str, sys.version_info[:3]))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    good = sys.version_info[:2] >= OLDEST_PYTHON
    return judge(
        good,
        "python",
        found,
        f"{oldest} or newer",
        "use an image with a newer Python, such as Ubuntu 24.04",
    )


def disk(request: Request) -> Check:
    """Free space under Windlass's folder."""
    root = BoxPaths.of_release().root
    free, need = shutil.disk_usage(root).free, request.thresholds.get("disk_gb", 1.0) * GB
    has, needs = apart(free, need)
    remedy = f"free space under {root}, or raise `disk_gb` of the box in inventory.yaml"
    return judge(free >= need, "disk", f"{has} free", needs, remedy)


def memory(request: Request) -> Check:
    """Memory that a new process may use: what is available, within the limit of the control
    group."""
    free, need = available_bytes(), request.thresholds.get("host_gb", 1.0) * GB
    has, needs = apart(free, need)
    return judge(
        free >= need,
        "memory",
        f"{has} available",
        needs,
        "end other programs, or use a larger instance type",
    )


def available_bytes() -> int:
    """Available memory in bytes."""
    lines = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    available = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no limit is the word "max"
        return available
    return min(available, limit - used)


def gpu(request: Request) -> list[Check]:
    """The GPU, its free memory and its compute capability. None at all is right where the recipe
    computes on the CPU."""
    found = gpus()
    if isinstance(found, str) or not found:
        why = found if isinstance(found, str) else "none"
        if request.device == "cpu":
            return [Check("gpu", why, "none: the recipe says `device: cpu`", Verdict.OK, "")]
        remedy = (
            "use a box with a GPU (`./inv preflight --box NAME`), or write `device: cpu` in the"
            " recipe"
        )
        return [Check("gpu", why, "an NVIDIA GPU with its driver", Verdict.FAIL, remedy)]
    first = found[0]
    named = f"{len(found)} x {first.name}, {first.total_gb:.0f} GB, driver {first.driver}"
    if request.device == "cpu":
        return [Check("gpu", named, "none needed", Verdict.OK)]
    return [
        Check("gpu", named, "an NVIDIA GPU with its driver", Verdict.OK),
        _free(first, request),
        _capability(first, request),
    ]


def gpus() -> list[Gpu] | str:
    """The GPUs, or why there are none to see."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none (no nvidia-smi)"
    try:
        answer = subprocess.run(
            [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except subprocess.TimeoutExpired:
        return "nvidia-smi does not answer"
    if answer.returncode:
        return f"nvidia-smi fails: {' '.join((answer.stdout + answer.stderr).split())[:160]}"
    try:
        return [_gpu(line) for line in answer.stdout.splitlines() if line.strip()]
    except ValueError:
        return f"nvidia-smi says {answer.stdout.strip()[:160]!r}"


def _gpu(line: str) -> Gpu:
    name, total, free, driver, capability = (part.strip() for part in line.split(","))
    return Gpu(name, float(total) * 2**20 / GB, float(free) * 2**20 / GB, driver, float(capability))


def _free(found: Gpu, request: Request) -> Check:
    need = request.thresholds.get("gpu_gb")
    if need is None:
        return skipped("gpu memory", f"{found.free_gb:.1f} GB free; no estimate for this model")
    remedy = (
        "end what uses the GPU (`nvidia-smi`), halve `batch` and double `accumulation`, or write"
        " `recompute: true`"
    )
    has, needs = apart(found.free_gb * GB, need * GB)
    return judge(found.free_gb >= need, "gpu memory", f"{has} free", f"about {needs}", remedy)


def _capability(found: Gpu, request: Request) -> Check:
    # By capability, for torch reports bf16 as supported on Turing too, where it is emulated.
    need = request.thresholds.get("capability", 0.0)
    remedy = (
        "write `compute_dtype: float16` in the recipe, or use a newer GPU (A10G, L4, A100, H100)"
    )
    return judge(
        found.capability >= need,
        "compute capability",
        f"{found.capability}",
        f"{need} or higher",
        remedy,
    )
