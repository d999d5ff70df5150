"""What is asked of the logs of a box, and how the answer travels: frames of
`remote.contract.logs.frames`.

```
{"now": 1.5, "jobs": [{"job", "run", "stage", "status", "next"}]}     first, and again when another
job joins {"job": "...", "at": 1.5, "next": 120, "size": 20}\\n<20 bytes>        whole lines,
written at `at`; go on from byte `next` {"job": "...", "at": 1.5, "next": 900, "dropped": 780}
so many bytes are not there any more {"job": "...", "at": 1.5, "partial": true, "size": 9}\\n<9
bytes>      the line without an end yet, as it stands {"job": "...", "next": 88, "file": "metrics",
"size": 88}\\n<…>        lines of the job's measurements {"restart": "...", "file": "log"}
that file is another one now: it follows from its beginning {"event": {...}, "seen": {...}}
an `Event` of the box's timeline, or of its watchdog's log;
                                                                      of which file, and where to go
                                                                      on there
{"waiting": "...", "place": 1, "why": "..."}                          the job's place in line for
the GPU has changed; 0: its turn {"live": true}
what there was is sent; from here on as it comes {"ended": "...", "state": {...}}
all of that job is sent, and this is its state {"beat": true}
nothing new, still here {"end": true}                                                         that
was all {"error": {...}}                                                      it cannot be answered
```
"""

import json
import re
from dataclasses import asdict, dataclass, field

from remote.contract.files import untrusted_json

LOG, METRICS = "log", "metrics"
"""The files of a job that are sent."""


@dataclass(frozen=True)
class LogQuery:
    """Which lines are wanted, of which jobs.

    `jobs` are ids; without any the box takes those under way, or else its newest; `stage` narrows
    that. `ago`: written in the last so many seconds by the box's clock; `tail`: at most so many of
    the last lines of each job; `grep`: a regular expression that a line must match; `level`: of
    that level at least; `raw`: bytes as they are, and no events of the box; `metrics`: the jobs'
    measurements too. `follow`: go on until the jobs have ended; where the box chose them, also with
    those that start later.

    `resume` (job, file, offset) and `seen` are where an earlier answer broke off, `away` seconds
    ago: a job that the box chooses is sent too where it has ended since. `marks`: of one job that
    is copied, what the copy has before these offsets (see `remote.contract.logs.frames.mark`).
    """

    jobs: list[str] = field(default_factory=list)
    stage: str = ""
    ago: float | None = None
    tail: int | None = None
    grep: str = ""
    level: str = "info"
    raw: bool = False
    follow: bool = False
    metrics: bool = False
    resume: dict[str, dict[str, int]] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    seen: dict[str, list[int]] = field(default_factory=dict)
    away: float = 0.0

    @property
    def takes_all(self) -> bool:
        """Whether every line is wanted."""
        return self.ago is None and self.tail is None and not self.grep and self.level == "info"

    def to_json(self) -> str:
        """The query as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LogQuery":
        """Read a query; raises ValueError or TypeError when it is none."""
        return cls(**untrusted_json.loads_object(text))


@dataclass(frozen=True)
class JobFacts:
    """A job that will be sent: its id, its run (empty where it has none), its stage's label, how it
    stands, and from which byte on."""

    job: str
    run: str = ""
    stage: str = ""
    status: str = ""
    next: int = 0


def label_of(job_id: str, run_id: str, stage: str) -> str:
    """The label that a job's stage has in its run, out of its id, `RUN-LABEL-KEY`; `stage` where it
    has none."""
    inner = (
        re.fullmatch(r"(.+)-[0-9a-f]{8}", job_id.removeprefix(f"{run_id}-"))
        if run_id and job_id.startswith(f"{run_id}-")
        else None
    )
    return inner[1] if inner else stage
