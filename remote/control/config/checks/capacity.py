"""Whether a recipe fits a box, as far as the box's type tells. What it really has is for preflight
to measure."""

from remote.control.config.checks.fit import need_of
from remote.control.config.inventory import BoxEntry, HostEntry
from remote.control.config.machines import machine
from remote.control.config.recipe import Recipe
from remote.control.errors import Finding

SYSTEM_GB = {"ec2": 45, "embedded": 0}
"""What the image itself takes: the Deep Learning AMI brings CUDA and frameworks along."""


def fits(
    recipe: Recipe, entry: BoxEntry, trains: bool = True, exports: bool = True
) -> list[Finding]:
    """Whether the recipe fits the box, as far as its type tells. A static host shows what it has
    only to preflight."""
    if isinstance(entry, HostEntry):
        return []
    found = _gpu_findings(recipe, entry.instance_type, f"{entry.instance_type} (box {entry.name})")
    if trains:
        found += _memory_findings(recipe, entry.instance_type) + _disk_findings(
            recipe, entry.disk_gb, SYSTEM_GB[entry.provider], exports, entry.name
        )
    return found


def _gpu_findings(recipe: Recipe, instance_type: str, named: str) -> list[Finding]:
    has = machine(instance_type)
    if has is None or recipe.device == "cpu":
        return []
    if not has.gpu:
        remedy = "name a box with a GPU (`--box`), or write `device: cpu`"
        return [
            Finding(
                recipe.where("device"),
                f"`device: cuda`, but {named} has no GPU",
                "a type with a GPU, such as g5.2xlarge",
                remedy,
            )
        ]
    if recipe.quantization.compute_dtype == "bfloat16" and has.capability < 8:
        what = (
            f"`compute_dtype: bfloat16`, but the {has.gpu} of {named} has compute capability"
            f" {has.capability}"
        )
        return [
            Finding(
                recipe.where("quantization", "compute_dtype"),
                what,
                "compute capability 8.0 or higher",
                "write `compute_dtype: float16`",
            )
        ]
    return []


def _memory_findings(recipe: Recipe, instance_type: str) -> list[Finding]:
    has, need = machine(instance_type), need_of(recipe)
    if has is None or need is None:
        return []
    where = recipe.where("training", "batch")
    if recipe.device == "cpu":
        if need.host_gb <= has.memory_gb:
            return []
        what = (
            f"training takes about {need.host_gb:.1f} GB of memory, {instance_type} has"
            f" {has.memory_gb} GB"
        )
        return [
            Finding(
                where,
                what,
                f"at most {has.memory_gb} GB",
                "use a larger type, a smaller `batch` or a shorter `max_length`",
            )
        ]
    usable = 0.95 * has.gpu_gb
    found = []
    if has.gpu and need.training_gb > usable:
        what = (
            f"training takes about {need.training_gb:.1f} GB, the {has.gpu} of {instance_type} has"
            f" {has.gpu_gb} GB"
        )
        found.append(Finding(where, what, f"at most {usable:.1f} GB", _smaller(recipe)))
    if need.host_gb > has.memory_gb:
        what = (
            f"loading the base takes about {need.host_gb:.0f} GB of host memory, {instance_type}"
            f" has {has.memory_gb} GB"
        )
        found.append(
            Finding(
                recipe.where("base", "name"),
                what,
                f"at most {has.memory_gb} GB",
                "use the next larger size of that type",
            )
        )
    return found


def _smaller(recipe: Recipe) -> str:
    if not recipe.training.recompute:
        return "write `recompute: true`, or use a larger GPU"
    if recipe.training.batch > 1:
        return (
            f"write `batch: {recipe.training.batch // 2}` and `accumulation:"
            f" {recipe.training.accumulation * 2}`, or use a larger GPU"
        )
    return "write a shorter `max_length`, or use a larger GPU"


def _disk_findings(
    recipe: Recipe, disk_gb: int, system_gb: int, exports: bool, box: str
) -> list[Finding]:
    need = need_of(recipe, exports)
    if need is None or need.disk_gb + system_gb <= disk_gb:
        return []
    total = need.disk_gb + system_gb
    what = f"{recipe.base.name} takes about {total:.0f} GB of disk, box {box} has {disk_gb} GB"
    remedy = f"write `disk_gb: {-(-int(total * 1.1) // 10) * 10}` for that box in inventory.yaml"
    return [Finding(recipe.where("base", "name"), what, f"at most {disk_gb} GB", remedy)]
