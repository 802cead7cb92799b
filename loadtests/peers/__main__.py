"""What one `log()` costs with other trackers and with Thalweg, what they keep, and how soon one can read it.

Each package has a virtual environment of its own below `.peers/`, made when it is missing; one that cannot be installed
or run is left out, with a word. All get the same loop: fresh numbers for 10, 100 or 1,000 metrics, one call a step, as
fast as they go, 1,000 calls (5,000 with 10 metrics), after 10 calls and a second of quiet. Whoever takes longer than
the limit of 5 s logs less, and `mlflow, asynchronous` queues 10,000 points, since its server then needs up to a minute
for them; both are noted. wandb, neptune-scale and `thalweg, offline` are offline; tensorboardX, trackio and aim write
to this machine's disk; mlflow and `thalweg, online` log to a server of their own on this machine.

CPU is that of the process, of all that it starts and of its server: of the loop without making the numbers, and of
finishing, until all processes that the tracker started have ended. `until readable`: from the first call until the run
is finished and a query finds the last point. Afterwards a fresh process reads every point back and compares it: what is
lost or wrong fails the figure. `after SIGKILL`: a process logs a step of 100 metrics each 10 ms and kills itself when
the last call has returned; what it had started may go on for 20 s; then all is read as above, and `thalweg sync` has
sent what was logged offline. `times thalweg`: the cheapest other tracker's figure divided by Thalweg's, round by round.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from loadtests.peers.environments import environment, version
from loadtests.peers.findings import OWN, SERVED, Findings
from loadtests.peers.processes import adopt_orphans, last_line
from loadtests.peers.program import TRACKERS
from loadtests.peers.running import PeerError, Site, site
from loadtests.report import Report

POINTS = 50_000
"""Of a loop at least, where the limit allows."""
QUEUE_POINTS = 10_000
CRASH_WIDTH = 100


def main() -> None:
    """Measures every tracker that runs here, round by round, and writes the report."""
    options = parse()
    adopt_orphans()
    findings = Findings(options.rounds)
    pythons = find_pythons((peer for peer in TRACKERS if re.search(options.only, peer)), findings, options.newest)
    for number in range(options.rounds):
        for peer, python in pythons.items():
            print(f"round {number + 1}: {peer}", flush=True)
            try:
                with site(peer, python) as place:
                    measure(findings, place, options.widths, options.calls, options.limit)
                    if options.crash_steps:
                        crash(findings, place, options.crash_steps)
            except PeerError as error:
                findings.note(f"{peer} could not be measured: {error}.")
    report = Report("Beside other trackers", (__doc__ or "").strip())
    findings.tell(report)
    findings.compare(report, options.widths)
    report.notes += findings.notes
    report.write("peers")


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="regex: trackers to measure")
    parser.add_argument("--widths", type=int, nargs="+", default=[10, 100, 1000], help="metrics of a call")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=5.0, help="seconds of a loop, after which it stops")
    parser.add_argument("--crash-steps", type=int, default=200, help="steps before SIGKILL; 0: nothing is killed")
    parser.add_argument("--newest", action="store_true", help="bring the trackers to their newest releases first")
    return parser.parse_args()


def find_pythons(peers: Iterable[str], findings: Findings, newest: bool) -> dict[str, Path]:
    """The interpreters of the trackers that can be installed here, with a note of their versions."""
    pythons: dict[str, Path] = {}
    versions: dict[str, str] = {}
    for peer in peers:
        package = peer.partition(",")[0]
        try:
            is_new = newest and package not in versions
            python = Path(sys.executable) if peer in OWN else environment(package, newest=is_new)
        except (subprocess.SubprocessError, OSError) as error:
            findings.note(f"{package} could not be installed: {last_line(getattr(error, 'stderr', '') or str(error))}.")
            continue
        pythons[peer] = python
        versions[package] = version(python, package)
    findings.note("Versions: " + ", ".join(f"{package} {text}" for package, text in versions.items()) + ".")
    return pythons


def measure(findings: Findings, place: Site, widths: list[int], calls: int, limit_s: float) -> None:
    """The loop at each width."""
    for width in widths:
        title = f"{place.peer}, {width:,} metrics"
        full = max(calls, POINTS // width)
        wanted = min(full, max(QUEUE_POINTS // width, 10)) if place.peer == SERVED[1] else full
        try:
            found = place.measure(width, wanted, limit_s)
        except PeerError as error:
            findings.note(f"{title} failed: {error}.")
            continue
        findings.add_loop(title, found, width)
        if len(found.took_ns) < full:
            findings.note(f"{title}: {len(found.took_ns):,} calls, not {full:,}.")


def crash(findings: Findings, place: Site, steps: int) -> None:
    """What is left of a run whose process was killed."""
    title = f"{place.peer}, after SIGKILL"
    try:
        found, lingering = place.crash(CRASH_WIDTH, steps)
    except PeerError as error:
        findings.note(f"{title}: not readable: {error}.")
        return
    findings.add(f"{title}: points recovered", "%", 100 * found.right / (CRASH_WIDTH * steps))
    if found.wrong:
        findings.note(f"{title}: {found.wrong:,} points are there that were not logged so.")
    if lingering:
        findings.note(f"{title}: {lingering} of its processes were still there after 20 s, and were killed.")


if __name__ == "__main__":
    main()
