"""Milliseconds from `log()` until the point is visible over HTTP, on an idle server.

One metric is logged; `POST /series` is asked again and again, without a pause, until the answer holds the
point with its value. The time of the request that found it counts in full.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import thalweg
from loadtests.report import Report
from thalweg.testing import ServerProcess, running_server


def until_visible_ms(server: ServerProcess, run: thalweg.Run, step: int) -> float:
    """Logs one point and waits until it can be read."""
    value = step + 0.25
    body = {"runs": [run.run_id], "metrics": ["train/loss"], "points": None, "from": step, "to": step}
    begin = time.perf_counter()
    run.log({"train/loss": value}, step=step)
    while time.perf_counter() - begin < 60:
        series = server.client.post("/projects/bench/series", body)["series"]
        if series and series[0]["value"] == [value]:
            return (time.perf_counter() - begin) * 1e3
    raise AssertionError(f"step {step} was not visible after 60 s")


def main() -> None:
    """Measures several times against one server and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--points", type=int, default=50)
    options = parser.parse_args()
    report = Report("Freshness on an idle server", (__doc__ or "").strip())
    medians, worst = [], []
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        for _ in range(options.repeats):
            run = thalweg.init(project="bench", url=server.url, spool_dir=Path(folder) / "spool", system_interval_s=0)
            run.log({"train/loss": 0.0}, step=-1)
            assert run.flush(timeout=60)
            took_ms = [until_visible_ms(server, run, step) for step in range(options.points)]
            run.finish()
            medians.append(statistics.median(took_ms))
            worst.append(max(took_ms))
    report.add(f"log() to visible over HTTP, median of {options.points}", "ms", medians, "under 500")
    report.add("log() to visible over HTTP, worst", "ms", worst)
    report.write("freshness")


if __name__ == "__main__":
    main()
