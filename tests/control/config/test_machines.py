"""Instance types."""

import pytest

from remote.control.config.machines import machine


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("g5.2xlarge", (8, 32, "A10G", 24, 8.6)),
        ("g4dn.xlarge", (4, 16, "T4", 16, 7.5)),
        ("p5.48xlarge", (192, 2048, "H100", 80, 9.0)),
        ("t3.large", (2, 8, None, 0, 0.0)),
        ("m6i.4xlarge", (16, 64, None, 0, 0.0)),
        ("c5.large", (2, 4, None, 0, 0.0)),
    ],
)
def test_known_types(name, figures):
    has = machine(name)
    assert (has.vcpus, has.memory_gb, has.gpu, has.gpu_gb, has.capability) == figures


@pytest.mark.parametrize("name", ["x9.large", "g5.3xlarge", "nonsense", "m6i.metal"])
def test_unknown_types(name):
    assert machine(name) is None
