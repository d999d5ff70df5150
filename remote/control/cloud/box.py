"""A box as the rest of Windlass sees it: an address, a login, a pinned host key. Nothing in it
tells providers apart."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from remote.control.config.inventory import Bastion, BoxEntry
    from remote.control.ssh.config import HostConfig

State = Literal["pending", "running", "stopping", "stopped", "terminated", "unknown"]
"""EC2's own words. `terminated` also stands for a box that was never launched; `unknown` when the
provider could not be asked."""


@dataclass(frozen=True)
class Box:
    """One box at one moment.

    `id` is the instance id, or the empty string where there is none; `host` and `port` are set
    while it runs; `key` is the private key on the laptop (None: the SSH agent and the user's
    default keys); `host_key_alias` is the name of its host keys in Windlass's known_hosts; `root`
    and `shared` are folders on the box; `launched_at` is seconds since the epoch, UTC, of the last
    start, `stopped_at` of the last stop while it is stopped; `hourly_usd` is the list price while
    it runs, or None where nothing is billed or the price is not known; `note` says what a reader of
    a listing should know besides; `market` is on-demand or spot; `reach` is how SSH gets there:
    public, private, ssm or bastion; `bastion` is the host in between, for `bastion`;
    `instance_connect`: the key is admitted through EC2 Instance Connect before each login;
    `host_config` is what the user's ssh_config says about the way there; `entry` is the inventory's
    that it was made from, None where the inventory names no such box.
    """

    name: str
    provider: str
    id: str
    state: State
    host: str
    port: int
    user: str
    key: Path | None
    host_key_alias: str
    instance_type: str
    region: str
    root: str
    shared: str | None
    launched_at: float | None
    hourly_usd: float | None
    note: str = ""
    zone: str = ""
    market: str = "on-demand"
    stopped_at: float | None = None
    reach: str = "public"
    bastion: "Bastion | None" = None
    instance_connect: bool = False
    host_config: "HostConfig | None" = None
    entry: "BoxEntry | None" = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """`host:port`, or the empty string while it has none."""
        return f"{self.host}:{self.port}" if self.host else ""

    @property
    def where(self) -> str:
        """How errors and progress lines name it: `box demo (i-0abc at 127.0.0.1:40123)`."""
        facts = " at ".join(fact for fact in (self.id, self.address) if fact)
        return f"box {self.name} ({facts})" if facts else f"box {self.name}"
