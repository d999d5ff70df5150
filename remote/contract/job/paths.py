"""Where things lie on a box. Everything is under one root, `~/windlass` unless the inventory says
otherwise.

```
<root>/releases/<digest>/   immutable        <root>/current -> releases/<digest>   swapped by rename
<root>/blobs/<sha256>       contents of releases, whose files are hard links to them
<root>/shared/              environments/<key>  models/<name>  datasets/<digest>  caches/<name>
<root>/jobs/<job-id>/       spec.json  state.json  log  metrics.jsonl  outputs.json  failure.json
artifacts/  checkpoints/ <root>/timeline.jsonl       what happened to the box: see
`remote.contract.telemetry.timeline` <root>/telemetry.jsonl      what the box had to do: see
`remote.contract.telemetry.samples` <root>/secrets/<job-id>     for its owner alone, removed at the
job's end
```
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = "windlass"
"""The root's name in the home folder of the box's user."""


@dataclass(frozen=True)
class JobPaths:
    """The files of one job."""

    folder: Path

    @property
    def spec(self) -> Path:
        """What to do: a `JobSpec`."""
        return self.folder / "spec.json"

    @property
    def state(self) -> Path:
        """How it stands: a `JobState`, written by the supervisor alone."""
        return self.folder / "state.json"

    @property
    def log(self) -> Path:
        """Standard output and error of the stage, append-only: the newest part of it. See
        `remote.contract.logs.job_log`."""
        return self.folder / "log"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, append-only: see `remote.contract.telemetry.events.Metric`."""
        return self.folder / "metrics.jsonl"

    @property
    def outputs(self) -> Path:
        """What the stage made: output name -> `{"path": ...}` or a plain JSON value. See
        `remote.payload.job`."""
        return self.folder / "outputs.json"

    @property
    def failure(self) -> Path:
        """Why the stage gave up, in its own words: `{"cause", "what", "why", "remedy", "kept"}`."""
        return self.folder / "failure.json"

    @property
    def artifacts(self) -> Path:
        """Finished files for the outside."""
        return self.folder / "artifacts"

    @property
    def checkpoints(self) -> Path:
        """What a stage needs to go on after an interruption."""
        return self.folder / "checkpoints"


@dataclass(frozen=True)
class BoxPaths:
    """The folders of Windlass on a box."""

    root: Path

    @classmethod
    def of_home(cls) -> "BoxPaths":
        """The default place, as seen from the box itself."""
        return cls(Path.home() / ROOT)

    @classmethod
    def of_release(cls) -> "BoxPaths":
        """The root that this very code was deployed under; the default place when it does not lie
        in a release."""
        releases = Path(__file__).resolve().parents[4]
        return cls(releases.parent) if releases.name == "releases" else cls.of_home()

    @property
    def releases(self) -> Path:
        """Immutable, content-addressed code."""
        return self.root / "releases"

    @property
    def current(self) -> Path:
        """Symbolic link to the active release."""
        return self.root / "current"

    @property
    def shared(self) -> Path:
        """What outlives releases and jobs. A symbolic link where the inventory puts it elsewhere,
        such as on a faster disk."""
        return self.root / "shared"

    @property
    def environments(self) -> Path:
        """Python environments by the hash of their requirements."""
        return self.shared / "environments"

    @property
    def models(self) -> Path:
        """Base models by name."""
        return self.shared / "models"

    @property
    def caches(self) -> Path:
        """What can be fetched or made again."""
        return self.shared / "caches"

    @property
    def jobs(self) -> Path:
        """One folder a job."""
        return self.root / "jobs"

    @property
    def timeline(self) -> Path:
        """What happened to the box, one `remote.contract.telemetry.timeline.Event` a line; older
        lines in `timeline.jsonl.1`."""
        return self.root / "timeline.jsonl"

    @property
    def telemetry(self) -> Path:
        """One `remote.contract.telemetry.samples.Sample` a line; older lines in
        `telemetry.jsonl.1`."""
        return self.root / "telemetry.jsonl"

    @property
    def secrets(self) -> Path:
        """What jobs may know and nobody else: one file a job, mode 0600, in a folder of mode
        0700."""
        return self.root / "secrets"

    def job(self, job_id: str) -> JobPaths:
        """The files of the job `job_id`."""
        return JobPaths(self.jobs / job_id)
