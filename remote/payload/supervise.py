"""The box's side of a job: starts it detached, watches it, records how it ended. Standard library only.

`start [--again] [--queue]` reads `{"spec", "secrets"}` on standard input; `status ID`; `cancel ID SECONDS`. Each answers with one frame
that holds the JobState. `run FOLDER PYTHON` is the supervisor itself: it outlives the connection that started it.

An exclusive job waits in its supervisor until the box's GPU is its own: see `remote.payload.queue`. One that a reboot finds waiting
is LOST like one that ran, and `./inv resume` puts it in line again: nobody could say any more in which order.
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

from remote.contract import atomic, disk, notices, timeline
from remote.contract.events import Metric
from remote.contract.jobs import Cause, JobSpec, JobState, Status
from remote.contract.masking import Masker
from remote.contract.paths import BoxPaths, JobPaths
from remote.contract.spill import Grant
from remote.payload import environment, grants, kernel, outcome, process, queue, quiet, sampler, secrets, vicinity
from remote.payload.identity import Identity
from remote.payload.scribe import Scribe
from remote.payload.spiller import Spiller

GRACE_SECONDS = 90.0
START_SECONDS = 30.0
SHARE_FOR_CHECKPOINT = 0.4
LOOK_SECONDS = 2.0
"""How often a job that spills every checkpoint is looked at for a new one."""
TURN_SECONDS = 0.5
"""How often a job in line looks whether its turn has come."""
RESERVED_BYTES = 1024 * 1024
_LAST_WORDS, _ORDER, _ORDER_BYTES = ".reserve", ".reserve.cancel", 4096
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_RELEASE = Path(__file__).resolve().parents[2]


class Refused(Exception):
    """The box cannot do that: cause, what, why, remedy. `is_busy`: not now, for another job has what it takes."""

    def __init__(self, cause: Cause, what: str, why: str = "", remedy: str = "", kept: str = "", is_busy: bool = False) -> None:
        super().__init__(what)
        self.words: dict[str, Any] = {"cause": cause.value, "what": what, "why": why, "remedy": remedy, "kept": kept, "busy": is_busy}


# ---- start -----------------------------------------------------------------------------------------------------------


def start(box: BoxPaths, spec: JobSpec, told: Mapping[str, str], again: bool = False, may_wait: bool = False) -> JobState:
    """Start a job, once: a job that runs, waits in line or has succeeded is only reported. `told`: secrets for the environment of its
    stage. `again`: one that ended badly goes on from its checkpoints. `may_wait`: where the job needs the GPU and another one has
    it, it waits in line; else that is refused."""
    paths = box.job(checked(spec.job_id))
    paths.folder.mkdir(parents=True, exist_ok=True)
    with _locked(paths):
        state = read(paths)
        if state is not None and not _may_start(state, again):
            return state
        _refuse_doomed(box)
        interpreter = _interpreter(box, spec)
        with _in_line(box, spec, may_wait):
            if state is not None and state.status is not Status.PENDING:
                _make_room(paths, state)
            atomic.write_text(paths.spec, spec.to_json() + "\n")
            write(paths, JobState(spec.job_id, spec.stage))
            secrets.forget_stale(box)
            secrets.keep(box, spec.job_id, dict(told))
            _launch(paths, interpreter, box.releases / spec.release)
            return _await_start(paths)


def _may_start(state: JobState, again: bool) -> bool:
    badly = state.status.is_final and state.status is not Status.SUCCEEDED
    return _is_unborn(state) or (again and badly)


def _is_unborn(state: JobState) -> bool:
    """Whether no supervisor has taken the job up: one that waits in line has."""
    return state.status is Status.PENDING and not state.pid


@contextlib.contextmanager
def _in_line(box: BoxPaths, spec: JobSpec, may_wait: bool) -> Iterator[None]:
    """Stand in line for the job until its supervisor does, so that of two who start at once one is told. Raises Refused."""
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
    waiting = f"; {len(line) - 1} more wait{'s' if len(line) == 2 else ''} in line" if len(line) > 1 else ""
    return Refused(
        Cause.CODE, f"the box works for another job: {stage} of {run}", f"{_progress(box.job(line[0].job_id))}{waiting}",
        f"`./inv resume --queue` waits in line for it; `./inv logs {run} -f` shows the other, `./inv cancel {run}` ends it", is_busy=True,
    )  # fmt: skip


def _progress(paths: JobPaths) -> str:
    """`job J has run for 12 min, step 40 of 100, about 18 min to go`, as far as it tells."""
    state = _recorded(paths)
    if state is None or not state.started_at:
        return f"job {paths.folder.name} is just starting"
    ran = f"job {state.job_id} has run for {_words_of(max(0.0, time.time() - state.started_at))}"
    last = _last_metric(paths.metrics) if paths.metrics.exists() else Metric(0, 0, 0.0)
    step = f", step {last.step} of {last.total_steps}" if last.total_steps else ""
    return ran + step + (f", about {_words_of(last.eta_seconds)} to go" if last.eta_seconds is not None else "")


def _words_of(seconds: float) -> str:
    units = ((3600.0, "h"), (60.0, "min"))
    return next((f"{seconds / length:.3g} {name}" for length, name in units if seconds >= length), f"{seconds:.0f} s")


def _refuse_doomed(box: BoxPaths) -> None:
    notice = notices.read(box.root, time.time())
    if notice and notice.kind == notices.SPOT:
        raise Refused(Cause.SPOT, "nothing is started on a box that the cloud takes back", notice.why, "`./inv resume` on another box")


def _interpreter(box: BoxPaths, spec: JobSpec) -> Path:
    release = box.releases / spec.release
    if not (release / "remote").is_dir():
        raise Refused(Cause.CONFIG, f"release {spec.release[:12]} is not on the box", remedy="`./inv deploy`, then the same command")
    if spec.environment is None:
        return Path(sys.executable)
    requirements = release / "remote" / "payload" / spec.environment
    found = environment.find(requirements, box.environments) if requirements.exists() else None
    if found is None:
        what = f"the Python environment of {spec.environment} is not made"
        raise Refused(Cause.CONFIG, what, remedy="`./inv deploy`, then the same command")
    return found


def _make_room(paths: JobPaths, state: JobState) -> None:
    """Before another attempt: nothing of the last one can be mistaken for the new one's; checkpoints, log and metrics stay."""
    _kill_left_over(paths)
    for path in (paths.failure, paths.outputs, _cancel_file(paths), paths.folder / queue.STAGE, paths.folder / notices.FLUSH):
        path.unlink(missing_ok=True)
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    note = f"started again at {moment} after {state.status.value}"
    _append(paths.log, f"---- {note} ----")
    if paths.metrics.exists():
        last = _last_metric(paths.metrics)
        _append(paths.metrics, Metric(last.step, last.total_steps, time.time(), note=note).to_line().strip())


