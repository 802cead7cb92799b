"""`thalweg delete`, `thalweg undelete`, `thalweg retention`: what becomes of runs that nobody needs any more."""

from __future__ import annotations

from typing import Any, Final

import click

from thalweg.api_client import run_path, segment
from thalweg.cli import formats, output
from thalweg.cli.locate import locate, split
from thalweg.cli.options import connect, json_option, needed_project_option, project_option, url_option
from thalweg.cli.spans import as_seconds, span_text

_SHOWN: Final = 10
"""Runs that are named one by one."""


@click.command()
@click.argument("run", required=False, metavar="[RUN]")
@project_option
@click.option(
    "--after", callback=as_seconds, metavar="TIME", help="For how long it can be brought back.  [default: 7d]"
)
@click.option("--now", is_flag=True, help="Purge it at once. It cannot be brought back.")
@click.option("--with-descendants", is_flag=True, help="Also the runs that continue it.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@url_option
@json_option
def delete(
    run: str | None,
    project: str | None,
    after: float | None,
    now: bool,
    with_descendants: bool,
    yes: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Delete a run, or with --project alone all runs of a project.

    It vanishes from all lists and answers at once. For a week `thalweg undelete` brings it back; then its data are
    purged. Of a run that others continue the data are kept until these are gone too: they see its points.
    Objects of its checkpoints stay where they are: `thalweg checkpoints prune` deletes them, before.

    \b
    Example: thalweg delete digits/20260101-abcdefgh
             thalweg delete --project digits --now --yes
    """
    if now and after is not None:
        raise click.UsageError("give one of --now and --after")
    client = connect(url)
    query = {"keep_s": after, "now": now or None, "with_descendants": with_descendants or None}
    if run is not None:
        found = locate(client, run, project)
        named, path = found.label, found.path
    elif project:
        if with_descendants:
            raise click.UsageError("runs of a project are continued within it only: leave out --with-descendants")
        named, path = project, f"/projects/{segment(project)}"
        query.pop("with_descendants")
    else:
        raise click.UsageError("name a run, or a whole project with --project")
    what = f"run {named}" if run is not None else f"all runs of project {named}"
    if (now or run is None) and not yes:
        question = f"Purge {what} for good?" if now else f"Delete {what}?"
        click.confirm(formats.plain(question), abort=True, err=True)
    answer = client.delete(path, **query)
    if as_json:
        output.print_json(answer)
    else:
        _say_deleted(named, run is not None, now, answer)


def _say_deleted(named: str, is_run: bool, now: bool, answer: dict[str, Any]) -> None:
    count = len(answer["runs"])
    until = answer["runs"][0]["purge_at"][:16].replace("T", " ")
    which = named if count == 1 and is_run else f"{count} run{'s' if count > 1 else ''} of {named}"
    output.note(formats.plain(f"Deleted {which}."))
    project = named.partition("/")[0]
    if now:
        output.note("The server removes the data in the background; they cannot be brought back.")
    else:
        example = named if is_run else f"{project}/RUN"
        output.note(formats.plain(f"Until {until} UTC `thalweg undelete {example}` brings it back."))
    if answer["waits_for"]:
        runs = answer["waits_for"]
        more = f" and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
        output.note(
            formats.plain(
                f"Its data are kept until these are gone too, which continue it: {', '.join(runs[:_SHOWN])}{more}."
                " --with-descendants deletes them with it."
            )
        )


@click.command()
@click.argument("run", required=False, metavar="[RUN]")
@project_option
@url_option
@json_option
def undelete(run: str | None, project: str | None, url: str | None, as_json: bool) -> None:
    """Bring a deleted run back; without RUN, list those of a project that can be.

    Of a run that was purged nothing comes back: only its id is free again.

    \b
    Example: thalweg undelete digits/20260101-abcdefgh
             thalweg undelete --project digits
    """
    client = connect(url)
    if run is None:
        if not project:
            raise click.UsageError("name the run, or a project with --project to list its deleted runs")
        _list(project, client.get(f"/projects/{segment(project)}/deleted")["runs"], as_json)
        return
    named, run_id = split(run, project)
    if named is None:
        raise click.UsageError(f"in which project was {run_id}? Name it as PROJECT/{run_id}, or with --project")
    answer = client.post(f"{run_path(named, run_id)}/undelete", {})
    if as_json:
        output.print_json(answer)
    elif answer["is_empty"]:
        output.note(formats.plain(f"{named}/{run_id} was purged: nothing comes back, but the id is free again."))
    else:
        output.note(formats.plain(f"{named}/{run_id} is back."))


def _list(project: str, runs: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        output.print_json({"project": project, "runs": runs})
    elif not runs:
        output.note(formats.plain(f"No run of project {project} is deleted and can be brought back."))
    else:
        rows = [
            (one["run_id"], one["state"], one["reason"], *(one[key][:16].replace("T", " ") for key in _TIMES))
            for one in runs
        ]
        output.print_table(("run", "state", "reason", "deleted at", "purged after"), rows)


_TIMES: Final = ("deleted_at", "purge_at")


@click.command()
@needed_project_option
@click.option(
    "--keep", callback=as_seconds, metavar="TIME", help="Keep runs for so long after their last word, such as 180d."
)
@click.option("--off", is_flag=True, help="Keep them for ever again.")
@click.option("--show", is_flag=True, help="Tell what holds now; also without any option.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@url_option
@json_option
def retention(
    project: str, keep: float | None, off: bool, show: bool, yes: bool, url: str | None, as_json: bool
) -> None:
    """Say for how long a project keeps its runs.

    Those whose last word is older are deleted, as by `thalweg delete`: for a week `thalweg undelete` brings them back,
    and from then on they are kept.

    \b
    Example: thalweg retention --project digits --keep 180d
             thalweg retention --project digits --show
    """
    if (keep is not None) + off + show > 1:
        raise click.UsageError("give one of --keep, --off and --show")
    client = connect(url)
    path = f"/admin/projects/{segment(project)}/retention"
    if keep is not None and not yes:
        due = client.put(path + "?dry_run=true", {"keep_s": round(keep)})["runs_due"]
        if due:
            click.confirm(f"{due} runs are older already and will be deleted. Go on?", abort=True, err=True)
    if keep is not None or off:
        answer = client.put(path, {"keep_s": None if keep is None else round(keep)})
    else:
        answer = client.get(path)
    if as_json:
        output.print_json({"project": project, **answer})
    elif answer["keep_s"] is None:
        output.note(formats.plain(f"Project {project} keeps its runs for ever."))
    else:
        span = span_text(answer["keep_s"])
        output.note(formats.plain(f"Project {project} keeps its runs for {span} after their last word."))
