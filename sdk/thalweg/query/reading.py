"""`runs`, `series`, `stream` and `metrics`: what the server knows, as tables. Series come as Arrow where that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from thalweg.api_client import ApiClient, segment
from thalweg.errors import ServerError
from thalweg.query import decode
from thalweg.query.ask import Place, Runs, Server, Texts, connect, point_columns, series_body, texts
from thalweg.query.table import Table, needed

if TYPE_CHECKING:
    import pyarrow as pa


def runs(
    project: str | None = None,
    filter: str = "",
    columns: Texts = (),
    sort: Texts = (),
    group_by: Texts = (),
    limit: int | None = None,
    *,
    url: str | None = None,
    token: str | None = None,
) -> Table:
    """The runs of a project for which `filter` is true: run_id, branch, name, status, times, tags, and `columns`.

    `columns`: expressions with one value a run, such as "config.lr" or "last(`val/loss`)". `sort`: expressions, the
    first counts most, "-" before one turns it round; the newest run is first where none is given, and runs without a
    value are last. `group_by`: a row for all runs that have the same values of these, with COLUMN.mean, COLUMN.std,
    COLUMN.min, COLUMN.max, COLUMN.n for each column. Project, url and token come from THALWEG_* where they are not
    given. Raises ServerError, SettingError.
    """
    names = texts(group_by)
    server = connect(project, url, token)
    shown, entries = ask_runs(server, filter=filter, columns=columns, sort=sort, group_by=names, limit=limit)
    return decode.groups_table(names, shown, entries) if names else decode.runs_table(shown, entries)


def ask_runs(
    server: Server, *, filter: str, columns: Texts, sort: Texts = (), group_by: Texts = (), limit: int | None = None
) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Columns with their kinds, and runs or groups, as the API has them. Raises ServerError."""
    names = texts(group_by)
    body: dict[str, Any] = {"filter": filter, "columns": texts(columns), "sort": texts(sort), "group_by": names}
    body = {key: value for key, value in body.items() if value}
    shown: list[dict[str, str]] = []
    entries: list[dict[str, Any]] = []
    for page, found in server.post_pages(server.path("runs", "query"), body, "groups" if names else "runs", limit):
        shown = shown or page["columns"]
        entries += found
    return shown, entries


def series(
    project: str | None = None,
    *,
    runs: Runs | None = None,
    filter: str | None = None,
    metrics: Texts = (),
    expressions: Texts = (),
    x: str = "step",
    from_: Place | None = None,
    to: Place | None = None,
    points: int | None = 1000,
    by_rank: bool = False,
    with_time: bool = False,
    group_by: Texts = (),
    url: str | None = None,
    token: str | None = None,
) -> Table:
    """Series in long form, one row a point: run_id, branch, name, x and the values.

    `runs`: ids, (id, branch), or a table that `runs` gave; or `filter`: those for which it is true, "true" for all;
    neither where each expression names its runs, as in run("a", loss) - run("b", loss). `metrics` are
    names, also of custom metrics; `expressions` are computed. `x`: "step", "time", "relative_time" (both in
    seconds), a metric or an expression; `from_` and `to` are places on it, both included. `points`: at most so many
    buckets a series, with min, max, mean, first, last, n, nans; None: each point, with its `value`, and its time if
    `with_time`. `by_rank`: each rank's series, instead of their mean. `group_by`: a series for all runs that have the
    same values of these: mean, std, min, max over the runs, n of them. Series that do not exist are left out.
    Raises InputError, ServerError, SettingError.
    """
    server = connect(project, url, token)
    body = series_body(
        runs=runs,
        filter=filter,
        metrics=metrics,
        expressions=expressions,
        x=x,
        from_=from_,
        to=to,
        points=points,
        by_rank=by_rank,
        with_time=with_time,
        group_by=group_by,
    )
    groups = texts(group_by)
    if body.get("runs") == []:
        return decode.series_table([], point_columns(body), groups)
    arrow = None if groups else _arrow_or_none()
    if arrow is None:
        return decode.series_table(ask_series(server, body), point_columns(body), groups)
    with server.client.stream_arrow(server.path("series"), body) as answer:
        batches = list(_batches(arrow, server.client, answer))
    if not batches:
        return decode.series_table([], point_columns(body))
    return Table(arrow=arrow.Table.from_batches(batches).unify_dictionaries())


def ask_series(server: Server, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Series as the API has them in JSON. Raises ServerError."""
    found: list[dict[str, Any]] = server.client.post(server.path("series"), body)["series"]
    return found


def stream(
    project: str | None = None,
    *,
    runs: Runs | None = None,
    filter: str | None = None,
    metrics: Texts = (),
    expressions: Texts = (),
    x: str = "step",
    from_: Place | None = None,
    to: Place | None = None,
    by_rank: bool = False,
    with_time: bool = False,
    url: str | None = None,
    token: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Each point of series, as record batches of pyarrow while they come: for more than fits into memory.

    Columns and arguments are those of `series` with points=None. The request is made when the first batch is asked
    for. Raises ImportError where pyarrow is not installed, else as `series`, and ServerError where the answer
    breaks off.
    """
    arrow = needed("pyarrow", "arrow")
    server = connect(project, url, token)
    body = series_body(
        runs=runs,
        filter=filter,
        metrics=metrics,
        expressions=expressions,
        x=x,
        from_=from_,
        to=to,
        points=None,
        by_rank=by_rank,
        with_time=with_time,
    )
    return _stream(arrow, server, body)


def _stream(arrow: Any, server: Server, body: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    if body.get("runs") == []:
        return
    with server.client.stream_arrow(server.path("series"), body) as answer:
        yield from _batches(arrow, server.client, answer)


def _batches(arrow: Any, client: ApiClient, answer: Any) -> Iterator[Any]:
    """The batches of an answer that have rows: the schema of one without may lack columns."""
    try:
        with arrow.ipc.open_stream(answer) as batches:
            for batch in batches:
                if batch.num_rows:
                    yield batch
    except arrow.ArrowInvalid as error:
        raise ServerError(f"cannot read the points that {client.url} sends: {error}") from error


def _arrow_or_none() -> Any:
    try:
        return needed("pyarrow", "arrow")
    except ImportError:
        return None


def metrics(
    project: str | None,
    run: str,
    *,
    match: str | None = None,
    prefix: str | None = None,
    branch: int | None = None,
    url: str | None = None,
    token: str | None = None,
) -> Table:
    """What is known of a run's logged metrics: name, first, last, least and greatest value with their steps.

    `match`: a regular expression (RE2) that the name has a place for; `prefix`: its beginning. Raises NotFoundError
    where there is no such run, ServerError, SettingError.
    """
    server = connect(project, url, token)
    path = server.path("runs", segment(run), "metrics")
    found = server.client.pages(path, "metrics", match=match, prefix=prefix, branch=branch)
    return decode.entries_table(list(found), decode.METRIC)