def _append(path: Path, line: str) -> None:
    """Append a whole line, after a line that a killed process left unfinished."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.write(b"\n")
        file.write(line.encode() + b"\n")


def _last_metric(path: Path) -> Metric:
    for line in reversed(path.read_text(errors="replace").splitlines()):
        with contextlib.suppress(ValueError, TypeError):
            return Metric.from_line(line)
    return Metric(0, 0, 0.0)


def _launch(paths: JobPaths, interpreter: Path, release: Path) -> None:
    words = [sys.executable, "-m", "remote.payload.supervise", "run", str(paths.folder), str(interpreter)]
    if Path("/run/systemd/system").is_dir() and _launched(systemd_command(paths.folder.name, release, words)):
        return
    with (paths.folder / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            words, cwd=release, env={**os.environ, "PYTHONPATH": str(release)}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def systemd_command(job_id: str, release: Path, words: list[str]) -> list[str]:
    """Starts a supervisor as a unit of its own, so that logging out leaves it alone and a shutdown gives it time to checkpoint."""
    unit = [
        f"--unit={_unit(job_id)}", f"--uid={os.getuid()}", f"--gid={os.getgid()}", "--collect", "--quiet",
        f"--working-directory={release}", f"--setenv=PYTHONPATH={release}", f"--setenv=HOME={Path.home()}",
        "--property=KillMode=mixed", f"--property=TimeoutStopSec={GRACE_SECONDS + 30:.0f}",
        # When the kernel kills the stage for memory, systemd would by default end the supervisor as well: it could not say why.
        "--property=OOMPolicy=continue",
        # What the box gives every login, such as a proxy, is read by systemd itself: secrets in it never stand in arguments.
        "--property=EnvironmentFile=-/etc/environment",
    ]  # fmt: skip
    return ["sudo", "-n", "systemd-run", *unit, "--", *words]


def _unit(job_id: str) -> str:
    return f"windlass-job-{job_id}"


def _has_own_group(job_id: str) -> bool:
    """Whether this process stands in the control group of the job's unit: what is counted there is the job's alone."""
    with contextlib.suppress(OSError):
        return f"/{_unit(job_id)}.service" in Path("/proc/self/cgroup").read_text()
    return False


def _launched(words: list[str]) -> bool:
    if shutil.which(words[0]) is None:
        return False
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=START_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        # Not False: the unit may still come up, and nothing may be started beside it.
        raise Refused(Cause.CODE, f"systemd did not answer in {START_SECONDS:.0f} s", remedy="run the command again") from None


def _await_start(paths: JobPaths) -> JobState:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        state = read(paths)
        if state is not None and not _is_unborn(state):
            return state
        time.sleep(0.01)
    log = paths.folder / "supervisor.log"
    said = log.read_text(errors="replace").strip()[-400:] if log.exists() else ""
    raise Refused(Cause.CODE, "the job's supervisor did not come up", said, "run the command again; it starts the job once only")


# ---- run: the supervisor ---------------------------------------------------------------------------------------------


def run(folder: Path, interpreter: str) -> None:
    """Supervise one attempt from its start to its recorded end."""
    watched = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*watched, signal.SIGHUP})
    paths = JobPaths(folder)
    spec = JobSpec.from_json(paths.spec.read_text())
    grant = grants.of_run(_root(paths), spec.run_id)
    spiller = Spiller(paths, interpreter, always=bool(grant and grant.always))
    with (paths.folder / ".supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one that came up late, after another was started, ends here
        state = _supervise(paths, spec, interpreter, watched, spiller)
        secrets.forget(BoxPaths(_root(paths)), spec.job_id)
    vicinity.keep(BoxPaths(_root(paths)), state)
    # The state is final, and another attempt may begin: a box that goes away meanwhile has told all that it knew.
    _spill(paths, state, grants.of_run(_root(paths), spec.run_id), spiller)


def _supervise(paths: JobPaths, spec: JobSpec, interpreter: str, watched: set[signal.Signals], spiller: Spiller) -> JobState:
    me = Identity.of(os.getpid())
    state = JobState(spec.job_id, spec.stage, pid=me.pid, start_ticks=me.ticks, boot_id=me.boot)
    _reserve(paths)
    try:
        with _turn(paths, spec, state, watched) as is_ours:
            ending = _run_stage(paths, spec, interpreter, state, watched, spiller) if is_ours else None
        state = _concluded(paths, state, ending)
    except OSError as error:
        state = outcome.could_not_run(state, error)
    grant = grants.of_run(_root(paths), spec.run_id)
    if grant and _is_to_be_spilled(paths, state, grant) and state.status is not Status.SUCCEEDED:
        state.kept = outcome.kept_on_its_way(state.kept, grant.place(state.job_id))
    _write_surely(paths.state, _masked(paths, state).to_json(), _LAST_WORDS)
    _tell(paths, f"{spec.stage} is {state.status.value}{_because(state)}", state.status is Status.SUCCEEDED)
    return state


def _masked(paths: JobPaths, state: JobState) -> JobState:
    """The state with no secret in its words: the stage's own account of a failure may hold one, and is masked as well."""
    masker = Masker(secrets.of_job(BoxPaths(_root(paths)), state.job_id).values())
    with contextlib.suppress(OSError):
        told = paths.failure.read_text()
        if (safe := masker.text(told)) != told:
            atomic.write_text(paths.failure, safe)
    state.what, state.why, state.remedy, state.kept = map(masker.text, (state.what, state.why, state.remedy, state.kept))
    return state


