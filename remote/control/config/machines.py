"""What common EC2 instance types hold: AWS's published figures. GB of GPU memory are those of one
GPU."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """An instance type. `capability` is the CUDA compute capability; memory in GB."""

    vcpus: int
    memory_gb: int
    gpu: str | None = None
    gpus: int = 0
    gpu_gb: int = 0
    capability: float = 0.0


_T4, _A10G, _L4 = ("T4", 16, 7.5), ("A10G", 24, 8.6), ("L4", 24, 8.9)
_L40S, _V100, _A100 = ("L40S", 48, 8.9), ("V100", 16, 7.0), ("A100", 40, 8.0)
_H100, _H200 = ("H100", 80, 9.0), ("H200", 141, 9.0)

_SIZES = {
    "g4dn": (
        _T4,
        {
            "xlarge": (4, 16, 1),
            "2xlarge": (8, 32, 1),
            "4xlarge": (16, 64, 1),
            "8xlarge": (32, 128, 1),
            "12xlarge": (48, 192, 4),
            "16xlarge": (64, 256, 1),
        },
    ),
    "g5": (
        _A10G,
        {
            "xlarge": (4, 16, 1),
            "2xlarge": (8, 32, 1),
            "4xlarge": (16, 64, 1),
            "8xlarge": (32, 128, 1),
            "12xlarge": (48, 192, 4),
            "16xlarge": (64, 256, 1),
            "24xlarge": (96, 384, 4),
            "48xlarge": (192, 768, 8),
        },
    ),
    "g6": (
        _L4,
        {
            "xlarge": (4, 16, 1),
            "2xlarge": (8, 32, 1),
            "4xlarge": (16, 64, 1),
            "8xlarge": (32, 128, 1),
            "12xlarge": (48, 192, 4),
            "16xlarge": (64, 256, 1),
            "24xlarge": (96, 384, 4),
            "48xlarge": (192, 768, 8),
        },
    ),
    "g6e": (
        _L40S,
        {
            "xlarge": (4, 32, 1),
            "2xlarge": (8, 64, 1),
            "4xlarge": (16, 128, 1),
            "8xlarge": (32, 256, 1),
            "12xlarge": (48, 384, 4),
            "16xlarge": (64, 512, 1),
            "24xlarge": (96, 768, 4),
            "48xlarge": (192, 1536, 8),
        },
    ),
    "p3": (_V100, {"2xlarge": (8, 61, 1), "8xlarge": (32, 244, 4), "16xlarge": (64, 488, 8)}),
    "p3dn": (("V100", 32, 7.0), {"24xlarge": (96, 768, 8)}),
    "p4d": (_A100, {"24xlarge": (96, 1152, 8)}),
    "p4de": (("A100", 80, 8.0), {"24xlarge": (96, 1152, 8)}),
    "p5": (_H100, {"4xlarge": (16, 256, 1), "48xlarge": (192, 2048, 8)}),
    "p5e": (_H200, {"48xlarge": (192, 2048, 8)}),
    "p5en": (_H200, {"48xlarge": (192, 2048, 8)}),
}

_SMALL = {
    "nano": (2, 0.5),
    "micro": (2, 1),
    "small": (2, 2),
    "medium": (2, 4),
    "large": (2, 8),
    "xlarge": (4, 16),
    "2xlarge": (8, 32),
}
_GB_PER_CPU = {"c": 2, "m": 4, "r": 8}


def machine(instance_type: str) -> Machine | None:
    """The figures of an instance type, or None for one that is not known here."""
    family, _, size = instance_type.partition(".")
    if family in _SIZES:
        (gpu, gpu_gb, capability), sizes = _SIZES[family]
        found = sizes.get(size)
        return Machine(found[0], found[1], gpu, found[2], gpu_gb, capability) if found else None
    if family in ("t3", "t3a") and size in _SMALL:
        return Machine(_SMALL[size][0], int(_SMALL[size][1]))
    return _of_rule(family, size)


def _of_rule(family: str, size: str) -> Machine | None:
    # The general families scale plainly: `large` has 2 CPUs, `Nxlarge` 4 N, and a family a fixed
    # memory for each.
    kind = re.fullmatch(r"([cmr])[5-8][a-z]{0,2}", family)
    steps = re.fullmatch(r"(\d*)xlarge", size)
    if not kind or not (steps or size == "large"):
        return None
    vcpus = 4 * int(steps[1] or 1) if steps else 2
    return Machine(vcpus, vcpus * _GB_PER_CPU[kind[1]])
