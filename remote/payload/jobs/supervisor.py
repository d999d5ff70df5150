"""The supervisor of a job: waits for its turn, runs the stage, records how it ended. It outlives
whoever started it. Standard library only.

An exclusive job waits here until the box's GPU is its own: see `remote.payload.jobs.queue`. One
that a reboot finds waiting is LOST like one that ran, and `./inv resume` puts it in line again:
nobody could say any more in which order.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from remote.contract.artifacts.upload import UploadGrant
from remote.contract.files import atomic, regular_files, untrusted_json
from remote.contract.job import notices
from remote.contract.job.jobs import Cause, JobSpec, JobState, Status
from remote.contract.job.paths import BoxPaths, JobPaths
from remote.contract.logs.masking import Masker
from remote.contract.telemetry import timeline
from remote.payload import environment, process, quiet
from remote.payload.identity import Identity
from remote.payload.jobs import outcome, queue, secrets, states
from remote.payload.logs.writer import Scribe
from remote.payload.telemetry import job_context, kernel, sampler
from remote.payload.transfer import grants
from remote.payload.transfer.uploader import Spiller

GRACE_SECONDS = 90.0
SHARE_FOR_CHECKPOINT = 0.4
LOOK_SECONDS = 2.0
"""How often a job that spills every checkpoint is looked at for a new one."""
TURN_SECONDS = 0.25
"""How often a job in line looks whether its turn has come."""
HANDOVER_SECONDS = 20.0


def run(folder: Path, interpreter: str) -> None:
    """Supervise one attempt from its start to its recorded end."""
    watched = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*watched, signal.SIGHUP})
    paths = JobPaths(folder)
    spec = JobSpec.read(paths.spec)
    grant = grants.of_run(_root(paths), spec.run_id)
    spiller = Spiller(paths, interpreter, always=bool(grant and grant.always))
    with (paths.folder / ".supervisor.lock").open("w") as lock:
        if not _take_up(paths, lock.fileno()):
            return
        state = _supervise(paths, spec, interpreter, watched, spiller)
    job_context.keep(BoxPaths(_root(paths)), state)
    # The state is final, and another attempt may begin: a box that goes away meanwhile has told all
    # that it knew.
    _spill(paths, state, grants.of_run(_root(paths), spec.run_id), spiller)


def _take_up(paths: JobPaths, lock: int) -> bool:
    """Hold the job, as soon as the supervisor of its last attempt lets go: that is seen to have
    ended a moment before. False where there is nothing to take up: for one that came up late, after
    another was started."""
    deadline = time.monotonic() + HANDOVER_SECONDS
    while (recorded := states.recorded(paths)) is None or states.is_unborn(recorded):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
            continue
        recorded = states.recorded(paths)  # whoever held it until now may have seen to the job
        return recorded is None or states.is_unborn(recorded)
    return False


def _supervise(
    paths: JobPaths, spec: JobSpec, interpreter: str, watched: set[signal.Signals], spiller: Spiller
) -> JobState:
    me = Identity.of(os.getpid())
    lock = environment.lock_digest(Path(interpreter))
    state = JobState(
        spec.job_id, spec.stage, environment=lock, pid=me.pid, start_ticks=me.ticks, boot_id=me.boot
    )
    try:
        with _turn(paths, spec, state, watched) as is_ours:
            ending = (
                _run_stage(paths, spec, interpreter, state, watched, spiller) if is_ours else None
            )
        state = _concluded(paths, state, ending)
    except OSError as error:
        state = outcome.could_not_run(state, error)
    grant = grants.of_run(_root(paths), spec.run_id)
    if grant and _is_to_be_spilled(paths, state, grant) and state.status is not Status.SUCCEEDED:
        state.kept = outcome.kept_on_its_way(state.kept, grant.place(state.job_id))
    last_words = _masked(paths, state).to_json()
    secrets.forget(
        BoxPaths(_root(paths)), spec.job_id
    )  # who sees that the job has ended finds none any more
    states.write_surely(paths.state, last_words, states.LAST_WORDS)
    _tell(
        paths,
        f"{spec.stage} is {state.status.value}{_because(state)}",
        state.status is Status.SUCCEEDED,
    )
    return state


def _masked(paths: JobPaths, state: JobState) -> JobState:
    """The state with no secret in its words: the stage's own account of a failure may hold one, and
    is masked as well."""
    masker = Masker(secrets.of_job(BoxPaths(_root(paths)), state.job_id).values())
    try:
        told = regular_files.content_of(paths.failure, untrusted_json.RECORD_BYTES)
        if (safe := masker.content(told)) != told:
            atomic.write_bytes(paths.failure, safe)
    except ValueError:  # too large to be looked through
        paths.failure.unlink(missing_ok=True)
    except OSError:
        pass
    state.what, state.why, state.remedy, state.kept = map(
        masker.text, (state.what, state.why, state.remedy, state.kept)
    )
    return state


def _run_stage(
    paths: JobPaths,
    spec: JobSpec,
    interpreter: str,
    state: JobState,
    watched: set[signal.Signals],
    spiller: Spiller,
) -> outcome.Ending:
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
    # By a clock that nobody sets: what the kernel said while the stage ran, however the time of day
    # jumped.
    since = time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - began)
    said = tuple(text for _, text in kernel.lines(since)) if stage.returncode else ()
    return outcome.Ending(
        stage.returncode,
        was_told,
        states.cancel_file(paths).exists(),
        process.out_of_memory_kills() > kills,
        _notice(paths, state),
        _has_own_group(spec.job_id),
        shutil.disk_usage(paths.folder).free < states.RESERVED_BYTES,
        said,
        stage.pid,
    )


def _see_through(
    paths: JobPaths,
    state: JobState,
    stage: "subprocess.Popen[bytes]",
    watched: set[signal.Signals],
    scribe: Scribe,
    spiller: Spiller,
) -> bool:
    """Record that the stage runs, and wait for the end of its whole group; returns whether it was
    told to stop."""
    try:
        Identity.of(stage.pid).write(paths.folder / queue.STAGE)
        states.write(paths, state)
        _tell(paths, f"{state.stage} began")
        sampler.ensure(_root(paths))
        return _watch(paths, stage, watched, scribe, spiller)
    finally:
        process.signal_group(stage.pid, signal.SIGKILL)  # workers that outlived their parent
        stage.wait()


def _concluded(paths: JobPaths, state: JobState, ending: outcome.Ending | None) -> JobState:
    """The final state of a job whose stage ended so; None: it was told to stop before its turn."""
    if ending is None:
        return outcome.unbegun(
            paths, state, states.cancel_file(paths).exists(), _notice(paths, state)
        )
    try:
        return outcome.conclude(paths, state, ending)
    except Exception as error:
        # An output that cannot be read back, or no record of them: the job has ended all the same.
        why = str(error) or type(error).__name__
        state.status, state.cause, state.what, state.why = (
            Status.FAILED,
            Cause.ARTIFACT,
            f"{state.stage} left damaged outputs",
            why,
        )
        return state


@contextlib.contextmanager
def _turn(
    paths: JobPaths, spec: JobSpec, state: JobState, watched: set[signal.Signals]
) -> Iterator[bool]:
    """Hold the GPU for a job that needs it, after those that came before; False where it was told
    to stop while it waited."""
    box = BoxPaths(_root(paths))
    if not spec.exclusive:
        yield True
        return
    queue.enter(box, spec, may_wait=True, takes_over=True)
    try:
        yield _await_turn(paths, box, state, watched)
    finally:
        queue.leave(box, spec.job_id)


def _await_turn(
    paths: JobPaths, box: BoxPaths, state: JobState, watched: set[signal.Signals]
) -> bool:
    alone_since: float | None = None
    while line := queue.ahead(box, state.job_id):
        _say_place(paths, state, line)
        # A stage without a supervisor was told to end by the kernel, and saves perhaps: it gets the
        # time that every stage gets.
        alone_since = (
            (alone_since or time.monotonic()) if all(ticket.is_orphan for ticket in line) else None
        )
        if alone_since is not None and time.monotonic() - alone_since > GRACE_SECONDS:
            queue.kill_orphan(box, line[0])
        arrived = signal.sigtimedwait(watched, TURN_SECONDS)
        if arrived is not None and arrived.si_signo != signal.SIGCHLD:
            return False
    return True


def _say_place(paths: JobPaths, state: JobState, line: list[queue.Ticket]) -> None:
    """Record how many are before the job, when that has changed. A full disk hides it; the line
    goes on."""
    why = f"waits for {line[0].stage} of {line[0].run}"
    if (state.place, state.why) == (len(line), why):
        return
    if not state.queued_at:
        _tell(paths, f"{state.stage} {why}")
    state.queued_at, state.place, state.why = state.queued_at or time.time(), len(line), why
    with contextlib.suppress(OSError):
        states.write(paths, state)


def _tell(paths: JobPaths, text: str, is_well: bool = True) -> None:
    """Put a line on the box's timeline."""
    event = timeline.Event(
        time.time(), "job", "info" if is_well else "warning", text, paths.folder.name
    )
    timeline.append(BoxPaths(_root(paths)).timeline, event)


