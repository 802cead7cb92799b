"""Points a second from `log()` to acknowledged and queryable, by load; beside it what the engine alone takes.

Clients, their senders and the server share this machine; each client is a process with the SDK. Every load has a
server and a database of its own. `wide`: 2 clients, 1,000 metrics a step, as fast as they are taken. `very-wide`: 1
client, 100,000 metrics. `single`: 1 client, 1 metric. `narrow`: 500 writers, 10 metrics, 10 steps a second each,
multiplexed over a few connections. Rates are of what was acknowledged while clients were logging. All points are
read back over HTTP and compared, value by value. `raw engine`: the same rows as `wide` inserted by two threads into
the same schema, with nothing around it.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
from pathlib import Path

from loadtests.raw_engine import raw_rows_per_second
from loadtests.report import Report
from loadtests.usage import cpu_s, peak_mib
from thalweg.bench.ingest import LOADS, IngestLoad, run_ingest
from thalweg.bench.streams import StreamsLoad, run_streams
from thalweg.testing import running_server

WANTED = {"wide": "at least 2,000,000", "very-wide": "at least 1,000,000"}


class Figures:
    """Values by name and unit, over several rounds."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], list[float]] = {}

    def add(self, name: str, unit: str, value: float, wanted: str = "") -> None:
        """One value."""
        self._values.setdefault((name, unit, wanted), []).append(value)
        print(f"  {name}: {value:,.4g} {unit}", flush=True)

    def of(self, name: str) -> list[float]:
        """The values of a name."""
        return [value for (one, _, _), some in self._values.items() if one == name for value in some]

    def tell(self, report: Report) -> None:
        """All of them."""
        for (name, unit, wanted), values in self._values.items():
            report.add(name, unit, values, wanted)


def measure_ingest(figures: Figures, name: str, load: IngestLoad) -> None:
    """One of the loads of the SDK."""
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        used_s = cpu_s(server.process.pid)
        result = run_ingest(server.url, "bench", load)
        used_s = cpu_s(server.process.pid) - used_s
        figures.add(f"{name}: acknowledged", "points/s", result.points_per_s, WANTED.get(name, ""))
        figures.add(f"{name}: log(), median", "us", result.log_p50_us, "under 5" if name == "single" else "")
        figures.add(f"{name}: server CPU, with reading back", "us/point", used_s / result.points * 1e6)
        figures.add(f"{name}: server memory, peak, with reading back", "MiB", peak_mib(server), "under 1,536")


def measure_streams(figures: Figures, load: StreamsLoad) -> None:
    """The narrow load."""
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        result = run_streams(server.url, "bench", load)
        offered = load.writers * load.metrics * load.steps_per_s
        figures.add("narrow: acknowledged", "points/s", result.points_per_s, f"at least {0.99 * offered:,.0f}")
        figures.add("narrow: made to queryable, median", "ms", result.visible_p50_ms)
        figures.add("narrow: made to queryable, p99", "ms", result.visible_p99_ms, "under 1,500")
        figures.add("narrow: frames made late, p99", "ms", result.late_p99_ms)
        figures.add("narrow: server memory, peak, with reading back", "MiB", peak_mib(server), "under 1,536")


def main() -> None:
    """Measures load after load, round by round, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--only", default="", help="regex: loads to measure, by their names, `narrow` and `raw engine`")
    options = parser.parse_args()
    figures = Figures()
    for _ in range(options.rounds):
        for name, load in LOADS.items():
            if re.search(options.only, name):
                load = IngestLoad(load.clients, load.metrics, load.steps_per_s, options.seconds, load.backlog_points)
                measure_ingest(figures, name, load)
            if name == "wide" and re.search(options.only, "raw engine"):  # at once: a machine is slower at times
                with tempfile.TemporaryDirectory() as folder:
                    rate = raw_rows_per_second(Path(folder) / "data", load.metrics, options.seconds)
                figures.add("raw engine", "rows/s", rate)
        if re.search(options.only, "narrow"):
            measure_streams(figures, StreamsLoad(seconds=options.seconds))
    report = Report("Ingest", (__doc__ or "").strip())
    figures.tell(report)
    wide, raw = figures.of("wide: acknowledged"), figures.of("raw engine")
    if wide and raw:
        ratio = [one / other for one, other in zip(wide, raw, strict=True)]
        report.add("wide, ratio to the raw engine", "", ratio, "at least 0.5")
        report.notes.append(f"Median of wide / raw engine: {statistics.median(ratio):.2f}.")
    if options.only:
        print("a part of the loads: no report is written")
    else:
        report.write("ingest")


if __name__ == "__main__":
    main()
