"""Tables of runs: filtered, sorted and described by expressions, in one query over all runs of a project.

What an expression needs is joined to the runs: attributes as they see them, their states, what is known of series
without their points, and reducers of whatever else over points (frames). Before points are read, the conditions that
need none have chosen the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.tree import Kind, Node
from thalweg_tracker.model import limits
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.run_columns import RunColumns

_STATISTICS: Final = {
    "mean": "ifNull(avg({n}), if(count({v}) > 0, nan, NULL))",
    "std": "ifNull(stddevPopStable({n}), if(count({v}) > 0, nan, NULL))",
    "min": "ifNull(min({n}), if(count({v}) > 0, nan, NULL))",
    "max": "ifNull(max({n}), if(count({v}) > 0, nan, NULL))",
    "n": "count({v})",
}


@dataclass(frozen=True, slots=True)
class SortKey:
    """One of the keys that runs are sorted by. Null comes last in both directions, after NaN."""

    node: Node
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class TableRequest:
    """What is asked of a project's runs. `bound`: the runs that expressions name themselves, by run_id."""

    project: str
    columns: Sequence[Node]
    where: Node | None = None
    sort: Sequence[SortKey] = ()
    bound: Mapping[str, RunView] | None = None

    @property
    def trees(self) -> list[Node]:
        """All expressions."""
        return [*self.columns, *([self.where] if self.where else []), *(key.node for key in self.sort)]


Place = tuple[int | float | str, ...]
"""Where a page ended: of each key its class (0 a value, 1 NaN, 2 null) and value, then created_us and run_id."""


def find_runs(engine: Engine, request: TableRequest, limit: int, after: Place | None = None) -> pa.Table:
    """Runs in their order, after a place: run_id, branch, its key `run`, the `keys` of all branches, created_at, and
    the columns v0, v1, ...

    k0, k1, ... are the run's own place. Runs that sort alike are in the order of their creation, the newest first.
    Raises RejectedError, EngineError.
    """
    binder = Binder()
    columns = RunColumns(engine, request.project, request.trees, request.bound or {}, binder, request.where)
    keys = [part for key in request.sort for part in _sort_parts(key, columns)]
    values = [f"{columns.sql(node)} AS v{place}" for place, node in enumerate(request.columns)]
    places = [f"{part.sql} AS k{place}" for place, part in enumerate(keys)]
    conditions = [columns.sql(request.where)] if request.where else []
    if after is not None:
        conditions.append(_after(keys, after, binder))
    order = [f"k{place} {'DESC' if part.is_descending else 'ASC'}" for place, part in enumerate(keys)]
    picked = ", ".join(f"r.{name} AS {name}" for name in ("run_id", "run", "branch", "created_at", "keys"))
    sql = f"SELECT {', '.join([picked, *values, *places])}\nFROM {columns.tables}"
    if conditions:
        sql += f"\nWHERE {' AND '.join(f'({one})' for one in conditions)}"
    sql += f"\nORDER BY {', '.join([*order, 'created_at DESC', 'run_id DESC'])}\nLIMIT {limit:d}"
    return engine.query(sql, binder.parameters, limits.QUERY_TIMEOUT_S, limits.EXPRESSION_ROWS_MAX)


