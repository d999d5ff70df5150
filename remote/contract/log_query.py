"""What is asked of the logs of a box, and how they travel: frames of `remote.contract.frames`.

```
{"now": 1.5, "jobs": [{"job", "run", "stage", "status", "next"}]}     first, and again when another job joins
{"job": "...", "at": 1.5, "next": 120, "size": 20}\\n<20 bytes>        whole lines, written at `at`; go on from byte `next`
{"job": "...", "at": 1.5, "next": 900, "dropped": 780}                so many bytes are not there any more
{"job": "...", "at": 1.5, "partial": true, "size": 9}\\n<9 bytes>      the line that has no end yet, as it stands; `next` does not move
{"event": {...}, "seen": {...}}                                       an `Event` of the box's timeline, or of its watchdog's log; of which
                                                                      file, and where to go on there
{"live": true}                                                        what there was is told; from here on it is told as it comes
{"ended": "...", "status": "FAILED", "what": "...", "why": "..."}     all of that job is told
{"beat": true}                                                        nothing new, still here
{"end": true}                                                         that was all
{"error": {...}}                                                      it cannot be told
```
"""

import json
import re
from dataclasses import asdict, dataclass, field

from remote.contract import untrusted_json


@dataclass(frozen=True)
class Question:
    """Which lines are wanted, of which jobs.

    `jobs` are ids; without any the box takes those under way, or else its newest; `stage` narrows that. `ago`: written in the last so
    many seconds by the box's own clock; `tail`: at most so many of the last lines of each job; `grep`: a regular expression that a line
    must hold; `level`: of that weight at least; `raw`: bytes as they are, and nothing of the box beside them. `follow`: go on until the
    jobs have ended; where the box chose them, also with those that start later. `resume` and `seen` are where an earlier answer broke off,
    `away` seconds ago: a job that the box chooses is told too where it has ended since.
    """

    jobs: list[str] = field(default_factory=list)
    stage: str = ""
    ago: float | None = None
    tail: int | None = None
    grep: str = ""
    level: str = "info"
    raw: bool = False
    follow: bool = False
    resume: dict[str, int] = field(default_factory=dict)
    seen: dict[str, list[int]] = field(default_factory=dict)
    away: float = 0.0

    def to_json(self) -> str:
        """The question as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Question":
        """Read a question; raises ValueError or TypeError when it is none."""
        return cls(**untrusted_json.loads_object(text))


@dataclass(frozen=True)
class JobFacts:
    """A job that will be told: its id, its run (empty where it has none), its stage's label, how it stands, and from which byte on."""

    job: str
    run: str = ""
    stage: str = ""
    status: str = ""
    next: int = 0


def label_of(job_id: str, run_id: str, stage: str) -> str:
    """The label that a job's stage has in its run, out of its id, `RUN-LABEL-KEY`; `stage` where it has none."""
    inner = re.fullmatch(r"(.+)-[0-9a-f]{8}", job_id.removeprefix(f"{run_id}-")) if run_id and job_id.startswith(f"{run_id}-") else None
    return inner[1] if inner else stage
