"""`inv box.setup`: everything that a box needs before its first run, each part only where it is
missing, its time shown and kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remote.contract.artifacts.base_models import ModelFetch
from remote.control import text
from remote.control.cloud import boxes
from remote.control.cloud.account import endpoint
from remote.control.config import base_model
from remote.control.config.base_model import ModelSpec
from remote.control.config.inventory import CloudEntry, HostEntry
from remote.control.errors import ConfigError, Finding, JobFailed, PreflightFailed
from remote.control.output.sanitize import counted
from remote.control.project import history
from remote.control.setup import hub, s3_models
from remote.control.transport.payload import call, payload_command, understood

if TYPE_CHECKING:
    from remote.control.cloud.box import Box
    from remote.control.config.inventory import BoxEntry
    from remote.control.transport.base import Transport
    from remote.control.transport.push.selection import Push

Say = Callable[[str], None]

_ROOT_ON_THE_BOX = "@ROOT@"
"""In a rendered unit: Windlass's folder as an absolute path, which only the box knows."""


@dataclass(frozen=True)
class Wishes:
    """What a setup shall bring besides the code and its environment. `models` as in the inventory,
    besides those that stand there; `adopt` is a folder on the box that holds the base model
    `adopt_as`."""

    models: tuple[str, ...] = ()
    adopt: str = ""
    adopt_as: str = ""
    ollama: bool = False


@dataclass(frozen=True)
class Phase:
    """One part: its name, what came of it, the seconds it took."""

    name: str
    outcome: str
    seconds: float


@dataclass(frozen=True)
class Done:
    """A box that is set up."""

    name: str
    phases: list[Phase]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "box": self.name,
            "phases": [vars(phase) for phase in self.phases],
            "seconds": round(sum(p.seconds for p in self.phases), 2),
        }


def set_up(entry: "BoxEntry", wishes: Wishes, push: "Push", say: Say) -> Done:
    """Bring a running box everything it lacks; `push` is the inventory's say in what goes beside
    the code. Repeatable: what is there is left as it is, what was cut off goes on."""
    from remote.control.transport.connect import connect

    specs, adopted = _specs(entry, wishes)
    box = boxes.running(entry)
    with connect(box) as transport:
        work = _Setup(entry, box, transport, say)
        fetches = {} if work.is_complete(specs) else work.resolved(specs)
        work.deploy(push)
        if adopted:
            work.adopt(adopted, wishes.adopt)
        for spec in specs:
            work.fetch(spec, fetches)
        if _wants_ollama(entry, wishes):
            work.ollama()
    history.append(
        entry.name,
        "phases",
        action="setup",
        id=box.id,
        seconds={phase.name: phase.seconds for phase in work.phases},
    )
    return Done(entry.name, work.phases)


def rehearse(entry: "BoxEntry", wishes: Wishes, say: Say) -> Done:
    """What `set_up` would bring to a box that has nothing yet; asks the hub and the bucket, not the
    box."""
    specs, adopted = _specs(entry, wishes)
    phases = [
        Phase(
            "deploy",
            "the code of this checkout and its Python environment, where they are not there",
            0.0,
        )
    ]
    if adopted:
        phases.append(
            Phase(adopted, f"linked to {wishes.adopt}, after a look at every file's header", 0.0)
        )
    for spec in specs:
        found = _resolve(spec, entry, say)
        size = f"{found.size / 1e9:.2f} GB in {counted(len(found.files), 'file')}"
        phases.append(Phase(spec.name, f"{size} from {found.source} at {found.revision[:12]}", 0.0))
    if _wants_ollama(entry, wishes):
        phases.append(Phase("ollama", "the pinned release, as a service on loopback", 0.0))
    return Done(entry.name, phases)


