"""First half of the demo: two trainings that were recorded, held against what they said of themselves, and shown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from examples.curves import Curve, show_curves
from examples.demo.errors import expect
from examples.demo.training import Trained
from examples.reading import Project

SHOWN_METRICS: Final = ("train/loss", "val/loss", "val/accuracy", "val/precision", "val/recall")
PLOT_BUCKETS: Final = 120
MARKERS: Final = ("*", "o")
TABLE_STYLE: Final[dict[str, Any]] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}


def report(console: Console, project: Project, trained: Sequence[Trained]) -> None:
    """Reads the runs back over the API, checks them and shows them. Raises DemoError."""
    summary, values = _summary_table(), Table("metric", **TABLE_STYLE)
    rows: dict[str, list[str]] = {name: [] for name in SHOWN_METRICS}
    for training in trained:
        details, metrics = project.run(training.run_id), project.metrics(training.run_id)
        check(project, training, details, metrics)
        summary.add_row(*_summarize(project, details, metrics))
        for heading in (f"{training.run_id}: last", "best", "at step"):
            values.add_column(heading, justify="right")
        for name, cells in rows.items():
            cells.extend(_last_and_best(metrics[name]))
    for name, cells in rows.items():
        values.add_row(name, *cells)
    console.print(summary, values)
    series = project.buckets([training.run_id for training in trained], "train/loss", PLOT_BUCKETS)
    curves = [Curve(one["run_id"], marker, one["x"], one["mean"]) for one, marker in zip(series, MARKERS, strict=True)]
    show_curves(console, f"train/loss, mean of each of {PLOT_BUCKETS} buckets", curves)


def check(project: Project, training: Trained, details: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> None:
    """Holds what the server has against what the training said of itself. Raises DemoError."""
    of = f"run {training.run_id}:"
    counters = {reason: points for reason, points in details["health"]["counters"].items() if points}
    logged = counters.pop("logged", 0)
    expect(f"{of} its status", details["status"], "finished")
    expect(f"{of} the number of accepted points", counters.pop("accepted", 0), logged)
    expect(f"{of} the list of lost points", counters, {})
    steps = [step for step, _ in project.points(training.run_id, "train/loss")]
    expect(f"{of} the number of exact points of train/loss", len(steps), training.steps)
    expect(f"{of} the list of gaps in its steps", [b for a, b in pairwise(steps) if b != a + 1], [])
    expect(f"{of} the list of missing metrics", sorted({*SHOWN_METRICS} - metrics.keys()), [])
    for name, printed in training.scores.items():
        expect(f"{of} the last {name}", f"{float(metrics[name]['last']):.4f}", printed)


def _summary_table() -> Table:
    """The table for the rows of `_summarize`."""
    table = Table("run", "status", **TABLE_STYLE)
    for heading in ("lr", "hidden", "steps", "logged", "accepted", "cpu, mean", "memory, max"):
        table.add_column(heading, justify="right")
    return table


def _summarize(project: Project, details: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> list[str]:
    """A run as a row. Two samples of the host, a second apart, make a CPU percentage: a short run may have none."""
    config, counters = details["config"], details["health"]["counters"]
    cpu = project.buckets([details["run_id"]], "system/cpu/percent", 1)
    memory = metrics.get("system/memory/used_bytes")
    return [
        details["run_id"],
        details["status"],
        str(config["lr"]),
        str(config["hidden"]),
        f"{details['last_step']:,.0f}",
        f"{counters['logged']:,}",
        f"{counters['accepted']:,}",
        f"{cpu[0]['mean'][0]:.0f} %" if cpu else "-",
        f"{memory['max'] / 1e9:.1f} GB" if memory else "-",
    ]


def _last_and_best(metric: dict[str, Any]) -> tuple[str, str, str]:
    """Last value, best value and its step: the least of a loss, the greatest of all else."""
    best, step = ("min", "argmin") if metric["name"].endswith("loss") else ("max", "argmax")
    return f"{metric['last']:.4g}", f"{metric[best]:.4g}", f"{metric[step]:,.0f}"
