"""What became of a population, read back from the server: the tree, and how the best run came about."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from examples.command import show_command
from examples.curves import Curve, show_curves
from examples.reading import Points, Project

PLOT_BUCKETS: Final = 90
MARKERS: Final = "*ox+#@%"
CHANGED: Final = ("lr", "momentum")


def show_population(project: Project, winner: str) -> None:
    """Tree with the accuracies, then the winner's way: who, what changed, one curve."""
    console = Console(highlight=False)
    console.print()
    show_command(console, project.client.url, "tree", project.name, "--metric", "val/accuracy")
    chain = project.lineage(winner)
    console.print(f"How {winner} came about, from the root on; its config at each fork:", markup=False)
    console.print(_way_table(project, chain))
    (losses,) = project.buckets([winner], "train/loss", PLOT_BUCKETS)
    parts = split(list(zip(losses["x"], losses["mean"], strict=True)), chain)
    curves = [
        Curve(one["run_id"], MARKERS[place % len(MARKERS)], [x for x, _ in part], [y for _, y in part])
        for place, (one, part) in enumerate(zip(chain, parts, strict=True))
        if part
    ]
    show_curves(console, "train/loss", curves)


def split(points: Points, chain: list[dict[str, Any]]) -> list[Points]:
    """A series in the parts that each run on the way contributes."""
    ends = [float("-inf"), *(float("inf") if one["upto"] is None else one["upto"] for one in chain)]
    return [[point for point in points if after < point[0] <= upto] for after, upto in pairwise(ends)]


def _way_table(project: Project, chain: list[dict[str, Any]]) -> Table:
    """A line for each run on the way."""
    table = Table("run", "begins", *CHANGED, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("seen up to step", "val/accuracy there"):
        table.add_column(heading, justify="right")
    parts = split(project.points(chain[-1]["run_id"], "val/accuracy"), chain)
    config = project.run(chain[0]["run_id"])["config"]
    for one, part in zip(chain, parts, strict=True):
        begins = "" if one["fork_step"] is None else f"fork at {one['fork_step']:g}"
        step, accuracy = part[-1] if part else (one["upto"], None)
        settings = [_setting(name, one["changes"], config) for name in CHANGED]
        table.add_row(one["run_id"], begins, *settings, f"{step:g}", "" if accuracy is None else f"{accuracy:.4f}")
    return table


def _setting(name: str, changes: dict[str, Any], root: dict[str, Any]) -> str:
    """A setting of the root, or how it changed."""
    if name in changes:
        return f"{changes[name]['before']:.3g} -> {changes[name]['after']:.3g}"
    return f"{root[name]:.3g}" if not changes else "unchanged"
