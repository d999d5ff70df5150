"""Hosts that already stand: Windlass enters them and changes nothing about them."""

import getpass
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remote.control.cloud.access import host_keys, keys, reach, waiting
from remote.control.cloud.box import Box
from remote.control.cloud.provider import Mode, Plan, Progress, Wanted
from remote.control.config.inventory import place
from remote.control.errors import BoxUnreachable, CloudError, ConfigError, Finding
from remote.control.ssh import config as ssh_config
from remote.control.ssh import known_hosts

if TYPE_CHECKING:
    from remote.control.config.inventory import LocalEntry, StaticEntry

_PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class Static:
    """One standing host of the inventory."""

    entry: "StaticEntry | LocalEntry"

    def find(self) -> Box:
        """The box, as the inventory has it, and where that is silent, the user's ssh_config.

        Its host key is pinned from the inventory, else from the user's known_hosts; never from the
        network. Raises ConfigError when there is none.
        """
        told = self._told()
        alias, port = f"static-{self.entry.name}", told.port or self.entry.port
        self._pin(alias, told, port)
        return Box(
            name=self.entry.name,
            provider=self.entry.provider,
            id="",
            state="running",
            host=told.host,
            port=port,
            user=told.user or getpass.getuser(),
            key=keys.key_path(self.entry),
            host_key_alias=alias,
            instance_type="",
            region="",
            root=self.entry.root,
            shared=self.entry.shared,
            launched_at=None,
            hourly_usd=None,
            note="stands; not asked whether it is up",
            host_config=told if told.alias else None,
            entry=self.entry,
        )

    def plan(self, mode: Mode) -> Plan:
        """Nothing, ever. Raises CloudError for a fresh one."""
        self._check_mode(mode)
        return Plan("nothing: it stands already", self.find())

    def ready(self, on_progress: Progress, wanted: Wanted) -> Box:
        """The box, once SSH answers. Raises BoxUnreachable, for what is down: the box, or a jump
        host before it."""
        self._check_mode(wanted.mode)
        box = self.find()
        what = f"waiting for SSH of {box.name} at {box.address}"
        if not waiting.until(
            lambda: reach.answers(box) or None, what, on_progress, _PATIENCE_SECONDS, 1
        ):
            remedy = (
                f"start the host, or correct `host:` and `port:` of {box.name} in inventory.yaml,"
                f" then `./inv start {box.name}`"
            )
            reach.require_road(box)
            raise BoxUnreachable(
                "no SSH server answers",
                where=box.where,
                why=f"no greeting within {_PATIENCE_SECONDS} s",
                remedy=remedy,
            )
        if wanted.set_deadlines:
            wanted.set_deadlines(box)
        return box

    def stop(self, on_progress: Progress) -> Box:
        """Leaves it running and says so."""
        on_progress(f"{self.entry.name} is a host that stands: left running")
        return self.find()

    def reboot(self, on_progress: Progress) -> Box:
        """Raises CloudError: no cloud can restart it."""
        remedy = f"`./inv ssh {self.entry.name}`, then `sudo reboot` there"
        raise CloudError(
            "a host that stands is never restarted by Windlass",
            where=f"box {self.entry.name}",
            remedy=remedy,
        )

    def admit(self, on_progress: Progress) -> None:
        """Nothing: who may reach the host is its owner's to say."""

    def terminate(
        self, on_progress: Progress, instance_id: str | None = None, is_agreed: bool = False
    ) -> Box:
        """Raises CloudError: it is not Windlass's to remove."""
        remedy = f"remove `{self.entry.name}:` from inventory.yaml to be rid of it here"
        raise CloudError(
            "a host that stands is never terminated by Windlass",
            where=f"box {self.entry.name}",
            remedy=remedy,
        )

    def _check_mode(self, mode: Mode) -> None:
        if mode == "fresh":
            remedy = f"`./inv start {self.entry.name}`"
            raise CloudError(
                "a host that stands is never launched",
                where=f"box {self.entry.name}",
                remedy=remedy,
            )

    def _told(self) -> ssh_config.HostConfig:
        port = self.entry.port if "port" in self.entry.model_fields_set else None
        if not self.entry.ssh.config:
            return ssh_config.HostConfig("", self.entry.host, port, self.entry.user)
        return ssh_config.lookup(self.entry.host, port, self.entry.user)

    def _pin(self, alias: str, told: ssh_config.HostConfig, port: int) -> None:
        if self.entry.host_key:
            host_keys.pin_from_inventory(self.entry, alias)
            return
        known = ssh_config.host_keys(told, port) if told.alias else []
        if set(known_hosts.pinned(alias)) != set(known):
            known_hosts.forget(alias)
            for key in known:
                known_hosts.pin(alias, key)
        if not known:
            raise ConfigError([self._no_host_key()])

    def _no_host_key(self) -> Finding:
        what = (
            "there is no `host_key`, and none in your known_hosts, so nothing would prove that it"
            " is the host that answers"
        )
        scan = f"ssh-keyscan -t ed25519 -p {self.entry.port} {self.entry.host}"
        remedy = (
            f"Run `{scan}`, compare its fingerprint (`{scan} | ssh-keygen -lf -`) with what the"
            " host's owner says, then paste the two words after the host's name as `host_key:` of"
            f" {self.entry.name}"
        )
        return Finding(
            place("boxes", self.entry.name, "host_key"),
            what,
            "`host_key: ssh-ed25519 AAAA…`",
            remedy,
        )
