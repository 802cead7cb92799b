"""Routes of expressions: custom metrics, checking, tables of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import Response

from thalweg.wire import limits as wire_limits
from thalweg_tracker.api import expression_models as models
from thalweg_tracker.api.encode import from_place, json_number, to_cursor
from thalweg_tracker.api.models import ExpressionKind, RunLine
from thalweg_tracker.api.parameters import ProjectName
from thalweg_tracker.api.questions import Question, plain_value, quoted
from thalweg_tracker.engine.answers import rows_of
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import ExpressionError, NotFoundError, RejectedError
from thalweg_tracker.expressions.check import check, check_definition, used_custom
from thalweg_tracker.expressions.names import validate_custom_name
from thalweg_tracker.expressions.tree import Kind, Node, attributes, sources
from thalweg_tracker.expressions.windows import WINDOWS
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query import runs as run_queries
from thalweg_tracker.query.run_table import find_runs, group_runs
from thalweg_tracker.runs.custom_metrics import CustomMetric, remove_custom_metric, write_custom_metric
from thalweg_tracker.sql import load

CustomName = Annotated[str, Path(min_length=1, max_length=wire_limits.METRIC_NAME_MAX_BYTES)]


def add_expressions(router: APIRouter, engine: Engine) -> None:
    """Adds the routes."""
    _add_custom_metrics(router, engine)
    _add_check(router, engine)
    _add_run_table(router, engine)


def _add_custom_metrics(router: APIRouter, engine: Engine) -> None:
    """Expressions with names."""

    @router.get("/projects/{project}/custom-metrics")
    def custom_metrics(project: ProjectName) -> models.CustomMetricPage:
        """Lists the custom metrics of a project by name."""
        question = Question(engine, project)
        found = question.custom_metrics.values()
        return models.CustomMetricPage(custom_metrics=[_line(one, question) for one in found])

    @router.get("/projects/{project}/custom-metrics/{name:path}")
    def custom_metric(project: ProjectName, name: CustomName) -> models.CustomMetricLine:
        """One custom metric."""
        question = Question(engine, project)
        return _line(_present(project, name, question), question)

    @router.put("/projects/{project}/custom-metrics/{name:path}")
    def set_custom_metric(
        project: ProjectName, name: CustomName, metric: models.NewCustomMetric
    ) -> models.CustomMetricLine:
        """Sets a custom metric. From then on it can be asked for like a logged one, of all runs, past and future."""
        validate_custom_name(name)
        question = Question(engine, project)
        check_definition(name, metric.expression, question.custom)
        made = write_custom_metric(
            engine, project, name, metric.expression, metric.description, question.custom_metrics
        )
        return _line(made, Question(engine, project, {**question.custom_metrics, name: made}))

    @router.delete("/projects/{project}/custom-metrics/{name:path}", status_code=204)
    def delete_custom_metric(project: ProjectName, name: CustomName) -> Response:
        """Removes a custom metric. Those that use it are told so when they are asked for."""
        question = Question(engine, project)
        remove_custom_metric(engine, project, _present(project, name, question))
        return Response(status_code=204)


def _present(project: str, name: str, question: Question) -> CustomMetric:
    found = question.custom_metrics.get(name)
    if found is None:
        message = f"there is no custom metric {name!r} in project {project!r}"
        raise NotFoundError("custom_metric_not_found", message, "GET …/custom-metrics lists them.")
    return found


def _line(metric: CustomMetric, question: Question) -> models.CustomMetricLine:
    kind: ExpressionKind | None = None
    inputs: list[str] = []
    problem = None
    try:
        node = check(quoted(metric.name), question.custom)
        kind, inputs = node.kind.value, [source.name for source in sources(node)]
    except ExpressionError as error:  # one that it uses was changed since
        problem = error.message
    return models.CustomMetricLine(
        name=metric.name,
        expression=metric.expression,
        description=metric.description,
        kind=kind,
        inputs=list(dict.fromkeys(inputs)),
        problem=problem,
        created_at=metric.created_at,
        updated_at=metric.updated_at,
    )


def _add_check(router: APIRouter, engine: Engine) -> None:
    """What an expression is, before it is asked."""

    @router.post("/projects/{project}/expressions/check")
    def check_expression(project: ProjectName, asked: models.ExpressionCheck) -> models.CheckedExpression:
        """Tells what an expression gives, what it reads and what it takes; or where it is wrong."""
        question = Question(engine, project)
        node = check(asked.expression, question.custom)
        found = sources(node)
        where: dict[str, Any] = {"project": project, "metrics": [metric_key(source.name) for source in found]}
        where |= {"all": asked.runs is None and asked.filter is None, "run_ids": asked.runs or []}
        if asked.filter is not None:
            rows = find_runs(engine, question.table([], asked.filter), limits.SERIES_MAX_PER_REQUEST)
            where["run_ids"] = rows["run_id"].to_pylist()
        points = engine.query(load("points_of_metrics"), where, limits.QUERY_TIMEOUT_S)["points"][0].as_py()
        nodes = list(node.walk())
        cost = models.ExpressionCost(
            nodes=len(nodes),
            depth=_depth(node),
            windows=sum(one.op in WINDOWS for one in nodes),
            points=points if found else 0,
        )
        return models.CheckedExpression(
            kind=node.kind.value,
            inputs=list(dict.fromkeys(source.name for source in found)),
            attributes=attributes(node),
            custom_metrics=used_custom(asked.expression, question.custom),
            cost=cost,
        )


def _depth(node: Node) -> int:
    return 1 + max(map(_depth, node.args), default=0)


def _add_run_table(router: APIRouter, engine: Engine) -> None:
    """Runs by expressions."""

    @router.post("/projects/{project}/runs/query", response_model=models.RunTable)
    def query_runs(project: ProjectName, query: models.RunQuery) -> Response:
        """Finds, sorts and describes runs by expressions; or groups of them, with statistics over their runs."""
        question = Question(engine, project)
        nodes = question.columns(query.columns)
        columns = [
            models.Column(name=text, kind=node.kind.value) for text, node in zip(query.columns, nodes, strict=True)
        ]
        if query.group_by:
            return _as_json(_grouped(engine, question, query, nodes, columns))
        request = question.table(nodes, query.filter, query.sort)
        after = from_place(query.cursor) if query.cursor else None
        rows = find_runs(engine, request, query.limit + 1, after)
        page, more = rows.slice(0, query.limit), rows.num_rows > query.limit
        lines = rows_of(page)
        summaries = run_queries.describe_runs(engine, project, lines)
        table = models.RunTable(
            columns=columns,
            runs=[_row(line, run, nodes) for line, run in zip(lines, summaries, strict=True)],
            next_cursor=_place(lines[-1]) if more else None,
        )
        return _as_json(table)


def _as_json(table: models.RunTable) -> Response:
    """What was made of models is not checked again: for a hundred runs that took longer than all else of it."""
    return Response(table.model_dump_json(exclude_unset=True), media_type="application/json")


def _row(row: dict[str, Any], run: run_queries.RunSummary, nodes: Sequence[Node]) -> models.RunRow:
    return models.RunRow(
        **{name: getattr(run, name) for name in RunLine.model_fields},
        branch=row["branch"],
        values=[_value(row[f"v{place}"], node.kind) for place, node in enumerate(nodes)],
    )


def _value(value: Any, kind: Kind) -> Any:
    plain = plain_value(value, kind)
    return json_number(plain) if isinstance(plain, float) else plain


def _place(last: dict[str, Any]) -> str:
    """The cursor after a page: what its last run sorts by."""
    keys = [value for name, value in last.items() if name[0] == "k" and name[1:].isdecimal()]
    return to_cursor(*keys, round(last["created_at"].timestamp() * 1e6), last["run_id"])


def _grouped(
    engine: Engine, question: Question, query: models.RunQuery, nodes: Sequence[Node], columns: list[models.Column]
) -> models.RunTable:
    by = question.columns(query.group_by)
    for text, node in zip(query.columns, nodes, strict=True):
        if node.kind is Kind.STRING:
            message = f"cannot take the mean of {text!r} over runs: it is text"
            raise RejectedError("no_number", message, "Ask for a number, or put it into group_by.")
    request = question.table(nodes, query.filter, query.sort, by)
    for key, text in zip(request.sort, query.sort, strict=True):
        if key.node not in by and key.node not in nodes:
            message = f"cannot sort groups by {text!r}: it is none of the columns, nor in group_by"
            raise RejectedError("bad_sort", message, "Add it to the columns.")
    offset = from_offset(query.cursor)
    rows = group_runs(engine, request, by, query.limit + 1, offset).to_pylist()
    page, more = rows[: query.limit], len(rows) > query.limit
    return models.RunTable(
        columns=columns,
        groups=[
            models.GroupRow(
                group=[_value(row[f"g{place}"], node.kind) for place, node in enumerate(by)],
                runs=row["runs"],
                values=[_statistics(row, place) for place in range(len(nodes))],
            )
            for row in page
        ],
        next_cursor=to_cursor(offset + query.limit) if more else None,
    )


def from_offset(cursor: str | None) -> int:
    """How many groups came before."""
    place = from_place(cursor) if cursor else (0,)
    if len(place) != 1 or not isinstance(place[0], int) or place[0] < 0:
        raise RejectedError("bad_cursor", "cannot read the cursor", "Use next_cursor of the page before.")
    return place[0]


def _statistics(row: dict[str, Any], place: int) -> models.Statistics | None:
    found = {name: row[f"v{place}_{name}"] for name in ("mean", "std", "min", "max", "n")}
    return models.Statistics(**found) if found["n"] else None
