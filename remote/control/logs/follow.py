"""Follow one job to its end, its log and measurements copied to this laptop on the way.

The copies are exact beginnings of the box's files, whatever happens to the connection: their sizes
say where to go on, so a connection, a command or a laptop may die at any byte.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

from remote.contract.job.jobs import JobState
from remote.contract.logs.query import LOG, METRICS, LogQuery
from remote.contract.telemetry.events import Metric
from remote.control.logs.client import LogClient
from remote.control.logs.mirror import CopySink
from remote.control.logs.record import LogRecord, LogSink
from remote.control.retry import PATIENCE_SECONDS
from remote.control.secrets import mask
from remote.control.transport.base import Transport

OnText = Callable[[str], None]
"""Takes whole lines, as many as came at once: with ends between them, none behind the last."""


def follow(
    open_transport: Callable[[], Transport],
    box_root: str,
    job_id: str,
    log: Path,
    metrics: Path,
    on_log: OnText | None,
    on_metric: Callable[[Metric], None],
    wait: bool = True,
    notice: Callable[[str], None] = lambda text: None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> JobState:
    """Follow a job to its end (or, without `wait`, fetch what there is) and return its state.

    `on_log` gets the lines that are new to the local file (None: nobody reads along), `on_metric`
    each measurement, `notice` warnings about the box and the connection. A lost connection is made
    anew, for as long as `patience_seconds` pass without success: then BoxUnreachable. The job goes
    on whatever happens here.
    """
    reader = _Reader(on_log, on_metric, notice)
    sink = CopySink({LOG: log, METRICS: metrics}, reader)
    query = LogQuery(jobs=[job_id], follow=wait, metrics=True)
    client = LogClient("", box_root, open_transport, query, sink, first_seconds=0)
    try:
        client.run(
            patience_seconds,
            f"lost sight of job {job_id}",
            # RUN/logs/STAGE.log
            remedy=f"`./inv logs {log.parents[1].name} -f` when the box answers again",
            kept="the job goes on on the box; every byte that arrived is in the local log",
        )
    finally:
        sink.close()
    return client.ended[job_id]


class _Reader(LogSink):
    def __init__(
        self,
        on_log: OnText | None,
        on_metric: Callable[[Metric], None],
        notice: Callable[[str], None],
    ) -> None:
        self._on_log, self._on_metric, self._notice = on_log, on_metric, notice
        self._mask = mask()

    def take(self, record: LogRecord) -> None:
        if record.source == METRICS:
            read_metrics(record, self._on_metric)
        elif record.source != LOG:
            if warning := record.warning(self._mask):
                self._notice(warning)
        elif self._on_log and not record.is_partial:
            self._on_log(record.text(self._mask))

    def notice(self, text: str) -> None:
        self._notice(text)


def read_metrics(record: LogRecord, on_metric: Callable[[Metric], None]) -> None:
    """The measurements in a record; lines that are none are left out."""
    for line in record.content.decode(errors="replace").splitlines():
        with contextlib.suppress(ValueError, TypeError):
            on_metric(Metric.from_line(line))
