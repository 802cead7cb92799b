"""What the engine says of itself when Prometheus asks: parts, rows, merges. A scrape never fails because of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from thalweg_tracker.sql import load
from thalweg_tracker.telemetry.probe import Probe, ProbeError, Rows

log = logging.getLogger(__name__)

_OF_TABLES: Final = {
    "parts": "Active parts of a table: many mean that merges do not keep up.",
    "rows": "Rows of a table's active parts; a row may be there twice until a merge.",
    "bytes": "What they take on disk.",
}
_OF_ENGINE: Final = {
    "merges": "Merges under way.",
    "merge_rows": "Rows that these have read so far.",
    "queries": "Queries under way, this one included.",
    "memory_bytes": "Memory that the engine has counted for its work.",
}


class EngineCollector(Collector):
    """Asks the engine at each scrape, for as long as the probe waits. Without an answer only `up` is told, as 0."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._is_up = True

    def describe(self) -> list[Metric]:
        """Nothing is asked when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        try:
            tables, engine = self._probe.rows(load("engine_tables")), self._probe.rows(load("engine_state"))
        except ProbeError as error:
            if self._is_up:
                log.warning("no metrics of the engine: %s", error.__cause__ or error)
            self._is_up = False
        else:
            self._is_up = True
        yield GaugeMetricFamily("thalweg_engine_up", "1 if the engine has told the others.", float(self._is_up))
        if self._is_up:
            yield from _table_metrics(tables)
            yield from _state_metrics(engine)


def _table_metrics(rows: Rows) -> Iterator[Metric]:
    for name, meaning in _OF_TABLES.items():
        family = GaugeMetricFamily(f"thalweg_engine_{name}", meaning, labels=["table"])
        for row in rows:
            family.add_metric([row["table"]], row[name])
        yield family


def _state_metrics(rows: Rows) -> Iterator[Metric]:
    values = {row["name"]: row["value"] for row in rows}
    for name, meaning in _OF_ENGINE.items():
        if name in values:
            yield GaugeMetricFamily(f"thalweg_engine_{name}", meaning, values[name])
