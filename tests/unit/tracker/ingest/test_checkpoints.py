"""Words on checkpoints: what is refused, and the rows of the others."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from tests.support import wire
from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.ingest.checkpoints import checkpoint_problem, checkpoint_rows
from thalweg_tracker.ingest.decode import StreamDecoder, event_problem
from thalweg_tracker.model.keys import run_key

RUN = run_key("p", "r")
DIGEST = "sha256:" + "0a" * 32


def word(**fields: Any) -> pb.CheckpointSaved:
    """A good word, but for these fields."""
    good = {"step": 1.0, "kind": "full", "uri": "s3://bucket/key", "state": pb.CheckpointSaved.DURABLE}
    return pb.CheckpointSaved(**{**good, **fields})


def files(*paths: str, **fields: Any) -> list[pb.CheckpointFile]:
    return [pb.CheckpointFile(path=path, **fields) for path in paths]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"step": math.nan}, "not finite"),
        ({"step": math.inf}, "not finite"),
        ({"kind": ""}, "none of full, model, optimizer, dataloader"),
        ({"kind": "weights"}, "'weights'"),
        ({"state": pb.CheckpointSaved.STATE_UNSPECIFIED}, "state 0"),
        ({"state": 9}, "state 9"),
        ({"uri": ""}, "wanted s3://BUCKET/KEY"),
        ({"uri": "/local/path"}, "wanted s3://BUCKET/KEY"),
        ({"uri": "s3://"}, "wanted s3://BUCKET/KEY"),
        ({"uri": "s3://b/\x00"}, "wanted s3://BUCKET/KEY"),
        ({"uri": "s3://b/" + "x" * limits.CHECKPOINT_URI_MAX_BYTES}, "more than 4096 bytes"),
        ({"shard": 1}, "no shard 1 of 1"),
        ({"shard": 8, "shards": 8}, "no shard 8 of 8"),
        ({"shards": limits.CHECKPOINT_SHARDS_MAX + 1}, "at most 65536"),
        ({"size_bytes": 2**63}, "over 2^63 - 1"),
        ({"digest": "0a" * 32}, "wanted sha256: and 64"),
        ({"digest": "sha256:" + "0" * 63}, "wanted sha256: and 64"),
        ({"digest": "sha256:" + "g" * 64}, "wanted sha256: and 64"),
        ({"staged_us": -1}, "staged_us -1"),
        ({"saved_us": limits.TIME_MAX_US}, "saved_us"),
        ({"blocked_s": -0.5}, "blocked_s -0.5"),
        ({"blocked_s": math.nan}, "blocked_s nan"),
        ({"blocked_s": math.inf}, "blocked_s inf"),
        ({"files": files("")}, "1 to 1024 bytes"),
        ({"files": files("x" * 1025)}, "1 to 1024 bytes"),
        ({"files": files("../secret")}, "plain relative path"),
        ({"files": files("/etc/passwd")}, "plain relative path"),
        ({"files": files("a//b")}, "plain relative path"),
        ({"files": files("a", "a")}, "there twice"),
        ({"files": files("a", digest="x")}, "wanted sha256: and 64"),
        ({"files": files("a", "b", size_bytes=2**62)}, "over 2^63 - 1"),
        ({"metrics_json": "{"}, "metrics are not JSON"),
        ({"metrics_json": '{"loss": NaN}'}, "metrics are not JSON"),
        ({"metrics_json": "[1]"}, "no JSON object"),
        ({"metadata_json": '"text"'}, "no JSON object"),
        ({"metadata_json": '{"a": Infinity}'}, "metadata are not JSON"),
        ({"metadata_json": json.dumps({"a": "x" * limits.CHECKPOINT_JSON_MAX_BYTES})}, "more than 65536 bytes"),
        ({"metadata_json": '{"a":' * 65 + "1" + "}" * 65}, "nested more than 64 levels"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], told: str) -> None:
    """Each with a sentence that names it."""
    assert told in checkpoint_problem(word(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"step": -1.5},
        {"kind": "dataloader", "state": pb.CheckpointSaved.STAGED},
        {"uri": "file:///data/a%20b/"},
        {"uri": "gs+x-y.z://any where"},
        {"shard": 65_535, "shards": 65_536},
        {"digest": DIGEST.upper().replace("SHA", "sha")},
        {"files": files("a/b", "a c/é", digest=DIGEST)},
        {"metadata_json": '{"a":' * 64 + "1" + "}" * 64},
        {"blocked_s": 1e9, "staged_us": 1, "saved_us": 2},
    ],
)
def test_what_is_taken(fields: dict[str, Any]) -> None:
    """Anything within the limits; a URI of any scheme."""
    assert checkpoint_problem(word(**fields)) == ""


def test_too_many_files() -> None:
    """A manifest has its limit."""
    saved = word(files=[pb.CheckpointFile(path=str(n)) for n in range(limits.CHECKPOINT_FILES_MAX + 1)])
    assert "100001 files, over 100000" in checkpoint_problem(saved)
    del saved.files[-1]
    assert checkpoint_problem(saved) == ""


def test_a_bad_word_is_refused_like_other_events() -> None:
    """REJECTED_EVENT with the reason; what is right in the batch is kept."""
    decoder = StreamDecoder(wire.writer(wire.hello("r")))
    events = [pb.Event(time_us=1, checkpoint=word(**fields)) for fields in ({}, {"kind": "x"}, {"step": 2.0})]
    assert event_problem(pb.Event(time_us=-1, checkpoint=word()))
    decoded = decoder.decode(wire.batch(1, events=events))
    assert [event.checkpoint.step for event in decoded.events] == [1.0, 2.0]
    (refused,) = decoded.rejected.values()
    assert (refused.reason, refused.points) == (pb.Rejected.REJECTED_EVENT, 0)
    assert "'x'" in refused.message


def test_a_checkpoint_of_the_inherited_part_is_refused() -> None:
    """Its branch begins after the fork step: at or before it, checkpoints are the ancestors'."""
    decoder = StreamDecoder(replace(wire.writer(wire.hello("r")), after=5.0))
    events = [pb.Event(time_us=1, checkpoint=word(step=step)) for step in (4.0, 5.0, 5.5)]
    decoded = decoder.decode(wire.batch(1, events=events))
    assert [event.checkpoint.step for event in decoded.events] == [5.5]
    (refused,) = decoded.rejected.values()
    assert refused.reason == pb.Rejected.REJECTED_BEFORE_FORK
    assert "step 4 is not after the fork step 5" in refused.message