def _run_stage(
    paths: JobPaths, spec: JobSpec, interpreter: str, state: JobState, watched: set[signal.Signals], spiller: Spiller,
) -> outcome.Ending:  # fmt: skip
    """Run the stage to its end, with all its processes; what was seen of it."""
    state.status, state.started_at, state.place, state.why = Status.RUNNING, time.time(), 0, ""
    kills, began = process.out_of_memory_kills(), time.clock_gettime(time.CLOCK_BOOTTIME)
    told = secrets.of_job(BoxPaths(_root(paths)), spec.job_id)
    paths.log.touch()
    scribe = Scribe(paths.folder, list(told.values()))
    try:
        stage = _spawn(paths, spec, interpreter, scribe, told)
        was_told = _see_through(paths, state, stage, watched, scribe, spiller)
    finally:
        scribe.end()
        spiller.end()
    # By a clock that nobody sets: what the kernel said while the stage ran, however the time of day jumped.
    since = time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - began)
    said = tuple(text for _, text in kernel.lines(since)) if stage.returncode else ()
    return outcome.Ending(
        stage.returncode, was_told, _cancel_file(paths).exists(), process.out_of_memory_kills() > kills, _notice(paths, state),
        _has_own_group(spec.job_id), shutil.disk_usage(paths.folder).free < RESERVED_BYTES, said, stage.pid,
    )  # fmt: skip


