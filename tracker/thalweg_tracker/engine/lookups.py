"""Look-ups by key, and what a process remembers of them if all rows are inserted through it.

A small query is mostly planning, some 5 ms; what is asked with every request, such as how a run began, seldom changes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import pyarrow as pa

from thalweg_tracker.engine.answers import rows_of
from thalweg_tracker.engine.contract import Key, Lookup, Parameters, Rows

Ask = Callable[[str, Parameters], pa.Table]
_Place = tuple[Lookup, str, Key]

REMEMBERED_BYTES: Final = 32 << 20
_ROW_BYTES: Final = 1000
"""What a row takes as Python objects, beside its data; generous."""
NONE: Final[Rows] = ()


def look_up(ask: Ask, lookup: Lookup, project: str, keys: Sequence[Key]) -> Mapping[Key, Rows]:
    """Asks for the rows of these keys."""
    return _grouped(lookup, keys, ask(lookup.sql, {"project": project, "keys": list(keys)}))  # type: ignore[dict-item]


def _grouped(lookup: Lookup, keys: Sequence[Key], answer: pa.Table) -> dict[Key, Rows]:
    found = defaultdict(list)
    for row in rows_of(answer):
        found[row[lookup.by]].append(row)
    return {key: tuple(found[key]) if key in found else NONE for key in keys}


class Memory:
    """What was looked up. Threads: any.

    An answer is kept only if no row came into its table since it was asked for: it may not have those. Rows
    count as inserted when their `insert` returns, so whoever looks up later sees them.
    """

    def __init__(self, max_bytes: int = REMEMBERED_BYTES) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[_Place, tuple[Rows, int]] = OrderedDict()  # the longest unused first
        self._lookups: defaultdict[str, set[Lookup]] = defaultdict(set)  # by table
        self._inserts: defaultdict[str, int] = defaultdict(int)
        self._max_bytes = max_bytes
        self._bytes = 0

    def look_up(self, ask: Ask, lookup: Lookup, project: str, keys: Sequence[Key]) -> Mapping[Key, Rows]:
        """The rows of these keys; those that are not known are asked for."""
        known: dict[Key, Rows] = {}
        with self._lock:
            for key in keys:
                place = (lookup, project, key)
                if place in self._known:
                    self._known.move_to_end(place)
                    known[key] = self._known[place][0]
            self._lookups[lookup.table].add(lookup)
            inserts = self._inserts[lookup.table]
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if not missing:
            return known
        answer = ask(lookup.sql, {"project": project, "keys": missing})  # type: ignore[dict-item]
        found = _grouped(lookup, missing, answer)
        row_bytes = _ROW_BYTES + answer.nbytes // max(answer.num_rows, 1)
        with self._lock:
            if self._inserts[lookup.table] == inserts:
                for key, rows in found.items():
                    self._keep((lookup, project, key), rows, _ROW_BYTES + row_bytes * len(rows))
        return known | found

    def _keep(self, place: _Place, rows: Rows, size_bytes: int) -> None:
        self._drop(place)
        if size_bytes > self._max_bytes:
            return
        self._known[place] = rows, size_bytes
        self._bytes += size_bytes
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._known)))

    def _drop(self, place: _Place) -> None:
        _, size_bytes = self._known.pop(place, (NONE, 0))
        self._bytes -= size_bytes

    def inserted(self, table: str, rows: pa.Table) -> None:
        """Forgets what these rows may have changed: they are there now, or may be."""
        with self._lock:
            self._inserts[table] += 1
            for lookup in self._lookups.get(table, ()):
                for project, key in set(zip(*(rows[name].to_pylist() for name in ("project", lookup.by)), strict=True)):
                    self._drop((lookup, project, key))

    def forget(self) -> None:
        """Forgets everything."""
        with self._lock:
            for table in self._lookups:
                self._inserts[table] += 1
            self._known.clear()
            self._bytes = 0
