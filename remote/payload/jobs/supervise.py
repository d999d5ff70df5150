"""The box's side of a job: starts it detached, tells how it stands, ends it. Standard library only.

`start [--again] [--queue]` reads `{"spec", "secrets"}` on standard input; `list`; `status ID`;
`cancel ID SECONDS`. Each answers with one frame, which holds the JobState. `run FOLDER PYTHON` is
the job's supervisor: see `remote.payload.jobs.supervisor`.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from remote.contract.files import atomic, disk, regular_files, typed, untrusted_json
from remote.contract.job import notices, surroundings
from remote.contract.job.jobs import Cause, JobSpec, JobState, Status
from remote.contract.job.paths import BoxPaths, JobPaths
from remote.contract.logs import job_log
from remote.contract.telemetry.events import Metric
from remote.payload import process
from remote.payload.identity import Identity
from remote.payload.jobs import queue, secrets, states

START_SECONDS = 30.0
_METRICS_BYTES = 65536
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Refused(Exception):
    """The box cannot do that: cause, what, why, remedy. `is_busy`: not now, for another job has
    what it takes."""

    def __init__(
        self,
        cause: Cause,
        what: str,
        why: str = "",
        remedy: str = "",
        kept: str = "",
        is_busy: bool = False,
    ) -> None:
        super().__init__(what)
        self.words: dict[str, Any] = {
            "cause": cause.value,
            "what": what,
            "why": why,
            "remedy": remedy,
            "kept": kept,
            "busy": is_busy,
        }


def checked(job_id: str) -> str:
    """The id itself; raises Refused for one that cannot name a job."""
    if not _JOB_ID.fullmatch(job_id):
        raise Refused(
            Cause.CONFIG,
            f"{job_id!r} cannot name a job",
            "letters, digits, dots, dashes and underscores only",
        )
    return job_id


# ---- start ----


def start(
    box: BoxPaths,
    spec: JobSpec,
    told: Mapping[str, str],
    again: bool = False,
    may_wait: bool = False,
) -> JobState:
    """Start a job, once: a job that runs, waits in line or has succeeded is only reported. `told`:
    secrets for the environment of its stage. `again`: one that ended badly goes on from its
    checkpoints. `may_wait`: where the job needs the GPU and another one has it, it waits in line;
    else that is refused."""
    paths = box.job(checked(spec.job_id))
    paths.folder.mkdir(parents=True, exist_ok=True)
    with _locked(paths):
        state = states.read(paths)
        if state is not None and not _may_start(state, again):
            return state
        _refuse_doomed(box)
        interpreter = _interpreter(box, spec)
        with _in_line(box, spec, may_wait):
            states.reserve(paths)
            atomic.write_text(paths.spec, spec.to_json() + "\n")
            _clear(paths, spec, state)
            secrets.forget_stale(box)
            secrets.keep(box, spec.job_id, dict(told))
            _launch(paths, interpreter, box.releases / spec.release)
            return _await_start(paths)


def _may_start(state: JobState, again: bool) -> bool:
    badly = state.status.is_final and state.status is not Status.SUCCEEDED
    return states.is_unborn(state) or (again and badly)


@contextlib.contextmanager
def _in_line(box: BoxPaths, spec: JobSpec, may_wait: bool) -> Iterator[None]:
    """Stand in line for the job until its supervisor does, so that of two who start at once one is
    told. Raises Refused."""
    if not spec.exclusive:
        yield
        return
    try:
        queue.enter(box, spec, may_wait)
    except queue.Taken as taken:
        raise _busy(box, taken.line) from None
    try:
        yield
    except BaseException:
        queue.leave(box, spec.job_id)
        raise


def _busy(box: BoxPaths, line: list[queue.Ticket]) -> Refused:
    stage, run = line[0].stage, line[0].run
    waiting = (
        f"; {len(line) - 1} more wait{'s' if len(line) == 2 else ''} in line"
        if len(line) > 1
        else ""
    )
    return Refused(
        Cause.CODE,
        f"the box works for another job: {stage} of {run}",
        f"{_progress(box.job(line[0].job_id))}{waiting}",
        f"`./inv resume --queue` waits in line for it; `./inv logs {run} -f` shows the other,"
        f" `./inv cancel {run}` ends it",
        is_busy=True,
    )


def _progress(paths: JobPaths) -> str:
    """`job J has run for 12 min, step 40 of 100, about 18 min to go`, as far as it tells."""
    state = states.recorded(paths)
    if state is None or not state.started_at:
        return f"job {paths.folder.name} is just starting"
    ran = f"job {state.job_id} has run for {_words_of(max(0.0, time.time() - state.started_at))}"
    last = _last_metric(paths.metrics) if paths.metrics.exists() else Metric(0, 0, 0.0)
    step = f", step {last.step} of {last.total_steps}" if last.total_steps else ""
    return (
        ran
        + step
        + (f", about {_words_of(last.eta_seconds)} to go" if last.eta_seconds is not None else "")
    )


def _words_of(seconds: float) -> str:
    units = ((3600.0, "h"), (60.0, "min"))
    return next(
        (f"{seconds / length:.3g} {name}" for length, name in units if seconds >= length),
        f"{seconds:.0f} s",
    )


def _refuse_doomed(box: BoxPaths) -> None:
    notice = notices.read(box.root, time.time())
    if notice and notice.kind == notices.SPOT:
        raise Refused(
            Cause.SPOT,
            "nothing is started on a box that the cloud takes back",
            notice.why,
            "`./inv resume` on another box",
        )


def _interpreter(box: BoxPaths, spec: JobSpec) -> Path:
    from remote.payload import environment

    release = box.releases / spec.release
    if not (release / "remote").is_dir():
        raise Refused(
            Cause.CONFIG,
            f"release {spec.release[:12]} is not on the box",
            remedy="`./inv deploy`, then the same command",
        )
    if spec.environment is None:
        return Path(sys.executable)
    requirements = release / "remote" / "payload" / spec.environment
    found = environment.find(requirements, box.environments) if requirements.exists() else None
    if found is None:
        what = f"the Python environment of {spec.environment} is not made"
        raise Refused(Cause.CONFIG, what, remedy="`./inv deploy`, then the same command")
    return found


def _clear(paths: JobPaths, spec: JobSpec, state: JobState | None) -> None:
    """Record that the job is to start. Where that stands already, a start before this one was cut
    off: its supervisor may just be recording that it runs, which nothing may overwrite."""
    if state is not None and states.is_unborn(state):
        return
    if state is not None:
        _make_room(paths, state)
    states.write(paths, JobState(spec.job_id, spec.stage))


def _make_room(paths: JobPaths, state: JobState) -> None:
    """Before another attempt: nothing of the last one can be mistaken for the new one's;
    checkpoints, log and metrics stay."""
    _kill_left_over(paths)
    for path in (
        paths.failure,
        paths.outputs,
        states.cancel_file(paths),
        paths.folder / queue.STAGE,
        paths.folder / notices.FLUSH,
    ):
        _remove(path)
    if states.recorded(paths) is None:
        _remove(
            paths.state
        )  # what cannot be read may be a folder, in whose place no file can be written
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    note = f"started again at {moment} after {state.status.value}"
    job_log.note_time(paths.folder, job_log.parts(paths.folder)[-1].end)
    _append(paths.log, f"---- {note} ----")
    if paths.metrics.exists():
        last = _last_metric(paths.metrics)
        _append(
            paths.metrics,
            Metric(last.step, last.total_steps, time.time(), note=note).to_line().strip(),
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _append(path: Path, line: str) -> None:
    """Append a whole line, after a line that a killed process left unfinished."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.write(b"\n")
        file.write(line.encode() + b"\n")