def group_runs(engine: Engine, request: TableRequest, by: Sequence[Node], limit: int, offset: int) -> pa.Table:
    """Groups of runs that agree in some expressions: g0, g1, ..., runs, and v0_mean, v0_std, ... of each column.

    Sorted by the keys, which are means of columns or the expressions of the groups, then by the groups.
    """
    binder = Binder()
    trees = [*request.trees, *by]
    columns = RunColumns(engine, request.project, trees, request.bound or {}, binder, request.where)
    inner = [f"{columns.sql(node)} AS g{place}" for place, node in enumerate(by)]
    inner += [f"{_as_float(columns.sql(node), node.kind)} AS c{place}" for place, node in enumerate(request.columns)]
    sql = f"SELECT {', '.join(inner)} FROM {columns.tables}"
    if request.where:
        sql += f"\nWHERE {columns.sql(request.where)}"
    values = [
        f"{form.format(v=f'c{place}', n=f'if(isNaN(c{place}), NULL, c{place})')} AS v{place}_{name}"
        for place in range(len(request.columns))
        for name, form in _STATISTICS.items()
    ]
    groups = [f"g{place}" for place in range(len(by))]
    order = [_group_order(key, by, request.columns) for key in request.sort]
    outer = f"SELECT {', '.join([*groups, 'count() AS runs', *values])} FROM ({sql}) GROUP BY {', '.join(groups)}"
    ordered = ", ".join([*order, *(f"{group} ASC NULLS LAST" for group in groups)])
    outer += f"\nORDER BY {ordered}\nLIMIT {limit:d} OFFSET {offset:d}"
    return engine.query(outer, binder.parameters, limits.QUERY_TIMEOUT_S, limits.EXPRESSION_ROWS_MAX)


def _as_float(sql: str, kind: Kind) -> str:
    return f"toFloat64OrNull({sql})" if kind is Kind.ANY else f"toFloat64({sql})"


def _group_order(key: SortKey, by: Sequence[Node], columns: Sequence[Node]) -> str:
    name = f"g{by.index(key.node)}" if key.node in by else f"v{columns.index(key.node)}_mean"
    return f"{name} {'DESC' if key.is_descending else 'ASC'} NULLS LAST"


@dataclass(frozen=True, slots=True)
class _Part:
    """Something that runs are sorted by; never null."""

    sql: str
    is_descending: bool = False
    is_text: bool = False


def _sort_parts(key: SortKey, columns: RunColumns) -> list[_Part]:
    """What a key sorts by: first the class, then the value."""
    sql, kind, falls = columns.sql(key.node), key.node.kind, key.is_descending
    if kind is Kind.STRING:
        return [_Part(f"if(isNull({sql}), 2, 0)"), _Part(f"ifNull({sql}, '')", falls, is_text=True)]
    if kind is Kind.ANY:  # numbers before other values
        number = f"toFloat64OrNull(ifNull({sql}, ''))"
        text = f"if(isNull({number}), ifNull({sql}, ''), '')"
        classes = f"multiIf(isNull({sql}), 3, isNull({number}), 2, isNaN({number}), 1, 0)"
        return [_Part(classes), _Part(_finite(number), falls), _Part(text, falls, is_text=True)]
    number = f"toFloat64({sql})"
    return [_Part(f"multiIf(isNull({sql}), 2, isNaN({number}), 1, 0)"), _Part(_finite(number), falls)]


def _finite(number: str) -> str:
    return f"if(isNull({number}) OR isNaN({number}), 0., assumeNotNull({number}))"


def _after(keys: Sequence[_Part], place: Place, binder: Binder) -> str:
    """Whether a run comes after a place, in the order of the keys, then of creation. Raises RejectedError."""
    *values, created_us, run_id = place if len(place) == len(keys) + 2 else (*place, "", 0)
    if len(values) != len(keys) or not isinstance(created_us, int) or not isinstance(run_id, str):
        raise RejectedError("bad_cursor", "the cursor is of another question", "Sort as for the page before.")
    condition = (
        f"(toUnixTimestamp64Micro(r.created_at), r.run_id)"
        f" < ({binder.bind(created_us, 'Int64')}, {binder.bind(run_id, 'String')})"
    )
    for part, value in reversed(list(zip(keys, values, strict=True))):
        # As text or number, whichever the key is: a cursor that was made by hand finds what it finds.
        bound = binder.bind(str(value), "String") if part.is_text else binder.bind(_number(value), "Float64")
        beyond = f"{part.sql} {'<' if part.is_descending else '>'} {bound}"
        condition = f"({beyond} OR ({part.sql} = {bound} AND {condition}))"
    return condition


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
