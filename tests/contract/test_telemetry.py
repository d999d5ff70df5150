"""Samples and events as lines, of this Windlass and of newer ones."""

import json

from remote.contract.telemetry import samples as telemetry
from remote.contract.telemetry import timeline
from remote.contract.telemetry.samples import Gpu, Sample
from remote.contract.telemetry.timeline import Event

SAMPLE = Sample(
    100.0,
    0.5,
    4.0,
    16.0,
    50.0,
    100.0,
    gpus=[Gpu(0, "A10G", 0.9, 20.0, 24.0, 250.0, 70.0, "heat", 2)],
)


def test_a_sample_comes_back_as_it_was(tmp_path):
    telemetry.append(tmp_path / "t", SAMPLE)
    assert telemetry.read(tmp_path / "t") == [SAMPLE]


def test_what_a_newer_windlass_adds_is_left_out():
    raw = {**json.loads(SAMPLE.to_line()), "novelty": 1}
    raw["gpus"][0]["fan"] = 30
    assert Sample.from_line(json.dumps(raw)) == SAMPLE
    assert Event.from_line(
        '{"time": 1.0, "source": "gpu", "level": "info", "text": "x", "novelty": 2}'
    ) == Event(1.0, "gpu", "info", "x")


def test_damaged_lines_are_left_out_and_the_time_is_kept_to(tmp_path):
    path = tmp_path / "t"
    for moment in (100.0, 200.0, 300.0):
        telemetry.append(path, Sample(moment, 0, 1, 2, 3, 4))
        timeline.append(tmp_path / "e", Event(moment, "kernel", "error", f"at {moment}"))
    for each in (path, tmp_path / "e"):
        with each.open("a") as file:
            file.write('{"time": 1\n[]\n7\nnull\n"text"\n\x00\xff\n')
    assert [sample.time for sample in telemetry.read(path, 150, 250)] == [200.0]
    assert [event.time for event in timeline.read(tmp_path / "e", 150)] == [200.0, 300.0]
