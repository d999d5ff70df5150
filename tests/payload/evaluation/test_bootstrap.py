"""The interval around a gain."""

from remote.payload.evaluation.bootstrap import gain


def test_a_constant_gain_has_no_spread():
    assert gain([0.0] * 40, [1.0] * 40) == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_rows_are_paired():
    before = [row / 40 for row in range(40)]
    found = gain(before, [score + 0.25 for score in before])
    assert abs(found["low"] - 0.25) < 1e-9
    assert abs(found["high"] - 0.25) < 1e-9


def test_the_interval_is_about_two_standard_errors_each_way():
    found = gain([0.0] * 100, [1.0, 0.0] * 50)
    assert found["value"] == 0.5
    assert 0.38 < found["low"] < 0.42
    assert 0.58 < found["high"] < 0.62


def test_it_is_the_same_each_time():
    before, after = [0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0]
    assert gain(before, after) == gain(before, after)


def test_no_rows_gain_nothing():
    assert gain([], []) == {"value": 0.0, "low": 0.0, "high": 0.0}
