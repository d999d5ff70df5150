"""The main job as its user meets it: `inv demo` on the embedded cloud, killed in training and
resumed; with `--long` killed in every stage, and run again warm.

Real all the way: an SSH server, a pre-trained Mistral, 4-bit training, a GGUF, an Ollama that
answers. Takes minutes.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from remote.contract.files import digest
from remote.control.project import CODE
from tests.integration.typed import command_of

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(2400)]

STAGES = [
    "base",
    "prepare",
    "preflight",
    "train",
    "evaluate",
    "export",
    "pull",
    "install",
    "validate",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the shipped inventory, whose boxes find their Python environment made
    already."""
    folder, shared = tmp_path_factory.mktemp("haul"), tmp_path_factory.mktemp("shared")
    environments = Path(os.environ.get("WINDLASS_ENVIRONMENTS") or shared / "made")
    environments.mkdir(parents=True, exist_ok=True)
    (shared / "environments").symlink_to(environments)
    inventory = (CODE / "inventory.yaml").read_text()
    (folder / "inventory.yaml").write_text(
        inventory.replace("provider: embedded", f"provider: embedded\n    shared: {shared}", 1)
    )
    yield folder
    inv(folder, "cloud.down")
    inv(folder, "model.down")


def test_killed_on_its_way_the_demo_still_ends_well(project, pytestconfig):
    for stage in STAGES if pytestconfig.getoption("--long") else ["train"]:
        _kill_in(project, stage)
        if stage == "train":  # the box goes down too, in the middle of training
            assert inv(project, "stop", "demo").returncode == 0
    done = inv(project, "resume", "--json")
    assert done.returncode == 0, done.stderr
    receipt = json.loads(done.stdout)
    _assert_whole(project, receipt)
    assert {stage["label"]: stage["status"] for stage in receipt["stages"]} == dict.fromkeys(
        STAGES, "SUCCEEDED"
    )
    assert "resumed from" in (project / "runs" / receipt["run_id"] / "logs/train.log").read_text()


@pytest.mark.long
def test_a_warm_demo_gives_the_same_adapter_and_shows_what_came_of_it(project):
    (killed,) = (project / "runs").iterdir()
    done = inv(project, "demo")
    assert done.returncode == 0, done.stderr
    (warm,) = set((project / "runs").iterdir()) - {killed}
    adapters = [
        digest.of_file(run / "artifacts/train/adapter/adapter_model.safetensors")
        for run in (killed, warm)
    ]
    assert adapters[0] == adapters[1]
    for shown in ("held-out rows", "exact match", "loss", "model.ask windlass-demo", "receipt.md"):
        assert shown in done.stdout
    assert (warm / "artifacts/train/loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_model_answers_through_the_official_client(project):
    from ollama import Client

    url = json.loads(inv(project, "model.status", "--json").stdout)["url"]
    row = json.loads((CODE / "data/profiles/held-out.jsonl").read_text().splitlines()[0])
    message = {"role": "user", "content": f"{row['instruction']}\n\n{row['input']}"}
    client = Client(url)
    pieces = [
        piece.message.content
        for piece in client.chat(
            "windlass-demo", [message], stream=True, options={"temperature": 0}
        )
    ]
    client._client.close()
    assert len(pieces) > 3
    assert {"handle", "score", "reason"} == set(json.loads("".join(pieces)))


def test_the_logs_of_a_run_are_the_boxs_bytes(project):
    run = sorted((project / "runs").iterdir())[0]
    assert inv(project, "start", "demo").returncode == 0
    local = (run / "logs/train.log").read_bytes()
    shown = inv(project, "logs", run.name, "--stage", "train")
    (on_box,) = (project / ".windlass/cloud/instances").glob(
        f"*/disk/windlass/jobs/{run.name}-train-*/log"
    )
    assert shown.stdout.encode() == on_box.read_bytes() == local
    assert inv(project, "stop", "demo").returncode == 0


def test_nothing_is_left_running_after_cloud_down(project):
    inv(project, "cloud.down")
    inv(project, "model.down")
    left = [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/environ")
        if _mentions(path, project)
    ]
    assert left == []


def inv(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """One command, as typed."""
    return subprocess.run(
        _command(*words),
        env=_environment(project),
        cwd=CODE,
        capture_output=True,
        text=True,
        check=False,
    )


def _kill_in(project: Path, stage: str) -> None:
    """Start or resume the run, and kill the command without mercy once `stage` has begun."""
    words = _command("resume" if (project / "runs").exists() else "demo")
    with subprocess.Popen(
        words,
        env=_environment(project),
        cwd=CODE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as command:
        deadline = time.monotonic() + 900
        while (
            not _is_amid(project, stage) and command.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        time.sleep(0.3)
        was_running = command.poll() is None
        command.send_signal(signal.SIGKILL)
        complaint = command.stderr.read().decode() if command.stderr else ""
    assert was_running or _has_begun(project, stage), complaint


def _is_amid(project: Path, stage: str) -> bool:
    """Whether a stage has begun; of the long ones, whether it has made steps that must not be
    lost."""
    if stage not in ("base", "train"):
        return _has_begun(project, stage)
    return any(
        metric["step"] >= 8 for metric in _whole_lines(project, f"runs/*/metrics/{stage}.jsonl")
    )


def _has_begun(project: Path, stage: str) -> bool:
    events = _whole_lines(project, "runs/*/events.jsonl")
    return any(event["event"] == "stage_started" and event["label"] == stage for event in events)


def _whole_lines(project: Path, pattern: str) -> list[dict]:
    texts = [path.read_text() for path in project.glob(pattern)]
    return [
        json.loads(line)
        for text in texts
        for line in text.splitlines(keepends=True)
        if line.endswith("\n")
    ]


def _assert_whole(project: Path, receipt: dict) -> None:
    verified = json.loads(inv(project, "verify", receipt["run_id"], "--json").stdout)
    assert {row["verdict"] for row in verified} <= {"whole", "not here"}
    here = {row["artifact"] for row in verified if row["verdict"] == "whole"}
    assert {"train.adapter", "export.gguf", "export.parity", "validate.answers"} <= here
    assert not list(project.glob("runs/**/*.partial"))


def _command(*words: str) -> list[str]:
    return command_of(*words)


def _environment(project: Path) -> dict[str, str]:
    return os.environ | {
        "WINDLASS_PROJECT": str(project),
        "PYTHONPATH": str(CODE),
        "PYTHONWARNINGS": "default",
    }


def _mentions(environ: Path, project: Path) -> bool:
    try:
        return str(project).encode() in environ.read_bytes() and environ.parent.name != str(
            os.getpid()
        )
    except OSError:
        return False
