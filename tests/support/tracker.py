"""A tracker in this process: the embedded engine, the rows that the ingest makes of batches, the API over HTTP.

The gRPC service and the group commit are left out, so that a test says when which row is there.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from tests.support import wire
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.api.encode import ARROW_STREAM
from thalweg_tracker.app import HttpThread
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.ingest.assemble import assemble
from thalweg_tracker.ingest.checkpoints import checkpoint_rows
from thalweg_tracker.ingest.decode import FrameBlock, StreamDecoder, decode_hello
from thalweg_tracker.ingest.events import WriterNews, attribute_rows, writer_rows
from thalweg_tracker.ingest.registry import Registry
from thalweg_tracker.model.settings import Address

INGEST_TOLD = "127.0.0.1:7411"


class Tracker:
    """What a test says to it, and what it answers."""

    def __init__(self, engine: Engine, http: httpx.Client) -> None:
        self.engine = engine
        self.http = http
        self.registry = Registry(engine)

    def take(
        self,
        greeting: pb.Hello,
        *batches: pb.Batch,
        created_us: int = wire.START_US,
        seen_us: int | None = None,
    ) -> list[pb.Rejected]:
        """Stores batches as one stream and one commit would. Returns what was refused."""
        writer = self.registry.place(decode_hello(greeting), created_us)
        decoder = StreamDecoder(writer)
        refused: list[pb.Rejected] = []
        blocks: list[FrameBlock] = []
        news = []
        for batch in batches:
            decoded = decoder.decode(batch)
            self.registry.register_names(writer.project, writer.run, decoded.new_names)
            blocks += decoded.blocks
            counters = {counter.reason: counter.points for counter in batch.counters}
            news.append(
                WriterNews(writer, decoded.events, counters, seen_us or time.time_ns() // 1000, 0, *decoded.span)
            )
            refused += decoded.rejected.values()
        if blocks:
            rows = assemble(blocks)
            self.engine.insert("points", rows.points)
            self.engine.insert("series_stats_feed", rows.stats)
        attributes = attribute_rows(news)
        if attributes.num_rows:
            self.engine.insert("attributes", attributes)
        saved = checkpoint_rows((writer.project, writer.run, event) for one in news for event in one.events)
        if saved.num_rows:
            self.engine.insert("checkpoints", saved)
        if news:
            self.engine.insert("writers", writer_rows(news))
        return refused

    def log(self, run_id: str, name: str, points: dict[float, float], **more: Any) -> None:
        """One metric of one writer."""
        rows = [[value] for value in points.values()]
        self.take(wire.hello(run_id, **more), wire.batch(1, [name], list(points), rows))

    def get(self, path: str, **query: Any) -> Any:
        """The answer to GET, which must be 200."""
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def walk(self, path: str, field: str, limit: int, **query: Any) -> list[dict[str, Any]]:
        """All pages of a list; each but the last must be full."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self.get(path, limit=limit, **query, **({"cursor": cursor} if cursor else {}))
            cursor = page["next_cursor"]
            assert len(page[field]) == limit or cursor is None
            found += page[field]
        return found

    def series(self, runs: Sequence[str], metrics: Sequence[str], **more: Any) -> list[dict[str, Any]]:
        """The answer to POST /series in JSON; exact unless `points` says otherwise."""
        body = {"runs": list(runs), "metrics": list(metrics), "points": None, **more}
        answer = self.http.post(f"/projects/{wire.PROJECT}/series", json=body)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["series"]
        return found

    def arrow(self, runs: Sequence[str], metrics: Sequence[str], **more: Any) -> pa.Table:
        """The answer to POST /series as an Arrow table."""
        body = {"runs": list(runs), "metrics": list(metrics), "points": None, **more}
        answer = self.http.post(f"/projects/{wire.PROJECT}/series", json=body, headers={"Accept": ARROW_STREAM})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == ARROW_STREAM
        with pa.ipc.open_stream(io.BytesIO(answer.content)) as reader:
            return reader.read_all()


@contextmanager
def tracking(data_dir: Path) -> Iterator[Tracker]:
    """A tracker on a folder. A process has at most one at a time: chDB has one path."""
    engine = EmbeddedEngine(data_dir)
    try:
        migrate(engine)
        with answering(engine) as http:
            yield Tracker(engine, http)
    finally:
        engine.close()


@contextmanager
def answering(engine: Engine) -> Iterator[httpx.Client]:
    """The HTTP API of an engine, and a client of it."""
    thread = HttpThread(engine, Address("127.0.0.1", 0), INGEST_TOLD)
    try:
        with httpx.Client(base_url=f"http://{thread.address}/api/v1", timeout=60) as http:
            yield http
    finally:
        thread.stop()


def as_numbers(values: Iterable[float | str]) -> list[float]:
    """A column of JSON with its "NaN" and "Infinity" as floats."""
    return [float(value) for value in values]
