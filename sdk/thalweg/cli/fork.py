"""`thalweg fork`: a new run that continues another one after a step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from thalweg import attributes
from thalweg.checkpoints.points import LATEST_CHECKPOINT
from thalweg.cli import formats, output
from thalweg.cli.locate import LocatedRun, locate_point
from thalweg.cli.options import branch_option, connect, json_option, project_option, url_option
from thalweg.errors import InputError


@click.command()
@click.argument("point", metavar="RUN@STEP")
@project_option
@click.option("--run-id", metavar="ID", help="Id of the new run.  [default: made up]")
@click.option("--name", metavar="TEXT", help="Name of the new run.")
@click.option("--tag", "-t", "tags", multiple=True, metavar="TAG", help="Tag of the new run; may be repeated.")
@click.option(
    "--config",
    "-c",
    "changes",
    multiple=True,
    metavar="PATH=JSON",
    help="A value of the config that differs from the parent's, such as optimizer.lr=3e-4; may be repeated.",
)
@click.option("--notes", metavar="TEXT", help="Notes of the new run.")
@branch_option
@url_option
@json_option
def fork(
    point: str,
    project: str | None,
    run_id: str | None,
    name: str | None,
    tags: tuple[str, ...],
    changes: tuple[str, ...],
    notes: str | None,
    branch: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Make a run whose history up to STEP, included, is that of RUN.

    Nothing is copied: it takes no longer for a large run. Config is inherited, tags and notes are not.
    RUN@latest-checkpoint stands for the step of RUN's latest complete checkpoint. The same order with the
    same --run-id gives the same run again. What is printed last continues it in a training.

    \b
    Example: thalweg fork digits/20260101-abcdefgh@9000 --config optimizer.lr=3e-4 --tag retry
             thalweg fork 20260101-abcdefgh@latest-checkpoint --json | jq -r .run_id
    """
    config = parse_config(changes)
    client = connect(url)
    parent, place = locate_point(client, point, project, branch)
    if place.step is None and not place.latest_checkpoint:
        raise click.UsageError(
            f"cannot fork run {place.run_id}: at which step? Give {place.run_id}@STEP or "
            f"{place.run_id}@{LATEST_CHECKPOINT}"
        )
    order = {
        "run_id": run_id,
        "step": LATEST_CHECKPOINT if place.step is None else place.step,
        "branch": branch,
        "name": name,
        "notes": notes,
        "tags": list(tags),
        "config": config,
    }
    made = client.post(parent.path + "/fork", order)
    if as_json:
        output.print_json({"project": parent.project, **made})
    else:
        _print(parent, made)


def parse_config(changes: Sequence[str]) -> dict[str, Any]:
    """Values of the config by dotted path, from `path=JSON`. Raises UsageError."""
    config: dict[str, Any] = {}
    for text in changes:
        path, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"cannot use --config {text!r}: wanted PATH=JSON, such as optimizer.lr=3e-4")
        for parts, leaf in attributes.flatten({path.strip(): _value(text, value)}):
            try:
                _add(config, attributes.join(*parts), leaf)
            except InputError as error:
                raise click.UsageError(f"cannot use --config {text!r}: {error}") from error
    return config


def _value(text: str, value: str) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(f"JSON has no {name}")

    try:
        return json.loads(value, parse_constant=refuse)
    except ValueError as error:
        path = text.partition("=")[0]
        raise click.UsageError(
            f"cannot use --config {text!r}: its value is not JSON ({error}). For text: --config '{path}=\"{value}\"'"
        ) from error


def _add(config: dict[str, Any], path: str, value: Any) -> None:
    for other in config:
        if path == other:
            raise InputError(f"{path} is given twice")
        if path.startswith(other + ".") or other.startswith(path + "."):
            raise InputError(f"one of {path} and {other} would be within the other")
    config[path] = value


def _print(parent: LocatedRun, made: dict[str, Any]) -> None:
    step, last_step = made["fork_step"], made["parent_last_step"]
    stands = "has no points yet" if last_step is None else f"stands at step {formats.step(last_step)}"
    branch = made["parent"]["branch"]
    of_branch = f" (branch {branch})" if branch or len(parent.document["branches"]) > 1 else ""
    click.echo(click.style(formats.plain(f"{parent.project}/{made['run_id']}"), bold=True))
    lines = {
        "parent": made["parent"]["run_id"] + of_branch,
        "step": formats.step(step),
        "ahead": f"yes: the parent {stands}, what it logs up to step {formats.step(step)} will be seen in the fork too"
        if made["is_ahead"]
        else f"no: the parent {stands}",
    }
    for key, text in lines.items():
        click.echo(f"  {key:<6}  {formats.plain(text)}")
    click.echo(click.style("\nContinue it in a training with", bold=True))
    click.echo(f"  {init_line(parent, made)}")


def init_line(parent: LocatedRun, made: dict[str, Any]) -> str:
    """The line of Python that continues the fork."""
    point = f"{made['parent']['run_id']}@{formats.step(made['fork_step'])}"
    named = {"project": parent.project, "run_id": made["run_id"], "fork_from": point}
    told = ", ".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in named.items())
    return formats.plain(f"run = thalweg.init({told})")
