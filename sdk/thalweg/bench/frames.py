"""The frames that a client logs: noisy float32 numbers under names as trainings have them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROWS_MOST: Final = 256
_VALUES_MOST: Final = 4_000_000
_ORDER: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Frames:
    """Some rows of values, in a random order that comes again after 65,536 steps.

    They are made once, so that a client spends its time on logging and not on making numbers. If they took turns, a
    database would store less than of a training; so it stores as much (docs/decisions/0014).
    """

    names: tuple[str, ...]
    rows: NDArray[np.float64]  # row x metric; each a float32
    order: NDArray[np.uint16]
    """The row of each step."""

    @classmethod
    def of(cls, metrics: int, seed: int) -> Frames:
        """Those of one client, the same each time."""
        names = tuple(f"train/layer_{index}/grad_norm" for index in range(metrics))
        noise = np.random.default_rng(seed)
        rows = min(_ROWS_MOST, max(_VALUES_MOST // metrics, 2))
        values = noise.normal(1, 0.2, (rows, metrics)).astype(np.float32)
        return cls(names, values.astype(np.float64), noise.integers(0, rows, _ORDER, np.uint16))

    def values(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Step x metric."""
        return self.rows[self.order[steps % _ORDER]]

    def frame(self, step: int) -> NDArray[np.float64]:
        """The values of one step."""
        values: NDArray[np.float64] = self.rows[self.order[step % _ORDER]]
        return values

    def series(self, metric: int, steps: int) -> NDArray[np.float64]:
        """The values of one metric at steps 0, 1, ..."""
        values: NDArray[np.float64] = self.rows[np.resize(self.order, steps), metric]
        return values


class Mappings:
    """The frames as `log()` takes them. A thousand metrics take 16 MB, very many 250."""

    def __init__(self, frames: Frames) -> None:
        self._rows: list[dict[str, float]] = [dict(zip(frames.names, row, strict=True)) for row in frames.rows.tolist()]
        self._order: list[int] = frames.order.tolist()

    def __getitem__(self, step: int) -> dict[str, float]:
        """That of one step; of several steps the same object."""
        return self._rows[self._order[step % _ORDER]]
