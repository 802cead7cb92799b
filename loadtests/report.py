"""Reports of measurements: medians with spread, the command and the machine, as Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

REPORTS = Path(__file__).parent / "reports"
_WANTED = re.compile(r"(under|at most|at least) ([\d,.]*\d)")
_RUNS_TO_COMPARE = 3
PACKAGES = ("thalweg", "chdb", "clickhouse-driver", "grpcio", "protobuf", "numpy", "pyarrow")


_MET = {True: "yes", False: "**no**", None: ""}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity over several runs."""

    name: str
    unit: str
    values: list[float]
    wanted: str = ""

    @property
    def median(self) -> float:
        """The middle of the runs."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool | None:
        """Whether the median is as it is wanted; None where no number is."""
        found = _WANTED.match(self.wanted)
        if not found:
            return None
        bound = float(found[2].replace(",", ""))
        return {"under": self.median < bound, "at most": self.median <= bound, "at least": self.median >= bound}[
            found[1]
        ]

    def row(self, before: Figure | None) -> str:
        """A line of the Markdown table. `before`: the same in the last report."""
        low, high = min(self.values), max(self.values)
        last = f"{before.median:,.4g}" if before else ""
        return (
            f"| {self.name} | **{self.median:,.4g}** | {low:,.4g} to {high:,.4g} | {self.unit} | {len(self.values)} "
            f"| {self.wanted} | {_MET[self.is_met]} | {last} |"
        )

    def has_moved(self, before: Figure) -> bool:
        """Whether no run of one lies within the runs of the other, and the medians differ by a tenth. Of fewer than
        three runs nobody knows how far they spread.
        """
        if min(len(self.values), len(before.values)) < _RUNS_TO_COMPARE:
            return False
        apart = min(self.values) > max(before.values) or max(self.values) < min(before.values)
        return apart and abs(self.median - before.median) > 0.1 * abs(before.median)


@dataclass(slots=True)
class Report:
    """Figures of one script."""

    title: str
    what: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, unit: str, values: Sequence[float], wanted: str = "") -> None:
        """Adds a figure and prints it."""
        figure = Figure(name, unit, list(values), wanted)
        self.figures.append(figure)
        print(
            f"{name}: {figure.median:,.4g} {unit} (min {min(values):,.4g}, max {max(values):,.4g}) {wanted}", flush=True
        )

    def write(self, name: str) -> None:
        """Writes reports/<name>.md and .json."""
        command = "python -m loadtests." + name + "".join(f" {argument}" for argument in sys.argv[1:])
        machine = describe_machine()
        last = read_committed(name)
        before = {figure["name"]: Figure(**figure) for figure in last.get("figures", [])}
        self._tell(before, last.get("machine", {}).get("python_loop_ms"), machine["python_loop_ms"])
        lines = [
            f"# {self.title}",
            "",
            self.what,
            "",
            f"Command: `{command}`, {datetime.now(timezone.utc):%Y-%m-%d}",
            "",
            "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()),
            "",
            "| what | median | min to max | unit | runs | wanted | met | in the report before |",
            "|---|---|---|---|---|---|---|---|",
            *(figure.row(before.get(figure.name)) for figure in self.figures),
            "",
            *(f"* {note}" for note in self.notes),
        ]
        REPORTS.mkdir(exist_ok=True)
        (REPORTS / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")
        document = {"command": command, "machine": machine, "figures": [asdict(figure) for figure in self.figures]}
        (REPORTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")

    def _tell(self, before: dict[str, Figure], loop_ms_before: float | None, loop_ms: float) -> None:
        """Prints what has moved since the last report, and what is not as it is wanted."""
        moved = [figure for figure in self.figures if figure.name in before and figure.has_moved(before[figure.name])]
        if moved:
            print(f"moved, while a loop in Python took {loop_ms_before} ms then and {loop_ms} ms now:", flush=True)
        for figure in moved:
            print(
                f"  {figure.name}: {before[figure.name].median:,.4g} to {figure.median:,.4g} {figure.unit}", flush=True
            )
        for figure in self.figures:
            if figure.is_met is False:
                print(f"not met: {figure.name}: {figure.median:,.4g} {figure.unit}, wanted {figure.wanted}", flush=True)


def read_committed(name: str) -> dict[str, Any]:
    """The report of this name that was committed last; empty if there is none."""
    git = shutil.which("git")
    if git is None:
        return {}
    done = subprocess.run(  # git, with fixed words
        [git, "show", f"HEAD:./{name}.json"], cwd=REPORTS, capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def describe_machine() -> dict[str, Any]:
    """Processor, memory, system and versions; and how fast it is just now."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "python_loop_ms": python_loop_ms(),
        **{package: version(package) for package in PACKAGES},
    }


def python_loop_ms() -> float:
    """Milliseconds for a million additions in Python, best of five: it tells how fast a machine is at that time."""
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        total = 0
        for number in range(1_000_000):
            total += number
        took.append(time.perf_counter() - begin)
    return round(min(took) * 1e3, 1)
