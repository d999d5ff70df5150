"""The table of stages is what there is: one module a box stage, one function a laptop verb."""

from pathlib import Path

from remote.contract.job.stages import STAGES

FOLDER = Path(__file__).parents[2] / "remote" / "payload" / "stages"


def _is_a_stage(path: Path) -> bool:
    return "run_stage(main)" in path.read_text()


def test_every_box_stage_is_a_module_and_every_stage_module_is_listed():
    modules = {path.stem for path in FOLDER.glob("*.py") if _is_a_stage(path)}
    assert modules == {name for name, stage in STAGES.items() if stage.is_job}


def test_every_laptop_stage_is_a_verb():
    from remote.control.runs.verbs import VERBS

    assert set(VERBS) == {name for name, stage in STAGES.items() if not stage.is_job}


def test_the_contract_and_the_payloads_own_frame_need_only_the_standard_library():
    import subprocess
    import sys

    root = Path(__file__).parents[2]
    modules = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in (root / "remote" / "contract").rglob("*.py")
        if path.stem != "__init__"
    ]
    program = (
        f"import sys; sys.path.insert(0, {str(root)!r}); import"
        f" {', '.join([*modules, 'remote.payload.job'])}"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