def _see_through(
    paths: JobPaths, state: JobState, stage: "subprocess.Popen[bytes]", watched: set[signal.Signals], scribe: Scribe, spiller: Spiller,
) -> bool:  # fmt: skip
    """Record that the stage runs, and wait for the end of its whole group; returns whether it was told to stop."""
    try:
        Identity.of(stage.pid).write(paths.folder / queue.STAGE)
        write(paths, state)
        _tell(paths, f"{state.stage} began")
        sampler.ensure(_root(paths))
        return _watch(paths, stage, watched, scribe, spiller)
    finally:
        process.signal_group(stage.pid, signal.SIGKILL)  # workers that outlived their parent
        stage.wait()


def _concluded(paths: JobPaths, state: JobState, ending: outcome.Ending | None) -> JobState:
    """The final state of a job whose stage ended so; None: it was told to stop before its turn."""
    if ending is None:
        return outcome.unbegun(paths, state, _cancel_file(paths).exists(), _notice(paths, state))
    try:
        return outcome.conclude(paths, state, ending)
    except OSError as error:  # an output that cannot be read back
        state.status, state.cause, state.what, state.why = Status.FAILED, Cause.ARTIFACT, f"{state.stage} left damaged outputs", str(error)
        return state


@contextlib.contextmanager
def _turn(paths: JobPaths, spec: JobSpec, state: JobState, watched: set[signal.Signals]) -> Iterator[bool]:
    """Hold the GPU for a job that needs it, after those that came before; False where it was told to stop while it waited."""
    box = BoxPaths(_root(paths))
    if not spec.exclusive:
        yield True
        return
    queue.enter(box, spec, may_wait=True)
    try:
        yield _await_turn(paths, box, state, watched)
    finally:
        queue.leave(box, spec.job_id)


