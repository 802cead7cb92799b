"""What is asked of checkpoints, on every engine: words, checks, texts, manifests, values, costs and failures."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from tests.support import wire
from tests.support.engines import NASTY_TEXTS, on_clusters_too
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.checkpoints.state import Place
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.ingest.checkpoints import checkpoint_rows
from thalweg_tracker.ingest.events import WriterNews, writer_rows
from thalweg_tracker.lineage.chain import Branch, extend, root
from thalweg_tracker.model.keys import metric_key, run_key
from thalweg_tracker.model.rows import POINTS
from thalweg_tracker.objects.keys import comparable
from thalweg_tracker.query.checkpoint_advice import observe
from thalweg_tracker.query.checkpoint_values import read_values
from thalweg_tracker.query.checkpoints import NO_TEXTS, find_steps, read_texts, read_told, walk
from thalweg_tracker.query.lineage import RunView, view_of
from thalweg_tracker.sql import load
from thalweg_tracker.upkeep.verify import CHECKS

pytestmark = on_clusters_too

ROOT, CHILD = run_key("p", "root"), run_key("p", "child")
VIEW = view_of("p", extend(root(Branch("root")), 20.0, Branch("child")))


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Two runs with checkpoints: "child" continues "root" after step 20."""
    migrate(engine)
    events = []
    for run, steps in ((ROOT, (10.0, 20.0, 30.0)), (CHILD, (25.0, 35.0))):
        for step in steps:
            saved = pb.CheckpointSaved(
                step=step,
                kind="full",
                uri=f"s3://b/{step:g}/",
                state=pb.CheckpointSaved.DURABLE,
                blocked_s=step,
                files=[pb.CheckpointFile(path=f"{step:g} 'x'\\", size_bytes=3)],
                metrics_json='{"a.b": 2.5, "text": "1"}' if step == 35 else "",
                metadata_json='{"é": [1]}' if step == 25 else "",
            )
            events.append(("p", run, pb.Event(time_us=wire.START_US + int(step * 1e6), checkpoint=saved)))
    engine.insert("checkpoints", checkpoint_rows(events))
    engine.insert("checkpoints", checkpoint_rows(events[:2]))  # sent again
    return engine


def steps(view: RunView, engine: Engine, before: float = math.inf) -> list[float]:
    return [one.place.step for one in walk(engine, view, before=before)]


def test_a_walk(filled: Engine) -> None:
    """Along the lineage, the highest step first; ends are where they are told to be."""
    assert steps(VIEW, filled) == [35, 25, 20, 10]
    assert steps(VIEW, filled, before=25.0) == [20, 10]
    assert steps(VIEW, filled, before=math.nextafter(20.0, math.inf)) == [20, 10]
    assert [one.place for one in walk(filled, VIEW, own=True)] == [Place(CHILD, 35.0), Place(CHILD, 25.0)]
    assert [one.place.step for one in find_steps(filled, VIEW, [20, 30, 35])] == [35, 20]
    assert list(walk(filled, VIEW, kind="model")) == []


def test_checks_come_back_as_they_were(filled: Engine) -> None:
    """Of several the latest; any text survives."""
    texts = [text[:300] for text in NASTY_TEXTS]
    for number, text in enumerate(texts):
        row = {
            "project": "p", "run": CHILD, "step": 35.0, "kind": "full", "shard": 0, "uri": "s3://b/35/",
            "state": "missing", "detail": text, "size_bytes": number, "etag": text, "version": text,
            "told_at": wire.START_US + int(35e6),
            "checked_at": wire.START_US + int(35e6) + number,
        }  # fmt: skip
        filled.insert("checkpoint_checks", pa.Table.from_pylist([row], schema=CHECKS))
        one = next(walk(filled, VIEW))
        check = one.kinds[0].parts[0].check
        assert check is not None
        assert (one.state, check.detail, check.etag, check.version, check.size_bytes) == (
            "missing",
            text,
            text,
            text,
            number,
        )


def test_what_they_tell(filled: Engine) -> None:
    """Metrics, metadata and manifests."""
    found = list(walk(filled, VIEW))
    texts = read_texts(filled, "p", found)
    assert {place.step: (one.metrics, one.metadata) for place, one in texts.items()} == {
        35.0: ({"a.b": 2.5, "text": "1"}, {}),
        25.0: ({}, {"é": [1]}),
    }
    for place in (one.place for one in found):
        assert read_told(filled, "p", place).texts == texts.get(place, NO_TEXTS)
    manifest = read_told(filled, "p", Place(ROOT, 20.0)).manifests["full", 0]
    assert (manifest.uri, manifest.files) == ("s3://b/20/", ({"path": "20 'x'\\", "size_bytes": 3, "digest": ""},))


def test_values(filled: Engine) -> None:
    """Their own word, else the last point of the lineage at or before them, the mean of the ranks that have it."""
    logged = [
        (ROOT, 0, 5.0, 1.0),
        (ROOT, 0, 20.0, 2.0),
        (ROOT, 1, 20.0, 4.0),
        (ROOT, 0, 21.0, 99.0),
        (CHILD, 0, 30.0, 7.0),
    ]
    rows = [
        {"run": run, "metric": metric_key("a.b"), "rank": rank, "step": step, "time": wire.START_US, "value": value}
        for run, rank, step, value in logged
    ]
    filled.insert("points", pa.Table.from_pylist(rows, schema=POINTS))
    found = list(walk(filled, VIEW))
    assert read_values(filled, VIEW, found, "a.b") == {10: 1.0, 20: 3.0, 25: 3.0, 35: 2.5}
    assert read_values(filled, VIEW, found, "text") == {}


def test_costs_and_failures(filled: Engine) -> None:
    """The run's own saves, or those of the project; primary writers of rank 0."""
    writer = wire.writer(wire.hello("root"))
    words = [wire.started(), wire.ended(pb.WriterEnded.FAILED)]
    filled.insert("writers", writer_rows([WriterNews(writer, words, {}, wire.START_US)]))
    seen = observe(filled, VIEW)
    assert (seen.save_costs_s, seen.gaps_s, seen.seconds_per_step) == ([35.0, 25.0], [10.0], 1.0)
    assert (seen.failures, seen.observed_s) == (1, 1.0)
    without = observe(filled, view_of("p", root(Branch("other"))))
    assert (without.save_costs_s, without.gaps_s) == ([35.0, 30.0, 25.0, 20.0, 10.0], [])


def test_pointers_near_a_place(filled: Engine) -> None:
    """Those below it, and those that it lies in."""
    for begin, expected in (("s3://b/2", {20.0, 25.0}), ("s3://b/20/x/y", {20.0}), ("s3://c", set())):
        rows = filled.query(load("checkpoint_references"), {"begin": comparable(begin)}).to_pylist()
        assert {row["step"] for row in rows} == expected
