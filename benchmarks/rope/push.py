"""First push of 300 files, and a push when nothing changed."""

import itertools
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from remote.control.transport.push.release import build_release, deploy
from rope import peers
from rope.contest import Contestant, Row, Terms, compete
from rope.ground import BYTES, FILES, Ground, padded_code, seconds

_fresh = itertools.count()


def rows(ground: Ground, terms: Terms) -> Iterator[Row]:
    """Two rows: nothing is there yet; all is there already."""
    tree, sent = padded_code(ground.folder)
    size = _packed(sent)
    here = Windlass(ground, tree)
    contestants = [
        Contestant("connect and push", lambda _: here.first(), ours=True),
        Contestant("`./inv deploy` typed", lambda _: here.typed(fresh=True), ours=True),
        *_peers(ground, sent, terms.patience, anew=True),
    ]
    work = f"first push, {FILES} files, {BYTES / 1e6:.0f} MB"
    samples = compete(f"{work}, {ground.title}", contestants, terms)
    medians = {
        each.name: statistics.median(samples[each.name]) for each in contestants if not each.ours
    }
    tar = medians.pop("`tar \\| ssh`")
    others = min(medians.values())
    yield Row(
        work,
        ground.title,
        ground.floor(1, size),
        "≤ 1.15 × `tar \\| ssh`; faster than all others",
        lambda mine, best, floor: mine <= min(others, 1.15 * tar),
        samples,
        _names_of_ours(contestants),
    )
    contestants = [
        Contestant("connect and push", lambda _: here.again(cold=True), ours=True),
        Contestant("on a warm connection", lambda _: here.again(), ours=True),
        Contestant("`./inv deploy` typed", lambda _: here.typed(fresh=False), ours=True),
        *_peers(ground, sent, terms.patience, anew=False),
    ]
    samples = compete(f"no-change push, {ground.title}", contestants, terms)
    here.close()
    yield Row(
        "no-change push of the same",
        ground.title,
        ground.floor(1),
        "≥ 3 × the best",
        lambda mine, best, floor: best >= 3 * mine,
        samples,
        _names_of_ours(contestants),
    )


def _names_of_ours(contestants: Sequence[Contestant]) -> list[str]:
    return [each.name for each in contestants if each.ours]


def _packed(folder: Path) -> int:
    return len(
        subprocess.run(
            ["tar", "-cz", "-C", str(folder), "."], check=True, capture_output=True
        ).stdout
    )


class Windlass:
    """Ours: in a process that runs already, and typed."""

    def __init__(self, ground: Ground, tree: Path) -> None:
        self._ground, self._tree = ground, tree
        self._warm = ground.transport()
        self.first()
        self._deployed = f"windlass-{next(_fresh)}"
        ground.mark(tree, self._deployed)
        self._push(self._warm, self._deployed)

    def first(self) -> float:
        """Read the files, connect, push into a root where nothing is."""
        root = self._new_root()
        with self._ground.transport() as transport:
            return seconds(lambda: self._push(transport, root))

    def again(self, cold: bool = False) -> float:
        """Read the files and push what is there already."""
        if not cold:
            return seconds(lambda: self._push(self._warm, self._deployed))
        with self._ground.transport() as transport:
            return seconds(lambda: self._push(transport, self._deployed))

    def typed(self, fresh: bool) -> float:
        """The command as a person types it, Python's start and all."""
        root = self._new_root() if fresh else self._deployed
        project = self._ground.inventory(self._ground.folder / "project", root)
        environment = peers.PLAIN | {
            "PYTHONPATH": str(self._tree),
            "WINDLASS_PROJECT": str(project),
        }
        words = [sys.executable, "-P", "-m", "remote.control.commands", "deploy", "box", "--json"]
        told: list[str] = []
        taken = seconds(
            lambda: told.append(peers.run(words, 120, environment=environment, cwd=self._tree))
        )
        assert json.loads(told[0])["was_current"] is not fresh
        return taken

    def close(self) -> None:
        """End the warm connection."""
        self._warm.close()

    def _new_root(self) -> str:
        root = f"windlass-{next(_fresh)}"
        self._ground.mark(self._tree, root)
        return root

    def _push(self, transport: object, root: str) -> None:
        deploy(transport, root, build_release([], self._tree), lambda line: None)  # type: ignore[arg-type]


def _peers(ground: Ground, sent: Path, patience: float, anew: bool) -> list[Contestant]:
    """Those that send; when all is there already, those of them that look before they send, and the
    best that does not."""
    there = ground.home / "peer"
    shutil.copytree(sent, there, dirs_exist_ok=True)

    def target() -> str:
        folder = ground.home / f"peer-{next(_fresh)}" if anew else there
        folder.mkdir(exist_ok=True)
        return str(folder)

    def timed(work: Callable[[str], object]) -> float:
        place = target()
        return seconds(lambda: work(place))

    ssh, config = " ".join(ground.ssh), ground.config
    rsync = f"rsync -az -e '{ssh}' {sent}/ box:"

    def synchronize(place: str) -> None:
        task = (
            f'  - {{command: {{cmd: "{rsync}{place}/"}}, delegate_to: localhost, connection:'
            " local}\n"
        )
        peers.playbook(ground, task, patience)

    def copy(place: str) -> None:
        peers.ansible(ground, "copy", f"src={sent}/ dest={place}/ mode=preserve", patience)

    def sync(place: str) -> None:
        peers.pyinfra(ground, f"files.sync({str(sent)!r}, {place!r})", patience)

    found = [
        Contestant(
            "`tar \\| ssh`",
            lambda _: timed(
                lambda place: peers.shell(
                    f"tar -cz -C {sent} . | {ssh} box tar -xz -C {place}", patience
                )
            ),
        ),
        Contestant(
            "rsync -az", lambda _: timed(lambda place: peers.shell(f"{rsync}{place}/", patience))
        ),
        Contestant("ansible (rsync, as its synchronize)", lambda _: timed(synchronize)),
        Contestant("ansible copy", lambda _: timed(copy)),
        Contestant("pyinfra files.sync", lambda _: timed(sync)),
    ]
    if anew:
        found += [
            Contestant(
                "scp -r",
                lambda _: timed(
                    lambda place: peers.shell(
                        f"scp -q -F {config} -r {sent}/. box:{place}/", patience
                    )
                ),
            ),
            Contestant(
                "Fabric put", lambda _: peers.fabric(ground, _put(sent, target()), patience)
            ),
        ]
    return found


def _put(sent: Path, place: str) -> str:
    """The lines that put each file with Fabric, folders first, in one command."""
    folders = sorted(
        f"{place}/{path.relative_to(sent)}" for path in sent.rglob("*") if path.is_dir()
    )
    files = sorted(path for path in sent.rglob("*") if path.is_file())
    lines = [f"c.put({str(path)!r}, {f'{place}/{path.relative_to(sent)}'!r})" for path in files]
    return "\n".join([f"c.run({f'mkdir -p {chr(32).join(folders)}'!r}, hide=True)", *lines])
