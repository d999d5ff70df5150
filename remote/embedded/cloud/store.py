"""What EC2 knows, kept in a file: moto's own model, pickled, for the regions that were used."""

import pickle
from pathlib import Path
from typing import Any

import moto
from moto.ec2.models import ec2_backends

from remote.contract.files import atomic


def packed(fingerprints: dict[str, str]) -> bytes:
    """Everything as it stands. Hold the account's lock."""
    ec2 = {account_id: dict(regions) for account_id, regions in ec2_backends.items()}
    state = {"moto": moto.__version__, "ec2": ec2, "fingerprints": fingerprints}
    return pickle.dumps(state)


def write(path: Path, state: bytes) -> None:
    """Write what was packed, whole or not at all."""
    atomic.write_bytes(path, state, mode=0o600)


def read(path: Path) -> dict[str, str]:
    """Put back what was written; returns the fingerprints. Raises FileNotFoundError where there is
    nothing.

    Another version of moto may not understand it: then it is set aside, and the disks stay.
    """
    state = _unpickled(path)
    for account_id, regions in state["ec2"].items():
        for region, backend in regions.items():
            ec2_backends[account_id][region] = backend
    fingerprints: dict[str, str] = state["fingerprints"]
    return fingerprints


def forget_terminated() -> None:
    """AWS shows a terminated instance for an hour; here it goes when the cloud does, its spot
    request with it."""
    for regions in ec2_backends.values():
        for backend in regions.values():
            for reservation in list(backend.reservations.values()):
                gone = ("terminated", "shutting-down")
                reservation.instances = [
                    instance for instance in reservation.instances if instance.state not in gone
                ]
                if not reservation.instances:
                    del backend.reservations[reservation.id]
            for request in [
                each for each in backend.spot_instance_requests.values() if each.state == "closed"
            ]:
                del backend.spot_instance_requests[request.id]


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = pickle.loads(path.read_bytes())  # noqa: S301 - our own file in a private folder
        if state["moto"] != moto.__version__:
            print(f"saved by moto {state['moto']}, read by {moto.__version__}", flush=True)
        return state
    except FileNotFoundError:
        raise
    except Exception as error:
        aside = path.with_suffix(".unreadable")
        path.replace(aside)
        print(f"{path} cannot be read ({error}); moved to {aside}", flush=True)
        raise FileNotFoundError(path) from None
