"""From the arguments of `log_checkpoint` to the spool's record, and on to the message."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from thalweg.checkpoints.local import Place
from thalweg.checkpoints.manifest import ManifestFile
from thalweg.checkpoints.record import describe_checkpoint
from thalweg.errors import InputError
from thalweg.sender.pack import to_event
from thalweg.spool.writer import SEGMENT_BYTES
from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb

NOW_US = 1_700_000_000_000_000
HEX = "ab" * 32


def describe(uri: Any = "s3://bucket/key", **more: Any) -> dict[str, Any]:
    """The document of a checkpoint of step 7; asserts that there was nothing to complain of."""
    record = describe_checkpoint(uri, **{"step": 7, "now_us": NOW_US, **more})
    assert record.complaints == ()
    document: dict[str, Any] = record.fields["checkpoint"]
    return document


def test_defaults() -> None:
    """A URI and a step are enough: durable, whole, one object of unknown size."""
    assert describe() == {
        "step": 7.0,
        "kind": "full",
        "uri": "s3://bucket/key",
        "state": "durable",
        "shard": 0,
        "shards": 1,
        "size_bytes": 0,
        "digest": "",
        "files": [],
        "staged_us": 0,
        "saved_us": NOW_US,
        "blocked_s": 0.0,
        "metrics": {},
        "metadata": {},
    }


def test_all_arguments_reach_the_message() -> None:
    """What is said is in the message, which fits what the server takes."""
    record = describe_checkpoint(
        "s3://bucket/dir",
        step=7,
        now_us=NOW_US,
        kind="model",
        files=[{"path": "a/b.pt", "size_bytes": 5, "digest": HEX}, "s3://bucket/dir/c", ManifestFile("d", 1)],
        size_bytes=11,
        digest=f"sha256:{HEX}",
        metrics={"eval": {"loss": 0.5}, "bad": math.nan},
        metadata={"world": 8, "nested": {"a": [1, None, "ü"]}, "when": datetime(2026, 1, 2)},
        staged_at=1_600_000_000.25,
        blocked_s=1.5,
    )
    event = to_event({"time_us": 1, "kind": "checkpoint", **json.loads(json.dumps(record.fields))})
    assert event == pb.Event(
        time_us=1,
        checkpoint=pb.CheckpointSaved(
            step=7,
            kind="model",
            uri="s3://bucket/dir/",
            state=pb.CheckpointSaved.DURABLE,
            shards=1,
            size_bytes=11,
            digest=f"sha256:{HEX}",
            files=[
                pb.CheckpointFile(path="a/b.pt", size_bytes=5, digest=f"sha256:{HEX}"),
                pb.CheckpointFile(path="c"),
                pb.CheckpointFile(path="d", size_bytes=1),
            ],
            staged_us=1_600_000_000_250_000,
            saved_us=NOW_US,
            blocked_s=1.5,
            metrics_json='{"eval/loss": 0.5, "bad": "NaN"}',
            metadata_json='{"world": 8, "nested": {"a": [1, null, "\\u00fc"]}, "when": "2026-01-02 00:00:00"}',
        ),
    )


def test_staged_and_durable_times() -> None:
    """A staged one was copied aside now and is not saved; of a durable one the staging may be told."""
    staged = describe(state="staged")
    assert (staged["state"], staged["staged_us"], staged["saved_us"]) == ("staged", NOW_US, 0)
    told = describe(staged_at=datetime(2026, 1, 2, tzinfo=timezone.utc))
    assert (told["staged_us"], told["saved_us"]) == (1_767_312_000_000_000, NOW_US)


@pytest.mark.parametrize(
    ("given", "rank", "shard", "shards"),
    [
        ({}, 5, 0, 1),
        ({"shards": 8}, 5, 5, 8),
        ({"shards": 8, "shard": 0}, 5, 0, 8),
        ({"shards": 1}, 0, 0, 1),
        ({"shards": 65_536, "shard": 65_535}, 0, 65_535, 65_536),
    ],
)
def test_shard_is_the_rank_unless_said(given: dict[str, Any], rank: int, shard: int, shards: int) -> None:
    """Of N shards a process writes that of its rank, unless it says another."""
    document = describe(rank=rank, **given)
    assert (document["shard"], document["shards"]) == (shard, shards)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"step": math.nan}, "cannot log checkpoint: step nan is not a finite number"),
        ({"step": "7"}, "cannot log checkpoint: step '7' is not a finite number"),
        ({"step": -math.inf}, "finite"),
        ({"step": None}, "finite"),
        ({"uri": 7}, "cannot log checkpoint of step 7: uri 7 is a int"),
        ({"uri": "s3://bucket"}, r"wanted s3://BUCKET/KEY"),
        ({"kind": "weights"}, "kind 'weights' is none of full, model, optimizer, dataloader"),
        ({"state": "done"}, "state 'done' is none of staged, durable"),
        ({"shard": 1}, "Pass shards, too"),
        ({"shards": 0}, r"shards 0 is not within 1\.\.65536"),
        ({"shards": 65_537}, "not within"),
        ({"shards": 4, "rank": 4}, r"shard 4 \(the rank of this process\) is not within 0\.\.3"),
        ({"shards": 4, "shard": -1}, "shard -1"),
        ({"shards": "s3://bucket/x"}, "neither a number nor a list"),
        ({"shards": 2.0}, "neither a number nor a list"),
        ({"shards": ["a"], "files": ["b"]}, "Pass one of them"),
        ({"shards": ["a"], "shard": 0}, "unknown number of shards"),
        ({"files": "a"}, "not a list"),
        ({"files": [7]}, "neither|not a URI"),
        ({"files": [{"path": "a", "size": 7}]}, "size_bytes"),
        ({"files": ["../a"]}, "plain relative path"),
        ({"files": ["a", "a"]}, "twice"),
        ({"files": ["s3://other/a"]}, "does not lie below"),
        ({"files": ["s3://bucket/keys/a"]}, "does not lie below"),
        ({"files": ["s3://bucket/key/"]}, "does not lie below"),
        ({"files": [{"path": "a", "digest": "x"}]}, "digest"),
        ({"files": ["a"] * 100_001}, "over 100000"),
        ({"size_bytes": -1}, "size -1"),
        ({"digest": "md5:1"}, "digest"),
        ({"metadata": [1]}, "not a mapping"),
        ({"metadata": {"a": "x" * 65_536}}, "bytes as JSON, over 65536"),
        ({"metrics": {f"m{i}": 0.0 for i in range(9000)}}, "its metrics has .* over 65536"),
        ({"staged_at": math.nan}, "staged_at"),
        ({"staged_at": 1e15}, "staged_at"),
        ({"staged_at": "today"}, "staged_at"),
        ({"blocked_s": -1}, "blocked_s"),
        ({"blocked_s": math.inf}, "blocked_s"),
    ],
)
def test_refused(given: dict[str, Any], told: str) -> None:
    """What cannot be recorded is refused with the value and the wanted form."""
    with pytest.raises(InputError, match=told) as caught:
        describe(**given)
    assert str(caught.value).startswith("cannot log checkpoint")


def test_deep_metadata_is_refused() -> None:
    """The server reads 64 levels of brackets; a value that contains itself has no JSON at all."""
    deep: dict[str, Any] = {}
    for _ in range(70):
        deep = {"a": deep}
    with pytest.raises(InputError, match="64 levels"):
        describe(metadata=deep)
    endless: dict[str, Any] = {}
    endless["a"] = endless
    with pytest.raises(InputError, match="cannot be written as JSON"):
        describe(metadata=endless)


def test_bad_metric_costs_only_itself() -> None:
    """A metric that is no number does not cost the pointer; it is complained of."""
    record = describe_checkpoint("gs://b/k", step=7, now_us=NOW_US, metrics={"a": 1, "b": "x"})
    assert record.fields["checkpoint"]["metrics"] == {"a": 1.0}
    assert record.complaints == (
        "checkpoint of step 7 is logged without metric 'b': its value 'x' is a str, not a number",
    )


def test_files_on_the_disk_are_measured(tmp_path: Path) -> None:
    """Size of a file and files of a folder are taken from the disk, unless they are told."""
    (tmp_path / "x.pt").write_bytes(b"12345")
    assert describe(tmp_path / "x.pt")["size_bytes"] == 5
    assert describe(tmp_path / "x.pt", size_bytes=9)["size_bytes"] == 9
    folder = describe(str(tmp_path))
    assert folder["uri"] == tmp_path.as_uri() + "/"
    assert folder["files"] == [{"path": "x.pt", "size_bytes": 5, "digest": ""}]
    assert folder["size_bytes"] == 5


def test_what_others_still_write_is_not_measured(tmp_path: Path) -> None:
    """Neither a staged one nor a folder of several shards is whole: their files are left open."""
    (tmp_path / "x.pt").write_bytes(b"12345")
    for given in ({"state": "staged"}, {"shards": 2, "shard": 0}):
        document = describe(tmp_path, **given)
        assert (document["files"], document["size_bytes"]) == ([], 0)
    assert describe(tmp_path / "x.pt", shards=2, shard=0)["size_bytes"] == 5, "its own file is"


def test_shards_of_one_process_become_its_files(tmp_path: Path) -> None:
    """A list of shards is the manifest: URIs, local paths below the place, paths relative to it, mappings."""
    (tmp_path / "a b").write_bytes(b"12")
    (tmp_path / "c").write_bytes(b"345")
    shards = [tmp_path / "a b", {"uri": (tmp_path / "c").as_uri(), "digest": HEX}, {"path": "d", "size_bytes": 1}]
    document = describe(tmp_path, shards=shards)
    assert (document["shard"], document["shards"], document["size_bytes"]) == (0, 1, 6)
    assert document["files"] == [
        {"path": "a b", "size_bytes": 2, "digest": ""},
        {"path": "c", "size_bytes": 3, "digest": f"sha256:{HEX}"},
        {"path": "d", "size_bytes": 1, "digest": ""},
    ]
    unknown = describe("gs://b/k", shards=["x", {"path": "y", "size_bytes": 3}])
    assert (unknown["uri"], unknown["size_bytes"]) == ("gs://b/k/", 0), "the size of one is not known"
    relative = describe(tmp_path, shards=["c", "missing"])
    assert [file["size_bytes"] for file in relative["files"]] == [3, 0]


def test_largest_record_fits_segment_and_message() -> None:
    """What is just taken fits the spool and, behind a full batch, the largest message."""
    files = [ManifestFile(f"{number:06d}-{'x' * 110}", 1 << 40, f"sha256:{HEX}") for number in range(100_000)]
    document = describe(files=files)
    text = json.dumps({"time_us": NOW_US, "kind": "checkpoint", "checkpoint": document})
    assert 0.9 * limits.CHECKPOINT_RECORD_MAX_BYTES < len(text) < limits.CHECKPOINT_RECORD_MAX_BYTES
    assert limits.CHECKPOINT_RECORD_MAX_BYTES + 4096 < SEGMENT_BYTES
    batch = pb.Batch(events=[to_event(json.loads(text))])
    assert batch.ByteSize() < limits.CHECKPOINT_RECORD_MAX_BYTES
    assert limits.BATCH_TARGET_BYTES + limits.CHECKPOINT_RECORD_MAX_BYTES + 4096 < limits.MESSAGE_MAX_BYTES


def test_manifest_that_does_not_fit() -> None:
    """A list that does not fit is refused where it was given, and left out where it was found on the disk."""
    files = tuple(ManifestFile(f"{number:06d}-{'x' * 300}", 1, f"sha256:{HEX}") for number in range(100_000))
    with pytest.raises(InputError, match=r"list of its 100000 files has \d+ bytes.*allowed. Pack the files into fewer"):
        describe(files=files)
    place = Place("file:///ckpt/", 5, files)
    record = describe_checkpoint("/ckpt", step=7, now_us=NOW_US, look=lambda *_, **__: place)
    assert record.fields["checkpoint"]["files"] == []
    assert record.fields["checkpoint"]["size_bytes"] == 5
    assert len(record.complaints) == 1
    assert "without the list of its files" in record.complaints[0]
