"""`inventory.yaml`: the user's one file. Which boxes there are, where Ollama is, which bucket keeps
backups."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal, Self
from urllib.parse import unquote

from pydantic import Field, PrivateAttr, field_validator, model_validator

from remote.control import project, secrets
from remote.control.config import groups
from remote.control.config.yaml import explain, source
from remote.control.config.yaml.section import Duration, Host, LaptopPath, Login, Name, Section
from remote.control.errors import ConfigError, Finding
from remote.control.output.suggestion import suggestion
from remote.control.project import identity

_PATH = r"^[A-Za-z0-9._/-]+$"


class SshEntry(Section):
    """How Windlass connects."""

    dead_after: Duration = Field(
        default=10.0,
        ge=2,
        le=600,
        description="a connection that carries nothing for so long is dead",
    )
    config: bool = Field(
        default=True, description="whether `~/.ssh/config` is honoured; it is only ever read"
    )


class _Entry(Section):
    name: str = Field(default="", description="the box's name: its key under `boxes`", exclude=True)
    root: str = Field(
        default="windlass",
        pattern=_PATH,
        description="Windlass's folder on the box: relative to the user's home, or absolute",
    )
    shared: str | None = Field(
        default=None,
        pattern=r"^/[A-Za-z0-9._/-]+$",
        description="another place for models and environments, such as an NVMe mount",
    )

    _ssh: SshEntry = PrivateAttr(default_factory=SshEntry)
    _bucket: str | None = PrivateAttr(default=None)

    @property
    def ssh(self) -> SshEntry:
        """How Windlass connects: what the inventory says under `ssh:` for all of its boxes."""
        return self._ssh

    @property
    def bucket(self) -> str | None:
        """The inventory's `storage.bucket`; None where it names none."""
        return self._bucket


_REGION = r"^[a-z]{2}(-[a-z]+)+-\d$"
_ZONE = r"^[a-z]{2}(-[a-z]+)+-\d[a-z]$"
_TYPE = r"^[a-z0-9-]+\.[a-z0-9-]+$"
_SUBNET = r"^subnet-[0-9a-f]+$"
Market = Literal["on-demand", "spot"]
Reach = Literal["public", "private", "ssm", "bastion"]


class Clocks(Section):
    """When a box stops by itself. The box enforces all but `stopped`, which `inv reap` does."""

    idle: Duration = Field(
        default=1800.0,
        ge=1,
        le=86400,
        description="stop after this long without job, SSH session or GPU use",
    )
    lifetime: Duration = Field(
        default=43200.0,
        ge=1,
        le=30 * 86400,
        description="stop this long after the last start, whatever it does",
    )
    dollars: float = Field(
        default=25.0, gt=0, description="stop when this start has cost so much, compute and disk"
    )
    stopped: Duration = Field(
        default=14 * 86400.0, ge=1, description="stopped for so long, `inv reap` terminates it"
    )
    stuck: Duration = Field(
        default=1800.0,
        ge=1,
        description="a job that runs without a sign of life for so long is stuck, and alerts",
    )
    stuck_grace: Duration = Field(
        default=3600.0, ge=0, description="a job stuck for this much longer stops the box"
    )
    grace: Duration = Field(
        default=600.0,
        ge=0,
        le=7200,
        description="how long a stop may wait for checkpoints and spills",
    )
    notify: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="told of a stuck job and of each stop: ntfy, or a Slack webhook",
    )


class Fallback(Section):
    """What to try instead when there is no capacity, or the price is too high: only what
    differs."""

    region: str | None = Field(default=None, description="another region", pattern=_REGION)
    zone: str | None = Field(
        default=None, description="another availability zone, such as us-east-1b", pattern=_ZONE
    )
    instance_type: str | None = Field(
        default=None, description="another instance type", pattern=_TYPE
    )
    market: Market | None = Field(default=None, description="another market")
    subnet: str | None = Field(default=None, description="another subnet", pattern=_SUBNET)


