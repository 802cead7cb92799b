"""The example's training as a user runs it: a process of its own, offline, and what its spool then holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from thalweg.spool import layout
from thalweg.spool.reader import Damage, SpoolReader
from thalweg.spool.records import FRAME, SCHEMA, read_frame, read_text

ROOT = Path(__file__).parents[2]
EPOCHS = 80
STEPS_PER_EPOCH = 45  # 1,437 images in batches of 32
STEPS = EPOCHS * STEPS_PER_EPOCH
STEP_METRICS = (
    "train/loss",
    "train/lr",
    *(f"grad_norm/layer_{n}/{part}" for n in range(3) for part in ("weight", "bias")),
)
EPOCH_METRICS = ("epoch", "val/loss", "val/accuracy", "val/precision", "val/recall")


def test_the_example_learns_the_digits_and_records_every_step(tmp_path: Path) -> None:
    printed = _run_example(tmp_path / "spool")
    accuracy = re.search(rf"^result: step {STEPS} .* val/accuracy (\S+)", printed, re.MULTILINE)
    assert accuracy, printed
    assert float(accuracy[1]) > 0.95
    (folder,) = layout.writer_folders(tmp_path / "spool")
    series = _read_series(folder)
    assert set(series) == {*STEP_METRICS, *EPOCH_METRICS}
    for name in STEP_METRICS:
        assert [step for step, _ in series[name]] == list(range(1, STEPS + 1)), name
    for name in EPOCH_METRICS:
        assert [step for step, _ in series[name]] == list(range(STEPS_PER_EPOCH, STEPS + 1, STEPS_PER_EPOCH)), name
    assert f"{series['val/accuracy'][-1][1]:.4f}" == accuracy[1]


def _run_example(spool: Path) -> str:
    """Standard output of the example with its default settings."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("THALWEG_")}
    settings = {"THALWEG_MODE": "offline", "THALWEG_SPOOL_DIR": str(spool), "THALWEG_SYSTEM_INTERVAL_S": "0"}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.digits", "--checkpoints", str(spool.with_name("saved"))],
        cwd=ROOT,
        env=inherited | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def _read_series(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """All points of a writer's folder: metric -> (step, value) in the order of writing."""
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    schemas: dict[int, list[str]] = {}
    damages: list[Damage] = []
    reader = SpoolReader(folder, damages.append)
    while (record := reader.advance(writer_ended=True)) is not None:
        if record.header.kind == SCHEMA:
            schema = read_text(record.view, record.at)
            schemas[schema["id"]] = schema["names"]
        elif record.header.kind == FRAME:
            frame = read_frame(record.view, record.at)
            for name, value in zip(schemas[frame.schema], frame.values.cast("B").cast("d"), strict=True):
                series[name].append((frame.step, value))
            frame.values.release()
    reader.close()
    assert damages == []
    return series
