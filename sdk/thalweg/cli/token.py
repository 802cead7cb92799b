"""`thalweg token`: who may use a server that asks for tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from thalweg.api_client import segment
from thalweg.cli import formats, output
from thalweg.cli.options import connect, json_option, url_option
from thalweg.cli.spans import as_seconds

_LIMITS: Final = ("points_per_s", "streams", "metrics_per_run", "requests_per_s", "query_seconds_per_s")


def _limits(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, float]:
    """Limits and their numbers: points_per_s=100000."""
    found = {}
    for value in values:
        name, _, number = value.partition("=")
        if name not in _LIMITS:
            raise click.BadParameter(f"{name!r} is none of the limits: {', '.join(_LIMITS)}")
        try:
            found[name] = float(number)
        except ValueError:
            raise click.BadParameter(f"{value!r}: wanted {name}=NUMBER") from None
    return found


@click.group()
def token() -> None:
    """Make, list and revoke the tokens of a server that asks for them.

    Who makes tokens needs one of an administrator in THALWEG_TOKEN. A token of one project sees nothing of others.

    \b
    Example: thalweg token create --project digits --role write --expires 30d
             thalweg token list
    """


@token.command("create")
@click.option("--project", "-p", metavar="P", help="The one project that it is good for.  [default: all of them]")
@click.option("--role", type=click.Choice(["read", "write", "admin"]), required=True, help="What it may do.")
@click.option("--name", default="", metavar="TEXT", help="What it is for, for people.")
@click.option(
    "--expires", callback=as_seconds, metavar="TIME", help="Until when it is good: 12h, 30d, 8w.  [default: ever]"
)
@click.option("--limit", "limits", callback=_limits, multiple=True, metavar="NAME=N", help="A limit of its own.")
@url_option
@json_option
def create(
    project: str | None,
    role: str,
    name: str,
    expires: float | None,
    limits: dict[str, float],
    url: str | None,
    as_json: bool,
) -> None:
    """Make a token, and print it. It is shown this once.

    \b
    read    query
    write   log, fork, save checkpoints, define custom metrics; and read
    admin   delete, make tokens; and write

    \b
    Example: thalweg token create --project digits --role write --expires 30d --name cluster
             thalweg token create --project digits --role read --limit requests_per_s=20
    """
    order = {"role": role, "project": project, "name": name, "expires_s": expires, "limits": limits}
    made = connect(url).post("/tokens", order)
    if as_json:
        output.print_json(made)
        return
    click.echo(made["token"])
    where = "all projects" if made["project"] is None else f"project {formats.plain(made['project'])}"
    until = f", until {made['expires_at']}" if made["expires_at"] else ""
    output.note(f"{made['id']}: {made['role']}, {where}{until}. It is not shown again; THALWEG_TOKEN takes it.")


@token.command("list")
@url_option
@json_option
def list_tokens(url: str | None, as_json: bool) -> None:
    """List tokens, without themselves.

    \b
    Example: thalweg token list
    """
    found = connect(url).get("/tokens")
    if as_json:
        output.print_json(found)
    elif found["tokens"]:
        columns = ("id", "state", "role", "project", "name", "created", "expires")
        rows = [
            (
                one["id"],
                one["state"],
                one["role"],
                "*" if one["project"] is None else one["project"],
                one["name"],
                one["created_at"],
                one["expires_at"] or "",
            )
            for one in found["tokens"]
        ]
        output.print_table(columns, rows)
    else:
        output.note("There are no tokens. `thalweg token create` makes them.")


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@url_option
@json_option
def revoke(token_id: str, url: str | None, as_json: bool) -> None:
    """End the token with this ID. Every server refuses it within 5 seconds; what is under way is cut off.

    \b
    Example: thalweg token revoke tk-0123456789ab
    """
    client = connect(url)
    client.delete(f"/tokens/{segment(token_id)}")
    if as_json:
        output.print_json({"revoked": token_id})
    else:
        output.note(f"Revoked {formats.plain(token_id)}.")
