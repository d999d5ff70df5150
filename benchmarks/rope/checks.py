"""Preflight: all checks of a box."""

import json
from collections.abc import Iterator

from remote.control.transport.payload import call, payload_command
from remote.control.transport.release import build_release, deploy
from rope import peers
from rope.contest import Contestant, Row, Terms, compete
from rope.ground import ROOT, Ground, seconds

QUESTION = json.dumps({"recipe": {"device": "cpu"}, "thresholds": {"disk_gb": 1.0, "host_gb": 1.0}, "probe_seconds": 60}).encode()


def rows(ground: Ground, terms: Terms) -> Iterator[Row]:
    """One row. Ours are the real checks, which take their time on the box; a check of the peers only looks whether a folder is there."""
    ground.mark(ROOT, "windlass")
    with ground.transport() as transport:
        deploy(transport, "windlass", build_release([]), lambda line: None)
        report = call(transport, payload_command("windlass", "preflight"), QUESTION)
    count, on_box = len(report["checks"]), float(report["seconds"])

    def ours() -> float:
        with ground.transport() as transport:
            return seconds(lambda: call(transport, payload_command("windlass", "preflight"), QUESTION))

    def one_by_one() -> float:
        return peers.fabric(ground, f"for _ in range({count}): c.run('test -d /', hide=True)", terms.patience)

    tasks = "".join(f"  - {{name: check {number}, command: test -d /, changed_when: false}}\n" for number in range(count))
    operations = "\n".join(f"server.shell(name='check {number}', commands=['test -d /'])" for number in range(count))
    contestants = [
        Contestant("connect and check", lambda _: ours(), ours=True),
        Contestant("Fabric run", lambda _: one_by_one()),
        Contestant("ansible", lambda _: seconds(lambda: peers.playbook(ground, tasks, terms.patience))),
        Contestant("pyinfra", lambda _: seconds(lambda: peers.pyinfra(ground, operations, terms.patience))),
    ]
    samples = compete(f"preflight of {count} checks, {ground.title}", contestants, terms)
    factor = 10.0 if ground.rtt else 1.0
    yield Row(
        f"preflight of {count} checks ({on_box:.2f} s of ours on the box)", ground.title, ground.floor(1), f"≥ {factor:.0f} ×",
        lambda mine, best, floor: best >= factor * mine, samples, [contestants[0].name],
    )  # fmt: skip
