"""The hash of a row, computed by the database: the same on both engines and in every version of ClickHouse.

NaN counts as one value, whatever bits it has: on its way through JSON it loses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from thalweg_tracker.care.manifest import as_checksum
from thalweg_tracker.care.tables import StoredTable
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.literals import quote_identifier

ROW_HASH: Final = "row_hash"
_COLUMNS: Final = """
SELECT name, type
FROM system.columns
WHERE database = currentDatabase() AND table = {table:String} AND default_kind = ''
ORDER BY position
"""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table: names and types."""

    types: dict[str, str]

    def select(self, table: StoredTable) -> str:
        """All rows, each once, sorted by the keys, with their hashes."""
        names = ", ".join(map(quote_identifier, self.types))
        keys = ", ".join(map(quote_identifier, table.keys))
        source = f"{quote_identifier(table.name)} {table.final}"
        return f"SELECT {names}, {self.row_hash} AS {ROW_HASH} FROM {source} ORDER BY {keys}"

    @property
    def row_hash(self) -> str:
        """The hash of a row."""
        return f"cityHash64({', '.join(_hashed(name, kind) for name, kind in self.types.items())})"


def _hashed(name: str, kind: str) -> str:
    column = quote_identifier(name)
    bare = kind.removeprefix("SimpleAggregateFunction(").rstrip(")").rpartition(", ")[2] if "(" in kind else kind
    if "Map(" in kind:
        return f"toString({column})"
    return f"if(isNaN({column}), nan, {column})" if bare == "Float64" and "Array(" not in kind else column


def read_columns(engine: Engine, table: str) -> Columns:
    """The columns of a table that is there. Raises EngineError."""
    rows = engine.query(_COLUMNS, {"table": table}).to_pylist()
    return Columns({row["name"]: row["type"] for row in rows})


def read_checksum(engine: Engine, table: StoredTable) -> tuple[int, str]:
    """How many rows a table has, and the sum of their hashes."""
    hashed = read_columns(engine, table.name).row_hash
    source = f"{quote_identifier(table.name)} {table.final}"
    found = engine.query(f"SELECT count() AS n, sum({hashed}) AS total FROM {source}")
    return found["n"][0].as_py(), as_checksum(found["total"][0].as_py())
