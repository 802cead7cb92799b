"""`thalweg runs`: the runs of a project, or the newest of all projects."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import islice
from typing import Any, Final

import click

from thalweg.api_client import ApiClient, segment
from thalweg.cli import formats, output
from thalweg.cli.options import connect, json_option, url_option

_TAGS_CHARS: Final = 60


@click.command()
@click.argument("project", required=False, envvar="THALWEG_PROJECT")
@click.option("--limit", "-n", type=click.IntRange(1), default=30, show_default=True, help="Most runs to list.")
@url_option
@json_option
def runs(project: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List the runs of PROJECT, newest first.

    Without PROJECT: those of THALWEG_PROJECT, else the newest of all projects.

    \b
    Example: thalweg runs digits --limit 5
             thalweg runs --json | jq -r '.runs[] | select(.status == "failed") | .run_id'
    """
    client = connect(url)
    found = project_runs(client, project, limit) if project else newest_runs(client, limit)
    if as_json:
        output.print_json({"runs": found})
    elif found:
        _print(found, with_project=not project)
    else:
        output.note(f"There are no runs in project {project!r}." if project else "There are no runs yet.")


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


def _print(found: list[dict[str, Any]], *, with_project: bool) -> None:
    now = datetime.now(timezone.utc)
    columns = ("run_id", "name", "status", "created", "duration", "tags")
    rows = [
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
        columns = ("project", *columns)  # type: ignore[assignment]  # one more column
        rows = [(run["project"], *row) for run, row in zip(found, rows, strict=True)]  # type: ignore[misc]
    output.print_table(columns, rows, right=("duration",))
