"""From what a request says to what the database is asked: runs, filters, metrics and expressions by their names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from thalweg_tracker.api.models import RunOnBranch, SeriesQuery
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.together import together
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.expressions.check import check_column, check_filter, check_series
from thalweg_tracker.expressions.tree import MEAN, Kind, Node, sources
from thalweg_tracker.lineage.chain import Branch
from thalweg_tracker.model import limits
from thalweg_tracker.query.computed import Axis, Computed
from thalweg_tracker.query.lineage import RunRef, RunView, find_views, views_of
from thalweg_tracker.query.run_table import SortKey, TableRequest, find_runs
from thalweg_tracker.query.series import SeriesRequest
from thalweg_tracker.query.texts import read_json
from thalweg_tracker.runs.custom_metrics import CustomMetric, read_custom_metrics

_AXES: Final[dict[str, Axis]] = {"step": "step", "time": "time", "relative_time": "relative_time"}


class Question:
    """What a project has that names can mean."""

    def __init__(self, engine: Engine, project: str, custom: dict[str, CustomMetric] | None = None) -> None:
        self._engine = engine
        self._project = project
        self.custom_metrics = read_custom_metrics(engine, project) if custom is None else custom
        self.custom = {name: one.expression for name, one in self.custom_metrics.items()}

    def bound(self, trees: Sequence[Node]) -> dict[str, RunView]:
        """The runs that expressions name themselves. Raises NotFoundError."""
        run_ids = list(dict.fromkeys(one.run for tree in trees for one in sources(tree) if one.run is not None))
        if not run_ids:
            return {}
        views = find_views(self._engine, self._project, [RunRef(run_id) for run_id in run_ids])
        return dict(zip(run_ids, views, strict=True))

    def table(
        self, columns: Sequence[Node], where: str | None = None, sort: Sequence[str] = (), more: Sequence[Node] = ()
    ) -> TableRequest:
        """A table of runs. `more`: expressions that it is asked for otherwise. Raises ExpressionError."""
        condition = None if where is None else check_filter(where, self.custom)
        keys = [self._sort_key(text) for text in sort]
        request = TableRequest(self._project, columns, condition, keys)
        return TableRequest(self._project, columns, condition, keys, self.bound([*request.trees, *more]))

    def columns(self, texts: Sequence[str]) -> list[Node]:
        """Expressions of one value a run. Raises ExpressionError."""
        return [check_column(text, self.custom) for text in texts]

    def _sort_key(self, text: str) -> SortKey:
        is_descending = text.startswith("-")
        return SortKey(check_column(text[1:] if is_descending else text, self.custom), is_descending)


def ask_series(engine: Engine, project: str, query: SeriesQuery) -> tuple[SeriesRequest, list[dict[str, Any]] | None]:
    """What a request for series asks, and its groups of runs, if it asks for such. Raises RejectedError."""
    if not query.metrics and not query.expressions:
        raise RejectedError("nothing_asked", "neither metrics nor expressions are asked for", "Name at least one.")
    if query.runs is not None and query.filter is not None:
        raise RejectedError("runs_and_filter", "both runs and a filter are given", "Give one of them.")
    refs = [RunRef(one) if isinstance(one, str) else _ref(one) for one in query.runs or ()]
    read_views = partial(find_views, engine, project, refs)
    views, custom = together(read_views, partial(read_custom_metrics, engine, project))
    question = Question(engine, project, custom)
    computed = {text: check_series(text, question.custom) for text in query.expressions if text not in query.metrics}
    logged = [name for name in dict.fromkeys(query.metrics) if name not in question.custom]
    computed |= {name: check_series(quoted(name), question.custom) for name in query.metrics if name in question.custom}
    axis = _AXES[query.x] if query.x in _AXES else check_series(query.x, question.custom)
    # Of an expression, the runs of a group are in one query, however they are read.
    if axis != "step" or query.group_by:
        computed = {name: check_series(quoted(name), {}) for name in logged} | computed
        logged = []
    trees = [*computed.values(), *([axis] if isinstance(axis, Node) else [])]
    _check_steps_only(trees)
    bound = question.bound(trees)
    if query.runs is None and query.filter is None:
        if not bound:
            raise RejectedError("no_runs", "neither runs nor a filter are given", "Name runs, or filter them.")
        views = [next(iter(bound.values()))]  # each metric names its run: the answer is called by the first of them
    if query.by_rank:
        _check_each_rank(trees)
    groups: list[dict[str, Any]] | None = None
    numbers: dict[int, int] | None = None
    if query.group_by or query.filter is not None:
        rows = find_runs(
            engine, question.table(question.columns(query.group_by), query.filter), limits.SERIES_MAX_PER_REQUEST + 1
        )
        if query.runs is None:
            pairs = zip(rows["run_id"].to_pylist(), rows["branch"].to_pylist(), strict=True)
            views = views_of(engine, project, [Branch(*pair) for pair in pairs])
        if query.group_by:
            groups, numbers = _group(rows.to_pylist(), query.group_by, question.columns(query.group_by))
            views = [view for view in views if view.key in numbers]
    request = SeriesRequest(
        views=list({view.key: view for view in views}.values()),
        metrics=logged,
        low=query.from_,
        high=query.to,
        points=query.points,
        by_rank=query.by_rank and groups is None,
        computed=Computed(project, computed, axis, bound),
        groups=numbers,
    )
    return request, groups


def quoted(name: str) -> str:
    """A metric's name as an expression."""
    return "`" + name.replace("`", "``") + "`"


def _ref(one: RunOnBranch) -> RunRef:
    return RunRef(one.run_id, one.branch)


def _group(
    rows: Sequence[dict[str, Any]], names: Sequence[str], nodes: Sequence[Node]
) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """The groups of runs, by the values that they have, and the number of each run's group."""
    places: dict[tuple[Any, ...], int] = {}
    numbers = {}
    for row in rows:
        values = tuple(row[f"v{place}"] for place in range(len(names)))
        numbers[row["run"]] = places.setdefault(values, len(places))
    groups = [
        {name: plain_value(value, node.kind) for name, value, node in zip(names, values, nodes, strict=True)}
        for values in places
    ]
    return groups, numbers


def plain_value(value: Any, kind: Kind) -> Any:
    """A value of a column as an answer says it; a float stays one."""
    if value is None:
        return None
    return read_json(value) if kind is Kind.ANY else bool(value) if kind is Kind.BOOL else value


def _check_steps_only(trees: Sequence[Node]) -> None:
    """Refuses what is known of runs alone. Raises RejectedError."""
    for node in (node for tree in trees for node in tree.walk()):
        if node.op == "has_tag" or (node.op == "attribute" and str(node.value).startswith("run.")):
            what = node.value if node.op == "attribute" else "has_tag(...)"
            raise RejectedError(
                "not_in_series", f"cannot use {what} in a series", "Use it in a filter, or in a column of runs/query."
            )


def _check_each_rank(trees: Sequence[Node]) -> None:
    for source in (source for tree in trees for source in sources(tree)):
        if source.ranks != MEAN:
            raise RejectedError(
                "ranks_twice",
                f"cannot give a series a rank of {source.name!r}: the expression says itself what to do with ranks",
                "Leave out by_rank, or the function over ranks.",
            )
