"""`thalweg show`: all that is known of one run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import islice
from typing import Any, Final

import click

from thalweg.cli import formats, output
from thalweg.cli.health import health_document, print_health
from thalweg.cli.locate import LocatedRun, locate
from thalweg.cli.options import branch_option, connect, json_option, project_option, url_option

_METRICS_SHOWN: Final = 100
_VALUE_CHARS: Final = 120
# Large parts of env.*, of which only the size is shown.
_COUNTED_ENV: Final = ("packages", "variables", "ranks")
_LONG_ENV: Final = "git.diff"


@click.command()
@click.argument("run")
@project_option
@click.option("--metrics", "prefix", metavar="PREFIX", default=None, help="Only metrics that begin with PREFIX.")
@click.option(
    "--limit", type=click.IntRange(1), help=f"Most metrics to list.  [default: {_METRICS_SHOWN}; all with --json]"
)
@click.option("--health", "only_health", is_flag=True, help="Only what became of its points, writer by writer.")
@branch_option
@url_option
@json_option
def show(
    run: str,
    project: str | None,
    prefix: str | None,
    limit: int | None,
    only_health: bool,
    branch: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Show one run: its config, tags, environment, health and metrics, and what it continues.

    RUN is PROJECT/RUN_ID, or RUN_ID, which is looked for in --project, else in all projects. Of a fork
    also what each one on the way from the root changed of the config; of a run that was rewound its branches.

    \b
    Example: thalweg show digits/20260101-abcdefgh --metrics train/
             thalweg show digits/20260101-abcdefgh --health
    """
    client = connect(url)
    found = locate(client, run, project, branch)
    if only_health:
        now = datetime.now(timezone.utc)
        output.print_json(health_document(found, now)) if as_json else print_health(found, now)
        return
    shown_branch = found.document["branch"]
    most = limit if as_json or limit else _METRICS_SHOWN
    pages = client.pages(
        found.path + "/metrics", "metrics", prefix=prefix, branch=shown_branch, limit=most and most + 1
    )
    metrics = list(islice(pages, most and most + 1))
    way = client.get(found.path + "/lineage", branch=shown_branch)["lineage"] if _is_continued(found.document) else []
    if as_json:
        changes = [one for one in way if one["changes"]]
        output.print_json(
            {"project": found.project, **found.document, "config_changes": changes, "metrics": metrics[:most]}
        )
        return
    print_run(found, way, datetime.now(timezone.utc))
    print_metrics(metrics[:most], prefix)
    if most and len(metrics) > most:
        output.note(f"Only the first {most} metrics are shown. Choose others with --metrics PREFIX or --limit.")


def print_run(found: LocatedRun, way: list[dict[str, Any]], now: datetime) -> None:
    """Everything but the metrics. `way`: the branches from the root to a run that continues another."""
    run = found.document
    name = f" ({run['name']})" if run["name"] else ""
    click.echo(click.style(formats.plain(f"{found.project}/{found.run_id}{name}"), bold=True))
    output.print_pairs("Run", _summary(run, now))
    output.print_pairs("Config", {path: _shown(value) for path, value in formats.leaves(run["config"])})
    _print_changes(run, way)
    _print_branches(run)
    output.print_pairs("Environment", _environment(run["env"]))
    output.print_pairs("Points", _points(run["health"]["counters"]))
    _print_writers(run["health"]["writers"])


def _summary(run: Mapping[str, Any], now: datetime) -> dict[str, str]:
    lines = {
        "status": run["status"],
        "created": formats.local_time(run["created_at"]),
        "last seen": formats.local_time(run["last_seen_at"]),
        "ended": formats.local_time(run["ended_at"]),
        "duration": formats.run_duration(run, now),
        "last step": formats.step(run["last_step"]),
        "tags": ", ".join(run["tags"]),
        "notes": run["notes"],
        "began": _beginning(run),
        "lineage": _lineage(run["lineage"]),
    }
    return {key: text for key, text in lines.items() if text}


def _lineage(segments: list[dict[str, Any]]) -> str:
    """The way from the root to a run; empty for a run that is no fork."""
    if len(segments) < 2:
        return ""
    return " -> ".join(map(_segment, segments))


def _segment(part: Mapping[str, Any]) -> str:
    branch = [f"branch {part['branch']}"] if part["branch"] else []
    upto = [] if part["upto"] is None else [f"to step {formats.step(part['upto'])}"]
    return str(part["run_id"]) + (f" ({', '.join([*branch, *upto])})" if branch or upto else "")


def _is_continued(run: Mapping[str, Any]) -> bool:
    """Whether a run goes on from somewhere, on the branch at hand."""
    return len(run["lineage"]) > 1


def _beginning(run: Mapping[str, Any]) -> str:
    """How the branch at hand began, and the run, where they differ; empty for a run that began from nothing."""
    shown = [one for one in run["branches"] if one["branch"] in (0, run["branch"])]
    return "; ".join(text for one in reversed(shown) if (text := _origin(run, one)))


