"""`thalweg query`: expressions over runs: series as lines with their course, or drawn; numbers as a table of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from thalweg.api_client import ApiClient
from thalweg.cli import formats, output, plots
from thalweg.cli.commas import split_all
from thalweg.cli.csv_lines import print_csv
from thalweg.cli.locate import locate
from thalweg.cli.options import branch_option, connect, json_option, project_option, url_option
from thalweg.cli.series_lines import TREND_CHARS, middle, numbers, print_series
from thalweg.cli.values import print_groups, print_values
from thalweg.query.ask import Server, point_columns, series_body
from thalweg.query.custom import ask_check
from thalweg.query.decode import groups_table, runs_table, series_table
from thalweg.query.reading import ask_runs, ask_series
from thalweg.query.table import Table

POINTS_DEFAULT: Final = 1000
IDS_PER_FILTER: Final = 24
"""Of the greatest length they fit into one expression."""
_SERIES: Final = ("series", "bool_series")


@dataclass(frozen=True, slots=True)
class Target:
    """Of what is asked: runs that are named, each on a branch; all for which a filter is true; what expressions say."""

    server: Server
    runs: list[dict[str, Any]] | None
    filter: str | None
    is_old_branch: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """How series are asked for."""

    x: str
    points: int | None
    by_rank: bool
    group_by: list[str]


@click.command()
@click.argument("expressions", nargs=-1, required=True, metavar="EXPR...")
@project_option
@click.option("--runs", "-r", multiple=True, metavar="RUN,...", help="Runs to read; may be repeated.")
@click.option("--filter", "-f", "where", metavar="EXPR", help='Read all runs for which it is true; "true" is all.')
@click.option(
    "--x", default="step", show_default=True, metavar="X", help="step, time, relative_time, a metric, or an expression."
)
@click.option("--points", type=click.IntRange(1), metavar="N", help=f"Buckets a series.  [default: {POINTS_DEFAULT}]")
@click.option("--exact", is_flag=True, help="Each point, instead of buckets.")
@click.option("--by-rank", is_flag=True, help="Each rank's series, instead of the mean over ranks.")
@click.option("--group-by", "-g", multiple=True, metavar="EXPR,...", help="One line for all runs that agree in these.")
@click.option("--plot", is_flag=True, help="Draw the series, too (pip install 'thalweg[plot]').")
@branch_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV in long form, and nothing else, on stdout.")
@url_option
@json_option
def query(
    expressions: tuple[str, ...],
    project: str | None,
    runs: tuple[str, ...],
    where: str | None,
    x: str,
    points: int | None,
    exact: bool,
    by_rank: bool,
    group_by: tuple[str, ...],
    plot: bool,
    branch: int | None,
    as_csv: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Compute expressions over the runs that --runs or --filter names.

    EXPR is a metric, or computed from metrics; `name` in backticks has any characters. Series are
    printed as a line each; what is one value a run, such as last(loss), as a table of runs. A RUN is
    RUN_ID or PROJECT/RUN_ID. Neither option is needed where each EXPR names its runs, as in
    run("a", loss) - run("b", loss). Before an EXPR that begins with a minus: --

    \b
    Example: thalweg query 'ema(loss, 0.9)' -p digits --runs lr-3e-4,lr-1e-3 --plot
             thalweg query 'last(`val/loss`)' config.lr -p digits --filter 'has_tag("baseline")'
             thalweg query loss -p digits --filter true --group-by config.seed --csv > loss.csv
    """
    if exact and points:
        raise click.UsageError("cannot use --points with --exact: exact points come in no buckets")
    if as_csv and as_json:
        raise click.UsageError("cannot print both --csv and --json: choose one")
    library = plots.needed_plotext() if plot else None
    target = find_target(connect(url), project, split_all(runs), where, branch)
    kinds = [ask_check(target.server, text, runs=target.runs, filter=target.filter)["kind"] for text in expressions]
    as_series = [text for text, kind in zip(expressions, kinds, strict=True) if kind in _SERIES]
    as_values = [text for text, kind in zip(expressions, kinds, strict=True) if kind not in _SERIES]
    if as_csv and as_series and as_values:
        raise click.UsageError(f"cannot print one CSV: {as_series[0]!r} is a series, {as_values[0]!r} a value a run")
    if plot and not as_series:
        raise click.UsageError(f"cannot draw {as_values[0]!r}: it is one value a run, no series")
    is_lines = not (as_csv or as_json or plot)
    buckets = None if exact else points or (TREND_CHARS * 2 if is_lines else POINTS_DEFAULT)
    shape = Shape(x, buckets, by_rank, split_all(group_by))
    series = read_series(target, as_series, shape) if as_series else None
    values = read_values(target, as_values, shape.group_by) if as_values else None
    if as_json:
        output.print_json(_document(target, series, values, shape.group_by))
    elif as_csv:
        print_csv(_table(target, as_series, shape, series, values))
    else:
        if series is not None:
            show_series(series, shape, library)
            tell_missing(as_series, series)
        if values is not None:
            show_values(*values, shape.group_by)


