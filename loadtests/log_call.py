"""What one `run.log()` costs the training thread: 1, 10, 100 and 1,000 metrics.

Offline mode, so that nothing but the call is measured; the spool is a real folder, and every frame is
read back from it and compared afterwards. Each call has a mapping of its own with numbers of its own.
"""

from __future__ import annotations

import argparse

from loadtests.report import Report
from thalweg.bench.log_cost import measure_log

WIDTHS = (1, 10, 100, 1000)
WANTED_US = {1: 5, 10: 4, 100: 12, 1000: 90}


def main() -> None:
    """Measures each width several times and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--calls", type=int, default=5000)
    options = parser.parse_args()
    report = Report("Cost of one log() call", (__doc__ or "").strip())
    for width in WIDTHS:
        found = [measure_log(width, options.calls) for _ in range(options.repeats)]
        medians, tails = [one.p50_us for one in found], [one.p99_us for one in found]
        report.add(f"{width} metrics, median of {options.calls} calls", "us", medians, f"under {WANTED_US[width]}")
        report.add(f"{width} metrics, p99", "us", tails)
        ratios = [one.p99_us / one.p50_us for one in found]
        report.add(f"{width} metrics, p99 / median", "", ratios, "under 10")
    report.write("log_call")


if __name__ == "__main__":
    main()
