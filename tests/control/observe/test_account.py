"""Why a job ended or stands still, out of evidence made by hand."""

import pytest

from remote.contract.job.jobs import Cause, JobState, Status
from remote.contract.telemetry.events import Metric
from remote.contract.telemetry.evidence import Evidence
from remote.contract.telemetry.samples import Gpu, Sample
from remote.contract.telemetry.timeline import Event
from remote.control.observe import diagnosis, show
from remote.control.observe.find import Found

NOW = 10_000.0
RESUMED = "`./inv resume run-1` goes on"


def found(status=Status.FAILED, cause=None, samples=(), events=(), log_at=0.0, metrics=(), **words):
    ended = 0.0 if status in (Status.RUNNING, Status.PENDING) else 9_000.0
    state = JobState(
        "run-1-train-ab", "train", status, started_at=5_000.0, ended_at=ended, cause=cause, **words
    )
    moment = ended or NOW
    evidence = Evidence(
        state,
        "run-1",
        moment,
        NOW,
        ["step 1", "step 2"],
        log_at,
        list(metrics),
        list(samples),
        list(events),
        "the box",
    )
    return Found(evidence, "gpu", "train")


def sample(at, cpu=0.0, memory=4.0, free=50.0, received=0.0, **gpu):
    return Sample(
        at, cpu, memory, 16.0, free, 100.0, received, gpus=[Gpu(0, "A10G", **gpu)] if gpu else []
    )


def test_a_failure_is_told_with_its_cause_and_the_exact_commands():
    told = diagnosis.account(
        found(
            Status.FAILED,
            Cause.OUT_OF_MEMORY,
            what="CUDA ran out of memory",
            kept="checkpoint step-7",
        )
    )
    assert told.headline == "train of run-1 FAILED (oom) after 66m on box gpu"
    assert ("what", "CUDA ran out of memory") in told.facts and (
        "kept",
        "checkpoint step-7",
    ) in told.facts
    assert told.go_on.startswith("halve `batch`") and told.go_on.endswith(
        "; then `./inv resume run-1` goes on"
    )


@pytest.mark.parametrize(
    ("status", "cause", "remedy", "way"),
    [
        (
            Status.LOST,
            Cause.LOST,
            "`./inv resume` goes on from the newest checkpoint",
            f"{RESUMED} from the newest checkpoint",
        ),
        (
            Status.FAILED,
            None,
            "`./inv resume --queue` waits in line for it",
            "`./inv resume run-1 --queue` waits in line for it",
        ),
        (
            Status.FAILED,
            Cause.CODE,
            "`./inv logs` shows the whole log",
            f"`./inv logs run-1` shows the whole log; then {RESUMED}",
        ),
        (
            Status.RUNNING,
            None,
            "",
            "`./inv logs run-1 -f` follows it; `./inv cancel run-1` ends it after a checkpoint",
        ),
        (Status.PENDING, None, "", "it starts by itself; `./inv ps` shows what is before it"),
        (Status.SUCCEEDED, None, "", "`./inv pull run-1` brings its artifacts home"),
        (
            Status.FAILED,
            Cause.GPU_FAULT,
            "",
            "`./inv stop gpu`, `./inv start gpu`; then `./inv resume run-1` goes on",
        ),
    ],
)
def test_the_way_on_names_run_and_box(status, cause, remedy, way):
    assert diagnosis.go_on(found(status, cause, remedy=remedy)).endswith(way)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([sample(9_990.0, busy=0.9)], "the GPU works (90 %)"),
        ([sample(9_990.0, received=30e6, busy=0.0)], "the network brings 30 MB/s"),
        ([sample(9_990.0, cpu=0.8)], "the processors work (80 %)"),
        ([sample(9_990.0, busy=0.01)], "it waits, or hangs"),
        ([sample(5_000.0, busy=0.9)], "was not sampled"),
    ],
)
def test_a_job_that_stands_still_is_told_what_it_seems_to_do(samples, words):
    (hint,) = diagnosis.account(found(Status.RUNNING, samples=samples, log_at=9_000.0)).hints
    assert hint.startswith("no word and no measurement for 16m: ") and words in hint


def test_a_job_that_speaks_or_measures_does_not_stand_still():
    assert not diagnosis.account(found(Status.RUNNING, log_at=9_950.0)).hints
    assert not diagnosis.account(found(Status.RUNNING, metrics=[Metric(1, 2, 9_950.0)])).hints


def test_what_was_full_or_slow_just_before_is_seen():
    told = diagnosis.account(
        found(
            samples=[
                sample(
                    8_990.0,
                    memory=15.9,
                    free=0.4,
                    busy=1.0,
                    memory_gb=23.9,
                    memory_total_gb=24.0,
                    slowed="heat",
                ),
                sample(7_000.0, memory=1.0),
            ]
        )
    )
    assert told.hints == [
        "the box's memory was 99 % full",
        "the disk had 0.40 GB left",
        "the memory of GPU 0 was 100 % full",
        "GPU 0 was slowed down: heat",
    ]


def test_curves_end_at_the_moment():
    samples = [
        sample(
            8_900.0 + number,
            cpu=number / 100,
            busy=number / 100,
            memory_gb=10.0,
            memory_total_gb=20.0,
        )
        for number in range(100)
    ]
    rows = {
        name: (curve, words)
        for name, curve, words in diagnosis.curves(found(samples=samples).evidence)
    }
    assert (
        rows["GPU 0"][0].startswith("▁")
        and rows["GPU 0"][0].endswith("█")
        and rows["GPU 0"][1] == "99 %"
    )
    assert rows["  memory"][1] == "10.0 of 20.0 GB" and rows["disk"][1] == "50.0 GB free"


def test_errors_near_the_end_go_before_much_that_is_of_no_interest():
    chatter = [
        Event(8_900.0 + number, "watchdog", "info", f"round {number}") for number in range(100)
    ]
    told = diagnosis.account(found(events=[Event(7_500.0, "kernel", "error", "Xid 79"), *chatter]))
    assert told.events[0].text == "Xid 79" and len(told.events) < 20
    assert [event.time for event in told.events] == sorted(event.time for event in told.events)


def test_as_text_it_is_masked(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_averysecretvalue")
    text = show.text(diagnosis.account(found(what="no access with hf_averysecretvalue")), "30m")
    assert (
        "no access with ***" in text
        and "last lines of the log\n  | step 1" in text
        and text.endswith("goes on")
    )


def test_a_long_line_is_cut_and_says_so():
    told = found()
    told.evidence.log.append("x" * 1000)
    assert f"  | {'x' * 240} … and 760 more\n" in show.text(diagnosis.account(told), "")
