"""Ingest at half speed, people who look, and forks, all at once on a server of their own. `make loadtest`.

Two clients with the SDK log 1,000 metrics and 750 steps a second each: 1,500,000 points/s. Beside them locust has 50
dashboard users, each at a page that refreshes itself every 5 to 10 seconds, two more who follow the newest runs live,
and one who makes a fork every second, logs to it and reads that back. Half of those who look see the two runs of the
clients, half the newest forks. Clients, their senders, locust and the server share this machine. At the end all that
was logged is read back and compared, value by value. Response times are those that locust keeps, of two digits. Ends
with exit status 1 if anything failed: a request, an answer, an acknowledgement, a point that is not as it was logged.
All listens on loopback only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtests.beside import ingest_beside
from loadtests.report import Report
from loadtests.usage import peak_mib, resident_mib
from thalweg.bench.ingest import LOADS, IngestLoad, IngestResult
from thalweg.bench.numbers import quantile
from thalweg.testing import ServerProcess, running_server

WIDE, FORKS = "mixed", "mixed-forks"
HALF_SPEED: Final = 750.0
LISTENERS: Final = 2
RAMP_S: Final = 8.0
"""Clients log for so much longer than locust asks, which begins a moment after them and brings its users by and by."""
LATE_MS: Final = 500.0
QUESTIONS: Final = (
    "run list",
    "run table by last value",
    "one run",
    "metric names",
    "many metrics of one run",
    "one metric of the newest runs",
    "expression",
    "custom metric",
)
"""What dashboards ask, each one request. Beside it locust tells of more."""


@dataclass(frozen=True, slots=True)
class Told:
    """What locust says of all requests of a name: how many, how many failed, and how long they took."""

    name: str
    requests: int
    failures: int
    took_ms: list[float]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Told:
        """From an entry of its statistics."""
        took_ms = [float(ms) for ms, count in entry["response_times"].items() for _ in range(count)]
        return cls(entry["name"], entry["num_requests"], entry["num_failures"], took_ms)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a round."""

    ingest: IngestResult
    told: list[Told]
    locust_status: int
    peak_mib: float
    end_mib: float


def measure(options: argparse.Namespace) -> Outcome:
    """One round on a new server."""
    load = IngestLoad(
        clients=2, metrics=LOADS["wide"].metrics, steps_per_s=options.steps_per_s, seconds=options.seconds + RAMP_S
    )
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        with ingest_beside(server.url, WIDE, load) as logging:
            status = _run_locust(server, Path(folder) / "told", options)
        told = [Told.of(entry) for entry in json.loads((Path(folder) / "told.json").read_text())]
        return Outcome(logging.result(), told, status, peak_mib(server), resident_mib(server))


def _run_locust(server: ServerProcess, told: Path, options: argparse.Namespace) -> int:
    """Its exit status; what it says of requests lies in `told`.json."""
    users = {"DashboardUser": options.users, "LiveUser": LISTENERS, "ForkUser": 1}
    counts = json.dumps([{"user_class_name": name, "fixed_count": count} for name, count in users.items()])
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")), *users]
    command += ["--headless", "--only-summary", "--host", server.url, "--metrics", "100"]
    command += ["--project", FORKS, "--look-at", f"{WIDE},{FORKS}"]
    command += ["-u", str(sum(users.values())), "-r", "10", "-t", f"{options.seconds:.0f}s"]
    command += ["--json-file", str(told), "--exit-code-on-error", "1", "--config-users", counts]
    status = subprocess.run(command, check=False).returncode
    if not told.with_suffix(".json").exists():
        raise RuntimeError(f"locust ended with exit status {status} before its time; see its messages")
    return status


def tell(report: Report, outcomes: list[Outcome], options: argparse.Namespace) -> bool:
    """The figures of all rounds. Whether nothing failed, and all was asked."""
    offered = 2 * LOADS["wide"].metrics * options.steps_per_s
    rates = [one.ingest.points_per_s for one in outcomes]
    logged = [one.ingest.points / one.ingest.load.seconds for one in outcomes]
    report.add("logged by the clients", "points/s", logged, f"{offered:,.0f}, where they get the time")
    report.add("acknowledged meanwhile", "points/s", rates)
    report.add("acknowledged after the end of the logging", "s", [one.ingest.drained_s for one in outcomes])
    every = [[ms for name in QUESTIONS for ms in _took_ms(one, name)] for one in outcomes]
    report.add("all questions: p95", "ms", [quantile(some, 0.95) for some in every], "under 1,000")
    report.add("all questions", "answers/s", [len(some) / options.seconds for some in every])
    told = {told.name for one in outcomes for told in one.told}
    for name in [*QUESTIONS, *sorted(told - {*QUESTIONS})]:
        some = [_took_ms(one, name) for one in outcomes]
        if all(some):
            for share in (0.5, 0.95, 0.99):
                report.add(f"{name}: p{share * 100:.0f}", "ms", [quantile(ms, share) for ms in some])
    forks = [len(_took_ms(one, "fork")) for one in outcomes]
    late = [sum(ms > LATE_MS for ms in _took_ms(one, "fork begins late")) for one in outcomes]
    report.add("forks made", "forks", forks, f"about {options.seconds:.0f}, one a second")
    report.add(f"forks that came more than {LATE_MS:.0f} ms late", "forks", late)
    failures = [sum(told.failures for told in one.told) for one in outcomes]
    report.add("failures", "", failures, "at most 0")
    report.add("server resident memory, peak", "MiB", [one.peak_mib for one in outcomes], "under 1,536")
    report.add("server resident memory at the end", "MiB", [one.end_mib for one in outcomes])
    points = sum(one.ingest.points for one in outcomes)
    report.notes.append(f"{points:,} points of the clients, and all of the forks, were read back and compared.")
    absent = [
        name for name in (*QUESTIONS, "live", "live point", "fork") if any(not _took_ms(one, name) for one in outcomes)
    ]
    if absent:
        print(f"never asked in some round: {', '.join(absent)}", flush=True)
    return not absent and not any(failures) and not any(one.locust_status for one in outcomes)


def _took_ms(outcome: Outcome, name: str) -> list[float]:
    return [ms for told in outcome.told if told.name == name for ms in told.took_ms]


def main() -> None:
    """Measures, and writes the report, unless the load is another one than that of the reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--users", type=int, default=50, help="of dashboards")
    parser.add_argument("--steps-per-s", type=float, default=HALF_SPEED, help="of each of the two clients that log")
    options = parser.parse_args()
    report = Report("Mixed load", (__doc__ or "").strip())
    is_good = tell(report, [measure(options) for _ in range(options.rounds)], options)
    given = (options.seconds, options.users, options.steps_per_s)
    if given == tuple(parser.get_default(name) for name in ("seconds", "users", "steps_per_s")):
        report.write("mixed")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