def _await_turn(paths: JobPaths, box: BoxPaths, state: JobState, watched: set[signal.Signals]) -> bool:
    alone_since: float | None = None
    while line := queue.ahead(box, state.job_id):
        _say_place(paths, state, line)
        # A stage without a supervisor was told to end by the kernel, and saves perhaps: it gets the time that every stage gets.
        alone_since = (alone_since or time.monotonic()) if all(ticket.is_orphan for ticket in line) else None
        if alone_since is not None and time.monotonic() - alone_since > GRACE_SECONDS:
            queue.kill_orphan(box, line[0])
        arrived = signal.sigtimedwait(watched, TURN_SECONDS)
        if arrived is not None and arrived.si_signo != signal.SIGCHLD:
            return False
    return True


def _say_place(paths: JobPaths, state: JobState, line: list[queue.Ticket]) -> None:
    """Record how many are before the job, when that has changed. A full disk hides it; the line goes on."""
    why = f"waits for {line[0].stage} of {line[0].run}"
    if (state.place, state.why) == (len(line), why):
        return
    if not state.queued_at:
        _tell(paths, f"{state.stage} {why}")
    state.queued_at, state.place, state.why = state.queued_at or time.time(), len(line), why
    with contextlib.suppress(OSError):
        write(paths, state)


def _tell(paths: JobPaths, text: str, is_well: bool = True) -> None:
    """Put a line on the box's timeline."""
    event = timeline.Event(time.time(), "job", "info" if is_well else "warning", text, paths.folder.name)
    timeline.append(BoxPaths(_root(paths)).timeline, event)


def _because(state: JobState) -> str:
    return f" ({state.cause.value}): {state.what}" if state.cause else ""


def _notice(paths: JobPaths, state: JobState) -> notices.Notice | None:
    """The notice in force, unless it is of a time before this attempt."""
    notice = notices.read(_root(paths), time.time())
    return notice if notice and notice.deadline > state.started_at else None


def _is_to_be_spilled(paths: JobPaths, state: JobState, grant: Grant) -> bool:
    return grant.always or _notice(paths, state) is not None


def _spill(paths: JobPaths, state: JobState, grant: Grant | None, spiller: Spiller) -> None:
    """Put what the job must not lose into the bucket, and say in its state where it is."""
    if grant is None or not _is_to_be_spilled(paths, state, grant):
        return
    notice = _notice(paths, state)
    words = spiller.spill(None if notice is None else notice.deadline - time.time())
    recorded = _recorded(paths)
    if recorded is None or recorded.ended_at != state.ended_at or state.status is Status.SUCCEEDED:
        return  # started again meanwhile
    state.kept = outcome.kept_in_the_end(outcome.kept(paths), words, grant.place(state.job_id))
    write(paths, state)


def _root(paths: JobPaths) -> Path:
    return paths.folder.parent.parent


def _reserve(paths: JobPaths) -> None:
    """Room on the disk for the job's last words, and for the word that ends it."""
    for name, size in ((_LAST_WORDS, RESERVED_BYTES), (_ORDER, _ORDER_BYTES)):
        with contextlib.suppress(OSError), (paths.folder / name).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            os.fsync(file.fileno())


def _write_surely(path: Path, text: str, reserve: str) -> None:
    """Write a file, on a full disk too: what was reserved becomes the file, so that nobody can take its room in between."""
    room = path.with_name(reserve)
    try:
        with room.open("r+b") as file:
            file.write(text.encode() + b"\n")
            file.truncate()
            os.fsync(file.fileno())
        room.replace(path)
        atomic.sync_folder(path.parent)
    except OSError:
        atomic.write_text(path, text + "\n")


def _spawn(paths: JobPaths, spec: JobSpec, interpreter: str, scribe: Scribe, told: dict[str, str]) -> "subprocess.Popen[bytes]":
    release = str(Path.cwd())
    surroundings = {**quiet.surroundings(), **told, "PYTHONPATH": release, "PYTHONUNBUFFERED": "1"}
    with scribe.mouth() as mouth:
        return subprocess.Popen(
            [interpreter, "-m", f"remote.payload.stages.{spec.stage}", str(paths.folder)], cwd=release, env=surroundings,
            stdin=subprocess.DEVNULL, stdout=mouth, stderr=mouth, start_new_session=True,
            preexec_fn=process.end_with_parent,  # noqa: PLW1509 - the supervisor has one thread
        )  # fmt: skip


