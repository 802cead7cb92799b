"""What expressions say of runs, as columns of a join over all runs of a project."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from thalweg.wire import limits as wire_limits
from thalweg.wire import policy
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.compile import needs_times, outermost_reducers, reduced
from thalweg_tracker.expressions.reducers import FROM_STATISTICS
from thalweg_tracker.expressions.scalars import scalar_sql
from thalweg_tracker.expressions.tree import MEAN, Kind, Node, Source, sources
from thalweg_tracker.expressions.windows import ALIGNMENT
from thalweg_tracker.lineage.chain import Branch
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.computed import with_attributes
from thalweg_tracker.query.facts import facts_sql, marked_sql
from thalweg_tracker.query.frames import make_frame
from thalweg_tracker.query.lineage import RunView, views_of
from thalweg_tracker.query.seen_attributes import attributes_sql, typed
from thalweg_tracker.sql import load

_OF_EITHER_RANK: Final = frozenset({"last", "first", "exists"})
"""Known of a metric that several ranks wrote, too: their mean at one step."""
_LABELS: Final = {"run.name": "run.name", "run.notes": "run.notes"}
_SECONDS: Final = "toNullable(toUnixTimestamp64Micro({0}) / 1000000)"
_STATUS: Final = """multiIf(
    st.status != '', st.status,
    is_fork, 'created',
    r.created_at >= fromUnixTimestamp64Micro({lost_before}), 'running',
    'lost')"""
_ENDED: Final = (
    "if(st.ended_us > 0 AND st.status NOT IN ('', 'running', 'lost'), toNullable(st.ended_us / 1000000), NULL)"
)
_SEEN: Final = f"if(st.status != '', {_SECONDS.format('st.last_seen_at')}, NULL)"
_CREATED: Final = _SECONDS.format("r.created_at")
_STATES: Final = {
    "run.status": _STATUS,
    "run.ended_at": _ENDED,
    "run.last_seen_at": _SEEN,
    "run.duration": f"coalesce({_ENDED}, {_SEEN}) - {_CREATED}",
}


_NO_NUMBER: Final = "CAST(NULL, 'Nullable(Float64)')"
_NO_BOOL: Final = "CAST(NULL, 'Nullable(Bool)')"
_OF_NOTHING: Final = {"count": "toFloat64(0)", "exists": "false", "any": _NO_BOOL, "all": _NO_BOOL}


class RunColumns:
    """The tables that some expressions need, joined to the runs `r`, and the SQL of those expressions over them."""

    def __init__(
        self,
        engine: Engine,
        project: str,
        trees: Sequence[Node],
        bound: Mapping[str, RunView],
        binder: Binder,
        where: Node | None,
    ) -> None:
        """`where`: the condition on the runs; what it needs no points for chooses those whose points are read."""
        self._engine = engine
        self._project = project
        self._bound = bound
        self._binder = binder
        self._columns: dict[Node, str] = {}
        self._reduced: dict[tuple[Node, tuple[Source, ...]], str] = {}  # by what their frame is of
        self.tables = f"({binder.embed(load('newest_branches'), {'project': project})}) AS r"
        nodes = list(dict.fromkeys(node for tree in trees for node in tree.walk()))
        self._join_attributes([node for node in nodes if node.op == "attribute"])
        self._join_labels(nodes)
        self._join_states([node for node in nodes if node.op == "attribute"])
        reducers = {tree: outermost_reducers(tree) for tree in trees}
        self._join_facts(list(dict.fromkeys(node for found in reducers.values() for node in found if _is_simple(node))))
        self._join_frames(
            {tree: [node for node in found if not _is_simple(node)] for tree, found in reducers.items()}, where
        )

    def sql(self, tree: Node) -> str:
        """An expression over the joined tables."""

        def find(node: Node) -> str | None:
            return self._columns.get(node) or self._reduced.get((node, _frame_of(node, tree)))

        return scalar_sql(tree, self._binder, find)

    def _join(self, sql: str, alias: str, on: str = "run") -> None:
        self.tables += f"\nLEFT JOIN ({sql}) AS {alias} ON r.{on} = {alias}.{on}"

    def _join_attributes(self, nodes: Sequence[Node]) -> None:
        """Config and environment."""
        seen = [node for node in nodes if not str(node.value).startswith("run.")]
        if not seen:
            return
        paths = list(dict.fromkeys(str(node.value) for node in seen))
        lineage = self._binder.embed(load("ways"), {"project": self._project})
        self._join(attributes_sql(self._project, paths, lineage, self._binder), "a")
        self._columns |= {node: typed(f"a.j{paths.index(str(node.value))}", node.kind) for node in seen}

    def _join_labels(self, nodes: Sequence[Node]) -> None:
        """Names, notes and tags, and what the row itself says."""
        wanted: dict[Node, str] = {}
        for node in nodes:
            if node.op == "has_tag":
                wanted[node] = f"tags.{str(node.args[0].value).replace('/', '.')}"
            elif node.op == "attribute" and node.value in _LABELS:
                wanted[node] = _LABELS[str(node.value)]
            elif node.op == "attribute" and node.value == "run.id":
                self._columns[node] = "toNullable(r.run_id)"
            elif node.op == "attribute" and node.value == "run.created_at":
                self._columns[node] = _CREATED
        if not wanted:
            return
        paths = list(dict.fromkeys(wanted.values()))
        texts = ", ".join(
            f"argMaxIf(a.json, a.time, a.path = {self._binder.bind(path, 'String')}) AS j{place}"
            for place, path in enumerate(paths)
        )
        sql = self._binder.embed(load("labels_seen"), {"project": self._project, "paths": paths})
        self._join(sql.replace("{columns}", texts), "l", "run_id")
        for node, path in wanted.items():
            text = f"l.j{paths.index(path)}"
            is_tag = node.op == "has_tag"
            self._columns[node] = f"({text} != '')" if is_tag else typed(text, Kind.STRING)

    def _join_states(self, nodes: Sequence[Node]) -> None:
        """What became of them."""
        wanted = [node for node in nodes if node.value in _STATES]
        if not wanted:
            return
        lost_before = int((time.time() - policy.LOST_AFTER_S) * 1e6)
        where = {"project": self._project, "all": True, "runs": [], "lost_before": lost_before}
        self._join(self._binder.embed(load("run_states"), where), "st")
        forks = "SELECT run, true AS is_fork FROM branches FINAL WHERE project = {project:String} AND kind = 'fork'"
        self._join(self._binder.embed(forks, {"project": self._project}), "fk")
        bound = self._binder.bind(lost_before, "Int64")
        for node in wanted:
            sql = _STATES[str(node.value)].replace("{lost_before}", bound).replace("is_fork", "fk.is_fork")
            self._columns[node] = sql if node.value != "run.status" else f"toNullable({sql})"

    def _join_facts(self, reducers: Sequence[Node]) -> None:
        """Reducers of logged metrics: from statistics, and where those do not tell, from points."""
        if not reducers:
            return
        names = {node: _name(node) for node in reducers}
        keys = {name: metric_key(name) for name in names.values()}
        host = [key for name, key in keys.items() if name.startswith(wire_limits.SYSTEM_PREFIX)]
        over_ranks = [keys[names[node]] for node in reducers if node.op not in _OF_EITHER_RANK]
        where: dict[str, Any] = {"project": self._project, "metrics": list(keys.values()), "host": host}
        asked = {**where, "over_ranks": over_ranks}
        found = self._engine.query(marked_sql(load("ways")), asked, limits.QUERY_TIMEOUT_S)
        marked = {"marked_views": found["view"].to_pylist(), "marked_metrics": found["metric"].to_pylist()}
        facts = self._binder.embed(facts_sql([_fact(node) for node in reducers], load("ways")), {**where, **marked})
        bound = {name: self._binder.bind(key, "UInt64") for name, key in keys.items()}
        values = ", ".join(
            f"anyIf({_fact(node)}, metric = {bound[names[node]]}) AS f{place}" for place, node in enumerate(reducers)
        )
        self._join(f"SELECT run, {values} FROM ({facts}) GROUP BY run", "f")
        from_points = self._of_marked(reducers, names, keys, marked)
        for place, node in enumerate(reducers):
            value = f"f.f{place}" if node not in from_points else f"ifNull({from_points[node]}, f.f{place})"
            self._columns[node] = f"isNotNull({value})" if node.op == "exists" else value

    def _of_marked(
        self,
        reducers: Sequence[Node],
        names: Mapping[Node, str],
        keys: Mapping[str, int],
        marked: Mapping[str, list[int]],
    ) -> dict[Node, str]:
        """The columns of reducers of series that are read from points."""
        columns: dict[Node, str] = {}
        if not marked["marked_views"]:
            return columns
        views: dict[int, RunView] = {view.key: view for view in self._views(None)}
        for name, key in keys.items():
            pairs = zip(marked["marked_views"], marked["marked_metrics"], strict=True)
            chosen = [views[view] for view, metric in pairs if metric == key and view in views]
            wanted = [node for node in reducers if names[node] == name]
            framed = make_frame(self._engine, self._binder, chosen, [Source(name)], {}) if chosen else None
            if framed is None:
                continue
            as_value = [node if node.op != "exists" else _last_of(node) for node in wanted]
            alias = f"m{len(columns)}"
            self._join(reduced(as_value, framed.frame, self._binder), alias)
            columns |= {node: f"{alias}.r{place}" for place, node in enumerate(wanted)}
        return columns

    def _join_frames(self, reducers: Mapping[Node, Sequence[Node]], where: Node | None) -> None:
        """Reducers of anything else, by the expressions in which they stand."""
        together: dict[tuple[Source, ...], dict[Node, None]] = {}
        for tree, found in reducers.items():
            for node in found:
                together.setdefault(_frame_of(node, tree), {})[node] = None
        if not together:
            return
        of_points = {node for nodes in together.values() for node in nodes}
        views = self._views([part for part in _conjuncts(where) if not of_points.intersection(part.walk())])
        for place, (some, chosen) in enumerate(together.items()):
            nodes = list(chosen)
            has_times = needs_times(nodes)
            framed = make_frame(self._engine, self._binder, views, some, self._bound, has_times=has_times)
            if framed is None:
                self._reduced |= {(node, some): _OF_NOTHING.get(node.op, _NO_NUMBER) for node in nodes}
                continue
            frame = with_attributes(framed.frame, self._project, views, nodes, self._binder)
            self._join(reduced(nodes, frame, self._binder), f"p{place}")
            self._reduced |= {(node, some): f"p{place}.r{number}" for number, node in enumerate(nodes)}

    def _views(self, conditions: Sequence[Node] | None) -> list[RunView]:
        """The runs that meet some conditions, as they are seen."""
        sql = f"SELECT r.run_id AS run_id, r.branch AS branch FROM {self.tables}"
        if conditions:
            sql += f" WHERE {' AND '.join(self.sql(one) for one in conditions)}"
        rows = self._engine.query(sql, self._binder.parameters, limits.QUERY_TIMEOUT_S)
        branches = [Branch(*pair) for pair in zip(rows["run_id"].to_pylist(), rows["branch"].to_pylist(), strict=True)]
        return views_of(self._engine, self._project, branches)


def _is_simple(node: Node) -> bool:
    """Whether a reducer is known of a metric without its points, but for marked series."""
    operand = node.args[0]
    source = operand.value
    return (
        node.op in FROM_STATISTICS
        and operand.op == "metric"
        and isinstance(source, Source)
        and source.run is None
        and source.ranks == MEAN
    )


def _frame_of(reducer: Node, tree: Node) -> tuple[Source, ...]:
    """The metrics of the frame of a reducer: all of its expression, where it makes values at their steps."""
    makes_values = any(node.op in ALIGNMENT for node in reducer.walk())
    return tuple(sources(tree if makes_values else reducer))


def _fact(node: Node) -> str:
    return "last" if node.op == "exists" else node.op


def _name(node: Node) -> str:
    source = node.args[0].value
    assert isinstance(source, Source)
    return source.name


def _last_of(node: Node) -> Node:
    return Node("last", Kind.NUMBER, node.args)


def _conjuncts(node: Node | None) -> list[Node]:
    if node is None:
        return []
    return [part for one in node.args for part in _conjuncts(one)] if node.op == "and" else [node]
