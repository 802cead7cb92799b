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

    def row(self) -> str:
        """A line of the Markdown table."""
        low, high = min(self.values), max(self.values)
        return (
            f"| {self.name} | **{self.median:,.4g}** | {low:,.4g} to {high:,.4g} | {self.unit} | {len(self.values)} "
            f"| {self.wanted} |"
        )


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
        lines = [
            f"# {self.title}",
            "",
            self.what,
            "",
            f"Command: `{command}`, {datetime.now(timezone.utc):%Y-%m-%d}",
            "",
            "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()),
            "",
            "| what | median | min to max | unit | runs | wanted |",
            "|---|---|---|---|---|---|",
            *(figure.row() for figure in self.figures),
            "",
            *(f"* {note}" for note in self.notes),
        ]
        REPORTS.mkdir(exist_ok=True)
        (REPORTS / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")
        document = {"command": command, "machine": machine, "figures": [asdict(figure) for figure in self.figures]}
        (REPORTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


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
