"""Whether a training has gone wrong although its loss is a number. Standard library only."""

from collections.abc import Sequence

WINDOW = 10
"""So many steps in a row must agree: the loss of a single one scatters with its rows."""


def diverges(losses: Sequence[float], guess: float) -> str | None:
    """In words, that a training is beyond recovery: ten steps in a row are worse than guessing, and
    twice the loss it began with.

    `guess` is the loss of a model that knows nothing: the logarithm of the number of its tokens.
    """
    return _worse(losses, guess, WINDOW) if len(losses) > WINDOW else None


def diverged(
    losses: Sequence[float], guess: float, before: float | None, after: float | None
) -> str | None:
    """In words, that a training that has come to its end is none to keep; `before` and `after` are
    its validation losses.

    Held-out rows that only became harder while the training rows became easier are learnt by heart:
    a matter for a gate.
    """
    if losses and before is not None and after is not None:
        is_lost = after > max(guess, 2 * before)
        is_worse = after > max(2 * before, before + 1) and _mean(losses[-WINDOW:]) > losses[0]
        if is_lost or is_worse:
            return f"the validation loss has grown from {before:.3g} to {after:.3g} nats a token"
    return _worse(losses, guess, min(WINDOW, max(1, len(losses) // 3))) if len(losses) > 1 else None


def _worse(losses: Sequence[float], guess: float, window: int) -> str | None:
    last = losses[-window:]
    if min(last) <= max(guess, 2 * losses[0]):
        return None
    return (
        f"the loss has grown from {losses[0]:.3g} to {_mean(last):.3g} nats a token, and a guess"
        f" has {guess:.3g}"
    )


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)
