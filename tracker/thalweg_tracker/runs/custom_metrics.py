"""Rows of the table `custom_metrics`: a project's expressions with names."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

import pyarrow as pa

from thalweg_tracker.engine.contract import Engine, Lookup
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.sql import load

_ROWS: Final = pa.schema(
    [
        ("project", pa.string()),
        ("name", pa.string()),
        ("expression", pa.string()),
        ("description", pa.string()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("updated_at", pa.timestamp("us", "UTC")),
    ]
)
_OF_PROJECT: Final = Lookup("custom_metrics", "project", load("custom_metrics"))


@dataclass(frozen=True, slots=True)
class CustomMetric:
    """An expression that has a name."""

    name: str
    expression: str
    description: str
    created_at: datetime
    updated_at: datetime


def read_custom_metrics(engine: Engine, project: str) -> dict[str, CustomMetric]:
    """Those of a project, by name, in its order."""
    rows = engine.look_up(_OF_PROJECT, project, [project], limits.QUERY_TIMEOUT_S)[project]
    return {row["name"]: CustomMetric(*(row[name] for name in _ROWS.names[1:])) for row in rows}


def write_custom_metric(
    engine: Engine, project: str, name: str, expression: str, description: str, known: dict[str, CustomMetric]
) -> CustomMetric:
    """Sets one. `known`: those that are there. Raises RejectedError past CUSTOM_METRICS_MAX; EngineError."""
    if name not in known and len(known) >= limits.CUSTOM_METRICS_MAX:
        raise RejectedError(
            "too_many_custom_metrics",
            f"cannot set custom metric {name!r}: project {project!r} has {len(known)} of them, the limit",
            "Remove those that nobody uses.",
        )
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    made = CustomMetric(name, expression, description, known[name].created_at if name in known else now, now)
    _write(engine, project, made)
    return made


def remove_custom_metric(engine: Engine, project: str, metric: CustomMetric) -> None:
    """Removes one."""
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    _write(engine, project, CustomMetric(metric.name, "", "", metric.created_at, now))


def _write(engine: Engine, project: str, metric: CustomMetric) -> None:
    row = (project, metric.name, metric.expression, metric.description, metric.created_at, metric.updated_at)
    engine.insert("custom_metrics", pa.Table.from_pylist([dict(zip(_ROWS.names, row, strict=True))], schema=_ROWS))
