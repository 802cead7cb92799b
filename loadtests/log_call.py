"""What one `run.log()` costs the training thread: 1, 10, 100 and 1,000 metrics.

Offline mode, so that nothing but the call is measured; the spool is a real folder, and every frame is
read back from it and compared afterwards.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import tempfile
import time
from pathlib import Path

import thalweg
from loadtests.report import Report
from thalweg.spool import layout
from thalweg.spool.reader import SpoolReader
from thalweg.spool.records import FRAME, read_frame

WIDTHS = (1, 10, 100, 1000)
WANTED_US = {10: 6, 100: 16, 1000: 120}


def measure(width: int, calls: int, spool_dir: Path) -> list[float]:
    """Microseconds of each call, in order. Verifies the spool."""
    names = [f"train/layer_{index}/grad_norm" for index in range(width)]
    run = thalweg.init(project="bench", mode="offline", spool_dir=spool_dir, system_interval_s=0)
    took_ns = []
    clock = time.perf_counter_ns
    for step in range(calls):
        values = {name: step + 0.37 * index for index, name in enumerate(names)}
        begin = clock()
        run.log(values, step=step)
        took_ns.append(clock() - begin)
    run.finish()
    verify(spool_dir, width, calls)
    return [ns / 1e3 for ns in took_ns]


def verify(spool_dir: Path, width: int, calls: int) -> None:
    """Every value of every frame is in the spool."""
    (folder,) = layout.writer_folders(spool_dir)
    reader = SpoolReader(folder, lambda damage: (_ for _ in ()).throw(AssertionError(damage)))
    step = 0
    while (record := reader.advance(writer_ended=True)) is not None:
        if record.header.kind == FRAME:
            frame = read_frame(record.view, record.at)
            assert frame.step == step, (frame.step, step)
            wanted = tuple(step + 0.37 * index for index in range(width))
            assert struct.unpack(f"<{width}d", frame.values) == wanted, step
            frame.values.release()
            step += 1
    assert step == calls, (step, calls)


def main() -> None:
    """Measures each width several times and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--calls", type=int, default=5000)
    options = parser.parse_args()
    report = Report("Cost of one log() call", (__doc__ or "").strip())
    for width in WIDTHS:
        medians, tails, ratios = [], [], []
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory() as folder:
                took_us = sorted(measure(width, options.calls, Path(folder)))
            medians.append(statistics.median(took_us))
            tails.append(took_us[int(0.99 * len(took_us))])
            ratios.append(tails[-1] / medians[-1])
        wanted = f"under {WANTED_US[width]}" if width in WANTED_US else ""
        report.add(f"{width} metrics, median of {options.calls} calls", "us", medians, wanted)
        report.add(f"{width} metrics, p99", "us", tails)
        report.add(f"{width} metrics, p99 / median", "", ratios, "under 10")
    report.write("log_call")


if __name__ == "__main__":
    main()
