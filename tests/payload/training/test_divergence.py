"""When a training counts as one that only gets worse."""

import math

import pytest

from remote.payload.training.divergence import diverged, diverges

GUESS = math.log(32768)
HEALTHY = [2.0, 1.4, 3.1, 1.2, 0.9, 1.1] + [1.0] * 30
DOUBLING = [1.6 * 2**step for step in range(13)]
COLLAPSED = [1.5, 1.4] + [12.0] * 28


@pytest.mark.parametrize("losses", [DOUBLING, COLLAPSED])
def test_a_loss_that_only_grows_is_told_at_the_end_and_before(losses):
    assert "the loss has grown from" in diverged(losses, GUESS, None, None)
    assert "and a guess has 10.4" in diverges(COLLAPSED, GUESS)


@pytest.mark.parametrize(
    "losses",
    [
        HEALTHY,
        [0.1, 4.0],
        [0.1],
        [],
        [0.3, 9.0, 0.2, 8.0],
        [11.0, 10.9, 10.8],
        [1.0] * 20 + [40.0] * 9 + [1.0] * 20,
        [10.5, 11.0, 12.0],
    ],
)
def test_a_loss_that_scatters_or_spikes_is_none(losses):
    assert diverged(losses, GUESS, None, None) is None
    assert all(diverges(losses[:end], GUESS) is None for end in range(len(losses) + 1))


@pytest.mark.parametrize(
    ("losses", "before", "after", "is_lost"),
    [
        (HEALTHY, 1.5, 1.1, False),
        (HEALTHY, 1.5, 11.0, True),  # whatever the training rows say
        (HEALTHY, 1.5, 3.4, False),  # learnt by heart
        ([1.5] * 10 + [4.0] * 10, 1.5, 3.4, True),
        ([1.5] * 10 + [4.0] * 10, None, None, False),
        (HEALTHY, 0.01, 0.5, False),
    ],
)
def test_held_out_rows_tell_a_lost_training_from_one_that_learnt_by_heart(
    losses, before, after, is_lost
):
    assert bool(diverged(losses, GUESS, before, after)) is is_lost
