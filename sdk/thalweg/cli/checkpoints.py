"""`thalweg checkpoints`: a run's checkpoints, how often to save, and the deletion of those that are not to be kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from thalweg.api_client import PAGE_MAX, ApiClient
from thalweg.cli import formats, output
from thalweg.cli.locate import LocatedRun, locate
from thalweg.cli.options import branch_option, connect, json_option, project_option, url_option

SHOWN_DEFAULT: Final = 50
_BAD: Final = ("missing", "changed", "incomplete")


class ListingGroup(click.Group):
    """A group whose command `list` may be left out: what is no command's name is the run to list."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts `list` in."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=ListingGroup, subcommand_metavar="RUN | COMMAND [ARGS]...")
def checkpoints() -> None:
    """List a run's checkpoints, check them, delete old ones.

    `thalweg checkpoints RUN` is short for `thalweg checkpoints list RUN`, with the options of that.

    \b
    Example: thalweg checkpoints digits/20260101-abcdefgh --verify
             thalweg checkpoints prune digits/20260101-abcdefgh --keep-last 3 --dry-run
    """


@dataclass(frozen=True, slots=True)
class Listing:
    """Checkpoints, the highest step first, and what the server advises."""

    checkpoints: list[dict[str, Any]]
    has_more: bool
    advice: dict[str, Any] | None
    advice_missing: str


