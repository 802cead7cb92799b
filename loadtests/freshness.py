"""Milliseconds from `log()` until the point is visible over HTTP: on an idle server, and beside a million points/s.

One metric is logged; `POST /series` is asked again and again, without a pause, until the answer holds the
point with its value. The time of the request that found it counts in full. The load beside it is two clients of 1,000
metrics and 500 steps a second each; its points are read back and compared too.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from loadtests.beside import ingest_beside
from loadtests.report import Report
from thalweg.bench.freshness import run_freshness
from thalweg.bench.ingest import IngestLoad
from thalweg.testing import running_server

LOAD = IngestLoad(clients=2, metrics=1000, steps_per_s=500.0)


def main() -> None:
    """Measures several times against one server each and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--points", type=int, default=100)
    options = parser.parse_args()
    report = Report("Freshness", (__doc__ or "").strip())
    for place, under_load in (("idle server", False), ("1,000,000 points/s beside it", True)):
        found, rates = [], []
        with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
            for _ in range(options.repeats):
                if not under_load:
                    found.append(run_freshness(server.url, "bench", options.points))
                    continue
                load = IngestLoad(LOAD.clients, LOAD.metrics, LOAD.steps_per_s, seconds=options.points * 0.35 + 10)
                with ingest_beside(server.url, "load", load) as loading:
                    found.append(run_freshness(server.url, "bench", options.points, every_s=0.25))
                    assert not loading.done(), "the load ended before the last point"
                rates.append(loading.result().points_per_s)
        wanted = ("under 250", "under 1,000") if under_load else ("", "")
        report.add(f"{place}: median of {options.points}", "ms", [one.p50_ms for one in found], wanted[0])
        report.add(f"{place}: p99", "ms", [one.p99_ms for one in found], wanted[1])
        if rates:
            report.add(f"{place}: the load", "points/s", rates)
    report.write("freshness")


if __name__ == "__main__":
    main()
