"""Reducers in tables of runs that are known from statistics, without points: of logged metrics, and the first and last
value of what is computed from several at each step, where those begin or end at one step. Runs of which the
statistics do not tell are read from points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from thalweg.wire import limits as wire_limits
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.compile import needs_times, reduced
from thalweg_tracker.expressions.reducers import FROM_STATISTICS
from thalweg_tracker.expressions.scalars import POINT_WISE, as_number, scalar_sql
from thalweg_tracker.expressions.tree import MEAN, Node, Source, sources
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.computed import with_attributes
from thalweg_tracker.query.facts import facts_sql, find_marked, find_suspects, own_facts_sql, uneven_sql
from thalweg_tracker.query.frames import make_frame
from thalweg_tracker.query.lineage import RunView

_AT_AN_END: Final = frozenset({"last", "first", "exists"})
"""Known of a metric that several ranks wrote, too: their mean at one step."""
_LEAVES: Final = frozenset({"metric", "number", "text", "boolean", "attribute"})


def is_known(reducer: Node) -> bool:
    """Whether the statistics of metrics tell a reducer, but for some runs."""
    operand = reducer.args[0]
    some = sources(operand)
    if not some or any(source.run is not None or source.ranks != MEAN for source in some):
        return False
    if operand.op == "metric":
        return reducer.op in FROM_STATISTICS
    return reducer.op in ("last", "first") and all(
        node.op in POINT_WISE or node.op in _LEAVES for node in operand.walk()
    )


def suspects_of(engine: Engine, project: str, reducers: Sequence[Node]) -> list[int]:
    """The branches in which the statistics may not tell some reducers."""
    names = {source.name for node in reducers for source in sources(node)}
    return find_suspects(engine, project, [metric_key(name) for name in names]) if names else []


@dataclass(slots=True)
class RunFacts:
    """Makes the columns of such reducers. `lineage`: a query like ways.sql; None: no run of the project has one.

    `suspects`: branches whose statistics may not tell. `read_views`: some runs, by their keys, as they are seen.
    """

    engine: Engine
    project: str
    lineage: str | None
    suspects: Sequence[int]
    binder: Binder
    read_views: Callable[[Sequence[int]], list[RunView]]

    @property
    def _is_plain(self) -> bool:
        """Whether each branch stands for itself, and each series is by one writer."""
        return self.lineage is None and not self.suspects

    def join(self, reducers: Sequence[Node], columns: dict[Node, str]) -> list[tuple[str, str]]:
        """Adds the SQL of each reducer to the columns. Returns the tables to join by run, with their aliases."""
        facts = list(dict.fromkeys((source.name, _fact(node)) for node in reducers for source in sources(node)))
        names = list(dict.fromkeys(name for name, _ in facts))
        keys = {name: metric_key(name) for name in names}
        over_ranks = {source.name for node in reducers if node.op not in _AT_AN_END for source in sources(node)}
        marked = self._marked(keys, sorted(over_ranks))
        tables = [(self._own_facts(facts, keys) if self._is_plain else self._facts(facts, keys, marked), "f")]
        place = {fact: f"f.f{number}" for number, fact in enumerate(facts)}
        stale: dict[Node, frozenset[int]] = {}
        for node in reducers:
            columns[node] = self._value(node, place, columns)
            stale[node] = frozenset(view for source in sources(node) for view in marked[source.name])
            if node.args[0].op != "metric":
                stale[node] |= self._uneven(node, keys)
        alike: dict[tuple[tuple[Source, ...], frozenset[int]], list[Node]] = {}
        for node, views in stale.items():
            if views:
                alike.setdefault((tuple(sources(node)), views), []).append(node)
        for number, ((some, views), nodes) in enumerate(alike.items()):
            alias = f"m{number}"
            sql = self._from_points(some, views, nodes)
            among = f"r.run IN {self.binder.bind(sorted(views), 'Array(UInt64)')}"
            for column, node in enumerate(nodes):
                read = f"{alias}.r{column}" if sql else "NULL"
                columns[node] = f"if({among}, {read}, {columns[node]})"
            tables += [(sql, alias)] if sql else []
        for node in reducers:
            if node.op == "exists":
                columns[node] = f"isNotNull({columns[node]})"
        return tables

    def _where(self, keys: Mapping[str, int]) -> dict[str, Any]:
        host = [key for name, key in keys.items() if name.startswith(wire_limits.SYSTEM_PREFIX)]
        return {"project": self.project, "metrics": list(keys.values()), "host": host}

    def _marked(self, keys: Mapping[str, int], over_ranks: Sequence[str]) -> dict[str, list[int]]:
        """The runs, by metric, in which points have to be read. `over_ranks`: also where several ranks wrote it."""
        marked: dict[str, list[int]] = {name: [] for name in keys}
        if self._is_plain:
            return marked
        where = {**self._where(keys), "over_ranks": [keys[name] for name in over_ranks]}
        names = {key: name for name, key in keys.items()}
        for view, metric in find_marked(self.engine, where, self.suspects, self.lineage):
            marked[names[metric]].append(view)
        return marked

    def _own_facts(self, facts: Sequence[tuple[str, str]], keys: Mapping[str, int]) -> str:
        """The query of run, and f0, f1, ...: facts of metrics, each series by one writer and whole."""
        bound = {f"key{place}": keys[name] for place, (name, _) in enumerate(facts)}
        sql = own_facts_sql([(fact, f"{{{key}:UInt64}}") for key, (_, fact) in zip(bound, facts, strict=True)])
        return self.binder.embed(sql, {**self._where(keys), **bound})

    def _facts(self, facts: Sequence[tuple[str, str]], keys: Mapping[str, int], marked: Mapping[str, list[int]]) -> str:
        """The same of any series but those that are marked."""
        where = self._where(keys)
        where["marked_views"] = [view for views in marked.values() for view in views]
        where["marked_metrics"] = [keys[name] for name, views in marked.items() for _ in views]
        asked = facts_sql((fact for _, fact in facts), self.lineage, has_marked=bool(where["marked_views"]))
        bound = {name: self.binder.bind(key, "UInt64") for name, key in keys.items()}
        values = ", ".join(f"anyIf({fact}, metric = {bound[name]}) AS f{n}" for n, (name, fact) in enumerate(facts))
        return f"SELECT run, {values} FROM ({self.binder.embed(asked, where)}) GROUP BY run"

    def _value(self, node: Node, place: Mapping[tuple[str, str], str], columns: Mapping[Node, str]) -> str:
        """A reducer over facts: of what is computed, the same of the facts."""

        def find(one: Node) -> str | None:
            if one.op != "metric":
                return columns.get(one)
            assert isinstance(one.value, Source)
            return place[one.value.name, _fact(node)]

        operand = node.args[0]
        return as_number(scalar_sql(operand, self.binder, find), operand.kind)

    def _uneven(self, node: Node, keys: Mapping[str, int]) -> frozenset[int]:
        """The runs in which the metrics of a reducer do not begin, or end, together."""
        where = self._where({source.name: keys[source.name] for source in sources(node)})
        at: Literal["first", "last"] = "last" if node.op == "last" else "first"
        found = self.engine.query(uneven_sql(at, self.lineage), where, limits.QUERY_TIMEOUT_S)
        return frozenset(found["run"].to_pylist())

    def _from_points(self, some: Sequence[Source], runs: frozenset[int], nodes: Sequence[Node]) -> str | None:
        """The query of reducers of some runs over their points; None where those have none."""
        views = self.read_views(sorted(runs))
        if not views:
            return None
        as_values = [node if node.op != "exists" else Node("last", node.args[0].kind, node.args) for node in nodes]
        framed = make_frame(self.engine, self.binder, views, some, {}, has_times=needs_times(as_values))
        if framed is None:
            return None
        frame = with_attributes(framed.frame, self.project, views, as_values, self.binder)
        return reduced(as_values, frame, self.binder)


def _fact(reducer: Node) -> str:
    return "last" if reducer.op == "exists" else reducer.op
