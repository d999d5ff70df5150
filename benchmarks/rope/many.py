"""Many boxes side by side: one question to each."""

import sys
from collections.abc import Iterator
from typing import Any

from remote.control import fleet
from remote.control.transport.push.release import build_release, deploy
from rope import peers
from rope.contest import Contestant, Row, Terms, compete
from rope.ground import ROOT, Ground, seconds


def rows(ground: Ground, terms: Terms) -> Iterator[Row]:
    """A row of 16, and of 64 where asked for. All boxes are one sshd: its processor time is in
    every figure."""
    ground.mark(ROOT, "windlass")
    with ground.transport() as transport:
        deploy(transport, "windlass", build_release([]), lambda line: None)
    for count in (16, 64) if terms.full else (16,):
        yield _row(ground, terms, count)


def _row(ground: Ground, terms: Terms, count: int) -> Row:
    names = ground.names[:count]
    project = ground.inventory(ground.folder / "project", fleet=count)
    environment = peers.PLAIN | {"PYTHONPATH": str(ROOT), "WINDLASS_PROJECT": str(project)}
    words = [sys.executable, "-P", "-m", "remote.control.commands", "ps", "fleet", "--json"]

    def ask(_box: Any, _say: Any) -> str:
        with ground.transport() as transport:
            return transport.exec("true").text

    def ours() -> float:
        return seconds(
            lambda: fleet.or_raise(fleet.outcomes_of([ground.box(name) for name in names], ask))
        )

    def typed() -> float:
        return seconds(lambda: peers.run(words, 120, environment=environment, cwd=ROOT))

    def ansible(module: str) -> float:
        return seconds(lambda: peers.ansible(ground, module, "true", terms.patience, names))

    def pyinfra() -> float:
        return seconds(
            lambda: peers.pyinfra(ground, "server.shell(commands=['true'])", terms.patience, names)
        )

    contestants = [
        Contestant("connect and run", lambda _: ours(), ours=True),
        Contestant("`./inv ps fleet` typed", lambda _: typed(), ours=True),
        Contestant("ansible raw", lambda _: ansible("raw")),
        Contestant("ansible command", lambda _: ansible("command")),
        Contestant("pyinfra", lambda _: pyinfra()),
    ]
    samples = compete(f"{count} boxes, {ground.title}", contestants, terms)
    return Row(
        f"one command on {count} boxes",
        ground.title,
        ground.floor(1),
        "≥ 2 × the best",
        lambda mine, best, floor: best >= 2 * mine,
        samples,
        [each.name for each in contestants if each.ours],
    )
