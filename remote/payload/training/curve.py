"""The loss over the steps, as a picture."""

from dataclasses import replace
from pathlib import Path

from remote.contract.telemetry.events import Metric


def history(metrics: Path) -> list[Metric]:
    """One metric a step, out of metrics.jsonl: a resumed training writes some steps twice: later
    values hold."""
    by_step: dict[int, Metric] = {}
    for line in metrics.read_text(errors="replace").splitlines():
        try:
            metric = Metric.from_line(line)
        except (ValueError, TypeError, AttributeError):
            continue  # a line cut by a power failure
        earlier = by_step.get(metric.step, metric)
        by_step[metric.step] = replace(
            earlier, **{name: value for name, value in vars(metric).items() if value is not None}
        )
    return [by_step[step] for step in sorted(by_step)]


def draw(metrics: list[Metric], path: Path, title: str) -> None:
    """A PNG with training and validation loss in nats per token."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, label, marker in (("loss", "training", None), ("val_loss", "validation", "o")):
        points = [
            (metric.step, value)
            for metric in metrics
            if (value := getattr(metric, name)) is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=marker)
    axes.set(title=title, xlabel="optimizer step", ylabel="loss (nats per supervised token)")
    axes.grid(alpha=0.3)
    axes.legend()
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=120)
    pyplot.close(figure)
    partial.replace(path)