def _because(state: JobState) -> str:
    return f" ({state.cause.value}): {state.what}" if state.cause else ""


def _notice(paths: JobPaths, state: JobState) -> notices.Notice | None:
    """The notice in force, unless it is of a time before this attempt."""
    # The attempt's beginning by the clock as it stands now: it may have been set since.
    running_for = time.clock_gettime(time.CLOCK_BOOTTIME) - state.start_ticks / os.sysconf(
        "SC_CLK_TCK"
    )
    notice = notices.read(_root(paths), time.time())
    return notice if notice and notice.deadline > time.time() - running_for else None


def _is_to_be_spilled(paths: JobPaths, state: JobState, grant: UploadGrant) -> bool:
    return grant.always or _notice(paths, state) is not None


def _spill(paths: JobPaths, state: JobState, grant: UploadGrant | None, spiller: Spiller) -> None:
    """Put what the job must not lose into the bucket, and say in its state where it is."""
    if grant is None or not _is_to_be_spilled(paths, state, grant):
        return
    notice = _notice(paths, state)
    words = spiller.spill(None if notice is None else notice.deadline - time.time())
    recorded = states.recorded(paths)
    if recorded is None or recorded.ended_at != state.ended_at or state.status is Status.SUCCEEDED:
        return  # started again meanwhile
    state.kept = outcome.kept_in_the_end(outcome.kept(paths), words, grant.place(state.job_id))
    states.write(paths, state)


