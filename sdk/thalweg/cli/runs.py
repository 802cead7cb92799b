"""`thalweg runs`: the runs of a project, or the newest of all projects."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import islice
from typing import Any, Final

import click

from thalweg.api_client import ApiClient, segment
from thalweg.cli import formats, output
from thalweg.cli.commas import split_all
from thalweg.cli.options import connect, json_option, url_option
from thalweg.cli.values import number_columns, value_cell
from thalweg.query.ask import Server
from thalweg.query.reading import ask_runs

_TAGS_CHARS: Final = 60


@click.command()
@click.argument("project", required=False, envvar="THALWEG_PROJECT")
@click.option("--limit", "-n", type=click.IntRange(1), default=30, show_default=True, help="Most runs to list.")
@click.option("--filter", "-f", "where", default="", metavar="EXPR", help="Only runs for which it is true.")
@click.option("--columns", "-c", multiple=True, metavar="EXPR,...", help="More columns: attributes, last(loss) ...")
@click.option("--sort", "-s", multiple=True, metavar="EXPR,...", help="Order; a minus before EXPR turns it round.")
@url_option
@json_option
def runs(
    project: str | None,
    limit: int,
    where: str,
    columns: tuple[str, ...],
    sort: tuple[str, ...],
    url: str | None,
    as_json: bool,
) -> None:
    """List the runs of PROJECT, newest first.

    Without PROJECT: those of THALWEG_PROJECT, else the newest of all projects. --filter, --columns and
    --sort take expressions, and need a project. Runs without a value are last.

    \b
    Example: thalweg runs digits --limit 5
             thalweg runs digits --filter 'config.lr > 1e-3' --columns 'config.lr,last(loss)' --sort 'last(loss)'
             thalweg runs --json | jq -r '.runs[] | select(.status == "failed") | .run_id'
    """
    client = connect(url)
    shown: list[dict[str, str]] = []
    if where or columns or sort:
        if not project:
            raise click.UsageError("cannot use expressions on all projects: name PROJECT")
        server = Server(client, project)
        shown, entries = ask_runs(server, filter=where, columns=split_all(columns), sort=split_all(sort), limit=limit)
        found = [{"project": project, **run} for run in entries]
    else:
        found = project_runs(client, project, limit) if project else newest_runs(client, limit)
    if as_json:
        output.print_json({"runs": found, **({"columns": shown} if shown else {})})
    elif found:
        _print(found, shown, with_project=not project)
    else:
        such = " such" if where else ""
        output.note(f"There are no{such} runs in project {project!r}." if project else "There are no runs yet.")


def project_runs(client: ApiClient, project: str, limit: int) -> list[dict[str, Any]]:
    """The newest runs of one project, each with its project."""
    pages = client.pages(f"/projects/{segment(project)}/runs", "runs", limit=limit)
    return [{"project": project, **run} for run in islice(pages, limit)]


def newest_runs(client: ApiClient, limit: int) -> list[dict[str, Any]]:
    """The newest runs of all projects. Asks only those projects that can have one of them."""
    found: list[dict[str, Any]] = []
    projects = list(client.pages("/projects", "projects"))
    for entry in sorted(projects, key=lambda entry: _moment(entry["last_created_at"]), reverse=True):
        if len(found) == limit and _moment(entry["last_created_at"]) < _moment(found[-1]["created_at"]):
            break
        found += project_runs(client, entry["project"], limit)
        found.sort(key=lambda run: _moment(run["created_at"]), reverse=True)
        del found[limit:]
    return found


def _moment(text: str) -> datetime:
    return formats.parse_time(text)


def _print(found: list[dict[str, Any]], shown: list[dict[str, str]], *, with_project: bool) -> None:
    now = datetime.now(timezone.utc)
    columns: tuple[str, ...] = ("run_id", "name", "status", "created", "duration", "tags")
    rows: list[tuple[str, ...]] = [
        (
            run["run_id"],
            run["name"],
            run["status"],
            formats.local_time(run["created_at"]),
            formats.run_duration(run, now),
            formats.shorten(", ".join(run["tags"]), _TAGS_CHARS),
        )
        for run in found
    ]
    if with_project:
        columns = ("project", *columns)
        rows = [(run["project"], *row) for run, row in zip(found, rows, strict=True)]
    if shown:
        columns = (*columns, *(column["name"] for column in shown))
        rows = [(*row, *map(value_cell, run["values"])) for run, row in zip(found, rows, strict=True)]
    output.print_table(columns, rows, right=("duration", *number_columns(shown, found)))
