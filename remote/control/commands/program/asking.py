"""Questions to whoever sits at the terminal."""

from collections.abc import Sequence

from remote.control.output import console


def choose_run(verb: str, rows: Sequence[str]) -> int | None:
    """Which of these runs the verb means; None where nobody can be asked, or nobody chose."""
    if not console.can_ask():
        return None
    return console.ask_which(f"Which run is meant by `./inv {verb}`?", rows)
