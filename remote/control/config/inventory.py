"""`inventory.yaml`: the user's one file. Which boxes there are, where Ollama is, which bucket keeps backups."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from remote.control import project
from remote.control.config import explain, source
from remote.control.config.section import LaptopPath, Name, Section
from remote.control.errors import ConfigError, Finding

_PATH = r"^[A-Za-z0-9._/-]+$"


class _Entry(Section):
    name: str = Field(default="", description="the box's name: its key under `boxes`", exclude=True)
    root: str = Field(
        default="windlass", pattern=_PATH, description="Windlass's folder on the box: relative to the user's home, or absolute"
    )
    shared: str | None = Field(
        default=None, pattern=r"^/[A-Za-z0-9._/-]+$", description="another place for models and environments, such as an NVMe mount"
    )


class Ec2Entry(_Entry):
    """A box on AWS, made on request."""

    provider: Literal["ec2"] = Field(default="ec2", description="AWS EC2")
    region: str = Field(description="the AWS region", examples=["us-east-1"], pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    instance_type: str = Field(default="g5.2xlarge", description="the EC2 instance type", pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")
    disk_gb: int = Field(default=200, ge=8, le=16384, description="size of the root disk in GB (gp3, encrypted)")
    user: str = Field(default="ubuntu", description="the login name of the image", pattern=r"^[a-z_][a-z0-9_.-]*$")
    ssh_key: LaptopPath | None = Field(default=None, description="your private key on the laptop; without it Windlass makes one of its own")
    key_name: str | None = Field(default=None, description="the name of an EC2 key pair that fits `ssh_key`")
    ami: str | None = Field(
        default=None, pattern=r"^(ami-[0-9a-f]+|/.+)$", description="an image id; without it the Deep Learning AMI of the region"
    )
    subnet: str | None = Field(default=None, description="a subnet id; without it the default VPC's", pattern=r"^subnet-[0-9a-f]+$")
    tags: dict[str, str] = Field(default={}, description="further tags on all that is made for this box")


class EmbeddedEntry(_Entry):
    """A box of the embedded cloud on this laptop: a real SSH server, no account, no cost."""

    provider: Literal["embedded"] = Field(default="embedded", description="the embedded cloud on this laptop")
    instance_type: str = Field(default="t3.large", description="the type it claims to be", pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")
    disk_gb: int = Field(default=20, ge=1, le=16384, description="the disk size it claims to have, in GB")


class StaticEntry(_Entry):
    """A host that already stands. Windlass never starts or stops it."""

    provider: Literal["static"] = Field(default="static", description="a host that already stands")
    host: str = Field(description="its address or name", examples=["gpu.example.org"], pattern=r"^[A-Za-z0-9._:-]+$")
    port: int = Field(default=22, ge=1, le=65535, description="its SSH port")
    user: str = Field(description="the login name", examples=["ubuntu"], pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")
    ssh_key: LaptopPath | None = Field(
        default=None, description="your private key on the laptop; without it the SSH agent and your default keys"
    )
    host_key: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9@.-]+ [A-Za-z0-9+/=]+",
        description="its public host key, `ssh-ed25519 AAAA...`; without it Windlass does not connect, and says how to learn it",
    )


BoxEntry = Ec2Entry | EmbeddedEntry | StaticEntry
"""One box of the inventory, by its provider."""


class OllamaEntry(Section):
    """Where models are installed."""

    url: str | None = Field(
        default="embedded",
        pattern=r"^(https?://.+|embedded|auto)$",
        description="`embedded`, an Ollama's address, or `auto` (a local one that answers, else embedded); `OLLAMA_HOST` goes before",
    )


class StorageEntry(Section):
    """Where backups and shared data lie."""

    bucket: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="an S3 bucket (its name only)")


class Inventory(Section):
    """The whole of `inventory.yaml`."""

    default_box: str = Field(description="the box that is meant when none is named", examples=["demo"])
    boxes: dict[Name, Annotated[BoxEntry, Field(discriminator="provider")]] = Field(min_length=1, description="every box by name")
    ollama: OllamaEntry = Field(default=OllamaEntry(), description="where models are installed")
    storage: StorageEntry = Field(default=StorageEntry(), description="where backups and shared data lie")

    _source: source.Source = PrivateAttr(default_factory=lambda: source.Source(Path("inventory.yaml")))

    def where(self, *keys: str | int) -> str:
        """`file:line` of a value."""
        return self._source.where(*keys)

    def box(self, name: str | None = None) -> BoxEntry:
        """The entry of that name, or the default one. Raises ConfigError naming those there are."""
        wanted = name or self.default_box
        if wanted not in self.boxes:
            raise ConfigError([_unknown_box(wanted, list(self.boxes), "inventory.yaml", "under `boxes:`")])
        return self.boxes[wanted]


def load_inventory(path: str | Path | None = None) -> Inventory:
    """The inventory in `path`, else the project's, else the shipped one. Raises ConfigError with every finding."""
    file = project.find_file(path or "inventory.yaml")
    read = source.read(file)
    _name_boxes(read)
    findings = list(read.findings)
    inventory = explain.validate(Inventory, read, findings)
    if isinstance(read.value, dict) and isinstance(boxes := read.value.get("boxes"), dict):
        default = read.value.get("default_box")
        if isinstance(default, str) and boxes and default not in boxes:
            findings.append(_unknown_box(default, list(boxes), read.where("default_box"), "as `default_box`"))
    if findings or inventory is None:
        raise ConfigError(explain.in_order(findings))
    inventory._source = read
    return inventory


def place(*keys: str) -> str:
    """`inventory.yaml:12: boxes.lab.host_key`: where a value stands, or would stand, in the inventory in use. Never raises."""
    return f"{source.read(project.find_file('inventory.yaml')).where(*keys)}: {'.'.join(keys)}"


def _name_boxes(read: source.Source) -> None:
    boxes = read.value.get("boxes") if isinstance(read.value, dict) else None
    for name, box in boxes.items() if isinstance(boxes, dict) else ():
        if isinstance(box, dict) and "name" in box:
            where = read.where("boxes", name, "name")
            read.findings.append(Finding(where, "unknown key `name`", f"the name as the key: `{name}:`", "remove the line"))
        if isinstance(box, dict):
            box["name"] = name


def _unknown_box(wanted: str, known: list[str], where: str, place: str) -> Finding:
    remedy = explain.suggestion(wanted, known) or "name one of those, or add the box to inventory.yaml"
    return Finding(where, f"no box `{wanted}` {place}", f"one of {', '.join(known)}", remedy)
