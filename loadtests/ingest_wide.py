"""Points a second from `log()` to acknowledged and queryable: one client, 1,000 metrics a step, embedded engine.

Client, sender and server share this machine. The values are noisy float32 numbers, as losses and gradient
norms are. The clock runs from the first `log()` until `flush()` says that the server has committed
everything. Then every series is read back over HTTP as Arrow and compared with what was logged, value by
value.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray

import thalweg
from loadtests.report import Report
from thalweg.testing import ServerProcess, running_server

POOL = 64
"""Different frames; they take turns, so that making them does not count as logging."""


def metric_names(width: int) -> list[str]:
    """Names as a training has them."""
    return [f"train/layer_{index}/grad_norm" for index in range(width)]


def make_pool(width: int) -> NDArray[np.float64]:
    """POOL x width values with the entropy of float32 noise."""
    noise = np.random.default_rng(0).normal(1.0, 0.2, (POOL, width))
    return np.abs(noise).astype(np.float32).astype(np.float64)


def drive(server: ServerProcess, pool: NDArray[np.float64], steps: int, spool_dir: Path) -> tuple[float, float, str]:
    """Logs, waits for the ack, and returns seconds until acked, seconds in the logging loop, and the run."""
    names = metric_names(pool.shape[1])
    frames = [dict(zip(names, row, strict=True)) for row in pool.tolist()]
    run = thalweg.init(project="bench", url=server.url, spool_dir=spool_dir, system_interval_s=0)
    run.log({"warm": 1.0}, step=0)
    assert run.flush(timeout=60)
    begin = time.perf_counter()
    for step in range(steps):
        run.log(frames[step % POOL], step=step)
    logged_s = time.perf_counter() - begin
    assert run.flush(timeout=300), "not everything was acknowledged"
    acked_s = time.perf_counter() - begin
    run.finish()
    return acked_s, logged_s, run.run_id


def verify(server: ServerProcess, run_id: str, pool: NDArray[np.float64], steps: int) -> None:
    """Reads every point back and compares it."""
    names = metric_names(pool.shape[1])
    for start in range(0, len(names), 50):
        chosen = names[start : start + 50]
        answer = server.client.post_for_arrow(
            "/projects/bench/series", {"runs": [run_id], "metrics": chosen, "points": None}
        )
        table = pa.ipc.open_stream(io.BytesIO(answer)).read_all()
        assert table.num_rows == len(chosen) * steps, (table.num_rows, len(chosen) * steps)
        labels = table.column("name").unify_dictionaries().combine_chunks()
        codes, dictionary = labels.indices.to_numpy(), labels.dictionary.to_pylist()
        x, value = table.column("x").to_numpy(), table.column("value").to_numpy()
        for offset, name in enumerate(chosen):
            mine = codes == dictionary.index(name)
            np.testing.assert_array_equal(x[mine], np.arange(steps, dtype=float))
            np.testing.assert_array_equal(value[mine], np.resize(pool[:, start + offset], steps))


def main() -> None:
    """Measures several times against one server and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=1000)
    options = parser.parse_args()
    report = Report("Ingest, wide", (__doc__ or "").strip())
    points = options.steps * options.width
    pool = make_pool(options.width)
    rates, log_us, cpu_us = [], [], []
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        process = psutil.Process(server.process.pid)
        for _ in range(options.repeats):
            before = process.cpu_times()
            acked_s, logged_s, run_id = drive(server, pool, options.steps, Path(folder) / "spool")
            after = process.cpu_times()
            rates.append(points / acked_s)
            log_us.append(logged_s / options.steps * 1e6)
            cpu_us.append((after.user + after.system - before.user - before.system) / points * 1e6)
            verify(server, run_id, pool, options.steps)
            print(f"{points / acked_s:,.0f} points/s, verified", flush=True)
        resident_mb = process.memory_info().rss / 1e6
    report.add("log() to acknowledged and queryable", "points/s", rates, "at least 1,000,000")
    report.add("log() call while everything runs, mean", "us", log_us)
    report.add("server CPU", "us/point", cpu_us)
    report.add("server resident memory at the end", "MB", [resident_mb])
    report.notes.append(f"{points:,} points a run, {options.width} metrics a step; all values verified after each run.")
    report.write("ingest_wide")


if __name__ == "__main__":
    main()
