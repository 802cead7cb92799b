"""Second half of the demo: a training crashes, goes on from its checkpoint, and is forked at an earlier one.

The undisturbed run is the measure: the crashed and restarted one has to have its curve, bit by bit.
"""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console

from examples.command import show_command
from examples.curves import Curve, show_curves
from examples.demo.errors import expect
from examples.demo.training import crash, train
from examples.digits import CRASH
from examples.reading import Points, Project

RUN: Final = "base"
FORK: Final = "bolder"
FORK_LR: Final = 0.3
CRASH_STEP: Final = 1500
REWIND_STEP: Final = 1350  # the last checkpoint before it: the example saves each 10 epochs, or 450 steps
FORK_STEP: Final = 900
LAST_STEP: Final = 2700
COMPARED: Final = ("train/loss", "train/lr", "grad_norm/layer_0/weight", "epoch", "val/loss", "val/accuracy")
PLOT_BUCKETS: Final = 90


def make_history(console: Console, url: str) -> None:
    """Trains as the undisturbed run did, up to a crash; then on from there; then aside. Raises DemoError."""
    restart = ["--rewind", "latest-checkpoint"]  # at the first start there is none: the run begins
    crash(console, RUN, [*restart, "--epochs", "60", "--crash-at", str(CRASH_STEP)], url)
    train(console, RUN, restart, url)
    train(console, FORK, ["--fork-from", f"{RUN}@{FORK_STEP}", "--lr", str(FORK_LR)], url)


def check_history(project: Project, whole: str) -> None:
    """The curves join where they should and hold the right values, and no point is lost. Raises DemoError.

    `whole`: the undisturbed run.
    """
    run, crashed, fork = project.run(RUN), project.run(RUN, 0), project.run(FORK)
    expect("the status of run and crashed branch", (run["status"], crashed["status"]), ("finished", "failed"))
    errors = {writer["exception"] for writer in crashed["health"]["writers"]} - {""}
    expect("how the crashed branch ended", errors, {f"RuntimeError: {CRASH.format(CRASH_STEP)}"})
    expect("the way to the restarted run", _way(run), [(RUN, 0, float(REWIND_STEP)), (RUN, 1, None)])
    way = [(RUN, 0, float(FORK_STEP)), (RUN, 1, float(FORK_STEP)), (FORK, 0, None)]  # before the rewind, so all of it
    expect("the way to the fork", _way(fork), way)
    expect("what the fork changed", project.lineage(FORK)[-1]["changes"], {"lr": {"before": 0.05, "after": FORK_LR}})
    for branch in (run, crashed, fork):
        counters = {reason: points for reason, points in branch["health"]["counters"].items() if points}
        expect("the number of accepted points", counters.pop("accepted", 0), counters.pop("logged", 0))
        expect("the list of lost points", counters, {})
    for metric in COMPARED:
        _check_curves(project, metric, project.points(whole, metric))


def _check_curves(project: Project, metric: str, whole: Points) -> None:
    """A metric of all three against the undisturbed run, bit by bit."""
    expect(f"{metric} of the restarted run", project.points(RUN, metric), whole)
    expect(f"{metric} of the crashed branch", project.points((RUN, 0), metric), _until(whole, CRASH_STEP))
    fork = project.points(FORK, metric)
    expect(f"{metric} that the fork inherits", _until(fork, FORK_STEP), _until(whole, FORK_STEP))
    expect(f"the steps of {metric} of the fork", [step for step, _ in fork], [step for step, _ in whole])
    if metric == "train/loss":
        expect("the last step", whole[-1][0], float(LAST_STEP))
        same = [step for (step, ours), (_, theirs) in zip(fork, whole, strict=True) if ours == theirs]
        expect("the last step whose loss is the parent's", same[-1], FORK_STEP + 1.0)  # before it learns from it


def _way(run: dict[str, Any]) -> list[tuple[str, int, float | None]]:
    return [(one["run_id"], one["branch"], one["upto"]) for one in run["lineage"]]


def _until(points: Points, last: float) -> Points:
    return [point for point in points if point[0] <= last]


def show_history(console: Console, project: Project) -> None:
    """The tree, the curves, and how often it would be best to save."""
    show_command(console, project.client.url, "tree", project.name, "--metric", "val/loss")
    lines = {(FORK, 0): (f"{FORK} (lr {FORK_LR})", "o"), (RUN, 1): (RUN, "*"), (RUN, 0): (f"{RUN} (branch 0)", "x")}
    found = project.buckets(list(lines), "train/loss", PLOT_BUCKETS)
    curves = [Curve(*lines[one["run_id"], one["branch"]], one["x"], one["mean"]) for one in found]
    below = f"step: forked at {FORK_STEP:,}, crashed at {CRASH_STEP:,}, went on after {REWIND_STEP:,}"
    show_curves(console, "train/loss", curves, below=below, ticks=[0, FORK_STEP, REWIND_STEP, CRASH_STEP, LAST_STEP])
    console.print(advice_in_words(project.advice(RUN)), markup=False)
    console.print()


def advice_in_words(advice: Any) -> str:
    """How often to save, and why."""
    if advice is None:
        return "The server has no advice yet on how often to save."
    now_s, steps = advice["current_interval_s"], advice["interval_steps"]
    every = f"every {advice['interval_s']:.1f} s" + (f", or {steps:,} steps" if steps else "")
    return (
        f"How often to save? A save holds this training up for {advice['save_cost_s'] * 1e3:.0f} ms; trainings of this"
        f" project run for\n{advice['mtbf_s']:.0f} s between failures. Best {every}."
        + (f" It saves every {now_s:.1f} s." if now_s else "")
    )
