"""Runs in a peer's environment: `python program.py PEER FOLDER WIDTH CALLS`. Prints one line of JSON.

Knows nothing of Thalweg's packages, but for the peer `thalweg`. The loop is the same for all: a mapping of fresh floats
each call, one call a step; calls are timed one by one. CPU is that of this process and of the children it waited for,
from before the first call until the tracker says that it is done.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

Log = Callable[[dict[str, float], int], object]
Done = Callable[[], object]


def thalweg(folder: Path) -> tuple[Log, Done]:
    """Offline, as wandb and neptune-scale are here."""
    import thalweg as library

    run = library.init(project="peers", mode="offline", spool_dir=folder, system_interval_s=0)
    return lambda values, step: run.log(values, step=step), run.finish


def wandb(folder: Path) -> tuple[Log, Done]:
    """Offline."""
    import wandb as library

    quiet = library.Settings(console="off", silent=True, x_disable_stats=True)
    run = library.init(project="peers", mode="offline", dir=str(folder), settings=quiet)
    return lambda values, step: run.log(values, step=step), run.finish


def neptune_scale(folder: Path) -> tuple[Log, Done]:
    """Offline."""
    os.environ["NEPTUNE_LOG_DIR"] = str(folder)
    from neptune_scale import Run

    run = Run(mode="offline", project="a/b", experiment_name="peers", log_directory=str(folder))
    return lambda values, step: run.log_metrics(data=values, step=step), run.close


def trackio(folder: Path) -> tuple[Log, Done]:
    """Into its own database on this machine."""
    os.environ["TRACKIO_DIR"] = str(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import trackio as library

    library.init(project="peers", name="run", embed=False)
    return lambda values, step: library.log(values, step=step), library.finish


def aim(folder: Path) -> tuple[Log, Done]:
    """Into a repository on this machine."""
    from aim import Run

    run = Run(repo=str(folder), system_tracking_interval=None, log_system_params=False)
    return lambda values, step: run.track(values, step=step), run.close


def tensorboardx(folder: Path) -> tuple[Log, Done]:
    """Into event files; it takes one value a call."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))

    def log(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


def mlflow(folder: Path, *, synchronous: bool) -> tuple[Log, Done]:
    """To its own server, whose address is in MLFLOW_TRACKING_URI."""
    import mlflow as library

    library.set_experiment("peers")
    run = library.start_run()

    def log(values: dict[str, float], step: int) -> None:
        library.log_metrics(values, step=step, synchronous=synchronous)

    def done() -> None:
        library.flush_async_logging()
        library.end_run()

    assert run is not None, folder
    return log, done


PEERS: dict[str, Callable[[Path], tuple[Log, Done]]] = {
    "thalweg": thalweg,
    "wandb": wandb,
    "neptune-scale": neptune_scale,
    "trackio": trackio,
    "aim": aim,
    "tensorboardX": tensorboardx,
    "mlflow": lambda folder: mlflow(folder, synchronous=True),
    "mlflow-async": lambda folder: mlflow(folder, synchronous=False),
}


def cpu_s() -> float:
    """Of this process and its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Logs, and tells what it took."""
    peer, folder, width, calls = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    log, done = PEERS[peer](folder)
    names = [f"train/layer_{index}/grad_norm" for index in range(width)]
    took_ns = []
    before_s, began_s = cpu_s(), time.perf_counter()
    for step in range(calls):
        values = {name: step + 0.37 * index for index, name in enumerate(names)}
        begin = time.perf_counter_ns()
        log(values, step)
        took_ns.append(time.perf_counter_ns() - begin)
    done()
    lasted_s, used_s = time.perf_counter() - began_s, cpu_s() - before_s
    took_us = sorted(ns / 1e3 for ns in took_ns)
    points = width * calls
    print(
        "\n"
        + json.dumps(
            {
                "p50_us": took_us[len(took_us) // 2],
                "p99_us": took_us[int(0.99 * len(took_us))],
                "cpu_us_per_point": used_s / points * 1e6,
                "points_per_s": points / lasted_s,
            }
        )
    )


if __name__ == "__main__":
    main()
