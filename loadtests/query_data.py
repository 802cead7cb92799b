"""What `loadtests.queries` asks for: a database of many runs, many metrics and long series, made of functions.

Every value is a function of its run, metric and step, so that any answer can be compared with what was written.
The values are float32 numbers with noise, as losses and gradient norms are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.filling import INSERT_POINTS, START_US, Filler, settle
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate

STEPS: Final = 1000
"""Of each training."""
METRICS: Final = ("precision", "recall", "loss", "accuracy", *(f"layer_{number}/grad_norm" for number in range(14)))
"""Of each training."""
LEARNING_RATES: Final = (0.1, 0.03, 0.01, 0.003, 0.001)
OPTIMIZERS: Final = ("adam", "sgd", "lion")
COMPARED: Final = 20
WIDE_STEPS: Final = 88
QUANTITIES: Final = (
    "grad_norm",
    "weight_norm",
    "update_norm",
    "query_norm",
    "key_norm",
    "value_norm",
    "entropy",
    "max_logit",
    "sparsity",
    "update_ratio",
)
SPIKE: Final = 1e6
_SECOND_US: Final = 1_000_000
_NOISE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each there is. With scale 1: 200 million points."""

    runs: int
    wide_metrics: int
    long_points: int
    middle_points: int
    compared_points: int

    @staticmethod
    def of(scale: float) -> Sizes:
        """A part of the whole."""
        return Sizes(*(int(size * scale) for size in (10_000, 100_000, 10_000_000, 1_000_000, 10_000)))

    @property
    def points(self) -> int:
        """All together."""
        trainings = self.runs * STEPS * len(METRICS)
        single = self.long_points + self.middle_points + COMPARED * self.compared_points
        return trainings + self.wide_metrics * WIDE_STEPS + single


@cache
def noise() -> NDArray[np.float64]:
    """Numbers without a pattern, which take turns."""
    return np.random.default_rng(0).normal(size=_NOISE)


def training(number: int) -> str:
    """Name of a run."""
    return f"training-{number:05d}"


