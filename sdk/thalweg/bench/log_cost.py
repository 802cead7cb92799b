"""What one `log()` costs the training thread."""

from __future__ import annotations

import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import thalweg
from thalweg.bench.numbers import quantile
from thalweg.bench.read_back import WrongDataError
from thalweg.spool import layout
from thalweg.spool.reader import Damage, SpoolReader
from thalweg.spool.records import FRAME, read_frame


@dataclass(frozen=True, slots=True)
class LogCost:
    """Microseconds a call."""

    metrics: int
    calls: int
    p50_us: float
    p99_us: float


def measure_log(metrics: int, calls: int) -> LogCost:
    """Logs offline, into a spool of its own, and compares what lies there. Raises WrongDataError."""
    names = [f"train/layer_{index}/grad_norm" for index in range(metrics)]
    took_ns = []
    clock = time.perf_counter_ns
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-") as text:
        run = thalweg.init(project="bench", mode="offline", spool_dir=Path(text), system_interval_s=0)
        for step in range(calls):
            values = {name: step + 0.37 * index for index, name in enumerate(names)}
            begin = clock()
            run.log(values, step=step)
            took_ns.append(clock() - begin)
        run.finish()
        _verify(Path(text), metrics, calls)
    took_us = [ns / 1e3 for ns in took_ns]
    return LogCost(metrics, calls, quantile(took_us, 0.5), quantile(took_us, 0.99))


def _verify(spool_dir: Path, metrics: int, calls: int) -> None:
    """Every value of every frame is in the spool."""
    (folder,) = layout.writer_folders(spool_dir)
    reader = SpoolReader(folder, _refuse)
    step = 0
    while (record := reader.advance(writer_ended=True)) is not None:
        if record.header.kind == FRAME:
            frame = read_frame(record.view, record.at)
            wanted = tuple(step + 0.37 * index for index in range(metrics))
            if frame.step != step or struct.unpack(f"<{metrics}d", frame.values) != wanted:
                raise WrongDataError(f"the frame at step {step} is not the one that was logged")
            frame.values.release()
            step += 1
    if step != calls:
        raise WrongDataError(f"{step} frames are in the spool, and {calls} were logged")


def _refuse(damage: Damage) -> None:
    raise WrongDataError(f"the spool is damaged: {damage}")
