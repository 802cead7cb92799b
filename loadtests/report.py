"""Reports of measurements: medians with spread, the command and the machine, as Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
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
PACKAGES = ("thalweg", "chdb", "clickhouse-driver", "grpcio", "protobuf", "numpy", "pyarrow")


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

    def row(self, before: Figure | None) -> str:
        """A line of the Markdown table. `before`: the same in the last report."""
        low, high = min(self.values), max(self.values)
        last = f"{before.median:,.4g}" if before else ""
        return (
            f"| {self.name} | **{self.median:,.4g}** | {low:,.4g} to {high:,.4g} | {self.unit} | {len(self.values)} "
            f"| {self.wanted} | {last} |"
        )

    def has_moved(self, before: Figure) -> bool:
        """Whether no run of one lies within the runs of the other, and the medians differ by a tenth."""
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
        before = read_figures(name)
        moved = [figure for figure in self.figures if figure.name in before and figure.has_moved(before[figure.name])]
        for figure in moved:
            was = before[figure.name].median
            print(f"moved: {figure.name}: {was:,.4g} to {figure.median:,.4g} {figure.unit}", flush=True)
        lines = [
            f"# {self.title}",
            "",
            self.what,
            "",
            f"Command: `{command}`, {datetime.now(timezone.utc):%Y-%m-%d}",
            "",
            "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()),
            "",
            "| what | median | min to max | unit | runs | wanted | in the report before |",
            "|---|---|---|---|---|---|---|",
            *(figure.row(before.get(figure.name)) for figure in self.figures),
            "",
            *(f"* {note}" for note in self.notes),
        ]
        REPORTS.mkdir(exist_ok=True)
        (REPORTS / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")
        document = {"command": command, "machine": machine, "figures": [asdict(figure) for figure in self.figures]}
        (REPORTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def read_figures(name: str) -> dict[str, Figure]:
    """The figures of the report that is there, by name."""
    path = REPORTS / f"{name}.json"
    if not path.exists():
        return {}
    return {figure["name"]: Figure(**figure) for figure in json.loads(path.read_text())["figures"]}


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
