"""One client of a load, a process of its own: `python -m thalweg.bench.client ORDER`, which is JSON.

It says `{"ready": ...}` on its standard output when its run is there, begins when a line comes in, and ends with a
line that tells what it did.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import thalweg
from thalweg.bench.frames import Frames, Mappings
from thalweg.bench.numbers import quantile

_TIMES_MOST: Final = 1_000_000
_FLUSH_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a client is to do. `steps_per_s` 0: as fast as the server takes it, `backlog_points` ahead of it at most."""

    url: str
    project: str
    spool_dir: str
    metrics: int
    seed: int
    seconds: float
    steps_per_s: float
    backlog_points: int


@dataclass(frozen=True, slots=True)
class Done:
    """What a client did. `acked_points`: when it stopped logging; afterwards all were. `acked_by_tenth`: points
    acknowledged after each tenth of the time.
    """

    run_id: str
    steps: int
    logged_s: float
    acked_points: int
    drained_s: float
    log_p50_us: float
    log_p99_us: float
    max_resident_mb: float
    acked_by_tenth: list[int]


def carry_out(order: Order) -> Done:
    """Logs for the time given, and waits until all is acknowledged. Raises TimeoutError."""
    rows = Mappings(Frames.of(order.metrics, order.seed))
    run = thalweg.init(
        project=order.project, url=order.url, spool_dir=Path(order.spool_dir), system_interval_s=0, tags=["bench"]
    )
    if not run.flush(_FLUSH_S):
        raise TimeoutError(f"the server did not answer within {_FLUSH_S:g} s")
    print(json.dumps({"ready": run.run_id}), flush=True)
    if not sys.stdin.readline():
        raise EOFError("whoever started this client is gone")
    before = run.unacknowledged
    took_ns: list[int] = []
    clock = time.perf_counter_ns
    records_ahead = max(order.backlog_points // order.metrics, 2)
    begin = time.perf_counter()
    step = 0
    acked_by_tenth: list[int] = []
    while (elapsed := time.perf_counter() - begin) < order.seconds:
        if elapsed > (len(acked_by_tenth) + 1) * order.seconds / 10:
            acked_by_tenth.append(_acked(run, before, step) * order.metrics)
        if order.steps_per_s:
            early = step / order.steps_per_s - elapsed
            if early > 0:
                time.sleep(early)
        elif step % 16 == 0 and run.unacknowledged > records_ahead:
            time.sleep(0.002)
            continue
        row = rows[step]
        start = clock()
        run.log(row, step=step)
        if len(took_ns) < _TIMES_MOST:
            took_ns.append(clock() - start)
        step += 1
    logged_s = time.perf_counter() - begin
    acked = _acked(run, before, step)
    if not run.flush(_FLUSH_S):
        raise TimeoutError(f"the server did not acknowledge everything within {_FLUSH_S:g} s")
    drained_s = time.perf_counter() - begin
    took_us = [ns / 1e3 for ns in took_ns]
    done = Done(
        run_id=run.run_id,
        steps=step,
        logged_s=logged_s,
        acked_points=acked * order.metrics,
        drained_s=drained_s,
        log_p50_us=quantile(took_us, 0.5),
        log_p99_us=quantile(took_us, 0.99),
        acked_by_tenth=[*acked_by_tenth, acked * order.metrics],
        max_resident_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    run.finish()
    return done


def _acked(run: thalweg.Run, before: int, steps: int) -> int:
    """How many of the steps are acknowledged. `before`: what was not when they began."""
    return steps - min(run.unacknowledged - before, steps)


if __name__ == "__main__":
    print(json.dumps(asdict(carry_out(Order(**json.loads(sys.argv[1]))))), flush=True)