@checkpoints.command("list")
@click.argument("run")
@project_option
@branch_option
@click.option("--verify", is_flag=True, help="Look at the objects first: are they there, and what was saved?")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1),
    help=f"Most checkpoints to list.  [default: {SHOWN_DEFAULT}; all with --json]",
)
@url_option
@json_option
def list_checkpoints(
    run: str,
    project: str | None,
    branch: int | None,
    verify: bool,
    limit: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """List the checkpoints of RUN and of what it continues, the highest step first.

    States: complete (all of it was written), verified (and its objects were looked at), staged (being
    written), incomplete (shards are missing), missing, changed, deleted. `blocked` is for how long the
    save held the training up. Below: how often to save, from what saves cost and how often trainings of
    the project fail.

    \b
    Example: thalweg checkpoints digits/20260101-abcdefgh --verify
             thalweg checkpoints list 20260101-abcdefgh --json | jq '.checkpoints[0].step'
    """
    client = connect(url)
    found = locate(client, run, project, branch)
    most = limit if as_json or limit else SHOWN_DEFAULT
    listing = read_checkpoints(client, found, most)
    if verify:
        listing = _verified(client, found, listing)
    if as_json:
        output.print_json(
            {
                "project": found.project,
                "run_id": found.run_id,
                "branch": found.document["branch"],
                "checkpoints": listing.checkpoints,
                "advice": listing.advice,
                "advice_missing": listing.advice_missing,
            }
        )
        return
    if listing.checkpoints:
        print_checkpoints(found, listing.checkpoints)
        if listing.has_more:
            output.note(f"Only the newest {most} checkpoints are shown. For more: --limit")
        click.echo(f"\n{advice_text(listing)}")
    else:
        output.note(f"Run {found.label} has no checkpoints. A training records them with run.save_checkpoint().")


def read_checkpoints(client: ApiClient, run: LocatedRun, most: int | None) -> Listing:
    """At most so many checkpoints, with the advice, which is on the first page."""
    found: list[dict[str, Any]] = []
    first: dict[str, Any] | None = None
    cursor = None
    while True:
        size = PAGE_MAX if most is None else min(PAGE_MAX, most - len(found))
        page = client.get(run.path + "/checkpoints", branch=run.branch, limit=size, cursor=cursor)
        first = first or page
        found += page["checkpoints"][:size]
        cursor = page["next_cursor"]
        if cursor is None or len(found) == most:
            return Listing(found, cursor is not None, first["advice"], first["advice_missing"])


def _verified(client: ApiClient, run: LocatedRun, listing: Listing) -> Listing:
    """The same checkpoints, as their objects are now."""
    steps = [one["step"] for one in listing.checkpoints]
    seen: list[dict[str, Any]] = []
    for start in range(0, len(steps), PAGE_MAX):
        order = {"steps": steps[start : start + PAGE_MAX]}
        seen += client.post(_order_path(run, "verify"), order)["checkpoints"]
    return Listing(seen, listing.has_more, listing.advice, listing.advice_missing)


def _order_path(run: LocatedRun, order: str) -> str:
    """Path of an order about the checkpoints of the branch that was asked for."""
    return f"{run.path}/checkpoints/{order}" + ("" if run.branch is None else f"?branch={run.branch}")


def print_checkpoints(run: LocatedRun, found: Sequence[Mapping[str, Any]]) -> None:
    """A table, and what is wrong with those that cannot be restored."""
    columns = ["step", "state", "kinds", "size", "saved at", "blocked", "metrics", "from", "where"]
    rows = [_row(run, one) for one in found]
    used = [
        place for place, head in enumerate(columns) if head not in ("metrics", "from") or any(r[place] for r in rows)
    ]
    output.print_table(
        [columns[place] for place in used],
        [[row[place] for place in used] for row in rows],
        right=("step", "size", "blocked"),
    )
    for one in found:
        for kind in one["kinds"]:
            if kind["state"] in _BAD and kind["detail"]:
                named = f"{kind['kind']} of step {formats.step(one['step'])} is {kind['state']}: {kind['detail']}"
                output.note(formats.plain(named))


def _row(run: LocatedRun, one: Mapping[str, Any]) -> tuple[str, ...]:
    kinds = one["kinds"]
    is_own = (one["run_id"], one["branch"]) == (run.run_id, run.document["branch"])
    origin = one["run_id"] + (f" (branch {one['branch']})" if one["branch"] or one["run_id"] == run.run_id else "")
    saved = max((kind["saved_at"] or kind["staged_at"] or "" for kind in kinds), key=_moment, default="")
    return (
        formats.step(one["step"]),
        _state(one),
        ", ".join(kind["kind"] for kind in kinds),
        _size(one["size_bytes"]),
        formats.local_time(saved or one["created_at"]),
        formats.seconds(one["blocked_s"]) if one["blocked_s"] else "",
        ", ".join(f"{name} {_value(value)}" for name, value in sorted(one["metrics"].items())),
        "" if is_own else origin,
        ", ".join(dict.fromkeys(kind["uri"] for kind in kinds)),
    )


def _moment(text: str) -> float:
    return formats.parse_time(text).timestamp() if text else 0.0


def _state(one: Mapping[str, Any]) -> str:
    """The state, and of what is not whole how much is there."""
    shards = sum(kind["shards"] for kind in one["kinds"])
    done = sum(kind["shards_done"] for kind in one["kinds"])
    return str(one["state"]) + (f" ({done} of {shards} shards)" if done < shards and shards > 1 else "")


def _value(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return formats.number(value) if is_number else json.dumps(value, ensure_ascii=False)


def advice_text(listing: Listing) -> str:
    """How often to save and why, or why there is no advice. The times are the server's, in words."""
    advice = listing.advice
    if advice is None:
        return f"No advice yet on how often to save: {formats.plain(listing.advice_missing)}."
    span = formats.seconds
    steps = advice["interval_steps"]
    every = f"every {span(advice['interval_s'])}" + ("" if steps is None else f", or {formats.count(steps, 'step')}")
    saves = formats.count(advice["saves"], "save")
    failures = formats.count(advice["failures"], "failure")
    lines = {
        "now": "" if advice["current_interval_s"] is None else f"every {span(advice['current_interval_s'])}",
        "a save costs": f"{span(advice['save_cost_s'])} (median of {saves})",
        "failures": f"one in {span(advice['mtbf_s'])} ({failures} in {span(advice['observed_s'])} of training)",
        "how": formats.plain(advice["note"]),
    }
    told = "\n".join(f"  {key:<12}  {text}" for key, text in lines.items() if text)
    return click.style(f"Save {every}", bold=True) + f"\n{told}"


@checkpoints.command()
@click.argument("run")
@project_option
@branch_option
@click.option("--keep-last", type=click.IntRange(1), metavar="K", help="Keep the K newest.")
@click.option("--keep-every", type=click.FloatRange(0, min_open=True), metavar="N", help="Keep one in N steps.")
@click.option("--keep-best", metavar="METRIC", help="Keep the best by a metric.")
@click.option(
    "--mode",
    type=click.Choice(("min", "max")),
    help="Which value is the best.  [default: min for names that end in loss, error or perplexity, else max]",
)
@click.option("--best", type=click.IntRange(1), metavar="B", help="How many of the best to keep.  [default: 1]")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted, and why the rest stays.")
@click.option("--yes", "-y", is_flag=True, help="Delete without asking.")
@url_option
@json_option
@click.pass_context
def prune(
    context: click.Context,
    run: str,
    project: str | None,
    branch: int | None,
    keep_last: int | None,
    keep_every: float | None,
    keep_best: str | None,
    mode: str | None,
    best: int | None,
    dry_run: bool,
    yes: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Delete the checkpoints of RUN that nothing says to keep.

    What any of the --keep options names stays, and in any case the newest complete checkpoint, and those
    that forks and rewinds of RUN began from. Checkpoints that RUN inherited are left alone. Shows what
    would go, and asks.

    \b
    Example: thalweg checkpoints prune digits/20260101-abcdefgh --keep-last 3 --keep-every 10000 --dry-run
             thalweg checkpoints prune 20260101-abcdefgh --keep-last 1 --keep-best val/loss --yes
    """
    if keep_last is None and keep_every is None and keep_best is None:
        raise click.UsageError("cannot prune: what is to be kept? Give --keep-last, --keep-every or --keep-best")
    if keep_best is None and (mode or best):
        raise click.UsageError("--mode and --best say which of --keep-best METRIC are kept: give that too")
    if not (dry_run or yes) and (as_json or not sys.stdin.isatty()):
        why = "with --json" if as_json else "where there is no terminal"
        raise click.UsageError(f"cannot ask {why}: give --yes to delete, or --dry-run to look")
    client = connect(url)
    found = locate(client, run, project, branch)
    policy = {
        "keep_last": keep_last,
        "keep_every": keep_every,
        "keep_best": None if keep_best is None else {"metric": keep_best, "mode": mode},
        "best": best or 1,
    }
    path = _order_path(found, "prune")
    if dry_run or not yes:
        plan = client.post(path, {**policy, "dry_run": True})
        if as_json:
            _print_json(found, plan)
        else:
            print_plan(found, plan)
        if dry_run or not plan["deleted"]:
            return
        click.confirm(f"Delete {_amount(plan['deleted'])} of {formats.plain(found.label)}?", abort=True, err=True)
    done = client.post(path, {**policy, "dry_run": False})
    if as_json:
        _print_json(found, done)
    elif yes:
        print_plan(found, done)
    else:
        output.note(_summary(found, done))
    for failed in done["failed"]:
        output.note(formats.plain(f"Step {formats.step(failed['step'])} is not deleted: {failed['detail']}"))
    context.exit(1 if done["failed"] else 0)


def _print_json(run: LocatedRun, answer: Mapping[str, Any]) -> None:
    output.print_json({"project": run.project, "run_id": run.run_id, "branch": run.document["branch"], **answer})


def print_plan(run: LocatedRun, answer: Mapping[str, Any]) -> None:
    """What goes, and why the rest stays, by step."""
    keep, delete = ("keep", "delete") if answer["dry_run"] else ("kept", "deleted")
    rows = [(one["step"], keep, "", ", ".join(one["reasons"])) for one in answer["kept"]]
    rows += [(one["step"], delete, _size(one["bytes"]), "") for one in answer["deleted"]]
    rows += [(one["step"], "failed", "", one["detail"]) for one in answer["failed"]]
    if rows:
        told = [(formats.step(step), *rest) for step, *rest in sorted(rows)]
        output.print_table(("step", "what", "size", "why"), told, right=("step", "size"))
    output.note(_summary(run, answer))


def _summary(run: LocatedRun, answer: Mapping[str, Any]) -> str:
    kept, deleted = answer["kept"], answer["deleted"]
    if not (kept or deleted or answer["failed"]):
        return f"Run {run.label} has no checkpoints of its own."
    if not deleted and not answer["failed"]:
        return f"Nothing to delete of {formats.count(len(kept), 'checkpoint')}."
    if answer["dry_run"]:
        return f"Would delete {_amount(deleted)} and keep {len(kept):,}."
    return f"Deleted {_amount(deleted)}, kept {len(kept):,}."


def _amount(deleted: Sequence[Mapping[str, Any]]) -> str:
    """`3 checkpoints (1.5 GiB)`."""
    size_bytes = sum(one["bytes"] for one in deleted)
    return formats.count(len(deleted), "checkpoint") + (f" ({_size(size_bytes)})" if size_bytes else "")


def _size(size_bytes: int) -> str:
    """Bytes with a unit; empty where they are not known."""
    return formats.size(size_bytes) if size_bytes else ""