class Bastion(Section):
    """The host through which a box without a public address is reached."""

    host: Host = Field(description="its address or name", examples=["bastion.example.org"])
    port: int = Field(default=22, ge=1, le=65535, description="its SSH port")
    user: Login = Field(description="the login name", examples=["ubuntu"])
    ssh_key: LaptopPath | None = Field(
        default=None, description="your private key; without it the SSH agent and your default keys"
    )
    host_key: str = Field(
        description="its public host key",
        examples=["ssh-ed25519 AAAAC3Nz"],
        pattern=r"^[a-z0-9@.-]+ [A-Za-z0-9+/=]+",
    )


class _CloudEntry(_Entry):
    """A box that a cloud makes: what `ec2` and `embedded` have in common."""

    instance_id: str | None = Field(
        default=None,
        pattern=r"^i-[0-9a-f]{8,17}$",
        description="an instance that already is: it is used, never launched anew",
    )
    host_key: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9@.-]+ [A-Za-z0-9+/=]+",
        description=(
            "the public host key of the instance that `instance_id` names, where its console no"
            " longer shows it"
        ),
    )
    zone: str | None = Field(
        default=None,
        description="the availability zone; without it the cloud chooses",
        pattern=_ZONE,
    )
    market: Market = Field(
        default="on-demand",
        description="`spot` is cheaper, and may be taken back with two minutes' notice",
    )
    max_spot_usd: float | None = Field(
        default=None,
        gt=0,
        description="the most a spot hour may cost; without it the on-demand price",
    )
    fallbacks: list[Fallback] = Field(
        default=[],
        description="tried in this order when there is no capacity, or the price is too high",
    )
    clocks: Clocks = Field(default=Clocks(), description="when the box stops by itself")
    count: int = Field(
        default=1,
        ge=1,
        le=256,
        description="so many boxes alike, called NAME-1 and so on; NAME is then their group",
    )
    reach: Reach = Field(
        default="public",
        description=(
            "how SSH gets there: public or private address, SSM Session Manager, or a bastion"
        ),
    )
    bastion: Bastion | None = Field(default=None, description="the bastion, for `reach: bastion`")
    instance_connect: bool = Field(
        default=False,
        description="EC2 Instance Connect: the key is admitted for a minute each time",
    )
    instance_profile: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9+=,.@_-]+$",
        description="the IAM instance profile that lets the box use the bucket",
    )
    key_name: str | None = Field(
        default=None, description="the name of an EC2 key pair that fits `ssh_key`"
    )
    ssh_key: LaptopPath | None = Field(
        default=None,
        description="your private key on the laptop; without it Windlass makes one of its own",
    )
    ami: str | None = Field(
        default=None,
        pattern=r"^(ami-[0-9a-f]+|/.+)$",
        description="image id or SSM parameter; else one baked, else the Deep Learning AMI",
    )
    subnet: str | None = Field(
        default=None, description="a subnet id; without it the default VPC's", pattern=_SUBNET
    )
    tags: dict[str, str] = Field(
        default={}, description="further tags on all that is made for this box"
    )
    models: list[str] = Field(
        default=[],
        description=(
            "base models that `inv box.setup` fetches: `mistralai/Mistral-7B-v0.3`, or"
            " `s3://bucket/folder/`"
        ),
    )
    ollama: bool = Field(
        default=False, description="whether `inv box.setup` installs the pinned Ollama on the box"
    )


class Ec2Entry(_CloudEntry):
    """A box on AWS, made on request."""

    provider: Literal["ec2"] = Field(default="ec2", description="AWS EC2")
    region: str = Field(description="the AWS region", examples=["us-east-1"], pattern=_REGION)
    instance_type: str = Field(
        default="g5.2xlarge", description="the EC2 instance type", pattern=_TYPE
    )
    disk_gb: int = Field(
        default=200, ge=8, le=16384, description="size of the root disk in GB (gp3, encrypted)"
    )
    user: Login = Field(default="ubuntu", description="the login name of the image")


class EmbeddedEntry(_CloudEntry):
    """A box of the embedded cloud on this laptop: a real SSH server, no account, no cost."""

    provider: Literal["embedded"] = Field(
        default="embedded", description="the embedded cloud on this laptop"
    )
    region: str = Field(
        default="us-east-1", description="the region it claims to be in", pattern=_REGION
    )
    instance_type: str = Field(
        default="t3.large", description="the type it claims to be", pattern=_TYPE
    )
    disk_gb: int = Field(
        default=20, ge=1, le=16384, description="the disk size it claims to have, in GB"
    )


