"""Rows of the table `attributes`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa

from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model.checks import attribute_problem
from thalweg_tracker.model.keys import RunKey

ATTRIBUTES: Final = pa.schema(
    [
        ("project", pa.string()),
        ("run", pa.uint64()),
        ("path", pa.string()),
        ("json", pa.string()),
        ("number", pa.float64()),
        ("time", pa.timestamp("us", "UTC")),
    ]
)


def write_attributes(engine: Engine, project: str, run: RunKey, values: Mapping[str, Any], time_us: int) -> None:
    """Sets attributes of a branch, from nested mappings of JSON values. Raises RejectedError, EngineError."""
    rows = []
    for path, value in _leaves(values):
        text = json.dumps(value, ensure_ascii=False)
        problem = attribute_problem(pb.Attribute(path=path, json=text))
        if problem:
            raise RejectedError("bad_attribute", f"cannot set an attribute: {problem}")
        row = (project, run, path, text, as_number(text), time_us)
        rows.append(dict(zip(ATTRIBUTES.names, row, strict=True)))
    if rows:
        engine.insert("attributes", pa.Table.from_pylist(rows, schema=ATTRIBUTES))


def _leaves(values: Mapping[str, Any], *prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted path and value of each leaf of nested mappings; "/" separates like "."."""
    for key, value in values.items():
        parts = (*prefix, *key.replace("/", ".").split("."))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, *parts)
        elif prefix or value != {}:
            yield ".".join(parts), value


def as_number(text: str) -> float:
    """The number that a JSON text is; NaN for anything else."""
    try:
        value = json.loads(text) if text else None
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return math.nan
