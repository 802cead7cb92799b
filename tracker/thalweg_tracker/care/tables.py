"""The tables of a schema, as its migrations declare them: what a backup has to hold. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from thalweg_tracker.engine.migrate import Migration

DERIVED: Final = frozenset({"series_stats"})
"""Made of the points when a backup is restored."""
_TABLE: Final = re.compile(
    r"CREATE TABLE (?:IF NOT EXISTS )?(?P<name>\w+)\s*\(.*\)\s*ENGINE = (?P<engine>\w+)[^;]*?"
    r"\bORDER BY (?:\((?P<keys>[^)]*)\)|(?P<key>\w+))",
    re.DOTALL,
)
_MERGING: Final = frozenset({"ReplacingMergeTree", "AggregatingMergeTree"})


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A table that keeps rows. `keys`: the columns that it is sorted by."""

    name: str
    keys: tuple[str, ...]
    merges: bool
    """Rows with equal keys become one: until they do, reading with FINAL does it."""

    @property
    def final(self) -> str:
        """What reads each row once."""
        return "FINAL" if self.merges else ""


def stored_tables(migrations: Iterable[Migration]) -> list[StoredTable]:
    """The tables that some migrations make, in their order, without those that keep no rows of their own."""
    found = []
    for statement in (statement for migration in migrations for statement in migration.statements):
        match = _TABLE.match(statement)
        if match and match["name"] not in DERIVED:
            keys = tuple(key.strip() for key in (match["keys"] or match["key"]).split(","))
            found.append(StoredTable(match["name"], keys, match["engine"] in _MERGING))
    return found