CloudEntry = Ec2Entry | EmbeddedEntry
"""A box that a cloud makes."""


class HostEntry(_Entry):
    """A machine that is there: Windlass neither makes nor stops it."""

    host: Host = Field(
        description="its address or name, or an alias of your `~/.ssh/config`",
        examples=["gpu.example.org"],
    )
    port: int = Field(
        default=22, ge=1, le=65535, description="its SSH port; without it what `~/.ssh/config` says"
    )
    user: Login | None = Field(
        default=None,
        description="the login name; without it what `~/.ssh/config` says, else your own",
        examples=["ubuntu"],
    )
    ssh_key: LaptopPath | None = Field(
        default=None,
        description=(
            "your private key on the laptop; without it those of `~/.ssh/config`, the SSH agent,"
            " your default keys"
        ),
    )
    host_key: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9@.-]+ [A-Za-z0-9+/=]+",
        description=(
            "its public host key, `ssh-ed25519 AAAA...`; without it one in your"
            " `~/.ssh/known_hosts`, else nothing connects"
        ),
    )


class StaticEntry(HostEntry):
    """A host that already stands. Windlass never starts or stops it."""

    provider: Literal["static"] = Field(default="static", description="a host that already stands")


LOCAL = "local"
"""What `--on` calls this machine, where the inventory has no box of that name."""


class LocalEntry(HostEntry):
    """This machine, without SSH. It needs no entry in an inventory."""

    provider: Literal["local"] = "local"
    name: str = LOCAL
    host: str = "localhost"
    root: str = Field(default_factory=lambda: str(project.state_folder() / LOCAL))


InventoryEntry = CloudEntry | StaticEntry
"""What may stand in an inventory."""

BoxEntry = InventoryEntry | LocalEntry
"""One box of the inventory, by its provider."""


class OllamaEntry(Section):
    """Where models are installed."""

    url: str | None = Field(
        default="embedded",
        pattern=r"^(https?://.+|embedded|auto)$",
        description=(
            "`embedded`, an Ollama's address, or `auto` (a local one that answers, else embedded);"
            " `OLLAMA_HOST` goes before"
        ),
    )
    origins: list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://[^\s/?#*]+$")]] = Field(
        default=[],
        description=(
            "origins whose web pages may ask the embedded Ollama; none may unless named here. After"
            " a change start it again"
        ),
        examples=[["http://localhost:3000"]],
    )

    @field_validator("url")
    @classmethod
    def _holds_no_password(cls, url: str | None) -> str | None:
        """This file is in git."""
        user, at, _ = (
            url.partition("://")[2].partition("/")[0].rpartition("@") if url else ("", "", "")
        )
        if at:
            secrets.know(user, unquote(user.partition(":")[2]))
            raise ValueError(
                "an address without user and password: `export"
                " OLLAMA_HOST=https://USER:PASSWORD@HOST` gives them, not a file"
            )
        return url


class StorageEntry(Section):
    """Where backups and shared data lie."""

    bucket: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="an S3 bucket (its name only)",
    )


class PushEntry(Section):
    """What goes to a box beside Windlass's own code and the files that a playbook names. Patterns
    are those of .gitignore."""

    include: list[str] = Field(
        default=[],
        description="files of the project that travel with each release",
        examples=[["scripts/**"]],
    )
    exclude: list[str] = Field(
        default=[], description="what never travels, beside what git ignores", examples=[["*.ckpt"]]
    )
    warn_mb: float = Field(
        default=200.0, gt=0, description="a release larger than so many MB is warned of"
    )