class _Setup:
    """One box being set up over one connection."""

    def __init__(self, entry: "BoxEntry", box: "Box", transport: "Transport", say: Say) -> None:
        self._entry, self._box, self._transport, self._say = entry, box, transport, say
        self._there: dict[str, dict[str, Any] | None] = {}
        self.phases: list[Phase] = []

    def is_complete(self, specs: Sequence[ModelSpec]) -> bool:
        """Whether every model is on the box as asked. False where the box cannot tell yet: nothing,
        or older code, is deployed there."""
        try:
            self._look(specs)
        except (PreflightFailed, JobFailed):
            return not specs
        return all(map(self._has, specs))

    def resolved(self, specs: Sequence[ModelSpec]) -> dict[str, ModelFetch]:
        """What is to be fetched, by name. Before the box is touched: access that is not granted
        shall not cost minutes."""
        return {
            spec.name: _resolve(spec, self._entry, self._say)
            for spec in specs
            if not self._has(spec)
        }

    def deploy(self, push: "Push") -> None:
        """The code of this checkout, and the environment of its stages."""
        from remote.control.transport.push.release import build_release, deploy

        begun, environment_begun = time.monotonic(), 0.0

        def tell(line: str) -> None:
            nonlocal environment_begun
            if line.startswith("environment ") and not environment_begun:
                environment_begun = time.monotonic()
            self._say(line)

        release = build_release([], push=push)
        done = deploy(self._transport, self._box.root, release, tell, shared=self._box.shared)
        ended = time.monotonic()
        code = f"release {done.digest[:12]}{' was current' if done.was_current else ''}"
        self._note("deploy", code, (environment_begun or ended) - begun)
        self._note(
            "environment",
            "made" if environment_begun else "was there",
            ended - (environment_begun or ended),
        )

    def adopt(self, name: str, folder: str) -> None:
        """Link a folder of the box as a base model."""
        with _Timed() as timed, understood(self._transport.where):
            found = self._call("model", "adopt", name, folder)
            outcome = f"adopted from {found['source']}: {found['revision'][:12]}, {_gb(found)}"
        self._note(name, outcome, timed.seconds)

    def fetch(self, spec: ModelSpec, fetches: dict[str, ModelFetch]) -> None:
        """One base model, where it is not there."""
        with _Timed() as timed, understood(self._transport.where):
            if not self._there:
                self._look([spec])
            if self._has(spec):
                outcome = f"was there: {(self._there[spec.name] or {})['revision'][:12]}"
            else:
                wanted = fetches.get(spec.name) or _resolve(spec, self._entry, self._say)
                self._say(
                    f"{spec.name}: {wanted.size / 1e9:.2f} GB from {wanted.source} at"
                    f" {wanted.revision[:12]}"
                )
                found = self._call("model", "fetch", stdin=wanted.to_json().encode())
                outcome = (
                    "was there"
                    if found["was_there"]
                    else f"{found['fetched_bytes'] / 1e9:.2f} GB fetched, every file verified"
                )
        self._note(spec.name, outcome, timed.seconds)

    def ollama(self) -> None:
        """The pinned Ollama, as a service that listens on loopback alone."""
        unit = text.render("windlass-ollama.service.j2", root=_ROOT_ON_THE_BOX, user=self._box.user)
        with _Timed() as timed, understood(self._transport.where):
            found = self._call("ollama", "install", stdin=unit.encode())
            outcome = f"{found['version']} {found['state']}"
        self._note("ollama", outcome, timed.seconds)

    def _look(self, specs: Sequence[ModelSpec]) -> None:
        import json

        names = [spec.name for spec in specs]
        self._there = (
            self._call("model", "find", stdin=json.dumps(names).encode())["models"] if names else {}
        )

    def _has(self, spec: ModelSpec) -> bool:
        """A model that was adopted, or asked for with the same words, is what is wanted: revisions
        are pinned by the first fetch."""
        manifest = self._there.get(spec.name)
        return manifest is not None and manifest["asked"] in ("", spec.text)

    def _call(self, module: str, *words: str, stdin: bytes = b"") -> dict[str, Any]:
        return call(
            self._transport, payload_command(self._box.root, module, *words), stdin, self._say
        )

    def _note(self, name: str, outcome: str, seconds: float) -> None:
        self.phases.append(Phase(name, outcome, round(seconds, 2)))
        self._say(f"{self._entry.name}: {name} {seconds:.1f} s ({outcome})")


class _Timed:
    """Seconds of a block."""

    seconds = 0.0

    def __enter__(self) -> "_Timed":
        self._begun = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._begun


def _specs(entry: "BoxEntry", wishes: Wishes) -> tuple[list[ModelSpec], str]:
    """The models to fetch, and the name of the one to adopt instead, if any. Raises ConfigError."""
    wanted = {
        spec.name: spec
        for spec in [
            *base_model.of_entry(entry),
            *base_model.parsed(list(wishes.models), "--model"),
        ]
    }
    if not wishes.adopt:
        return list(wanted.values()), ""
    name = wishes.adopt_as or (next(iter(wanted)) if len(wanted) == 1 else "")
    if not name:
        what = f"which base model lies in {wishes.adopt} is not said"
        remedy = (
            f"`./inv box.setup {entry.name} --adopt {wishes.adopt} --name"
            " mistralai/Mistral-7B-v0.3`"
        )
        raise ConfigError(
            [Finding("--adopt", what, "`--name` with what recipes call it, as `base.name`", remedy)]
        )
    return [spec for spec in wanted.values() if spec.name != name], name


def _wants_ollama(entry: "BoxEntry", wishes: Wishes) -> bool:
    return wishes.ollama or (isinstance(entry, CloudEntry) and entry.ollama)


def _resolve(spec: ModelSpec, entry: "BoxEntry", say: Say) -> ModelFetch:
    say(f"asking {'the hub' if spec.repo else 's3://' + spec.bucket} for {spec.name}")
    return (
        hub.resolve(spec)
        if spec.repo
        else s3_models.resolve(spec, _bucket_endpoint(entry), entry.name)
    )


def _bucket_endpoint(entry: "BoxEntry") -> endpoint.Endpoint:
    """A host that stands has no cloud of its own: a bucket is then AWS's."""
    return (
        endpoint.AwsEndpoint("us-east-1", entry.user or "")
        if isinstance(entry, HostEntry)
        else endpoint.of_entry(entry)
    )


def _gb(manifest: dict[str, Any]) -> str:
    return f"{sum(file['size'] for file in manifest['files'].values()) / 1e9:.2f} GB"