def training_values(numbers: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """What some trainings logged at some steps: (runs, steps, METRICS)."""
    metrics = np.arange(len(METRICS))
    level = 0.5 + 0.4 * ((numbers[:, None] * 0.6180339887 + metrics * 0.37) % 1)
    curve = 1 - np.exp(-(steps + 1) / 200)
    place = (numbers[:, None, None] * 7919 + steps[:, None] * len(METRICS) + metrics) % _NOISE
    return _as_float32(np.abs(level[:, None, :] * curve[:, None] + 0.01 * noise()[place]) + 1e-3)


def wide_names(metrics: int) -> list[str]:
    """Metrics of the run `wide`."""
    some = len(QUANTITIES)
    return [
        f"block_{number // (100 * some)}/head_{number // some % 100}/{QUANTITIES[number % some]}"
        for number in range(metrics)
    ]


def wide_values(metrics: int) -> NDArray[np.float64]:
    """What the run `wide` logged: (WIDE_STEPS, metrics)."""
    return _as_float32(np.random.default_rng(1).normal(size=(WIDE_STEPS, metrics)))


def single_values(points: int, salt: int, start: int = 0, end: int | None = None) -> NDArray[np.float64]:
    """A long series `loss`, from step to step: noise around a slow wave, one NaN and one spike."""
    steps = np.arange(start, points if end is None else end)
    values = np.sin(steps * (20 / points)) + 0.1 * noise()[(steps + salt * 7919) % _NOISE]
    values[steps == points // 3] = np.nan
    values[steps == 2 * points // 3] = SPIKE
    return _as_float32(values)


def _as_float32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    rounded: NDArray[np.float64] = values.astype(np.float32).astype(np.float64)
    return rounded


def prepare(folder: Path, sizes: Sizes, stream_points: int) -> Path:
    """The database with all of it, filled unless it is there. Exits where other data is."""
    data, marker = folder / "data", folder / "filled.json"
    folder.mkdir(parents=True, exist_ok=True)
    there = json.loads(marker.read_text()) if marker.exists() else None
    if there is None and data.exists():
        raise SystemExit(f"{folder} is filled in part: remove it")
    if there is not None and there["sizes"] != asdict(sizes):
        raise SystemExit(f"{folder} is filled with {there['sizes']}, not {asdict(sizes)}")
    streams: list[int] = there["streams"] if there else []
    more = [stream_points] if stream_points not in (sizes.long_points, *streams) else []
    if there is not None and not more:
        return data
    marker.unlink(missing_ok=True)
    engine = EmbeddedEngine(data)
    try:
        migrate(engine)
        filler = Filler(engine)
        if there is None:
            _fill(filler, sizes)
        for points in more:
            fill_single(filler, single_run(points), points, 0)
        settle(engine)
    finally:
        engine.close()
    marker.write_text(json.dumps({"sizes": asdict(sizes), "streams": [*streams, *more]}))
    return data


def single_run(points: int) -> str:
    """The run of a long series."""
    return f"single-{points}"


def _fill(filler: Filler, sizes: Sizes) -> None:
    fill_trainings(filler, sizes.runs)
    fill_wide(filler, sizes.wide_metrics)
    for points in (sizes.long_points, sizes.middle_points):
        fill_single(filler, single_run(points), points, 0)
    for number in range(COMPARED):
        fill_single(filler, f"compared-{number}", sizes.compared_points, number)


def _steps(start: int, end: int) -> NDArray[np.float64]:
    return np.arange(start, end, dtype=np.float64)


def fill_trainings(filler: Filler, runs: int, steps: int = STEPS) -> None:
    """So many trainings of so many steps, with what they tell."""
    filler.tell((training(number), list(_told(number))) for number in range(runs))
    filler.log_runs(list(METRICS), _trainings(runs, steps))


def fill_wide(filler: Filler, metrics: int) -> None:
    """The run `wide`."""
    filler.add_runs(["wide"])
    filler.log("wide", wide_names(metrics), _steps(0, WIDE_STEPS), wide_values(metrics))


def fill_single(filler: Filler, run_id: str, points: int, salt: int) -> None:
    """A run with the one series `loss`."""
    filler.add_runs([run_id])
    for start in range(0, points, INSERT_POINTS):
        end = min(points, start + INSERT_POINTS)
        filler.log(run_id, ["loss"], _steps(start, end), single_values(points, salt, start, end)[:, None])


def _trainings(runs: int, steps: int) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    at_once = max(1, 25 * STEPS // steps)
    for start in range(0, runs, at_once):
        numbers = np.arange(start, min(start + at_once, runs))
        for number, values in zip(numbers.tolist(), training_values(numbers, np.arange(steps)), strict=True):
            yield training(number), _steps(0, steps), values


def config(number: int) -> dict[str, float | int | str]:
    """What a training was run with."""
    return {
        "lr": LEARNING_RATES[number % len(LEARNING_RATES)],
        "optimizer": OPTIMIZERS[number % len(OPTIMIZERS)],
        "seed": number // 15,
    }


def tags(number: int) -> list[str]:
    """Tags of a training."""
    return ["baseline"] if number % 10 == 0 else []


def _told(number: int) -> Iterator[pb.Event]:
    began_us = START_US + number * _SECOND_US
    yield pb.Event(time_us=began_us, started=pb.WriterStarted(primary=True, host=f"node-{number % 64}", pid=number + 1))
    values = {f"config.{name}": value for name, value in config(number).items()}
    values |= {f"tags.{tag}": True for tag in tags(number)} | {"run.name": f"training {number}"}
    rows = [pb.Attribute(path=path, json=json.dumps(value)) for path, value in values.items()]
    yield pb.Event(time_us=began_us, attributes=pb.AttributesSet(attributes=rows))
    outcome = pb.WriterEnded.FAILED if number % 50 == 0 else pb.WriterEnded.FINISHED
    yield pb.Event(time_us=began_us + STEPS * _SECOND_US, ended=pb.WriterEnded(outcome=outcome))
