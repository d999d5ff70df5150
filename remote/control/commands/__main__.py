"""`./inv WORDS...`, and `windlass WORDS...` where it is installed.

The wrapper `inv` blocks Ctrl-C until it can be answered in one line, not by a traceback from the
midst of an import."""

import gc
import os
import signal
import sys
from pathlib import Path

_INTERRUPTED = 130


def main() -> int:
    """Run what was typed; the exit code."""
    try:
        # What a command loads (EC2's model alone is 80 000 objects) stays to its end: searching it
        # for garbage took a tenth of the time.
        gc.set_threshold(100_000, 20, 20)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return _run()
    except KeyboardInterrupt:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # whoever presses it again does not want to wait for a clean end
        sys.stderr.write("interrupted; nothing was undone\n")
        return _INTERRUPTED


def windlass() -> int:
    """The `windlass` command: its project is where it is typed, or the folder above with an
    inventory.yaml."""
    from remote.control import project
    from remote.control.output import console

    console.command = "windlass"
    # In the environment, so that what goes on in the background finds the same project.
    os.environ.setdefault("WINDLASS_PROJECT", str(project.around(Path.cwd())))
    return main()


def _run() -> int:
    # A name that this terminal's encoding does not have is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    from invoke import Exit

    from remote.control.commands import tree
    from remote.control.commands.program import program

    try:
        program.run(sys.argv[1:], tree.ns)
    except Exit as leave:
        return int(leave.code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
