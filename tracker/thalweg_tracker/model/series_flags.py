"""Bits of `series_stats.flags`: what cannot be relied on, joined over all batches with OR."""

from typing import Final

HAS_NUMBER: Final = 1
"""At least one value is not NaN, so min and max mean something."""
RESENT: Final = 2
"""Rows may be there twice, with equal content: aggregates over points need FINAL."""
RELOGGED: Final = 4
"""A step was written twice, perhaps with another value: min and max here may be stale; read the points, with FINAL."""
