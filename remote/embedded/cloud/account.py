"""moto's account, made real: its EC2 instances boot machines, and what AWS does and moto does not
is added to moto's own model.

moto flips an instance from state to state at once; here it is pending until its SSH server answers,
and stopping until its last process is gone. Every answer therefore keeps moto's wire format.
`Account.install` changes moto inside this process only.
"""

import base64
import contextlib
import copy
import dataclasses
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.instances import Instance, InstanceState, StateReason
from moto.ec2.responses.general import General
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix

from remote.embedded.cloud import catalog, parameters, store
from remote.embedded.cloud.faults import EVENTS, NOTICES, Fault, Faults
from remote.embedded.cloud.launches import (
    Launches,
    close_spot_request,
    facts_of,
    is_one_time,
    names_of,
)
from remote.embedded.cloud.moto_changes import parameter, replace
from remote.embedded.instances import images, metadata
from remote.embedded.instances.machine import Machine, Signs

_CODES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
_STOP_GRACE_SECONDS = 5.0
_TERMINATE_GRACE_SECONDS = 1.0


class Account:
    """All instances of one embedded cloud. `lock` guards moto's EC2 model; take it around every EC2
    request."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.lock = threading.RLock()
        self._saving, self._counting = threading.Lock(), threading.Lock()
        self._asked = self._saved_up_to = 0
        self.machines: dict[str, Machine] = {}
        self.faults = Faults(folder / "faults.json")
        self._launches = Launches(self, self.faults)

    @property
    def _saved(self) -> Path:
        return self.folder / "account.pickle"

    def install(self) -> None:
        """Tie moto's model to this account. Once in a process."""
        self._launches.install()
        replace(Instance, "start", self._start)
        replace(Instance, "stop", self._stop)
        replace(Instance, "terminate", self._terminate)
        replace(Instance, "reboot", self._reboot)
        replace(General, "get_console_output", self._console_output)
        replace(TaggedEC2Resource, "get_tags", _own_tags)
        parameters.install()
        catalog.install(self)
        images.install(self)

    def instance(self, instance_id: str) -> Instance | None:
        """moto's instance of that id, in any region."""
        return next((instance for instance in self.instances() if instance.id == instance_id), None)

    def instances(self) -> Iterator[Instance]:
        """All instances of all regions."""
        for regions in list(ec2_backends.values()):
            for backend in list(regions.values()):
                for reservation in list(backend.reservations.values()):
                    yield from list(reservation.instances)

    def load(self) -> None:
        """Bring back what was saved: every instance that was not terminated, now stopped. Call it
        before `install`."""
        with contextlib.suppress(FileNotFoundError):
            self._launches.fingerprints = store.read(self._saved)
            store.forget_terminated()
            for instance in self.instances():
                self._power_off(instance)
            store.forget_terminated()
            for instance in self.instances():
                self.machine(instance)
            self._remove_strays()

    def save(self) -> None:
        """Write everything EC2 knows, whole or not at all; never call it with `lock` held.

        Of many who ask at once one writes for all who asked before it began.
        """
        with self._counting:
            self._asked += 1
            mine = self._asked
        with self._saving:
            if self._saved_up_to >= mine:
                return
            newest = self._asked
            with self.lock:
                state = store.packed(self._launches.fingerprints)
            store.write(self._saved, state)
            self._saved_up_to = newest

    def shut_down(self) -> None:
        """Halt every machine, and save."""
        with self.lock:
            for instance in self.instances():
                if instance.state in ("pending", "running"):
                    self._power_off(instance)
        for machine in list(self.machines.values()):
            machine.work.shutdown(wait=True)
        self.save()

    def power(self, instance: Instance, action: str, minutes: float) -> None:
        """What `shutdown` inside the box asks for: off, reboot or cancel."""
        machine = self.machines[instance.id]
        if action == "cancel":
            machine.cancel_timer()
        elif minutes:
            machine.call_later(minutes, lambda: self.power(instance, action, 0))
        else:
            with self.lock:
                self._power_now(instance, action)
            self.save()

    def describe(self, instance: Instance) -> dict[str, object]:
        """One instance as Windlass asks for it: what it is, and where to log in."""
        name = next((tag["value"] for tag in instance.get_tags() if tag["key"] == "Name"), "")
        told = {"id": instance.id, "name": name, "state": instance.state, **facts_of(instance)}
        return {**told, **self.machine(instance).address()}

    def listing(self) -> list[dict[str, object]]:
        """Every instance that is not terminated, as `describe` tells."""
        return [
            self.describe(instance)
            for instance in self.instances()
            if instance.state != "terminated"
        ]

    def facts(self, instance: Instance) -> dict[str, str]:
        """What IMDS tells about an instance."""
        user_data = _user_data(instance).decode(errors="replace")
        notices = [
            fault
            for fault in self.faults.all()
            if fault.kind in NOTICES and fault.box == instance.id
        ]
        association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
        credentials = (
            metadata.credentials_of(association.iam_instance_profile) if association else {}
        )
        told = metadata.facts_of(instance, user_data, _public_key(instance), instance.key_name)
        return {**told, **credentials, **metadata.notices_of(notices)}

    def ails(self, instance: Instance, kind: str) -> Fault | None:
        """The fault of that kind that stands for an instance."""
        return self.faults.standing(kind, names=names_of(instance), **facts_of(instance))

    def inject(self, fault: Fault) -> None:
        """Let a fault stand, or happen. Raises ValueError where it can meet nothing."""
        if fault.kind not in EVENTS:
            self.faults.add(fault)
            self._show_faults()
            return
        with self.lock:
            met = [
                each
                for each in self.instances()
                if each.state == "running" and fault.matches(names_of(each), "", **facts_of(each))
            ]
            if fault.kind in ("spot-notice", "stop"):
                met = [
                    instance
                    for instance in met
                    if is_one_time(instance) == (fault.kind == "spot-notice")
                ]
            if not met:
                kind = {"spot-notice": "spot ", "stop": "on-demand "}.get(fault.kind, "")
                raise ValueError(f"no running {kind}instance is meant")
            for instance in met:
                self._happen(
                    instance,
                    dataclasses.replace(fault, box=instance.id, id=f"{fault.id}.{instance.id}"),
                )
        self.save()

    def clear(self, fault_id: str | None) -> list[Fault]:
        """Take back a fault, or all; boxes recover at once."""
        cleared = self.faults.clear(fault_id)
        self._show_faults()
        return cleared

    def _happen(self, instance: Instance, event: Fault) -> None:
        if event.kind in NOTICES:
            self.faults.add(event)
            if event.kind == "spot-notice":
                self._call_later(event.seconds, self._reclaim, instance, event.id)
        elif event.kind == "reboot":
            instance.reboot()
        elif event.kind == "stop":
            instance.stop()
        else:
            instance.terminate()

    def _reclaim(self, instance: Instance, notice_id: str) -> None:
        """The spot market takes an instance back, unless its notice was."""
        with self.lock:
            if any(fault.id == notice_id for fault in self.faults.all()):
                self._take_back(instance)
        self.save()

    def _take_back(self, instance: Instance) -> None:
        if instance.state in ("shutting-down", "terminated"):
            return
        instance.terminate()
        reason = "Server.SpotInstanceTermination"
        instance.state_reason = StateReason(f"{reason}: Spot instance termination", reason)
        close_spot_request(instance, "instance-terminated-no-capacity")

    def _call_later(self, seconds: float, work: Callable[..., None], *args: Any) -> None:
        timer = threading.Timer(seconds, _reported(work), args)
        timer.daemon = True
        timer.start()

    def _power_off(self, instance: Instance) -> None:
        """This machine's power is gone, or will be: what was bought on the spot market for one run
        is too."""
        if is_one_time(instance):
            self._take_back(instance)
        elif instance.state != "stopped":
            instance.stop()

    def _show_faults(self) -> None:
        """Have every box that is up show the faults that stand for it, and no others."""
        with self.lock:
            for instance in self.instances():
                if instance.state == "running":
                    self._in_turn(self._show_faults_of, instance)

    def _show_faults_of(self, instance: Instance) -> None:
        if instance.state == "running":
            self.machine(instance).show(self._signs(instance))

    def _signs(self, instance: Instance) -> Signs:
        return Signs(
            strange_host_key=self.ails(instance, "host-key") is not None,
            full_disk=self.ails(instance, "disk-full") is not None,
        )

    def _power_now(self, instance: Instance, action: str) -> None:
        if instance.state not in ("pending", "running"):
            return  # it is on its way already
        if action == "reboot":
            instance.reboot()
        elif instance.instance_initiated_shutdown_behavior == "terminate" or is_one_time(instance):
            instance.terminate()
        else:
            instance.stop()
        reason = "Client.InstanceInitiatedShutdown"
        if action != "reboot":
            instance.state_reason = StateReason(f"{reason}: Instance initiated shutdown", reason)

    def _start(self, original: Callable[..., Any], instance: Instance) -> InstanceState:
        previous = copy.copy(instance.instance_state)
        if previous.name in ("pending", "running"):
            return previous
        _expect(instance, "stopped", "started")
        self._launches.expect_room(instance)
        original(instance)
        instance.launch_time = utcnow()
        self.boot(instance)
        return previous

    def _stop(self, original: Callable[..., Any], instance: Instance) -> InstanceState:
        previous = copy.copy(instance.instance_state)
        if previous.name in ("stopping", "stopped"):
            return previous
        _expect(instance, "pending running", "stopped")
        original(instance)
        self._set(instance, "stopping")
        self._in_turn(self._halt, instance, _STOP_GRACE_SECONDS, "stopped")
        return previous

    def _terminate(self, original: Callable[..., Any], instance: Instance) -> InstanceState:
        previous = copy.copy(instance.instance_state)
        if previous.name in ("shutting-down", "terminated"):
            return previous
        for interface in instance.nics.values():
            interface.delete_on_termination = True  # moto keeps the one that came with the instance
        original(instance)
        close_spot_request(instance, "instance-terminated-by-user")
        self._set(instance, "shutting-down")
        self._in_turn(self._halt, instance, _TERMINATE_GRACE_SECONDS, "terminated")
        return previous

    def _reboot(self, _original: Callable[..., Any], instance: Instance) -> None:
        _expect(instance, "running", "rebooted")
        self._in_turn(self._reboot_machine, instance)

    def _console_output(self, _original: Callable[..., Any], response: Any) -> Any:
        from moto.core.responses import ActionResult

        instance = response.ec2_backend.get_instance(parameter(response, "InstanceId"))
        machine = self.machine(instance)
        late = self.ails(instance, "console-late")
        if late and time.time() < max(machine.booted_at, late.at) + late.seconds:
            return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow()})
        output = Base64EncodedString.from_encoded_bytes(base64.b64encode(machine.console()))
        return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": output})

    def boot(self, instance: Instance) -> None:
        """Turn the power of a new or started instance on."""
        self._set(instance, "pending")
        self._in_turn(self._boot_machine, instance, "pending")

    def _boot_machine(self, instance: Instance, while_in: str) -> None:
        if instance.state != while_in:
            return
        try:
            images.seed(self, instance)
            hangs = (
                self.faults.strike("hang-user-data", names=names_of(instance), **facts_of(instance))
                is not None
            )
            self.machine(instance).boot(
                _public_key(instance), _user_data(instance), self._signs(instance), hangs
            )
            self._settle(instance, while_in, "running")
        except Exception as error:
            print(f"{instance.id}: {error}", flush=True)
            instance.state_reason = StateReason(
                f"Server.InternalError: {error}", "Server.InternalError"
            )
            self.machine(instance).halt(0)
            self._settle(instance, while_in, "stopped")

    def _reboot_machine(self, instance: Instance) -> None:
        self.machine(instance).halt(_STOP_GRACE_SECONDS)
        if instance.state == "running":
            self._boot_machine(instance, "running")

    def _halt(self, instance: Instance, grace_seconds: float, then: str) -> None:
        machine = self.machine(instance)
        machine.halt(grace_seconds)
        if then == "terminated":
            machine.erase()
            self._forget_notices(instance)
        self._settle(instance, "shutting-down" if then == "terminated" else "stopping", then)

    def _forget_notices(self, instance: Instance) -> None:
        for fault in self.faults.all():
            if fault.kind in NOTICES and fault.box == instance.id:
                self.faults.clear(fault.id)

    def _settle(self, instance: Instance, expected: str, name: str) -> None:
        """The end of a transition, unless another has begun meanwhile."""
        with self.lock:
            if instance.state == expected:
                self._set(instance, name)
        self.save()

    def _set(self, instance: Instance, name: str) -> None:
        state = instance.instance_state
        state.name, state.code = name, _CODES[name]

    def machine(self, instance: Instance) -> Machine:
        """The machine behind an instance."""
        with self.lock:
            if instance.id not in self.machines:
                folder = self.folder / "instances" / instance.id
                self.machines[instance.id] = Machine(
                    instance.id, folder, instance.region_name, self.url
                )
            return self.machines[instance.id]

    def _in_turn(self, work: Callable[..., None], instance: Instance, *args: Any) -> None:
        """Do it in the background, after all that this machine was told before."""
        self.machine(instance).work.submit(_reported(work), instance, *args)

    def _remove_strays(self) -> None:
        known = set(self.machines)
        for folder in (self.folder / "instances").glob("i-*"):
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)


def _own_tags(_original: Callable[..., Any], resource: Any) -> list[dict[str, str]]:
    """A resource's tags by its id. moto compares the id with that of every tag there is: 64 boxes
    had 64 times as much to compare."""
    kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(resource.id), "") if resource.id else ""
    tags = resource.ec2_backend.tags.get(resource.id, {}) if resource.id else {}
    return [
        {"resource_id": resource.id, "key": key, "value": value, "resource_type": kind}
        for key, value in tags.copy().items()
    ]


def _reported(work: Callable[..., None]) -> Callable[..., None]:
    """A failure in the background is at least in the log."""

    def run(*args: Any) -> None:
        try:
            work(*args)
        except Exception:
            traceback.print_exc()

    return run


def _expect(instance: Instance, states: str, verb: str) -> None:
    if instance.state not in states.split():
        raise EC2ClientError(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is not in a state from which it can be {verb}.",
        )


def _public_key(instance: Instance) -> str:
    pair = instance.ec2_backend.key_pairs.get(instance.key_name)
    return pair.material_public.decode() if pair else ""


def _user_data(instance: Instance) -> bytes:
    return base64.b64decode(str(instance.user_data)) if instance.user_data else b""
