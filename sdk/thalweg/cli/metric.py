"""`thalweg metric`: the custom metrics of a project: expressions under a name, which work on all of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from thalweg.cli import formats, output
from thalweg.cli.options import connect, json_option, needed_project_option, url_option
from thalweg.query.ask import Server
from thalweg.query.custom import ask_check, ask_custom_metrics, metric_path, put_metric

_TEXT_CHARS: Final = 80


@click.group()
def metric() -> None:
    """Make, list and remove custom metrics.

    A custom metric is an expression under a name. It works at once on all runs of the project, those
    that have ended and those to come, wherever a metric does.

    \b
    Example: thalweg metric set f1 '2 * precision * recall / (precision + recall)' -p digits
             thalweg metric list -p digits
    """


@metric.command("set")
@click.argument("name")
@click.argument("expression", metavar="EXPR")
@click.option("--description", "-d", default="", metavar="TEXT", help="What it is, for people.")
@needed_project_option
@url_option
@json_option
def set_metric(name: str, expression: str, description: str, project: str, url: str | None, as_json: bool) -> None:
    """Make the custom metric NAME, or change it.

    Before an EXPR that begins with a minus: --

    \b
    Example: thalweg metric set smooth 'ema(`train/loss`, 0.99)' -p digits --description 'for the talk'
    """
    made = put_metric(Server(connect(url), project), name, expression, description)
    if as_json:
        output.print_json(made)
    else:
        output.note(f"{formats.plain(made['name'])} is a {_kind(made)}{_of(made['inputs'])}.")


@metric.command("list")
@needed_project_option
@url_option
@json_option
def list_metrics(project: str, url: str | None, as_json: bool) -> None:
    """List the custom metrics of a project.

    \b
    Example: thalweg metric list -p digits
    """
    found = ask_custom_metrics(Server(connect(url), project))
    if as_json:
        output.print_json({"project": project, "custom_metrics": found})
    elif found:
        rows = [
            (
                one["name"],
                one["kind"] or "wrong",
                *(formats.shorten(one[key], _TEXT_CHARS) for key in ("expression", "description")),
            )
            for one in found
        ]
        output.print_table(("name", "kind", "expression", "description"), rows)
        for one in found:
            if one.get("problem"):
                output.note(f"{formats.plain(one['name'])} is wrong by now: {formats.plain(one['problem'])}")
    else:
        output.note(f"There are no custom metrics in project {project!r}. `thalweg metric set` makes them.")


@metric.command("rm")
@click.argument("name")
@needed_project_option
@url_option
@json_option
def remove_metric(name: str, project: str, url: str | None, as_json: bool) -> None:
    """Remove the custom metric NAME. No point is deleted.

    \b
    Example: thalweg metric rm smooth -p digits
    """
    server = Server(connect(url), project)
    server.client.delete(metric_path(server, name))
    if as_json:
        output.print_json({"project": project, "removed": name})
    else:
        output.note(f"Removed {formats.plain(name)}.")


@metric.command("check")
@click.argument("expression", metavar="EXPR")
@needed_project_option
@url_option
@json_option
def check_expression(expression: str, project: str, url: str | None, as_json: bool) -> None:
    """Tell what EXPR is and what it reads, or where it is wrong.

    \b
    Example: thalweg metric check 'last(f1) > 0.9 and config.lr < 1e-3' -p digits
    """
    found = ask_check(Server(connect(url), project), expression)
    if as_json:
        output.print_json(found)
        return
    listed = {"metrics": "inputs", "attributes": "attributes", "custom metrics": "custom_metrics"}
    pairs = {"kind": _kind(found), **{title: ", ".join(found[key]) for title, key in listed.items() if found[key]}}
    width = max(map(len, pairs))
    for title, text in pairs.items():
        click.echo(f"{title:<{width}}  {formats.plain(text)}")
    cost = "  ".join(f"{formats.plain(key)} {value:,}" for key, value in found["cost"].items() if value is not None)
    click.echo(f"{'cost':<{width}}  {cost}")


def _kind(told: Mapping[str, Any]) -> str:
    kind = str(told["kind"] or "wrong")
    return {"bool_series": "series of true and false", "any": "value of an attribute"}.get(kind, kind)


def _of(inputs: list[str]) -> str:
    return f" of {formats.plain(', '.join(inputs))}" if inputs else ""