def _origin(run: Mapping[str, Any], branch: Mapping[str, Any]) -> str:
    parent, step = branch["parent"], branch["fork_step"]
    if branch["kind"] == "start" or parent is None:
        return ""
    is_own = parent["run_id"] == run["run_id"]
    named = f"branch {parent['branch']}" if is_own else parent["run_id"]
    if not is_own and parent["branch"]:
        named += f" (branch {parent['branch']})"
    if branch["kind"] == "rewind":
        return f"rewind of {named} to " + (
            f"step {formats.step(step)}" if isinstance(step, (int, float)) else "the start"
        )
    return f"fork of {named} at step {formats.step(step)}"


def _print_changes(run: Mapping[str, Any], way: list[dict[str, Any]]) -> None:
    """What each one on the way from the root changed of the config that it inherited."""
    for one in way:
        changes = {
            path: f"{_side(change['before'])} -> {_side(change['after'])}" for path, change in one["changes"].items()
        }
        is_own = (one["run_id"], one["branch"]) == (run["run_id"], run["branch"])
        branch = f" (branch {one['branch']})" if one["branch"] else ""
        place = "" if is_own else f" of {one['run_id']}{branch}"
        step = "" if one["fork_step"] is None else f" at step {formats.step(one['fork_step'])}"
        output.print_pairs(formats.plain(f"Config changes{place}{step}"), changes)


def _side(value: Any) -> str:
    return "(none)" if value is None else _shown(value)


def _print_branches(run: Mapping[str, Any]) -> None:
    if len(run["branches"]) < 2:
        return
    click.echo(click.style("\nBranches", bold=True))
    newest = max(one["branch"] for one in run["branches"])
    rows = [
        (
            str(one["branch"]),
            _origin(run, one) or "start",
            formats.local_time(one["created_at"]),
            ", ".join(
                word
                for word, is_so in (("newest", one["branch"] == newest), ("shown", one["branch"] == run["branch"]))
                if is_so
            ),
        )
        for one in run["branches"]
    ]
    output.print_table(("branch", "began", "created", ""), rows, right=("branch",))


def _environment(env: Mapping[str, Any]) -> dict[str, str]:
    lines = {}
    for path, value in formats.leaves({key: value for key, value in env.items() if key not in _COUNTED_ENV}):
        if path == _LONG_ENV:
            lines[path] = formats.count(len(str(value).splitlines()), "line")
        elif not path.endswith("_at_us"):
            lines[path] = formats.size(value) if path.endswith("_bytes") else _shown(value)
    return lines | {key: formats.count(len(env[key]), "item") for key in _COUNTED_ENV if env.get(key)}


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = " ".join(value)
    return formats.shorten(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), _VALUE_CHARS)


def _points(counters: Mapping[str, int]) -> dict[str, str]:
    """What became of the points: where a reason is listed, something was lost and why."""
    lines = {reason.replace("_", " ", 1): f"{points:,}" for reason, points in counters.items() if points}
    rejected = sum(points for reason, points in counters.items() if reason.startswith("rejected_"))
    waiting = counters.get("logged", 0) - counters.get("accepted", 0) - rejected
    return lines | ({"on their way": f"{waiting:,}"} if waiting > 0 else {})


def _print_writers(writers: list[dict[str, Any]]) -> None:
    if not writers:
        return
    click.echo(click.style("\nWriters", bold=True))
    columns = ("rank", "kind", "host", "pid", "state", "last seen")
    rows = [
        (
            str(writer["rank"]),
            "training" if writer["primary"] else "helper",
            writer["host"],
            str(writer["pid"] or ""),
            _state(writer),
            formats.local_time(writer["last_seen_at"]),
        )
        for writer in writers
    ]
    output.print_table(columns, rows, right=("rank", "pid"))
    for writer in writers:
        if writer["exception"]:
            trace = writer["traceback"] or writer["exception"]
            text = "\n".join(formats.plain(line) for line in trace.rstrip().splitlines())
            click.echo(click.style(f"\nRank {writer['rank']} ended with", bold=True) + f"\n{text}")


def _state(writer: Mapping[str, Any]) -> str:
    outcome = str(writer["outcome"] or "running")
    if writer["signal"] is not None:
        return f"{outcome} (signal {writer['signal']})"
    return f"{outcome} (exit code {writer['exit_code']})" if writer["exit_code"] else outcome


def print_metrics(metrics: list[dict[str, Any]], prefix: str | None) -> None:
    """A table of metrics, those of the host last."""
    if not metrics:
        output.note(f"\nNo metric begins with {prefix!r}." if prefix else "\nThere are no metrics.")
        return
    metrics = sorted(metrics, key=lambda metric: metric["name"].startswith("system/"))
    click.echo(click.style("\nMetrics", bold=True))
    columns = ("metric", "last", "min", "at step", "max", "at step", "first step", "last step", "ranks")
    rows = [
        (
            metric["name"],
            formats.number(metric["last"]),
            formats.number(metric["min"]),
            formats.step(metric["argmin"]),
            formats.number(metric["max"]),
            formats.step(metric["argmax"]),
            formats.step(metric["first_step"]),
            formats.step(metric["last_step"]),
            str(metric["ranks"]),
        )
        for metric in metrics
    ]
    output.print_table(columns, rows, right=columns[1:])