def _last_metric(path: Path) -> Metric:
    with contextlib.suppress(OSError):
        for line in reversed(
            regular_files.end_of(path, _METRICS_BYTES).decode(errors="replace").splitlines()
        ):
            with contextlib.suppress(ValueError, TypeError):
                return Metric.from_line(line)
    return Metric(0, 0, 0.0)


def _launch(paths: JobPaths, interpreter: Path, release: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "remote.payload.jobs.supervise",
        "run",
        str(paths.folder),
        str(interpreter),
    ]
    has_systemd = Path("/run/systemd/system").is_dir() and surroundings.LOCAL not in os.environ
    if has_systemd and _launched(systemd_command(paths.folder.name, release, words)):
        return
    with (paths.folder / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            words,
            cwd=release,
            env={**_variables(), "PYTHONPATH": str(release)},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _variables() -> dict[str, str]:
    """What a supervisor, and the stage that it starts, find in their environment beside the job's
    own secrets."""
    return surroundings.passed_on(
        os.environ, surroundings.COMPUTE, surroundings.PACKAGES, surroundings.AWS_PLACES
    )


def systemd_command(job_id: str, release: Path, words: list[str]) -> list[str]:
    """Starts a supervisor as a unit of its own, so that logging out leaves it alone and a shutdown
    gives it time to checkpoint."""
    from remote.payload.jobs import (
        supervisor,
    )  # late: most who load this module only ask how a job stands, forty times a day

    unit = [
        f"--unit={supervisor.unit_of(job_id)}",
        f"--uid={os.getuid()}",
        f"--gid={os.getgid()}",
        "--collect",
        "--quiet",
        f"--working-directory={release}",
        f"--setenv=PYTHONPATH={release}",
        f"--setenv=HOME={Path.home()}",
        "--property=KillMode=mixed",
        f"--property=TimeoutStopSec={supervisor.GRACE_SECONDS + 30:.0f}",
        # When the kernel kills the stage for memory, systemd would by default end the supervisor as
        # well: it could not say why.
        "--property=OOMPolicy=continue",
        # What the box gives every login, such as a proxy, is read by systemd itself: secrets in it
        # never stand in arguments.
        "--property=EnvironmentFile=-/etc/environment",
    ]
    return ["sudo", "-n", "systemd-run", *unit, "--", *words]


def _launched(words: list[str]) -> bool:
    if shutil.which(words[0]) is None:
        return False
    try:
        return (
            subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=START_SECONDS,
            ).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        # Not False: the unit may still come up, and nothing may be started beside it.
        raise Refused(
            Cause.CODE,
            f"systemd did not answer in {START_SECONDS:.0f} s",
            remedy="run the command again",
        ) from None


def _await_start(paths: JobPaths) -> JobState:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        state = states.read(paths)
        if state is not None and not states.is_unborn(state):
            return state
        time.sleep(0.01)
    said = ""
    with contextlib.suppress(OSError):
        said = (
            regular_files.end_of(paths.folder / "supervisor.log", 4096)
            .decode(errors="replace")
            .strip()[-400:]
        )
    raise Refused(
        Cause.CODE,
        "the job's supervisor did not come up",
        said,
        "run the command again; it starts the job once only",
    )


# ---- status and cancel ----


def status(box: BoxPaths, job_id: str) -> JobState:
    """How the job stands, LOST included. Raises Refused when there is no such job.

    A supervisor that was killed left what its job was told: whoever sees that the job is over
    clears that away.
    """
    paths = box.job(checked(job_id))
    state = states.read(paths)
    if state is None:
        raise Refused(
            Cause.LOST,
            f"there is no job {job_id} on the box",
            remedy="`./inv runs` lists what was started",
        )
    if states.is_unborn(state) and _is_free(paths):
        state = states.lost(
            paths, states.read(paths) or state, "it was never started: the start was cut off"
        )
    if state.status.is_final:
        secrets.forget_if_over(box, job_id)
    return state


def listing(box: BoxPaths) -> list[dict[str, Any]]:
    """Every job of the box as it stands, the newest first: its state, and the `run_id` that it
    belongs to."""
    told = []
    for folder in box.jobs.iterdir() if box.jobs.is_dir() else ():
        with contextlib.suppress(Refused):  # a job that is just being started, or what is none
            told.append(
                {**_listed(box, folder.name).to_dict(), "run_id": states.run_of(JobPaths(folder))}
            )
    return sorted(
        told, key=lambda state: float(state["started_at"] or state["queued_at"]), reverse=True
    )


def _listed(box: BoxPaths, job_id: str) -> JobState:
    """The state; of a job whose files cannot be used that, for it must not hide the others."""
    try:
        return status(box, job_id)
    except (OSError, ValueError, TypeError) as error:
        return states.damaged(box.job(job_id), str(error))


def cancel(box: BoxPaths, job_id: str, patience_seconds: float) -> JobState:
    """End a job with all its processes: SIGTERM, `patience_seconds` for a checkpoint, SIGKILL.
    Reports what was kept."""
    state, paths = status(box, job_id), box.job(job_id)
    if state.status.is_final:
        if states.recorded(paths) is None:
            _kill_left_over(paths)  # its record cannot be read, so it may run still
        return state
    states.write_surely(
        states.cancel_file(paths),
        json.dumps({"patience_seconds": patience_seconds, "at": time.time()}),
        states.ORDER,
    )
    told = False
    deadline = time.monotonic() + patience_seconds + 15
    while time.monotonic() < deadline:
        told = told or _signal_supervisor(
            state, signal.SIGTERM
        )  # one that is only just starting is told as soon as it is there
        time.sleep(0.05)
        state = status(box, job_id)
        if state.status.is_final:
            return state
    return _forced(paths, state)


def _forced(paths: JobPaths, state: JobState) -> JobState:
    """The supervisor itself does not answer: end both, and record that."""
    from remote.payload.jobs import outcome

    _signal_supervisor(state, signal.SIGKILL)
    _kill_left_over(paths)
    state = outcome.cancelled(paths, state, "the supervisor did not answer and was killed")
    states.write_surely(paths.state, state.to_json(), states.LAST_WORDS)
    secrets.forget(BoxPaths(paths.folder.parent.parent), state.job_id)
    return state


def _signal_supervisor(state: JobState, number: int) -> bool:
    if not process.is_alive(state.pid, state.start_ticks, state.boot_id):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(state.pid, number)
    return True


def _kill_left_over(paths: JobPaths) -> None:
    """End a stage whose supervisor is gone: two must never write one checkpoint."""
    if stage := Identity.read(paths.folder / queue.STAGE):
        stage.kill_group()


@contextlib.contextmanager
def _locked(paths: JobPaths) -> Iterator[None]:
    with (paths.folder / states.STARTING).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_free(paths: JobPaths) -> bool:
    """Whether nobody is starting the job just now."""
    with (paths.folder / states.STARTING).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        recorded = states.recorded(paths)
        return recorded is not None and states.is_unborn(recorded)


# ---- the command line ----


def main() -> None:
    """The command line."""
    options = _options()
    if options.verb == "run":
        _supervise(options)
        return
    try:
        done = (
            {"jobs": listing(BoxPaths.of_release())}
            if options.verb == "list"
            else _answer(options).to_dict()
        )
    except Refused as refusal:
        _refuse(refusal)
    except OSError as error:
        _refuse(_unusable(error))
    print(json.dumps({"done": done}), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="supervise")
    verbs = parser.add_subparsers(dest="verb", required=True)
    starter = verbs.add_parser("start")
    starter.add_argument("--again", action="store_true")
    starter.add_argument("--queue", action="store_true")
    verbs.add_parser("list")
    verbs.add_parser("status").add_argument("job_id")
    canceller = verbs.add_parser("cancel")
    canceller.add_argument("job_id")
    canceller.add_argument("patience_seconds", type=float)
    runner = verbs.add_parser("run")
    runner.add_argument("folder", type=Path)
    runner.add_argument("interpreter")
    return parser.parse_args()


def _supervise(options: argparse.Namespace) -> None:
    if (variables := _variables()) != dict(os.environ):  # systemd hands on all of /etc/environment
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)  # noqa: S606 - the pid stays
    with (options.folder / "supervisor.log").open(
        "ab"
    ) as log:  # systemd would keep what it says where nobody looks
        os.dup2(log.fileno(), 2)
    from remote.payload.jobs import supervisor  # late: whoever asks how a job stands needs none

    supervisor.run(options.folder, options.interpreter)


def _refuse(refusal: Refused) -> NoReturn:
    print(json.dumps({"error": refusal.words}), flush=True)
    sys.exit(1)


def _unusable(error: OSError) -> Refused:
    if disk.is_full(error):
        return Refused(
            Cause.DISK_FULL,
            "the box's disk is full",
            str(error),
            "on the box: `df -h`, free space, then the same command",
        )
    remedy = (
        f"on the box: `ls -la {error.filename}`, fix or remove it, then the same command"
        if error.filename
        else ""
    )
    return Refused(Cause.CODE, "a file of the job cannot be used", str(error), remedy)


def _answer(options: argparse.Namespace) -> JobState:
    box = BoxPaths.of_release()
    if options.verb == "start":
        try:
            question = untrusted_json.loads_object(sys.stdin.read())
            spec = typed.read(JobSpec, question["spec"])
            told = {str(name): str(value) for name, value in question["secrets"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Refused(
                Cause.CONFIG, "that is no job specification", type(error).__name__
            ) from None
        return start(box, spec, told, options.again, options.queue)
    if options.verb == "cancel":
        return cancel(box, options.job_id, options.patience_seconds)
    return status(box, options.job_id)


if __name__ == "__main__":
    main()
