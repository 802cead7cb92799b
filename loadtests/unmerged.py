"""What points cost before they are merged: to insert, to ask for, to merge; with the codecs of the schema, and others.

Under full load some hundreds of parts lie side by side, and a page that shows 20 of 1,000 metrics of a run reads some
rows of each. Here the rows of four clients are inserted, a million at a time, while merges are stopped. Then the
query that the API makes of 20 metrics in 500 buckets is run, for other metrics each time, and compared with what was
inserted; at last all parts are merged. CPU is that of this process, in which the engine is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from loadtests.raw_engine import RowPool
from loadtests.report import Report
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.expressions.tree import MEAN
from thalweg_tracker.query.points import Part
from thalweg_tracker.query.series import Form

_TABLE: Final = "coded"
_KEY: Final = ("run", "metric", "rank")
_CODECS: Final = {
    "the schema": {},
    "key and step ZSTD": {**dict.fromkeys(_KEY, "ZSTD(1)"), "step": "DoubleDelta, ZSTD(1)"},
    "step DoubleDelta, LZ4": {"step": "DoubleDelta, LZ4"},
    "key DoubleDelta, LZ4": dict.fromkeys(_KEY, "DoubleDelta, LZ4"),
}
"""Codecs of columns, where they are others than those of the schema."""
_CLIENTS: Final = 4
_ASKED: Final = 20
_BUCKETS: Final = 500
_QUESTIONS: Final = 7


@contextmanager
def _cpu_us(into: list[float], per: int) -> Iterator[None]:
    begin = time.process_time()
    yield
    into.append((time.process_time() - begin) * 1e6 / per)


class _Costs:
    """Of one set of codecs, a value a round."""

    def __init__(self) -> None:
        self.insert: list[float] = []
        self.ask: list[float] = []
        self.ask_ms: list[float] = []
        self.merge: list[float] = []

    def tell(self, report: Report, words: str) -> None:
        """Puts them into a report."""
        report.add(f"{words}: insert", "us CPU/point", self.insert)
        report.add(f"{words}: {_ASKED} metrics, unmerged", "ms CPU", self.ask)
        report.add(f"{words}: {_ASKED} metrics, unmerged, until the answer", "ms", self.ask_ms)
        report.add(f"{words}: merge", "us CPU/point", self.merge)


def measure(engine: Engine, pool: RowPool, parts: int, codecs: dict[str, str], costs: _Costs, seed: int) -> None:
    """One round of one set of codecs. Raises AssertionError for a wrong answer."""
    engine.execute(f"CREATE TABLE {_TABLE} AS points")
    if codecs:
        columns = ", ".join(f"MODIFY COLUMN {name} CODEC({codec})" for name, codec in codecs.items())
        engine.execute(f"ALTER TABLE {_TABLE} {columns}")
    engine.execute(f"SYSTEM STOP MERGES {_TABLE}")
    inserts: list[float] = []
    for number in range(parts):
        rows = pool.batch(number)
        with _cpu_us(inserts, parts * pool.rows):
            engine.insert(_TABLE, rows)
    costs.insert.append(sum(inserts))
    random = np.random.default_rng(seed)
    cpu_ms, took_ms = [], []
    for _ in range(_QUESTIONS):
        places = random.choice(len(pool.keys), _ASKED, replace=False).tolist()
        sql, parameters = _question(pool, parts, places)
        begin, cpu = time.perf_counter(), time.process_time()
        answer = engine.query(sql, parameters)
        took_ms.append((time.perf_counter() - begin) * 1e3)
        cpu_ms.append((time.process_time() - cpu) * 1e3)
        _compare(answer.to_pylist(), pool, parts, places)
    costs.ask.append(statistics.median(cpu_ms))
    costs.ask_ms.append(statistics.median(took_ms))
    engine.execute(f"SYSTEM START MERGES {_TABLE}")
    with _cpu_us(costs.merge, parts * pool.rows):
        engine.execute(f"OPTIMIZE TABLE {_TABLE} FINAL")
    engine.execute(f"DROP TABLE {_TABLE} SYNC")


def _question(pool: RowPool, parts: int, places: Sequence[int]) -> tuple[str, Any]:
    pairs = {(1, int(pool.keys[place])): None for place in places}
    rows, parameters = Part(has_copies=False, has_ranks=False, pairs=pairs).rows(MEAN)
    form = Form(_BUCKETS, 0, parts * pool.steps - 1)
    sql = form.sql(rows).replace("FROM points AS p", f"FROM {_TABLE} AS p")
    assert _TABLE in sql
    return sql, {**parameters, **form.parameters}


def _compare(answer: list[dict[str, Any]], pool: RowPool, parts: int, places: Sequence[int]) -> None:
    for place in places:
        buckets = [row for row in answer if row["metric"] == int(pool.keys[place])]
        values = np.concatenate([pool.values_of_first_run(number)[place] for number in range(parts)])
        assert sum(row["n"] for row in buckets) == len(values), "points are missing, or there twice"
        assert np.isclose(sum(row["n"] * row["mean"] for row in buckets), values.sum(), rtol=1e-9), "other values"


def main() -> None:
    """Measures, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=60, help="of a million points")
    parser.add_argument("--metrics", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    report = Report("Points before they are merged", (__doc__ or "").strip())
    pool = RowPool(options.metrics, _CLIENTS)
    costs = {words: _Costs() for words in _CODECS}
    with tempfile.TemporaryDirectory() as folder:
        engine = EmbeddedEngine(Path(folder) / "data")
        try:
            migrate(engine)
            for seed in range(options.rounds):
                for words, codecs in _CODECS.items():
                    measure(engine, pool, options.parts, codecs, costs[words], seed)
        finally:
            engine.close()
    for words, some in costs.items():
        some.tell(report, words)
    report.write("unmerged")


if __name__ == "__main__":
    main()
