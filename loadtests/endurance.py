"""What lasts: a long run, and more than the server takes.

`long`: one client, one run of 1,000 metrics, as fast as it is taken: points/s and memory of the server in each tenth of
the time. `overload`: three clients log as fast as they can for the time given, whatever the server takes; four users
ask it meanwhile, who rest a second between two questions; then it is quiet until all is acknowledged. All points are
read back and compared, value by value. The rate at which the clients log is told beside the one that is acknowledged:
it is what they reach on this machine, which they share with the server.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests.beside import ingest_beside
from loadtests.report import Report
from loadtests.usage import peak_mib, resident_each_second
from thalweg.bench.ingest import IngestLoad, run_ingest
from thalweg.bench.queries import NothingThereError, find_subject, run_queries
from thalweg.testing import ServerProcess, running_server

_NO_BOUND = 1 << 62
_USERS = 4
_THINK_S = 1.0


def measure_long(report: Report, seconds: float) -> None:
    """One run that grows and grows."""
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        load = IngestLoad(clients=1, metrics=1000, seconds=seconds)
        with resident_each_second(server) as resident:
            result = run_ingest(server.url, "bench", load)
        held = [statistics.median(resident[int(at * seconds / 10) :][: int(seconds / 10)]) for at in range(10)]
        report.add("long: points", "", [result.points])
        report.add("long: acknowledged", "points/s", [result.points_per_s])
        report.add("long: last three tenths to the first three", "", [_last_to_first(result.by_tenth)], "at least 0.9")
        report.add("long: server memory, peak, with reading back", "MiB", [peak_mib(server)], "under 1,536")
        report.add("long: server memory, last three tenths to the first three", "", [_last_to_first(held)], "under 1.2")
        rates = ", ".join(f"{rate / 1e6:.2f}" for rate in result.by_tenth)
        report.notes.append(f"long: million points/s in each tenth of the time: {rates}.")
        report.notes.append(f"long: MiB resident, median of each tenth: {', '.join(f'{one:,.0f}' for one in held)}.")


def _last_to_first(tenths: Sequence[float]) -> float:
    return sum(tenths[-3:]) / sum(tenths[:3])


def measure_overload(report: Report, seconds: float) -> None:
    """More than is taken, with queries beside it."""
    load = IngestLoad(clients=3, metrics=1000, seconds=seconds, backlog_points=_NO_BOUND)
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        with ingest_beside(server.url, "bench", load) as loading:
            _wait_for_metrics(server, "bench")
            asked = run_queries(server.client, "bench", _USERS, seconds - 5, _THINK_S)
            assert not loading.done(), "the load ended before the questions"
        result = loading.result()
        logged = result.points / seconds
        report.add("overload: logged", "points/s", [logged])
        report.add("overload: acknowledged meanwhile", "points/s", [result.points_per_s])
        report.add("overload: logged to acknowledged", "", [logged / result.points_per_s], "at least 3")
        report.add("overload: quiet until all was acknowledged", "s", [result.drained_s])
        report.add("overload: server memory, peak", "MiB", [peak_mib(server)], "under 1,536")
        report.add("overload: log(), median", "us", [result.log_p50_us])
        report.add("overload: all questions, p95", "ms", [asked.p95_ms], "under 1,000")
        for one in asked.questions:
            report.add(f"overload: {one.name}, median", "ms", [one.p50_ms])
            report.add(f"overload: {one.name}, p95", "ms", [one.p95_ms])
        report.notes.append(
            f"overload: {sum(one.answers for one in asked.questions)} answers, each kind a part of them."
        )
        assert not asked.errors, asked.first_error


def _wait_for_metrics(server: ServerProcess, project: str) -> None:
    """Until there is something to ask for."""
    deadline = time.monotonic() + 60
    while True:
        try:
            find_subject(server.client, project)
        except NothingThereError:
            assert time.monotonic() < deadline, "the load's first points did not become visible"
            time.sleep(0.1)
        else:
            return


def main() -> None:
    """Measures both, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long-seconds", type=float, default=600)
    parser.add_argument("--overload-seconds", type=float, default=60)
    options = parser.parse_args()
    report = Report("Long and overloaded", (__doc__ or "").strip())
    measure_long(report, options.long_seconds)
    measure_overload(report, options.overload_seconds)
    report.write("endurance")


if __name__ == "__main__":
    main()
