"""What became of a run's points, writer by writer: for `thalweg show --health`. Pure but for the printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import click

from thalweg.cli import formats, output
from thalweg.cli.locate import LocatedRun

_GROUPS: Final = {"rejected": "rejected_", "dropped": "dropped_", "damaged": "records_"}
"""Losses by who saw them: the server; the SDK, before the spool; the sender, in the spool."""


def health_document(found: LocatedRun, now: datetime) -> dict[str, Any]:
    """The whole as JSON. `waiting`: points that were logged and are neither stored nor refused yet: the lag."""
    run = found.document
    writers = [_writer(writer, now) for writer in run["health"]["writers"]]
    return {
        "project": found.project,
        "run_id": found.run_id,
        "branch": run["branch"],
        "status": run["status"],
        "last_seen_at": run["last_seen_at"],
        **_tally(run["health"]["counters"]),
        "writers": writers,
    }


def _writer(writer: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """`last_seen_ago_s`: since its last word, null where there was none. `silent_s`: the same, null once it ended."""
    seen = writer["last_seen_at"]
    ago_s = max(0.0, (now - formats.parse_time(seen)).total_seconds()) if seen else None
    ages = {"last_seen_ago_s": ago_s, "silent_s": None if writer["outcome"] is not None else ago_s}
    kept = ("writer", "rank", "primary", "host", "pid", "started_at", "last_seen_at", "ended_at", "outcome")
    return {key: writer[key] for key in kept} | ages | _tally(writer["counters"])


def _tally(counters: Mapping[str, int]) -> dict[str, Any]:
    losses = {group: _losses(counters, prefix) for group, prefix in _GROUPS.items()}
    logged, accepted = counters.get("logged", 0), counters.get("accepted", 0)
    waiting = max(0, logged - accepted - sum(losses["rejected"].values()))
    return {"logged": logged, "accepted": accepted, "waiting": waiting, **losses}


def _losses(counters: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {reason[len(prefix) :]: n for reason, n in sorted(counters.items()) if n and reason.startswith(prefix)}


def print_health(found: LocatedRun, now: datetime) -> None:
    """For people: the sums, then a line a writer."""
    document = health_document(found, now)
    click.echo(click.style(formats.plain(f"{found.project}/{found.run_id}"), bold=True))
    lines = {
        "status": document["status"],
        "last seen": formats.local_time(document["last_seen_at"]),
        "logged": f"{document['logged']:,}",
        "accepted": f"{document['accepted']:,}",
        "on their way": f"{document['waiting']:,}" if document["waiting"] else "",
        **{group: _told(document[group]) for group in _GROUPS},
    }
    output.print_pairs("Points", {key: text for key, text in lines.items() if text})
    if document["writers"]:
        _print_writers(document["writers"])


def _told(losses: Mapping[str, int]) -> str:
    return ", ".join(f"{points:,} {reason}" for reason, points in losses.items())


def _print_writers(writers: Sequence[Mapping[str, Any]]) -> None:
    click.echo(click.style("\nWriters", bold=True))
    columns = ("rank", "kind", "host", "state", "accepted", "on their way", "last seen", "", "losses")
    rows = [
        (
            str(one["rank"]),
            "training" if one["primary"] else "helper",
            one["host"],
            one["outcome"] or "running",
            f"{one['accepted']:,}",
            f"{one['waiting']:,}",
            formats.local_time(one["last_seen_at"]),
            "" if one["last_seen_ago_s"] is None else f"{formats.seconds(one['last_seen_ago_s'])} ago",
            "; ".join(f"{group}: {_told(one[group])}" for group in _GROUPS if one[group]),
        )
        for one in writers
    ]
    output.print_table(columns, rows, right=("rank", "accepted", "on their way", ""))
