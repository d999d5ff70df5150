"""The rope against its peers: python benchmarks/wire.py [--only ROW] [--rtt MS] [--quick] [--full]
[--json FILE]

The same work over the same sshd, in one run, contestants in turns, medians; prints the Markdown
table of benchmarks/README.md. Near is loopback; far is a network namespace behind a wire that
carries every packet 25 ms late each way (two TUN devices: TCP is the kernel's own, which needs
root). Peers come from PyPI, pinned, in environments of their own, and rsync and ssh from apt. The
floor of a row is its bytes over the bandwidth of one bare TCP connection, measured there, plus its
round trips. A peer that takes longer than 8 s has one turn only, and one that takes longer than
`--patience` is not waited for; `--full` gives all of them all turns, 4 GB (one turn each: two
minutes near, 12 at 50 ms) and 64 boxes too. Rows: push, pull, preflight, boxes, latency, flood,
attach. Takes about 15 minutes at rest, `--full` more than an hour.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rope import checks, contest, ground, logs, many, peers, pull, push

from tests.integration import links

Work = Callable[[ground.Ground, contest.Terms], Iterator[contest.Row]]
ROWS: dict[str, Work] = {
    "push": push.rows,
    "pull": pull.rows,
    "preflight": checks.rows,
    "boxes": many.rows,
    "latency": logs.latency,
    "flood": logs.flood,
    "attach": logs.attach,
}
DISTANCES = (0.0, 50.0)


def main() -> None:
    """Measure, and print the table."""
    asked = _arguments()
    terms = contest.Terms(rounds=1 if asked.quick else 5, patience=asked.patience, full=asked.full)
    os.environ.pop("WINDLASS_PROJECT", None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    versions = peers.install()
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f};"
        f" {'; '.join(versions)}\n\n{contest.HEADER}",
        flush=True,
    )
    table = []
    with tempfile.TemporaryDirectory(prefix="windlass-wire-") as folder:
        os.environ["WINDLASS_PROJECT"] = folder
        for rtt in asked.rtt:
            if rtt and (why := links.why_no_wire()):
                print(f"\nnot measured at {rtt:.0f} ms: {why}\n")
                continue
            table += _at(Path(folder), rtt / 1000, asked.only or list(ROWS), terms)
    if asked.json:
        Path(asked.json).write_text(json.dumps(terms.samples, indent=1))
    sys.exit(not all("**" not in row for row in table))


def _at(folder: Path, rtt: float, names: list[str], terms: contest.Terms) -> list[str]:
    table = []
    for name in names:
        place = Path(folder, f"{name}-{rtt:g}")
        with ground.far(place, rtt) if rtt else ground.near(place) as here:
            print(
                f"{name}, {here.title}: one TCP connection carries {here.bandwidth / 1e6:.0f} MB/s",
                file=sys.stderr,
            )
            rows = ROWS[name](here, terms)
            while (row := _next(name, rows)) is not None:
                table.append(row.markdown(terms.patience))
                print(table[-1], flush=True)
    return table


def _next(name: str, rows: Iterator[contest.Row]) -> contest.Row | None:
    """The next row; a row that cannot be measured costs no other one."""
    try:
        return next(rows, None)
    except Exception:
        traceback.print_exc()
        print(f"{name}: **could not be measured**")
        return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=list(ROWS), help="this row; may be repeated"
    )
    parser.add_argument(
        "--rtt",
        action="append",
        type=float,
        metavar="MS",
        help="this distance; may be repeated (default: 0 and 50)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round instead of five: a rehearsal"
    )
    parser.add_argument(
        "--full", action="store_true", help="every turn of every peer, 4 GB, 64 boxes"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=30.0,
        help="seconds that a peer is waited for (default: 30)",
    )
    parser.add_argument("--json", help="a file for all samples")
    asked = parser.parse_args()
    asked.rtt = asked.rtt or DISTANCES
    asked.patience = 1800.0 if asked.full else asked.patience
    return asked


if __name__ == "__main__":
    main()
