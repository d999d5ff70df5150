"""What moto lacks of EC2 Instance Connect and of Session Manager: a key that is admitted for a
minute, a session that leads somewhere."""

import contextlib
import json
import secrets
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote.contract.files import atomic, untrusted_json

if TYPE_CHECKING:
    from moto.ec2.models.instances import Instance

    from remote.embedded.cloud.account import Account

ADMITTED_SECONDS = 60.0
_lock = threading.Lock()


def keys_file(folder: Path) -> Path:
    """Where an instance's SSH server finds the keys that are admitted just now."""
    return folder / "instance_connect_keys"


def admit(folder: Path, public_line: str, seconds: float = ADMITTED_SECONDS) -> None:
    """Let a key in, for so many seconds."""
    line = f"{public_line.strip()} windlass-{secrets.token_hex(8)}"
    _rewrite(folder, add=line)
    timer = threading.Timer(seconds, _rewrite, (folder,), {"drop": line})
    timer.daemon = True
    timer.start()


def install(account: "Account") -> None:
    """Tie both services to this account. Once in a process."""
    from moto.ec2instanceconnect.responses import Ec2InstanceConnectResponse
    from moto.ssm.responses import SimpleSystemManagerResponse

    from remote.embedded.cloud.moto_changes import replace

    for folder in account.folder.glob("instances/*"):
        keys_file(folder).unlink(
            missing_ok=True
        )  # admitted by a cloud that ended before their minute did

    def send_ssh_public_key(_original: Any, response: Any) -> str:
        asked = _asked(response)
        instance = account.instance(asked["InstanceId"])
        if instance is None:
            raise _refusal(
                "EC2InstanceNotFoundException", f"The instance {asked['InstanceId']} was not found."
            )
        if instance.state != "running":
            raise _refusal(
                "EC2InstanceStateInvalidException", f"Invalid instance state: {instance.state}"
            )
        admit(account.machine(instance).folder, asked["SSHPublicKey"])
        return json.dumps({"RequestId": str(uuid.uuid4()), "Success": True})

    def start_session(_original: None, response: Any) -> Any:
        from moto.core.responses import ActionResult

        place = account.machine(_connected(account, _asked(response)["Target"])).address()
        session = f"windlass-{secrets.token_hex(9)}"
        told = {
            "SessionId": session,
            "TokenValue": secrets.token_urlsafe(40),
            "StreamUrl": f"tcp://{place['host']}:{place['port']}",
        }
        return ActionResult(told)

    def terminate_session(_original: None, response: Any) -> Any:
        from moto.core.responses import ActionResult

        return ActionResult({"SessionId": _asked(response)["SessionId"]})

    replace(Ec2InstanceConnectResponse, "send_ssh_public_key", send_ssh_public_key)
    replace(SimpleSystemManagerResponse, "start_session", start_session)
    replace(SimpleSystemManagerResponse, "terminate_session", terminate_session)


def _asked(response: Any) -> dict[str, Any]:
    return untrusted_json.loads_object(response.body)


def _connected(account: "Account", instance_id: str) -> "Instance":
    instance = account.instance(instance_id)
    if instance is None or instance.state != "running":
        raise _refusal("TargetNotConnected", f"{instance_id} is not connected.")
    return instance


def _refusal(code: str, message: str) -> Exception:
    from moto.core.exceptions import JsonRESTError

    refusal: Exception = JsonRESTError(code, message)
    return refusal


def _rewrite(folder: Path, add: str = "", drop: str = "") -> None:
    path = keys_file(folder)
    with _lock, contextlib.suppress(FileNotFoundError):  # the instance may be gone by now
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in [*lines, add] if line and line != drop]
        atomic.write_text(path, "".join(f"{line}\n" for line in kept), mode=0o600)
