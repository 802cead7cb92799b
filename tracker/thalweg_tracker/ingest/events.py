"""Events and counters to rows of `attributes`, `branches` and `writers`. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.ingest.decode import Writer
from thalweg_tracker.lineage.chain import Branch
from thalweg_tracker.runs.attributes import ATTRIBUTES, as_number
from thalweg_tracker.runs.store import BRANCHES, greeted_row

WRITERS: Final = pa.schema(
    [
        ("project", pa.string()),
        ("run", pa.uint64()),
        ("writer", pa.uint64()),
        ("rank", pa.uint16()),
        ("primary", pa.uint8()),
        ("host", pa.string()),
        ("pid", pa.uint32()),
        ("started_at", pa.timestamp("us", "UTC")),
        ("last_seen_at", pa.timestamp("us", "UTC")),
        ("ended", pa.string()),
        ("sequence", pa.uint64()),
        ("counters", pa.map_(pa.string(), pa.uint64())),
        ("first_step", pa.float64()),
        ("last_step", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class WriterNews:
    """What a batch says beside its points."""

    writer: Writer
    events: Sequence[pb.Event]
    counters: dict[str, int]
    seen_at_us: int
    sequence: int = 0
    first_step: float = math.inf  # of its points, but for those of the host
    last_step: float = -math.inf


def attribute_rows(news: Iterable[WriterNews]) -> pa.Table:
    """One row for each attribute that was set or removed."""
    rows = [
        {
            "project": item.writer.project,
            "run": item.writer.run,
            "path": attribute.path,
            "json": attribute.json,
            "number": as_number(attribute.json),
            "time": event.time_us,
        }
        for item in news
        for event in item.events
        if event.WhichOneof("kind") == "attributes"
        for attribute in event.attributes.attributes
    ]
    return pa.Table.from_pylist(rows, schema=ATTRIBUTES)


def branch_rows(news: Iterable[WriterNews]) -> pa.Table:
    """When branches began, by their writers' own word: one that is delivered later has begun before it came."""
    rows = [
        greeted_row(writer.project, Branch(writer.run_id, writer.branch), writer.run, event.time_us)
        for writer, events in ((item.writer, item.events) for item in news)
        for event in events
        if event.WhichOneof("kind") == "started"
    ]
    return pa.Table.from_pylist(rows, schema=BRANCHES)


def writer_rows(news: Iterable[WriterNews]) -> pa.Table:
    """One row a batch: all its fields are aggregates that take the greatest, so order does not matter."""
    return pa.Table.from_pylist([_writer_row(item) for item in news], schema=WRITERS)


def _writer_row(news: WriterNews) -> dict[str, Any]:
    row = {
        "project": news.writer.project,
        "run": news.writer.run,
        "writer": news.writer.writer,
        "rank": news.writer.rank,
        "primary": 0,
        "host": "",
        "pid": 0,
        "started_at": 0,
        "last_seen_at": news.seen_at_us,
        "ended": "",
        "sequence": news.sequence,
        "counters": list(news.counters.items()),
        "first_step": news.first_step,
        "last_step": news.last_step,
    }
    for event in news.events:
        kind = event.WhichOneof("kind")
        if kind == "started":
            started = event.started
            row |= {
                "primary": int(started.primary),
                "host": started.host,
                "pid": started.pid,
                "started_at": event.time_us,
            }
        elif kind == "ended":
            row["ended"] = max(str(row["ended"]), ended_json(event))
    return row


def ended_json(event: pb.Event) -> str:
    """The last word as JSON that begins with its time, 16 digits wide, so that texts compare as times do."""
    ended = event.ended
    document = {
        "time_us": f"{event.time_us:016d}",
        "outcome": pb.WriterEnded.Outcome.Name(ended.outcome).lower(),
        "exit_code": ended.exit_code if ended.HasField("exit_code") else None,
        "signal": ended.signal if ended.HasField("signal") else None,
        "exception": ended.exception,
        "traceback": ended.traceback,
    }
    return json.dumps(document)
