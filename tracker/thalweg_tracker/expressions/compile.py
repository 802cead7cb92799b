"""Checked trees to SQL, the only place where that happens. Values are bound, columns have names made here.

A *frame* is a sub-query with a row for each step of any metric of an expression: run, [rank], step, and for its i-th
source v<i>, a Nullable(Float64) that is NULL where the metric has no point, and t<i>, its time in microseconds.
Point-wise operators are expressions over a row, so that NULL joins on equal steps. A window runs over the rows where
its operand is not NULL, which are the points of its series. Windows over windows need one SELECT for each depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.reducers import AREA, REDUCERS, reducer_sql
from thalweg_tracker.expressions.scalars import as_number, scalar_sql
from thalweg_tracker.expressions.tree import Node, Source, sources
from thalweg_tracker.expressions.windows import WINDOWS, Window


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's SQL, and what its columns v0, v1, ... are."""

    sql: str
    sources: tuple[Source, ...]
    by_rank: bool = False
    has_times: bool = True
    others: Mapping[Node, str] = field(default_factory=dict)
    """Columns of what a run has for all its steps, such as attributes."""

    @property
    def partition(self) -> str:
        """The columns that tell a series apart."""
        return "run, rank" if self.by_rank else "run"


@dataclass(frozen=True, slots=True)
class Rows:
    """A sub-query of all rows of a frame, and for each series the SQL of its value, NULL where it has no point."""

    sql: str
    values: dict[Node, str]


def series_rows(nodes: Sequence[Node], frame: Frame, binder: Binder) -> Rows:
    """The rows of some series of one frame."""
    layers = _Layers(frame, binder)
    values = {node: as_number(layers.value(node), node.kind) for node in nodes}
    return Rows(layers.sql, values)


def reduced(reducers: Sequence[Node], frame: Frame, binder: Binder) -> str:
    """A query with `run` and the reducers r0, r1, ... of their series in one frame; NULL of nothing."""
    layers = _Layers(frame, binder)
    operands = [layers.operands(node) for node in reducers]
    values = [
        f"{reducer_sql(node.op, *operand)} AS r{place}"
        for place, (node, operand) in enumerate(zip(reducers, operands, strict=True))
    ]
    return f"SELECT {frame.partition}, {', '.join(values)} FROM ({layers.sql}) GROUP BY {frame.partition}"


def outermost_reducers(node: Node) -> list[Node]:
    """The reducers of an expression of one value a run that are not inside others."""
    if node.op in REDUCERS and node.args and node.args[0].is_series:
        return [node]
    return [found for one in node.args for found in outermost_reducers(one)]


def time_of(some: Sequence[Source], frame: Frame) -> str:
    """The latest time of the points of some sources at a step, in microseconds; 0 without one, or without times."""
    if not frame.has_times:
        return "0"
    times = [f"t{frame.sources.index(one)}" for one in some]
    return f"ifNull({times[0]}, 0)" if len(times) == 1 else f"arrayMax([{', '.join(f'ifNull({t}, 0)' for t in times)}])"


def needs_times(nodes: Sequence[Node]) -> bool:
    """Whether some expressions depend on when points were logged."""
    return any(one.op == "rate" for node in nodes for one in node.walk())


def has_windows(node: Node) -> bool:
    """Whether a value depends on other steps than its own."""
    return any(one.op in WINDOWS or one.op in REDUCERS for one in node.walk())


class _Layers:
    """SELECTs around a frame, one for each depth of windows."""

    def __init__(self, frame: Frame, binder: Binder) -> None:
        self._frame = frame
        self._binder = binder
        self._columns: dict[Node, str] = {}
        self._made = 0
        self.sql = frame.sql

    def value(self, node: Node) -> str:
        """The SQL of a node over the present rows; makes the layers that it needs."""
        for one in self._windows_below(node):
            self._make(one)
        return scalar_sql(node, self._binder, self._find)

    def column(self, node: Node) -> str:
        """The same as a column of the present rows, as a float."""
        if node in self._columns:
            return self._columns[node]
        value = as_number(self.value(node), node.kind)
        if node.op == "metric":
            return value
        name = self._name()
        self._wrap(f"{value} AS {name}")
        self._columns[node] = name
        return name

    def operands(self, reducer: Node) -> tuple[str, str]:
        """The column that a reducer reduces, and what else it takes."""
        column = self.column(reducer.args[0])
        parameter = self.value(reducer.args[1]) if len(reducer.args) > 1 else ""
        return (self._area(column) if reducer.op == AREA else column), parameter

    def _area(self, value: str) -> str:
        """A column with the area between each number of a column and the one before it."""
        number, before, step_before, name = (self._name() for _ in range(4))
        self._wrap(f"if(isNaN({value}), NULL, {value}) AS {number}")
        window = self._window(number, "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW")
        self._wrap(
            f"lagInFrame({number}, 1) OVER {window} AS {before},"
            f" lagInFrame(toNullable(step), 1) OVER {window} AS {step_before}"
        )
        area = f"(step - {step_before}) * ({number} + {before}) / 2"
        self._wrap(f"if(isNull({value}), NULL, if(isNull({number}), 0., ifNull({area}, 0.))) AS {name}")
        return name

    def _find(self, node: Node) -> str | None:
        if node.op == "metric":
            assert isinstance(node.value, Source)
            return f"v{self._frame.sources.index(node.value)}"
        return self._columns.get(node) or self._frame.others.get(node)

    def _windows_below(self, node: Node) -> list[Node]:
        """The windows and reducers in a tree, outermost ones only."""
        if node.op in WINDOWS or (node.op in REDUCERS and node.args and node.args[0].is_series):
            return [node]
        return [found for one in node.args for found in self._windows_below(one)]

    def _make(self, node: Node) -> None:
        if node in self._columns:
            return
        if node.op in REDUCERS:
            value = reducer_sql(node.op, *self.operands(node), f" OVER (PARTITION BY {self._frame.partition})")
        else:
            value = WINDOWS[node.op](_Operand(self, self.column(node.args[0]), node, self._binder))
        name = self._name()
        self._wrap(f"{value} AS {name}")
        self._columns[node] = name

    def _window(self, operand: str, rows: str) -> str:
        return f"(PARTITION BY {self._frame.partition}, isNull({operand}) ORDER BY step {rows})"

    def _wrap(self, columns: str) -> None:
        self.sql = f"SELECT *, {columns} FROM ({self.sql})"

    def _name(self) -> str:
        self._made += 1
        return f"c{self._made}"


class _Operand(Window):
    """What the SQL of a window is made from."""

    def __init__(self, layers: _Layers, operand: str, node: Node, binder: Binder) -> None:
        self._layers = layers
        self.value = operand
        self.arguments = [one.value for one in node.args[1:]]
        self.binder = binder
        self._node = node

    def over(self, rows: str) -> str:
        """The points of the series around each."""
        return f"OVER {self._layers._window(self.value, rows)}"

    def over_frame(self, order: str) -> str:
        """The rows of the frame up to each."""
        rows = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
        return f"OVER (PARTITION BY {self._layers._frame.partition} ORDER BY {order} {rows})"

    def layer(self, *values: str) -> list[str]:
        """Columns of a layer below."""
        names = [self._layers._name() for _ in values]
        self._layers._wrap(", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True)))
        return names

    @property
    def time_us(self) -> str:
        """The time of the series' point at a step; where it was made there, that of the points that are."""
        frame = self._layers._frame
        own, every = time_of(sources(self._node), frame), time_of(frame.sources, frame)
        return own if own == every else f"if({own} = 0, {every}, {own})"
