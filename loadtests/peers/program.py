"""Runs in a tracker's environment: `python -m loadtests.peers.program TASK ORDER`, ORDER being JSON.

`measure` logs and tells what it took. `crash` logs a step each 10 ms and is gone with SIGKILL when the last call has
returned. `read` compares what is there after either, in a fresh process. What they find goes to a file in the folder.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtests.peers.data import Checked, check, names, value
from loadtests.peers.files import NeptuneScale, TensorboardX, Wandb
from loadtests.peers.processes import adopt_orphans, cpu_s, let_end
from loadtests.peers.trackers import Aim, Log, Mlflow, MlflowAsync, Thalweg, ThalwegOffline, Tracker, Trackio

TRACKERS: dict[str, Callable[[Path, str], Tracker]] = {
    "thalweg, offline": ThalwegOffline,
    "thalweg, online": Thalweg,
    "wandb": Wandb,
    "neptune-scale": NeptuneScale,
    "tensorboardX": TensorboardX,
    "trackio": Trackio,
    "aim": Aim,
    "mlflow": Mlflow,
    "mlflow, asynchronous": MlflowAsync,
}
WARM_UP = 10
SETTLE_S = 1.0
PACE_S = 0.01
READABLE_MOST_S = 60.0
END_MOST_S = 5.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to log, and where. `steps` counts the calls of the warm-up."""

    peer: str
    folder: str
    width: int
    steps: int
    limit_s: float = 0.0
    url: str = ""
    server_pid: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What it took, after the warm-up. `readable_s`: from the first call until a reader found the last one's points.

    The CPU of that reader is not counted, but for what it costs the server.
    """

    took_ns: list[int]
    loop_cpu_s: float
    finish_cpu_s: float
    readable_s: float | None


def measure(order: Order) -> Measured:
    """Logs until all steps are logged or the time is up."""
    tracker = tracker_of(order)
    log = tracker.start()
    labels = names(order.width)
    log_steps(log, labels, range(WARM_UP), math.inf)
    time.sleep(SETTLE_S)  # what starts in the background has started
    before_s, began_s = cpu_s(order.server_pid), time.perf_counter()
    took_ns, making_s = log_steps(log, labels, range(WARM_UP, order.steps), order.limit_s)
    looped_s = cpu_s(order.server_pid)
    tracker.finish()
    readable_s, reading_s = None, time.process_time()
    if wait_until_readable(tracker, labels[-1], WARM_UP + len(took_ns) - 1):
        readable_s = time.perf_counter() - began_s
    reading_s = time.process_time() - reading_s
    let_end(set(), END_MOST_S)
    finish_s = cpu_s(order.server_pid) - looped_s - reading_s
    return Measured(took_ns, looped_s - before_s - making_s, finish_s, readable_s)


def log_steps(log: Log, labels: list[str], steps: range, limit_s: float) -> tuple[list[int], float]:
    """Nanoseconds of each call, and the CPU seconds in which the values were made."""
    took_ns: list[int] = []
    making_s = 0.0
    ends_at = time.perf_counter() + limit_s
    for step in steps:
        began_s = time.thread_time()
        values = {name: value(step, index) for index, name in enumerate(labels)}
        making_s += time.thread_time() - began_s
        begin = time.perf_counter_ns()
        log(values, step)
        took_ns.append(time.perf_counter_ns() - begin)
        if time.perf_counter() >= ends_at:
            break
    return took_ns, making_s


def wait_until_readable(tracker: Tracker, name: str, step: int) -> bool:
    """False where the tracker cannot be asked. Raises TimeoutError."""
    ends_at = time.monotonic() + READABLE_MOST_S
    while time.monotonic() < ends_at:
        found = tracker.last_step(name)
        if found is None:
            return False
        if found == step:
            return True
    raise TimeoutError(f"step {step} could not be read {READABLE_MOST_S:g} s after it was logged")


def crash(order: Order) -> None:
    """Logs, and does not return."""
    log = tracker_of(order).start()
    labels = names(order.width)
    for step in range(order.steps):
        log({name: value(step, index) for index, name in enumerate(labels)}, step)
        if step + 1 < order.steps:
            time.sleep(PACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def read(order: Order) -> Checked:
    """Compares what is there."""
    tracker = tracker_of(order)
    return check(tracker.rows(), order.width, order.steps, is_single=tracker.is_single)


def tracker_of(order: Order) -> Tracker:
    """The tracker of an order."""
    return TRACKERS[order.peer](Path(order.folder), order.url)


def main() -> None:
    """Carries out one order."""
    adopt_orphans()
    task, order = sys.argv[1], Order(**json.loads(sys.argv[2]))
    if task == "crash":
        crash(order)
    found = measure(order) if task == "measure" else read(order)
    Path(order.folder + ".json").write_text(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
