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


def attribute_table(project: str, run: RunKey, values: Mapping[str, Any], time_us: int) -> pa.Table:
    """Rows that set attributes of a branch, from nested mappings of JSON values. Raises RejectedError."""
    rows = []
    try:
        for path, value in _leaves(values):
            text = _to_json(value)
            problem = attribute_problem(pb.Attribute(path=path, json=text))
            if problem:
                raise RejectedError("bad_attribute", f"cannot set an attribute: {problem}")
            row = (project, run, path, text, as_number(text), time_us)
            rows.append(dict(zip(ATTRIBUTES.names, row, strict=True)))
    except (RecursionError, UnicodeEncodeError) as error:
        message = "cannot set an attribute: it is nested too deep, or its path is no UTF-8"
        raise RejectedError("bad_attribute", message) from error
    return pa.Table.from_pylist(rows, schema=ATTRIBUTES)


def write_attributes(engine: Engine, rows: pa.Table) -> None:
    """Stores what `attribute_table` made. Raises EngineError."""
    if rows.num_rows:
        engine.insert("attributes", rows)


def _to_json(value: Any) -> str:
    """Readable in the database, but for halves of surrogate pairs, which UTF-8 does not have."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


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