def _watch(
    paths: JobPaths, stage: "subprocess.Popen[bytes]", watched: set[signal.Signals], scribe: Scribe, spiller: Spiller
) -> bool:  # fmt: skip
    """Wait for the stage; returns whether it was told to stop. After the grace its whole group is killed."""
    deadline: float | None = None
    while stage.poll() is None:
        wait = (LOOK_SECONDS if spiller.always else 3600.0) if deadline is None else max(0.0, deadline - time.monotonic())
        arrived = signal.sigtimedwait(watched, wait)
        scribe.look()
        if deadline is None:
            spiller.look()
        if arrived is not None and arrived.si_signo != signal.SIGCHLD:
            spiller.end()  # what is spilled in the end has all that this one would have brought
            deadline = time.monotonic() + _grace(paths)
            process.signal_group(stage.pid, signal.SIGTERM)
        elif arrived is None and deadline is not None:
            process.signal_group(stage.pid, signal.SIGKILL)
            deadline = time.monotonic() + 1.0
    return deadline is not None


def _grace(paths: JobPaths) -> float:
    try:
        return float(json.loads(_cancel_file(paths).read_text())["patience_seconds"])
    except (OSError, ValueError, KeyError):
        notice = notices.read(_root(paths), time.time())
        # Of the time until the power goes, the greater part is for the way to the bucket.
        return min(GRACE_SECONDS, max(1.0, SHARE_FOR_CHECKPOINT * (notice.deadline - time.time()))) if notice else GRACE_SECONDS


# ---- status and cancel -----------------------------------------------------------------------------------------------


def status(box: BoxPaths, job_id: str) -> JobState:
    """How the job stands, LOST included. Raises Refused when there is no such job."""
    paths = box.job(checked(job_id))
    state = read(paths)
    if state is None:
        raise Refused(Cause.LOST, f"there is no job {job_id} on the box", remedy="`./inv runs` lists what was started")
    if _is_unborn(state) and _is_free(paths):
        return _lost(paths, read(paths) or state, "it was never started: the start was cut off")
    return state


def listing(box: BoxPaths) -> list[dict[str, Any]]:
    """Every job of the box as it stands, the newest first: its state, and the `run_id` that it belongs to."""
    told = []
    for folder in box.jobs.iterdir() if box.jobs.is_dir() else ():
        with contextlib.suppress(Refused, OSError, ValueError, TypeError):
            spec = JobSpec.from_json(JobPaths(folder).spec.read_text())
            told.append({**json.loads(status(box, folder.name).to_json()), "run_id": spec.run_id})
    return sorted(told, key=lambda state: float(state["started_at"] or state["queued_at"]), reverse=True)


def cancel(box: BoxPaths, job_id: str, patience_seconds: float) -> JobState:
    """End a job with all its processes: SIGTERM, `patience_seconds` for a checkpoint, SIGKILL. Reports what was kept."""
    state = status(box, job_id)
    if state.status.is_final:
        return state
    paths = box.job(job_id)
    _write_surely(_cancel_file(paths), json.dumps({"patience_seconds": patience_seconds, "at": time.time()}), _ORDER)
    told = False
    deadline = time.monotonic() + patience_seconds + 15
    while time.monotonic() < deadline:
        told = told or _signal_supervisor(state, signal.SIGTERM)  # one that is only just starting is told as soon as it is there
        time.sleep(0.05)
        state = status(box, job_id)
        if state.status.is_final:
            return state
    return _forced(paths, state)


def _forced(paths: JobPaths, state: JobState) -> JobState:
    """The supervisor itself does not answer: end both, and record that."""
    _signal_supervisor(state, signal.SIGKILL)
    _kill_left_over(paths)
    state = outcome.cancelled(paths, state, "the supervisor did not answer and was killed")
    write(paths, state)
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


