"""What travels while a job runs: the lines of metrics.jsonl, and the frames of a followed log."""

import json
from dataclasses import asdict, dataclass

from remote.contract.files import typed, untrusted_json


@dataclass(frozen=True)
class Metric:
    """One line of metrics.jsonl.

    `step` of `total_steps`; `loss` in nats per supervised token; `tokens_per_second` over all
    tokens; `memory_gb` is the peak so far (GPU where there is one, else resident); `eta_seconds` to
    the end of the stage. `val_loss` and `note` stand only on the lines that have them.
    """

    step: int
    total_steps: int
    time: float
    loss: float | None = None
    lr: float | None = None
    tokens_per_second: float | None = None
    memory_gb: float | None = None
    eta_seconds: float | None = None
    val_loss: float | None = None
    note: str | None = None

    def to_line(self) -> str:
        """The metric as one line, newline included; absent values are left out."""
        return (
            json.dumps({key: value for key, value in asdict(self).items() if value is not None})
            + "\n"
        )

    @classmethod
    def from_line(cls, line: str) -> "Metric":
        """Read a line; raises ValueError or TypeError when it is none. Unknown keys of a newer
        trainer are ignored."""
        return typed.read(cls, untrusted_json.loads(line))
