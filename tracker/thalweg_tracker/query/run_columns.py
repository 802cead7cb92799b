"""What expressions say of runs, as columns of a join over all runs of a project."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from thalweg.wire import policy
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.together import together
from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.compile import needs_times, outermost_reducers, reduced
from thalweg_tracker.expressions.scalars import scalar_sql
from thalweg_tracker.expressions.tree import Kind, Node, Source, sources
from thalweg_tracker.expressions.windows import ALIGNMENT
from thalweg_tracker.lineage.chain import Branch
from thalweg_tracker.model import limits
from thalweg_tracker.query.computed import with_attributes
from thalweg_tracker.query.frames import make_frame
from thalweg_tracker.query.lineage import RunView, views_of
from thalweg_tracker.query.run_facts import RunFacts, is_known, suspects_of
from thalweg_tracker.query.seen_attributes import attributes_sql, typed
from thalweg_tracker.sql import load

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
        reducers = {tree: outermost_reducers(tree) for tree in trees}
        known = list(dict.fromkeys(node for found in reducers.values() for node in found if is_known(node)))
        look = partial(engine.query, load("has_lineages"), {"project": project}, limits.QUERY_TIMEOUT_S)
        self._suspects, found = together(partial(suspects_of, engine, project, known), look)
        self._lineage = load("ways") if found["has_lineages"][0].as_py() else None
        nodes = list(dict.fromkeys(node for tree in trees for node in tree.walk()))
        self._join_attributes([node for node in nodes if node.op == "attribute"])
        self._join_labels(nodes)
        self._join_states([node for node in nodes if node.op == "attribute"])
        self._join_facts(known)
        self._join_frames(
            {tree: [node for node in found if not is_known(node)] for tree, found in reducers.items()}, where
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
        lineage = self._lineage and self._binder.embed(self._lineage, {"project": self._project})
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
        """Reducers that are known from statistics."""
        if reducers:
            read_views = partial(self._views, ())
            facts = RunFacts(self._engine, self._project, self._lineage, self._suspects, self._binder, read_views)
            for sql, alias in facts.join(reducers, self._columns):
                self._join(sql, alias)

    def _join_frames(self, reducers: Mapping[Node, Sequence[Node]], where: Node | None) -> None:
        """Reducers of anything else, by the expressions in which they stand."""
        frames: dict[tuple[Source, ...], dict[Node, None]] = {}
        for tree, found in reducers.items():
            for node in found:
                frames.setdefault(_frame_of(node, tree), {})[node] = None
        if not frames:
            return
        of_points = {node for nodes in frames.values() for node in nodes}
        views = self._views([part for part in _conjuncts(where) if not of_points.intersection(part.walk())])
        for place, (some, chosen) in enumerate(frames.items()):
            nodes = list(chosen)
            has_times = needs_times(nodes)
            framed = make_frame(self._engine, self._binder, views, some, self._bound, has_times=has_times)
            if framed is None:
                self._reduced |= {(node, some): _OF_NOTHING.get(node.op, _NO_NUMBER) for node in nodes}
                continue
            frame = with_attributes(framed.frame, self._project, views, nodes, self._binder)
            self._join(reduced(nodes, frame, self._binder), f"p{place}")
            self._reduced |= {(node, some): f"p{place}.r{number}" for number, node in enumerate(nodes)}

    def _views(self, conditions: Sequence[Node], among: Sequence[int] | None = None) -> list[RunView]:
        """The runs that meet some conditions, of those with some keys or of all, as they are seen."""
        wanted = [self.sql(one) for one in conditions]
        parameters = dict(self._binder.parameters)
        if among is not None:
            wanted.append("r.run IN {among:Array(UInt64)}")
            parameters["among"] = among
        sql = f"SELECT r.run_id AS run_id, r.branch AS branch FROM {self.tables}"
        if wanted:
            sql += f" WHERE {' AND '.join(wanted)}"
        rows = self._engine.query(sql, parameters, limits.QUERY_TIMEOUT_S)
        branches = [Branch(*pair) for pair in zip(rows["run_id"].to_pylist(), rows["branch"].to_pylist(), strict=True)]
        return views_of(self._engine, self._project, branches)


def _frame_of(reducer: Node, tree: Node) -> tuple[Source, ...]:
    """The metrics of the frame of a reducer: all of its expression, where it makes values at their steps."""
    makes_values = any(node.op in ALIGNMENT for node in reducer.walk())
    return tuple(sources(tree if makes_values else reducer))


def _conjuncts(node: Node | None) -> list[Node]:
    if node is None:
        return []
    return [part for one in node.args for part in _conjuncts(one)] if node.op == "and" else [node]
