"""An account as a text: `inv why` prints it, and a bundle holds it."""

from remote.control.observe.diagnosis import Account, line_of
from remote.control.output.sanitize import plain
from remote.control.secrets import masked

_LINE_CHARACTERS = 240


def text(account: Account, minutes: str) -> str:
    """The account for people, masked."""
    width = max((len(name) for name, _ in account.facts), default=0)
    lines = [account.headline, *(f"  {name:<{width}}  {words}" for name, words in account.facts)]
    lines += [f"  {'seen':<{width}}  {hint}" for hint in account.hints]
    if account.log:
        lines += ["", "last lines of the log", *(f"  | {_cut(line)}" for line in account.log)]
    if account.curves:
        names, curve = (max(len(row[column]) for row in account.curves) for column in (0, 1))
        lines += ["", f"the last {minutes}" if minutes else "measured"]
        lines += [
            f"  {name:<{names}}  {shape:<{curve}}  {words}" for name, shape, words in account.curves
        ]
    if account.events:
        lines += [
            "",
            "what happened on the box (UTC)",
            *(f"  {line_of(event)}" for event in account.events),
        ]
    return plain(masked("\n".join([*lines, "", f"go on: {account.go_on}"])))


def _cut(line: str) -> str:
    return (
        line
        if len(line) <= _LINE_CHARACTERS
        else f"{line[:_LINE_CHARACTERS]} … and {len(line) - _LINE_CHARACTERS} more"
    )
