"""The frames that a client logs: noisy float32 numbers under names as trainings have them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_TURNS: Final = ((61, 64, 67), (7, 11, 13))
_WIDE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames that differ for a quarter of a million steps (of very many metrics a thousand), at little cost each.

    A frame is the sum of one row of each of some tables, whose numbers of rows have no common divisor: a database
    must not store less than it would of a training because frames come again.
    """

    names: tuple[str, ...]
    tables: tuple[NDArray[np.float32], ...]  # row x metric

    @classmethod
    def of(cls, metrics: int, seed: int) -> Frames:
        """Those of one client, the same each time."""
        names = tuple(f"train/layer_{index}/grad_norm" for index in range(metrics))
        noise = np.random.default_rng(seed)
        turns = _TURNS[metrics > _WIDE]
        return cls(names, tuple(noise.normal(1 / 3, 0.1, (rows, metrics)).astype(np.float32) for rows in turns))

    def values(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Step x metric; each a float32."""
        first, *others = (table[steps % len(table)] for table in self.tables)
        for other in others:
            first += other
        return first.astype(np.float64)

    def frame(self, step: int) -> NDArray[np.float64]:
        """The values of one step."""
        first, second, third = (table[step % len(table)] for table in self.tables)
        values: NDArray[np.float64] = (first + second + third).astype(np.float64)
        return values

    def fill(self, row: dict[str, float], step: int) -> None:
        """Puts the values of one step into a mapping, as `log()` takes it."""
        row.update(zip(self.names, self.frame(step).tolist(), strict=True))

    def series(self, metric: int, steps: int) -> NDArray[Any]:
        """The values of one metric at steps 0, 1, ..."""
        first, *others = (np.resize(table[:, metric], steps) for table in self.tables)
        for other in others:
            first += other
        return first.astype(np.float64)