def find_target(
    client: ApiClient, project: str | None, runs: Sequence[str], where: str | None, branch: int | None
) -> Target:
    """What the options name. Raises UsageError, NotFoundError."""
    if runs and where:
        raise click.UsageError("cannot use --runs with --filter: choose one")
    if not runs:
        if branch is not None:
            raise click.UsageError("cannot use --branch without --runs: it is of runs that are named")
        if not project:
            raise click.UsageError("cannot read the runs of all projects: name one, by --project or THALWEG_PROJECT")
        return Target(Server(client, project), None, where, False)
    found = [locate(client, text, project, branch) for text in runs]
    projects = sorted({run.project for run in found})
    if len(projects) > 1:
        raise click.UsageError(f"cannot read runs of several projects at once: {', '.join(projects)}")
    is_old = any(branch is not None and branch != _newest(run.document) for run in found)
    return Target(Server(client, projects[0]), [run.series_name for run in found], None, is_old)


def _newest(run: Mapping[str, Any]) -> int:
    return max(int(one["branch"]) for one in run["branches"])


def read_series(target: Target, expressions: Sequence[str], shape: Shape) -> list[dict[str, Any]]:
    """The series, as the API has them. Raises ServerError."""
    return ask_series(target.server, _body(target, expressions, shape))


def _body(target: Target, expressions: Sequence[str], shape: Shape) -> dict[str, Any]:
    return series_body(
        runs=target.runs,
        filter=target.filter,
        metrics=(),
        expressions=expressions,
        x=shape.x,
        from_=None,
        to=None,
        points=shape.points,
        by_rank=shape.by_rank,
        with_time=False,
        group_by=shape.group_by,
    )


def read_values(
    target: Target, expressions: Sequence[str], group_by: Sequence[str]
) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Columns and runs, or groups of runs, as the API has them; runs that were named in that order."""
    if target.runs is None:
        if not target.filter:
            raise click.UsageError(f"of which runs is {expressions[0]!r} asked? --filter true takes all of the project")
        return ask_runs(target.server, filter=target.filter or "", columns=expressions, group_by=group_by)
    if target.is_old_branch:
        raise click.UsageError("cannot compute values of old branches: leave --branch out, or ask for series")
    ids = list(dict.fromkeys(run["run_id"] for run in target.runs))
    if group_by and len(ids) > IDS_PER_FILTER:
        raise click.UsageError(f"cannot group more than {IDS_PER_FILTER} named runs: take them by --filter")
    columns: list[dict[str, str]] = []
    found: list[dict[str, Any]] = []
    for start in range(0, len(ids), IDS_PER_FILTER):
        only = filter_of(ids[start : start + IDS_PER_FILTER])
        columns, entries = ask_runs(target.server, filter=only, columns=expressions, group_by=group_by)
        found += entries
    return columns, found if group_by else sorted(found, key=lambda run: ids.index(run["run_id"]))


def filter_of(ids: Sequence[str]) -> str:
    """An expression that is true of these runs alone."""
    quoted = (one.replace("\\", "\\\\").replace('"', '\\"') for one in ids)
    return " or ".join(f'run.id == "{one}"' for one in quoted)


def show_series(series: list[dict[str, Any]], shape: Shape, library: Any) -> None:
    """Prints series for people."""
    if not series:
        return
    if library is not None:
        curves = [plots.Curve(numbers(one["x"]), middle(one)) for one in series]
        click.echo(plots.draw(library, curves, formats.plain(shape.x)))
        if len(series) > len(plots.LETTERS):
            output.note(f"Only the first {len(plots.LETTERS)} of {len(series):,} series are drawn.")
    print_series(series, plots.marks(len(series)) if library is not None and len(series) > 1 else ())


def tell_missing(asked: Sequence[str], series: Sequence[Mapping[str, Any]]) -> None:
    """Says of which expressions no run has points."""
    found = {one["name"] for one in series}
    for text in dict.fromkeys(asked):
        if text not in found:
            hint = " A metric of that name is written in backticks." if "/" in text and "`" not in text else ""
            output.note(f"There are no points of {formats.plain(text)} in these runs.{hint}")


def show_values(columns: list[dict[str, str]], entries: list[dict[str, Any]], group_by: Sequence[str]) -> None:
    """Prints values for people."""
    if not entries:
        output.note("There are no such runs.")
    elif group_by:
        print_groups(group_by, columns, entries)
    else:
        print_values(columns, entries)


def _document(target: Target, series: Any, values: Any, group_by: Sequence[str]) -> dict[str, Any]:
    document = {"project": target.server.project}
    if series is not None:
        document["series"] = series
    if values is not None:
        document["columns"], document["groups" if group_by else "runs"] = values
    return document


def _table(target: Target, expressions: Sequence[str], shape: Shape, series: Any, values: Any) -> Table:
    if series is not None:
        return series_table(series, point_columns(_body(target, expressions, shape)), shape.group_by)
    return groups_table(shape.group_by, *values) if shape.group_by else runs_table(*values)