class Inventory(Section):
    """The whole of `inventory.yaml`.

    Once loaded, `boxes` holds single boxes (`trainer-1`, `trainer-2` for `trainer` with
    `count: 2`), and `groups` has `trainer` too.
    """

    project: str | None = Field(
        default=None,
        pattern=project.MARK_PATTERN,
        description=(
            "the mark on this project's boxes, as `.windlass/project` of the first checkout has it:"
            " lets others see the same ones"
        ),
    )
    default_box: str = Field(
        description="the box that is meant when none is named", examples=["demo"]
    )
    boxes: dict[Name, Annotated[InventoryEntry, Field(discriminator="provider")]] = Field(
        min_length=1, description="every box by name"
    )
    ollama: OllamaEntry = Field(default=OllamaEntry(), description="where models are installed")
    storage: StorageEntry = Field(
        default=StorageEntry(), description="where backups and shared data lie"
    )
    ssh: SshEntry = Field(default=SshEntry(), description="how Windlass connects")
    push: PushEntry = Field(default=PushEntry(), description="what goes to a box")
    secrets: list[Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]] = Field(
        default=[],
        description=(
            "variables of your environment that jobs get, such as HF_TOKEN: never stored here,"
            " masked everywhere"
        ),
    )
    groups: dict[Name, list[Name]] = Field(
        default={}, description="names for several boxes: `trainers: [a, b]`"
    )

    _source: source.Source = PrivateAttr(
        default_factory=lambda: source.Source(Path("inventory.yaml"))
    )

    @model_validator(mode="after")
    def _each_box_knows_what_holds_for_all(self) -> Self:
        """Whoever has the entry of a box can connect to it."""
        for entry in self.boxes.values():
            entry._ssh, entry._bucket = self.ssh, self.storage.bucket
        return self

    def where(self, *keys: str | int) -> str:
        """`file:line` of a value."""
        return self._source.where(*_as_written(self._source, keys))

    def box(self, name: str | None = None) -> BoxEntry:
        """The entry of that name, or the default one. Raises ConfigError naming those there are."""
        wanted = name or self.default_box
        if self.means_this_machine(wanted):
            return LocalEntry()
        if wanted in self.groups:
            members = self.groups[wanted]
            what = f"`{wanted}` is {len(members)} boxes, and one is wanted"
            raise ConfigError(
                [Finding("inventory.yaml", what, explain.one_of(members), "name one of those")]
            )
        if wanted not in self.boxes:
            raise ConfigError(
                [_unknown_box(wanted, list(self.boxes), "inventory.yaml", "under `boxes:`")]
            )
        return self.boxes[wanted]

    def resolve(self, names: Sequence[str] = ()) -> list[BoxEntry]:
        """The boxes meant by names of boxes and groups, each once, in that order; without names the
        default one.

        Raises ConfigError with every name that is neither.
        """
        known = [*self.groups, *self.boxes]
        if unknown := [
            name for name in names if name not in known and not self.means_this_machine(name)
        ]:
            raise ConfigError(
                [_unknown_box(name, known, "inventory.yaml", "or group") for name in unknown]
            )
        single = [each for name in names for each in self.groups.get(name, [name])]
        return [self.box(name) for name in dict.fromkeys(single)] or [self.box()]

    @property
    def places(self) -> list[str]:
        """The names of all boxes, and of this machine once a release is on it."""
        is_used = self.means_this_machine(LOCAL) and (Path(LocalEntry().root) / "current").exists()
        return [*self.boxes, *([LOCAL] if is_used else [])]

    def means_this_machine(self, name: str) -> bool:
        """Whether `name` is `local`, and nothing in the inventory is called so."""
        return name == LOCAL and name not in self.boxes and name not in self.groups


_parsing = Lock()


def load_inventory(path: str | Path | None = None) -> Inventory:
    """The inventory in `path`, else the project's, else the shipped one. Raises ConfigError with
    every finding.

    For commands and the web alone: whatever they call is handed what it needs of it.
    """
    inventory, findings = read_inventory(path)
    if inventory is None:
        raise ConfigError(findings)
    return inventory


def read_inventory(path: str | Path | None = None) -> tuple[Inventory | None, list[Finding]]:
    """The same, or None and every finding.

    Parsed once for each content, however often and from however many threads it is asked for.
    `boxes` and `groups` are the caller's own.
    """
    file = project.find_file(path or project.INVENTORY)
    with _parsing:  # one parses, and who asks meanwhile waits for it
        inventory, read, found = _parsed(file)
    findings = [*found, *(_another_mark(inventory.project, read) if inventory else ())]
    if findings or inventory is None:
        return None, explain.in_order(findings)
    secrets.know_names(inventory.secrets)
    identity.share(inventory.project or "")
    own = {"boxes": dict(inventory.boxes), "groups": dict(inventory.groups)}
    return inventory.model_copy(update=own), []


