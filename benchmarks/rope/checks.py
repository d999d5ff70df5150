"""Preflight: all checks of a box."""

import json
from collections.abc import Iterator
from typing import Any

from remote.control.transport.over_ssh import SshTransport
from remote.control.transport.payload import call, payload_command
from remote.control.transport.push.release import build_release, deploy
from rope import peers
from rope.contest import Contestant, Row, Terms, compete
from rope.ground import ROOT, Ground, seconds

QUESTION = json.dumps(
    {
        "recipe": {"device": "cpu"},
        "thresholds": {"disk_gb": 1.0, "host_gb": 1.0},
        "probe_seconds": 60,
    }
).encode()


def rows(ground: Ground, terms: Terms) -> Iterator[Row]:
    """Two rows: connection and all, and on a connection that is there. Ours are the real checks,
    which take their time on the box; a check of the peers only looks whether a folder is there."""
    ground.mark(ROOT, "windlass")
    with ground.transport() as warm:
        deploy(warm, "windlass", build_release([]), lambda line: None)
        report = _checked(warm)
        count = len(report["checks"])
        work = f"preflight of {count} checks ({float(report['seconds']):.2f} s of ours on the box)"
        for title, contestants, is_cold, far_factor in (
            (work, _cold(ground, count, terms.patience), True, 5.0),
            (f"{work}, connected already", _warm(ground, warm, count, terms.patience), False, 10.0),
        ):
            samples = compete(f"{title}, {ground.title}", contestants, terms)
            factor = far_factor if ground.rtt else 1.0
            yield Row(
                title,
                ground.title,
                ground.floor(1, cold=is_cold),
                f"≥ {factor:.0f} × the best",
                lambda mine, best, floor, factor=factor: best >= factor * mine,
                samples,
                [contestants[0].name],
            )


def _checked(transport: SshTransport) -> dict[str, Any]:
    return call(transport, payload_command("windlass", "preflight"), QUESTION)


def _cold(ground: Ground, count: int, patience: float) -> list[Contestant]:
    def ours() -> float:
        with ground.transport() as transport:
            return seconds(lambda: _checked(transport))

    tasks = "".join(
        f"  - {{name: check {number}, command: test -d /, changed_when: false}}\n"
        for number in range(count)
    )
    operations = "\n".join(
        f"server.shell(name='check {number}', commands=['test -d /'])" for number in range(count)
    )
    return [
        Contestant("connect and check", lambda _: ours(), ours=True),
        Contestant("Fabric run", lambda _: peers.fabric(ground, _one_by_one(count), patience)),
        Contestant("ansible", lambda _: seconds(lambda: peers.playbook(ground, tasks, patience))),
        Contestant(
            "pyinfra", lambda _: seconds(lambda: peers.pyinfra(ground, operations, patience))
        ),
    ]


def _warm(ground: Ground, warm: SshTransport, count: int, patience: float) -> list[Contestant]:
    """The others have no way to keep a connection from one command to the next."""
    return [
        Contestant("check", lambda _: seconds(lambda: _checked(warm)), ours=True),
        Contestant(
            "Fabric run",
            lambda _: peers.fabric(ground, _one_by_one(count), patience, before="c.open()"),
        ),
    ]


def _one_by_one(count: int) -> str:
    return f"for _ in range({count}): c.run('test -d /', hide=True)"
