"""What is gathered around the moment that matters."""

from remote.contract.job.jobs import Cause, JobSpec, JobState, Status
from remote.contract.job.paths import BoxPaths
from remote.contract.telemetry import evidence, timeline
from remote.contract.telemetry import samples as telemetry
from remote.contract.telemetry.events import Metric
from remote.contract.telemetry.evidence import Evidence, Places
from remote.contract.telemetry.samples import Sample
from remote.contract.telemetry.timeline import Event


def places_of(tmp_path, log=b"", moments=()):
    box = BoxPaths(tmp_path)
    paths = box.job("job-1")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(JobSpec("job-1", "train", "r", "run-1").to_json())
    paths.log.write_bytes(log)
    for moment in moments:
        telemetry.append(box.telemetry, Sample(moment, 0.5, 1, 2, 3, 4))
        timeline.append(box.timeline, Event(moment, "kernel", "error", f"at {moment:.0f}"))
    return Places(paths, box.telemetry, box.timeline)


def test_the_moment_of_a_job_that_ended_is_its_end(tmp_path):
    places = places_of(tmp_path, b"one\ntwo\n", [1000.0, 4000.0, 4990.0, 5060.0, 9000.0])
    state = JobState(
        "job-1", "train", Status.FAILED, started_at=500.0, ended_at=5000.0, cause=Cause.CODE
    )
    told_elsewhere = [
        Event(4990.0, "kernel", "error", "at 4990"),
        Event(4000.5, "watchdog", "info", "w"),
    ]
    found = evidence.gather(places, state, 10_000.0, 30, told_elsewhere)
    assert (found.run_id, found.moment, found.log) == ("run-1", 5000.0, ["one", "two"])
    assert [sample.time for sample in found.samples] == [4000.0, 4990.0, 5060.0]
    assert [event.text for event in found.events] == ["at 4000", "w", "at 4990", "at 5060"]
    assert Evidence.from_json(found.to_json()) == found


def test_the_moment_of_a_lost_job_is_its_last_sign_of_life(tmp_path):
    places = places_of(tmp_path, b"x\n")
    (places.job.folder / "log.times").write_text("0 100.0\n2 300.5\n")
    places.job.metrics.write_text(Metric(1, 10, 250.0, loss=1.0).to_line() + "broken\n")
    found = evidence.gather(
        places, JobState("job-1", "train", Status.LOST, started_at=50.0), 10_000.0, 30
    )
    assert found.moment == 300.5 and found.metrics[0].loss == 1.0


def test_what_a_progress_bar_wrote_over_is_left_out_and_a_cut_first_line_too(tmp_path):
    places = places_of(
        tmp_path, b"head" * evidence.TAIL_BYTES + b"\n 1%\r 50%\r100%\r\nlast \xff line"
    )
    lines, _ = evidence.tail(places.job.folder)
    assert lines == ["100%", "last � line"]


def test_thinned_keeps_the_last():
    samples = [Sample(float(number), 0, 1, 2, 3, 4) for number in range(1000)]
    thin = evidence.thinned(samples, 7)
    assert (
        len(thin) == 7
        and thin[-1] is samples[-1]
        and evidence.thinned(samples[:3], 7) == samples[:3]
    )
