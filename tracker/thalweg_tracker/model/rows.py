"""Columns of the tables that the ingest writes the most of, and that a restore writes again."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

POINTS: Final = pa.schema(
    [
        ("run", pa.uint64()),
        ("metric", pa.uint64()),
        ("rank", pa.uint16()),
        ("step", pa.float64()),
        ("time", pa.timestamp("us", "UTC")),
        ("value", pa.float64()),
    ]
)
STATS: Final = pa.schema(
    [
        ("run", pa.uint64()),
        ("metric", pa.uint64()),
        ("rank", pa.uint16()),
        ("writer", pa.uint64()),
        ("flags", pa.uint8()),
        ("first_step", pa.float64()),
        ("first_time", pa.timestamp("us", "UTC")),
        ("first", pa.float64()),
        ("last_step", pa.float64()),
        ("last_time", pa.timestamp("us", "UTC")),
        ("last", pa.float64()),
        ("min", pa.float64()),
        ("argmin", pa.float64()),
        ("max", pa.float64()),
        ("argmax", pa.float64()),
    ]
)
