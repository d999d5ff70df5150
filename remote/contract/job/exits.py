"""Exit codes, the same for a command on the laptop and a stage on the box.

Scripts may rely on them: `docs/exit-codes.md` is this table, and a test keeps the two alike.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Why a command or a stage ended."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    CONFIG = 10
    DATA = 11
    NOT_FOUND = 12
    LAPTOP = 13
    CLOUD = 20
    CAPACITY = 21
    QUOTA = 22
    PERMISSION = 23
    CREDENTIALS = 24
    REGION = 25
    BOX_UNREACHABLE = 30
    HOST_KEY_MISMATCH = 31
    BOX_STOPPED = 32
    LOGIN_REFUSED = 33
    PREFLIGHT = 40
    JOB_FAILED = 50
    OUT_OF_MEMORY = 51
    NOT_A_NUMBER = 52
    DISK_FULL = 53
    GPU_FAULT = 54
    SPOT = 55
    CANCELLED = 56
    LOST = 57
    MODEL_MISSING = 58
    DEADMAN = 59
    ARTIFACT = 60
    GATE = 70
    BUSY = 75
    OLLAMA = 80
    INTERRUPTED = 130


MEANING = {
    Exit.OK: "done",
    Exit.UNEXPECTED: "a fault of Windlass itself: please report it",
    Exit.USAGE: "the command line is off",
    Exit.CONFIG: "inventory, playbook or recipe: every finding is listed",
    Exit.DATA: "too many rows of a dataset are unusable",
    Exit.NOT_FOUND: "there is no such run, job or artifact",
    Exit.LAPTOP: "a file of the laptop cannot be read or written, or a program is missing there",
    Exit.CLOUD: "the cloud refused for a reason not listed below",
    Exit.CAPACITY: "no capacity for that instance type there",
    Exit.QUOTA: "the account's quota is too small",
    Exit.PERMISSION: "the credentials lack a permission",
    Exit.CREDENTIALS: "no credentials, expired ones, or AWS settings that cannot be used",
    Exit.REGION: "unknown region, or one without the service",
    Exit.BOX_UNREACHABLE: "the box does not answer over SSH",
    Exit.HOST_KEY_MISMATCH: "the box shows another host key than the pinned one",
    Exit.BOX_STOPPED: "the box is stopped, or was never launched",
    Exit.LOGIN_REFUSED: "the box refuses the SSH key, or its login shell runs no commands",
    Exit.PREFLIGHT: "preflight found a reason not to start",
    Exit.JOB_FAILED: "the stage's own code failed",
    Exit.OUT_OF_MEMORY: "memory ran out, on the GPU or on the host",
    Exit.NOT_A_NUMBER: "the loss is not a number any more, or only grows",
    Exit.DISK_FULL: "a disk is full",
    Exit.GPU_FAULT: "the GPU reported a fault (Xid)",
    Exit.SPOT: "the spot instance was taken back",
    Exit.CANCELLED: "cancelled on request, after a checkpoint",
    Exit.LOST: "the supervisor is gone and its job with it",
    Exit.MODEL_MISSING: "the base model is absent or not whole",
    Exit.DEADMAN: "a clock of the box ran out, and it stopped itself",
    Exit.ARTIFACT: "an artifact is damaged or not whole",
    Exit.GATE: "a gate does not hold",
    Exit.BUSY: "another command drives this run, or another job has the box's GPU",
    Exit.OLLAMA: "Ollama does not answer, or refused",
    Exit.INTERRUPTED: "interrupted at the keyboard; nothing was undone",
}
"""One plain sentence for each exit code."""