# ---- files -----------------------------------------------------------------------------------------------------------


def read(paths: JobPaths) -> JobState | None:
    """The job's state, LOST where the record says that it runs or waits and nobody does; None when there is no such job."""
    state = _recorded(paths)
    if state is None or not _is_forsaken(state):
        return state
    state = _recorded(paths) or state  # it may have ended between the two looks
    if not _is_forsaken(state):
        return state
    return _lost(paths, state, _why_lost(state))


def _is_forsaken(state: JobState) -> bool:
    is_under_way = not state.status.is_final and not _is_unborn(state)
    return is_under_way and not process.is_alive(state.pid, state.start_ticks, state.boot_id)


def _why_lost(state: JobState) -> str:
    waited = " while it waited in line" if state.status is Status.PENDING else ""
    if state.boot_id == process.boot_id():
        return f"the supervisor was killed{waited}"
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)))
    return f"the box was rebooted or stopped under it{waited}; it came up at {moment}"


def write(paths: JobPaths, state: JobState) -> None:
    """Record the state."""
    atomic.write_text(paths.state, state.to_json() + "\n")


def _recorded(paths: JobPaths) -> JobState | None:
    try:
        return JobState.read(paths.state)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _lost(paths: JobPaths, state: JobState, why: str) -> JobState:
    state.status, state.cause, state.why, state.place = Status.LOST, Cause.LOST, why, 0
    state.what = f"job {state.job_id} is lost"
    state.remedy, state.kept = "`./inv resume` goes on from the newest checkpoint", outcome.kept(paths)
    return state


@contextlib.contextmanager
def _locked(paths: JobPaths) -> Iterator[None]:
    with (paths.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_free(paths: JobPaths) -> bool:
    """Whether nobody is starting the job just now."""
    with (paths.folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        recorded = _recorded(paths)
        return recorded is not None and _is_unborn(recorded)


def _cancel_file(paths: JobPaths) -> Path:
    return paths.folder / "cancel.json"


def checked(job_id: str) -> str:
    """The id itself; raises Refused for one that cannot name a job."""
    if not _JOB_ID.fullmatch(job_id):
        raise Refused(Cause.CONFIG, f"{job_id!r} cannot name a job", "letters, digits, dots, dashes and underscores only")
    return job_id


# ---- the command line ------------------------------------------------------------------------------------------------


def main() -> None:
    """The command line."""
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
    options = parser.parse_args()
    if options.verb == "run":
        with (options.folder / "supervisor.log").open("ab") as log:  # systemd would keep what it says where nobody looks
            os.dup2(log.fileno(), 2)
        run(options.folder, options.interpreter)
        return
    try:
        is_list = options.verb == "list"
        done: dict[str, Any] = {"jobs": listing(BoxPaths.of_release())} if is_list else json.loads(_answer(options).to_json())
    except Refused as refusal:
        _refuse(refusal)
    except OSError as error:
        if not disk.is_full(error):
            raise
        remedy = "on the box: `df -h`, free space, then the same command"
        _refuse(Refused(Cause.DISK_FULL, "the box's disk is full", str(error), remedy))
    else:
        print(json.dumps({"done": done}), flush=True)


def _refuse(refusal: Refused) -> NoReturn:
    print(json.dumps({"error": refusal.words}), flush=True)
    sys.exit(1)


def _answer(options: argparse.Namespace) -> JobState:
    box = BoxPaths.of_release()
    if options.verb == "start":
        try:
            question = json.load(sys.stdin)
            spec = JobSpec.from_json(json.dumps(question["spec"]))
            told = {str(name): str(value) for name, value in question["secrets"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Refused(Cause.CONFIG, "that is no job specification", type(error).__name__) from None
        return start(box, spec, told, options.again, options.queue)
    if options.verb == "cancel":
        return cancel(box, options.job_id, options.patience_seconds)
    return status(box, options.job_id)


if __name__ == "__main__":
    main()
