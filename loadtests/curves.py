"""Curves as trainings have them, made of functions: noisy float32 numbers, a schedule, counters, measured seconds.

A step takes 250 ms with a jitter of 10 ms, and all metrics of a frame share one time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.filling import START_US, Clock

KINDS: Final = {
    "loss": ("train/loss", "train/z_loss"),
    "gradient norm": tuple(f"layer_{number}/grad_norm" for number in range(10)),
    "learning rate": ("lr",),
    "counter": ("tokens", "epoch"),
    "seconds": ("step_seconds",),
}
"""The metrics of each training."""
NAMES: Final = [name for names in KINDS.values() for name in names]
LONG_STEPS: Final = 200_000
SHORT_STEPS: Final = 10_000
STEP_US: Final = 250_000
JITTER_US: Final = 10_000
WARM_UP_STEPS: Final = 2_000
EPOCH_STEPS: Final = 7_000
STEP_TOKENS: Final = 4_194_304


@dataclass(frozen=True, slots=True)
class Training:
    """One run: its times, and what it logged at each step."""

    run_id: str
    times: NDArray[np.int64]  # (steps,), microseconds, strictly ascending
    values: NDArray[np.float64]  # (steps, NAMES)

    @classmethod
    def of(cls, number: int, steps: int) -> Training:
        """A function of its arguments."""
        rng = np.random.default_rng((number, steps))
        gaps = np.maximum(1, rng.normal(STEP_US, JITTER_US, steps)).astype(np.int64)
        times = START_US + np.cumsum(gaps)
        step = np.arange(steps)
        level = 2 + 8 * np.exp(-step / 20_000)
        losses = [share * level * (1 + 0.03 * rng.normal(size=steps)) for share in (1.0, 1e-4)]
        norms = [(1 + index) * 0.4 * np.exp(rng.normal(0, 0.3, steps)) for index in range(len(KINDS["gradient norm"]))]
        noisy = [column.astype(np.float32) for column in (*losses, *norms)]
        turn = np.clip((step - WARM_UP_STEPS) / LONG_STEPS, 0, 1)
        rate = np.minimum(3e-4 * (step + 1) / WARM_UP_STEPS, 3e-5 + 1.35e-4 * (1 + np.cos(np.pi * turn)))
        clock_s = 80_000 + (times - START_US) / 1e6 + rng.uniform(0, 1e-6, steps)  # as perf_counter() tells it
        seconds = np.diff(clock_s, prepend=80_000)
        counters = ((step + 1) * STEP_TOKENS, step // EPOCH_STEPS)
        return cls(f"{steps}-{number}", times, np.column_stack([*noisy, rate, *counters, seconds]).astype(np.float64))

    @property
    def clock(self) -> Clock:
        """Its times by step."""
        return lambda steps: self.times[steps.astype(np.intp)]
