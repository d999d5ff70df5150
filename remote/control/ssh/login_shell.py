"""A command in the form that every login shell passes on unchanged, and the error for a shell that
does not.

sshd hands a command to the login shell of its user: `SHELL -c COMMAND`, behind the shell's start-up
files. That shell may be fish or tcsh, which read another language; nologin; or one whose start-up
files print text, read the command's input, or start another shell. So what is sent is
`sh -c SCRIPT sh TOKEN 'COMMAND'`, in which the command is written with the escapes of printf: no
quote, backslash, exclamation mark or line end is left that bash, zsh, fish, tcsh or rbash (which
runs no `/bin/sh`, but `sh`) could take for its own. The script says that it runs before it does
anything, so what came before is known to be somebody else's. Where there is standard input, its
first line is for the script: it tells whether a start-up file has read of it, and ends a shell that
takes standard input for its commands.
"""

import re
import secrets
import time

from remote.control.errors import BoxUnreachable, ShellRefused
from remote.control.output.sanitize import last_lines, sized

FIRST_ANSWER_FLOOR_SECONDS = 15.0
"""However small `ssh.dead_after` is, start-up files may take so long."""

MOST_SAID_BYTES = 1 << 20
"""What start-up files may print before the command runs; it is left out of the command's output."""

_TOOK_INPUT, _LOST_INPUT = 94, 95
_TELL, _RUN = 'echo "windlass:$1"', 'eval "$(printf %b "$2")"'
_GUARD = (
    f'IFS= read -r l; [ "$l" = "exit {_TOOK_INPUT} #$1" ] || {{ echo "windlass:$1" >&2; exit'
    f" {_LOST_INPUT}; }}"
)
_UNSAFE = re.compile(rb"[^ -~]|[\\'!]")
_NOLOGIN = re.compile(r"nologin|not available|not allowed|disabled", re.IGNORECASE)

_has_run: set[str] = set()
"""Where a command has run in this process: what fails there later may pass, as a lost connection
may."""


def first_answer_seconds(dead_after: float) -> float:
    """How long the login shell of a box may take until it runs the command."""
    return max(FIRST_ANSWER_FLOOR_SECONDS, 3 * dead_after)


def line_of(command: str, token: str, has_input: bool) -> str:
    """What is sent for `command`: see above."""
    encoded = _UNSAFE.sub(
        lambda found: b"\\0%03o" % found[0][0], command.encode(errors="surrogateescape")
    ).decode()
    return (
        f"sh -c '{'; '.join((*([_GUARD] if has_input else []), _TELL, _RUN))}' sh {token}"
        f" '{encoded}'"
    )


class Opening:
    """The beginning of a command on the box `where`, which the inventory calls `name`: what comes
    before its output.

    `line` is the command as it is sent, `before_input` goes ahead of its standard input.
    """

    def __init__(
        self, command: str, has_input: bool, where: str, name: str, user: str, dead_after: float
    ) -> None:
        token = secrets.token_hex(8)
        self._where, self._name, self._user, self._token = where, name, user, token
        self._mark, self._said = f"windlass:{token}\n".encode(), bytearray()
        self._seconds = first_answer_seconds(dead_after)
        self._deadline = time.monotonic() + self._seconds
        self.has_begun = False
        self.line = line_of(command, token, has_input)
        self.before_input = f"exit {_TOOK_INPUT} #{token}\n".encode() if has_input else b""

    def sent(self) -> None:
        """The server has taken the command: from now on the shell's time counts."""
        self._deadline = time.monotonic() + self._seconds

    @property
    def remaining(self) -> float | None:
        """Seconds until the command must run; None once it does."""
        return None if self.has_begun else max(0.0, self._deadline - time.monotonic())

    def passed(self, chunk: bytes) -> bytes:
        """What of a chunk is the command's own output. Raises ShellRefused or BoxUnreachable where
        the shell prints without end."""
        if self.has_begun:
            return chunk
        start = max(0, len(self._said) - len(self._mark))
        self._said += chunk
        at = self._said.find(self._mark, start)
        if at >= 0:
            self.has_begun = True
            _has_run.add(self._where)
            rest = bytes(self._said[at + len(self._mark) :])
            self._said.clear()
            return rest
        if len(self._said) > MOST_SAID_BYTES:
            raise self._error(
                f"it printed more than {sized(MOST_SAID_BYTES)} before the command ran", _START_UP
            )
        if not self.remaining:
            raise self.silent()
        return b""

    def silent(self) -> BoxUnreachable:
        """The error for a shell that has not run the command in time."""
        bound = f"three times `ssh.dead_after`, at least {FIRST_ANSWER_FLOOR_SECONDS:g} s"
        return self._error(
            f"the command was not run within {self._seconds:g} s ({bound}){self._told(b'')}",
            _START_UP,
        )

    def check(self, exit_code: int, stderr: bytes) -> None:
        """The command has ended: raise ShellRefused or BoxUnreachable where it was never run, or
        its input was read by another."""
        if self.has_begun:
            return
        if exit_code == _LOST_INPUT and self._mark in stderr:
            raise self._error(
                "a start-up file of it reads standard input, which is meant for the command",
                _START_UP,
            )
        told = self._told(stderr)
        why = f"it ended with exit code {exit_code} and did not run the command{told}"
        if exit_code == -1:  # a signal, such as of a box that goes down
            raise BoxUnreachable(
                f"{self._where} did not run a command",
                where=self._where,
                why=why,
                remedy="run the same command again",
            )
        if exit_code == _TOOK_INPUT:
            raise self._error(
                "a start-up file of it starts another shell (such as `exec fish` in ~/.bashrc)",
                _START_UP,
            )
        if exit_code != 0 and (_NOLOGIN.search(told) or not told):
            raise self._error(f"{why}; that is what nologin and false do", _SHELL)
        raise self._error(why, _FORCED)

    def _told(self, stderr: bytes) -> str:
        words = "; ".join(filter(None, (last_lines(bytes(self._said)), last_lines(stderr))))
        return f"; it said: {words[-300:]}" if words else ""

    def _error(self, why: str, remedy: str) -> BoxUnreachable:
        kind = BoxUnreachable if self._where in _has_run else ShellRefused
        what = f"the login shell of {self._user} on {self._where} does not run commands"
        return kind(
            what, where=self._where, why=why, remedy=remedy.format(user=self._user, name=self._name)
        )


_SHELL = (
    "on the box: `sudo usermod -s /bin/bash {user}`; or name a `user:` of {name} in inventory.yaml"
    " that has a shell"
)
_START_UP = (
    "on the box (`./inv ssh {name}`), as the first line of ~/.bashrc: `case $- in *i*) ;; *) return"
    " ;; esac`; in ~/.config/fish/config.fish: `status is-interactive; or exit`; in ~/.tcshrc: `if"
    " (! $?prompt) exit`. Then the same command"
)
_FORCED = (
    "where sshd forces another command (ForceCommand, `command=` in authorized_keys), it must run"
    ' what it was asked for: `exec sh -c "$SSH_ORIGINAL_COMMAND"`. Else ' + _START_UP
)
