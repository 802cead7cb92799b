"""Custom metrics: expressions under a name, which work on all runs of a project; and whether an expression is right."""

from __future__ import annotations

from typing import Any

from thalweg.api_client import segment
from thalweg.query import decode
from thalweg.query.ask import Runs, Server, connect, run_ids
from thalweg.query.table import Table


def custom_metrics(project: str | None = None, *, url: str | None = None, token: str | None = None) -> Table:
    """The custom metrics of a project: name, expression, description, kind, inputs, problem and times.

    `kind` is None where the expression is wrong by now, as one that it uses was changed; `problem` says why. Raises
    ServerError.
    """
    return decode.entries_table(ask_custom_metrics(connect(project, url, token)), decode.CUSTOM_METRIC)


def ask_custom_metrics(server: Server) -> list[dict[str, Any]]:
    """The custom metrics as the API has them. Raises ServerError."""
    return list(server.client.pages(server.path("custom-metrics"), "custom_metrics"))


def set_metric(
    project: str | None,
    name: str,
    expression: str,
    description: str = "",
    *,
    url: str | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Makes a custom metric, or changes it; works at once on all runs. Returns what the server made of it.

    Raises ServerError, with the place in the text where the expression is wrong.
    """
    return put_metric(connect(project, url, token), name, expression, description)


def put_metric(server: Server, name: str, expression: str, description: str) -> dict[str, Any]:
    """Makes a custom metric. Raises ServerError."""
    body = {"expression": expression, "description": description}
    made: dict[str, Any] = server.client.put(metric_path(server, name), body)
    return made


def delete_metric(project: str | None, name: str, *, url: str | None = None, token: str | None = None) -> None:
    """Removes a custom metric. Raises NotFoundError, ServerError (such as where another one uses it)."""
    server = connect(project, url, token)
    server.client.delete(metric_path(server, name))


def check(
    project: str | None,
    expression: str,
    *,
    runs: Runs | None = None,
    filter: str | None = None,
    url: str | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """What an expression is: its kind, the metrics, attributes and custom metrics that it reads, what it costs.

    With `runs` or `filter` the cost counts the points of those. Raises ServerError where the expression is wrong.
    """
    return ask_check(connect(project, url, token), expression, runs=runs, filter=filter)


def ask_check(
    server: Server, expression: str, *, runs: Runs | None = None, filter: str | None = None
) -> dict[str, Any]:
    """What an expression is. Raises ServerError."""
    body: dict[str, Any] = {"expression": expression}
    if runs is not None:
        body["runs"] = run_ids(runs)
    if filter:
        body["filter"] = filter
    found: dict[str, Any] = server.client.post(server.path("expressions", "check"), body)
    return found


def metric_path(server: Server, name: str) -> str:
    """Path of a custom metric, whose name may have any characters."""
    return server.path("custom-metrics", segment(name))
