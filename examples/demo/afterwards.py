"""Third part of the demo: a metric that nobody logged, computed over all runs after the fact, forks included."""

from __future__ import annotations

from typing import Final

from rich.console import Console

import thalweg.query as thalweg_query
from examples.command import show_command
from examples.demo.errors import expect
from examples.demo.history import FORK, FORK_STEP, RUN
from examples.reading import Points, Project

NAME: Final = "f1"
EXPRESSION: Final = "2 * `val/precision` * `val/recall` / (`val/precision` + `val/recall`)"


def define_f1(project: Project) -> None:
    """Gives the expression a name in the project."""
    thalweg_query.set_metric(project.name, NAME, EXPRESSION, url=project.client.url)


def check_f1(project: Project, runs: list[str]) -> None:
    """F1 of each run is what its logged precision and recall make it, and a fork has its parent's. Raises DemoError."""
    for run_id in runs:
        expect(f"f1 of {run_id}", project.points(run_id, NAME), _by_hand(project, run_id))
    inherited, parent = project.points(FORK, NAME), project.points(RUN, NAME)
    until = [point for point in parent if point[0] <= FORK_STEP]
    expect("f1 that the fork inherits", inherited[: len(until)], until)
    best = project.client.post(
        f"/projects/{project.name}/runs/query", {"filter": f"last({NAME}) > 0", "sort": [f"-last({NAME})"]}
    )
    last = {run_id: project.points(run_id, NAME)[-1][1] for run_id in runs}
    expect("the runs by f1", [last[run["run_id"]] for run in best["runs"]], sorted(last.values(), reverse=True))


def _by_hand(project: Project, run_id: str) -> Points:
    precision, recall = (project.points(run_id, f"val/{name}") for name in ("precision", "recall"))
    return [(step, 2 * p * r / (p + r)) for (step, p), (_, r) in zip(precision, recall, strict=True)]


def show_f1(console: Console, project: Project) -> None:
    """What it is, and the runs by it."""
    url = project.client.url
    show_command(console, url, "metric", "list", "--project", project.name)
    columns = f"last({NAME}),max({NAME}),argmax({NAME}),config.lr"
    show_command(console, url, "runs", project.name, "--columns", columns, "--sort", f"-last({NAME})")
    show_command(console, url, "query", NAME, "--project", project.name, "--runs", f"{RUN},{FORK}")
