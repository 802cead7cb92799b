"""The frames that a client logs: noisy float32 numbers under names as trainings have them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_POOL_POINTS: Final = 128_000
_POOL_MOST: Final = 64


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames that take turns: at step s that of s modulo their number. So making them does not count as logging."""

    names: tuple[str, ...]
    values: NDArray[np.float64]  # frame x metric; each a float32

    @classmethod
    def of(cls, metrics: int, seed: int) -> Frames:
        """Those of one client, the same each time."""
        names = tuple(f"train/layer_{index}/grad_norm" for index in range(metrics))
        pool = max(2, min(_POOL_MOST, _POOL_POINTS // metrics))
        noise = np.random.default_rng(seed).normal(1.0, 0.2, (pool, metrics))
        return cls(names, np.abs(noise).astype(np.float32).astype(np.float64))

    @property
    def rows(self) -> list[dict[str, float]]:
        """One mapping a frame, as `log()` takes it."""
        return [dict(zip(self.names, row, strict=True)) for row in self.values.tolist()]

    def series(self, metric: int, steps: int) -> NDArray[Any]:
        """The values of one metric at steps 0, 1, ..."""
        return np.resize(self.values[:, metric], steps)