def _root(paths: JobPaths) -> Path:
    return paths.folder.parent.parent


def _spawn(
    paths: JobPaths, spec: JobSpec, interpreter: str, scribe: Scribe, told: dict[str, str]
) -> "subprocess.Popen[bytes]":
    release = str(Path.cwd())
    surroundings = {**quiet.surroundings(), **told, "PYTHONPATH": release, "PYTHONUNBUFFERED": "1"}
    with scribe.stdout_fd() as stdout_fd:
        return subprocess.Popen(
            [interpreter, "-m", f"remote.payload.stages.{spec.stage}", str(paths.folder)],
            cwd=release,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=stdout_fd,
            stderr=stdout_fd,
            start_new_session=True,
            preexec_fn=process.end_with_parent,  # noqa: PLW1509 - the supervisor has one thread
        )


def _watch(
    paths: JobPaths,
    stage: "subprocess.Popen[bytes]",
    watched: set[signal.Signals],
    scribe: Scribe,
    spiller: Spiller,
) -> bool:
    """Wait for the stage; returns whether it was told to stop. After the grace its whole group is
    killed."""
    deadline: float | None = None
    while stage.poll() is None:
        wait = (
            (LOOK_SECONDS if spiller.always else 3600.0)
            if deadline is None
            else max(0.0, deadline - time.monotonic())
        )
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
        return float(untrusted_json.read_object(states.cancel_file(paths))["patience_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        notice = notices.read(_root(paths), time.time())
        # Of the time until the power goes, the greater part is for the way to the bucket.
        return (
            min(GRACE_SECONDS, max(1.0, SHARE_FOR_CHECKPOINT * (notice.deadline - time.time())))
            if notice
            else GRACE_SECONDS
        )


def unit_of(job_id: str) -> str:
    """The name of a job's systemd unit."""
    return f"windlass-job-{job_id}"


def _has_own_group(job_id: str) -> bool:
    """Whether this process stands in the control group of the job's unit: what is counted there is
    the job's alone."""
    with contextlib.suppress(OSError):
        return f"/{unit_of(job_id)}.service" in Path("/proc/self/cgroup").read_text()
    return False