def test_the_row_of_a_word() -> None:
    """With the time of its event; unset shards are one; -0.0 is the step 0."""
    saved = word(
        step=-0.0,
        shard=0,
        digest=DIGEST.upper().replace("SHA", "sha"),
        staged_us=1,
        saved_us=2,
        blocked_s=0.5,
        metrics_json='{"loss": 1}',
        metadata_json='{"a": [1]}',
    )
    event = pb.Event(time_us=wire.START_US, checkpoint=saved)
    (row,) = checkpoint_rows([("p", RUN, event), ("p", RUN, wire.started())]).to_pylist()
    assert math.copysign(1, row.pop("step")) == 1
    assert row == {
        "project": "p",
        "run": RUN,
        "kind": "full",
        "shard": 0,
        "shards": 1,
        "uri": "s3://bucket/key",
        "state": "durable",
        "size_bytes": 0,
        "digest": DIGEST,
        "files": "",
        "staged_at": datetime(1970, 1, 1, 0, 0, 0, 1, timezone.utc),
        "saved_at": datetime(1970, 1, 1, 0, 0, 0, 2, timezone.utc),
        "blocked_s": 0.5,
        "metrics": '{"loss": 1}',
        "metadata": '{"a": [1]}',
        "time": datetime.fromtimestamp(wire.START_US / 1e6, timezone.utc),
    }


@pytest.mark.parametrize(("told", "stored"), [(0, 7), (5, 5)])
def test_the_size_of_a_manifest(told: int, stored: int) -> None:
    """Where no size was told, it is the sum of the files."""
    saved = word(uri="s3://b/f/", size_bytes=told, files=files("a", size_bytes=3) + files("b", size_bytes=4))
    (row,) = checkpoint_rows([("p", RUN, pb.Event(time_us=1, checkpoint=saved))]).to_pylist()
    assert row["size_bytes"] == stored
    assert json.loads(row["files"])[1] == {"path": "b", "size_bytes": 4, "digest": ""}
