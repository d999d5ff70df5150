"""Read logs: each source in a thread of its own, their records together by the order of time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from remote.contract.job.jobs import JobState
from remote.contract.logs.query import LOG, METRICS, JobFacts
from remote.contract.logs.search import TooSlow
from remote.contract.telemetry.events import Metric
from remote.control.errors import DataError, FleetFailed, WindlassError
from remote.control.faults import as_error
from remote.control.logs.follow import read_metrics
from remote.control.logs.merging import Merging
from remote.control.logs.record import LogRecord, LogSink
from remote.control.progress import Say, warning
from remote.control.secrets import mask
from remote.control.targets import NoSuchStage

OnJob = Callable[[str, str, str], None]
"""Hears of a job whose records follow: its stream, its stage, and its run (or its own id, where it
has none)."""


@dataclass
class Stream:
    """One box, or one job that no box is asked for; `read` gives its records to a sink until it has
    ended."""

    name: str
    read: Callable[["Output"], None]
    error: WindlassError | None = None


@dataclass(frozen=True)
class Ended:
    """A job that has ended: its stage and run in words, and how to go on where that is known."""

    label: str
    state: JobState
    hint: str = ""

    @property
    def why(self) -> str:
        """What went wrong, behind a colon; empty where nothing is known."""
        words = ". ".join(filter(None, (self.state.what, self.state.why)))
        return f": {words}" if words else ""


@dataclass
class Output(LogSink):
    """The records of one stream, on their way to those of the others."""

    name: str
    merging: Merging
    say: Say
    on_job: OnJob
    on_metric: Callable[[Metric], None] | None = None
    is_of_one_job: bool = False
    all_ended: list[Ended] = field(default_factory=list)
    run_here: str = ""

    @property
    def is_alone(self) -> bool:
        """Whether there is no other stream."""
        return len(self.merging.names) == 1

    def introduce(self, job: JobFacts) -> None:
        """Tell of it."""
        self.on_job(self.name, job.stage, job.run or job.job)

    def take(self, record: LogRecord) -> None:
        """Hand a line to those of the others; a measurement is no line."""
        if record.source == METRICS:
            if self.on_metric:
                read_metrics(record, self.on_metric)
        elif record.source == LOG or not self.is_of_one_job:
            self.merging.put(self.name, record)
        elif told := record.warning(mask()):  # standard output has the log alone
            self.notice(told)

    def live(self) -> None:
        """What follows is new."""
        self.merging.live(self.name)

    def ended(self, job: JobFacts, state: JobState) -> None:
        """Remember it."""
        hint = f"; `./inv resume {self.run_here}` goes on" if self.run_here else ""
        self.all_ended.append(Ended(f"{job.stage} of {job.run or self.name}", state, hint))

    def notice(self, text: str) -> None:
        """Warn of it."""
        self.say(warning(text))


class Reading:
    """Logs that are read together, once.

    `say` hears warnings, from any thread. `title` names the only job that is followed, where its
    progress may be shown beside its lines; else it is empty. `ended` are the jobs that have ended,
    once all records were read.
    """

    def __init__(self, streams: Sequence[Stream], say: Say, title: str = "") -> None:
        self.title, self.ended = title, list[Ended]()
        self._streams, self._say = streams, say

    @property
    def count(self) -> int:
        """How many streams there are."""
        return len(self._streams)

    def records(
        self, on_job: OnJob, on_metric: Callable[[Metric], None] | None = None
    ) -> Iterator[LogRecord]:
        """All records, as they come. `on_job` and `on_metric` are called from threads of the
        streams."""
        merging = Merging([stream.name for stream in self._streams])
        outputs = [
            Output(stream.name, merging, self._say, on_job, on_metric) for stream in self._streams
        ]
        for stream, output in zip(self._streams, outputs, strict=True):
            threading.Thread(
                target=_run, args=(stream, output), name=f"logs of {stream.name}", daemon=True
            ).start()
        yield from merging
        self.ended = [each for output in outputs for each in output.all_ended]

    def require_read(self) -> None:
        """Raises the error of the only stream, or those of several as FleetFailed."""
        errors = {stream.name: stream.error for stream in self._streams if stream.error}
        if len(errors) < self.count:
            # The others were asked for it too: that these have no such stage is no failure.
            errors = {
                name: error for name, error in errors.items() if not isinstance(error, NoSuchStage)
            }
        if errors and self.count == 1:
            raise next(iter(errors.values()))
        if errors:
            raise FleetFailed(errors, [{"box": stream.name} for stream in self._streams])


def _run(stream: Stream, output: Output) -> None:
    try:
        stream.read(output)
    except TooSlow as error:
        remedy = "a simpler `--grep`: no repetition within another"
        stream.error = DataError(
            "--grep cannot be searched for", where=stream.name, why=str(error), remedy=remedy
        )
    except (
        Exception
    ) as error:  # it is raised when all others have ended, and nothing waits for this one
        stream.error = as_error(error)
        if not output.is_alone:
            output.notice(f"{stream.name}: {stream.error.what}")
    finally:
        output.merging.end(stream.name)