def findings_of(file: Path, text: str) -> tuple[Finding, ...]:
    """What would be wrong with that file if it held this text."""
    return _parsed_once(file, text.encode(), project.root(), os.environ.get("HOME"))[2]


_Parsed = tuple[Inventory | None, source.Source, tuple[Finding, ...]]


def _parsed(file: Path) -> _Parsed:
    try:
        content = source.content_of(file)
    except (OSError, ValueError):
        return _judged(source.read(file))
    return _parsed_once(file, content, project.root(), os.environ.get("HOME"))


@lru_cache(maxsize=8)
def _parsed_once(file: Path, content: bytes, root: Path, home: str | None) -> _Parsed:
    """What the file says. `root` is where findings name files from, `home` what `~` stands for."""
    return _judged(source.read(file, content))


def _judged(read: source.Source) -> _Parsed:
    _name_boxes(read)
    findings = list(read.findings)
    inventory = explain.validate(Inventory, read, findings)
    findings += groups.findings(inventory, read) if inventory else ()
    if isinstance(read.value, dict) and isinstance(boxes := read.value.get("boxes"), dict):
        default = read.value.get("default_box")
        if (
            isinstance(default, str)
            and boxes
            and default not in _boxes_and_counted(inventory, boxes)
        ):
            findings.append(
                _unknown_box(default, list(boxes), read.where("default_box"), "as `default_box`")
            )
    return inventory and _expanded(inventory, read), read, tuple(findings)


def _another_mark(wanted: str | None, read: source.Source) -> list[Finding]:
    """A checkout that has boxes under another mark would lose sight of them."""
    if wanted is None or not (present := identity.kept_mark()) or present == wanted:
        return []
    remedy = (
        f"write `project: {present}`; or, where this checkout has no box of its own: `rm"
        f" {project.mark_file()}`"
    )
    return [
        Finding(
            read.where("project"),
            f"`project` is {wanted}, but this checkout's boxes are marked {present}",
            present,
            remedy,
        )
    ]


def place(*keys: str) -> str:
    """`inventory.yaml:12: boxes.lab.host_key`: where a value stands, or would stand, in the
    inventory in use. Never raises."""
    read = source.read(project.find_file("inventory.yaml"))
    written = _as_written(read, keys)
    return f"{read.where(*written)}: {'.'.join(str(key) for key in written)}"


def _expanded(inventory: Inventory, read: source.Source) -> Inventory:
    boxes, counted = groups.expanded(inventory.boxes)
    named = {
        name: [each for member in members for each in counted.get(member, [member])]
        for name, members in inventory.groups.items()
    }
    whole = inventory.model_copy(update={"boxes": boxes, "groups": {**named, **counted}})
    whole._source = read
    return whole


def _as_written(read: source.Source, keys: source.Keys) -> source.Keys:
    if len(keys) < 2 or keys[0] != "boxes" or not isinstance(read.value, dict):
        return keys
    return ("boxes", groups.origin(str(keys[1]), read.value.get("boxes")), *keys[2:])


def _boxes_and_counted(inventory: Inventory | None, written: dict[str, object]) -> set[str]:
    return {*written, *(groups.expanded(inventory.boxes)[0] if inventory else ())}


def _name_boxes(read: source.Source) -> None:
    boxes = read.value.get("boxes") if isinstance(read.value, dict) else None
    for name, box in boxes.items() if isinstance(boxes, dict) else ():
        if isinstance(box, dict) and "name" in box:
            where = read.where("boxes", name, "name")
            read.findings.append(
                Finding(
                    where,
                    "unknown key `name`",
                    f"the name as the key: `{name}:`",
                    "remove the line",
                )
            )
        if isinstance(box, dict):
            box["name"] = name


def _unknown_box(wanted: str, known: list[str], where: str, place: str) -> Finding:
    remedy = suggestion(wanted, known) or "name one of those, or add the box to inventory.yaml"
    return Finding(where, f"no box `{wanted}` {place}", explain.one_of(known), remedy)
