"""Words on checkpoints: checked where they come in, and made rows of `checkpoints`. Pure.

A row keeps the time of its event, by which the table lets the later word stand: a "staged" that is delivered
after its "durable" undoes nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final

import orjson
import pyarrow as pa

from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.checkpoints.places import KINDS, path_problem
from thalweg_tracker.model.keys import RunKey

CHECKPOINTS: Final = pa.schema(
    [
        ("project", pa.string()),
        ("run", pa.uint64()),
        ("step", pa.float64()),
        ("kind", pa.string()),
        ("shard", pa.uint32()),
        ("shards", pa.uint32()),
        ("uri", pa.string()),
        ("state", pa.string()),
        ("size_bytes", pa.uint64()),
        ("digest", pa.string()),
        ("files", pa.string()),
        ("staged_at", pa.timestamp("us", "UTC")),
        ("saved_at", pa.timestamp("us", "UTC")),
        ("blocked_s", pa.float64()),
        ("metrics", pa.string()),
        ("metadata", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
    ]
)

_STATES: Final = {pb.CheckpointSaved.STAGED: "staged", pb.CheckpointSaved.DURABLE: "durable"}
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+")
_DIGEST: Final = re.compile(r"sha256:[0-9a-fA-F]{64}")
_SIZE_MAX_BYTES: Final = (1 << 63) - 1


def checkpoint_problem(saved: pb.CheckpointSaved) -> str:
    """What is wrong with a word on a checkpoint; empty if nothing is."""
    if not math.isfinite(saved.step):
        return f"the checkpoint's step {saved.step} is not finite"
    if saved.kind not in KINDS:
        return f"the checkpoint's kind {saved.kind[:60]!r} is none of {', '.join(KINDS)}"
    if saved.state not in _STATES:
        return f"the checkpoint's state {saved.state} is not known to this server"
    shards = saved.shards or 1
    if shards > limits.CHECKPOINT_SHARDS_MAX or saved.shard >= shards:
        return f"there is no shard {saved.shard} of {shards}; at most {limits.CHECKPOINT_SHARDS_MAX} are allowed"
    if not 0 <= saved.blocked_s < math.inf:
        return f"the checkpoint's blocked_s {saved.blocked_s} is not a number of seconds"
    for name, time_us in (("staged_us", saved.staged_us), ("saved_us", saved.saved_us)):
        if not 0 <= time_us < limits.TIME_MAX_US:
            return f"the checkpoint's {name} {time_us} is before 1970 or after 2200"
    return (
        _uri_problem(saved.uri)
        or _content_problem("the checkpoint", saved.size_bytes, saved.digest)
        or _files_problem(saved)
        or _object_problem("metrics", saved.metrics_json)
        or _object_problem("metadata", saved.metadata_json)
    )


def _uri_problem(uri: str) -> str:
    if len(uri.encode()) > limits.CHECKPOINT_URI_MAX_BYTES:
        return f"the checkpoint's uri {uri[:60]!r} has more than {limits.CHECKPOINT_URI_MAX_BYTES} bytes"
    if not _URI.fullmatch(uri) or not uri.isprintable():
        return f"the checkpoint's uri {uri[:60]!r} is none: wanted s3://BUCKET/KEY, file:///PATH or the like"
    return ""


def _content_problem(what: str, size_bytes: int, digest: str) -> str:
    if size_bytes > _SIZE_MAX_BYTES:
        return f"{what} has {size_bytes} bytes, over 2^63 - 1"
    if digest and not _DIGEST.fullmatch(digest):
        return f"{what} has the digest {digest[:80]!r}: wanted sha256: and 64 hexadecimal digits"
    return ""


def _files_problem(saved: pb.CheckpointSaved) -> str:
    if len(saved.files) > limits.CHECKPOINT_FILES_MAX:
        return f"the checkpoint has {len(saved.files)} files, over {limits.CHECKPOINT_FILES_MAX}"
    seen: set[str] = set()
    total_bytes = 0
    for file in saved.files:
        problem = path_problem(file.path) or _content_problem(f"file {file.path[:60]!r}", file.size_bytes, file.digest)
        if problem:
            return problem
        if file.path in seen:
            return f"file {file.path[:60]!r} is there twice"
        seen.add(file.path)
        total_bytes += file.size_bytes
    return f"the files have {total_bytes} bytes, over 2^63 - 1" if total_bytes > _SIZE_MAX_BYTES else ""


def _object_problem(what: str, text: str) -> str:
    if len(text.encode()) > limits.CHECKPOINT_JSON_MAX_BYTES:
        return f"the checkpoint's {what} have more than {limits.CHECKPOINT_JSON_MAX_BYTES} bytes"
    try:
        value = orjson.loads(text) if text else {}  # refuses NaN
    except orjson.JSONDecodeError:
        return f"the checkpoint's {what} are not JSON"
    if not isinstance(value, dict):
        return f"the checkpoint's {what} are no JSON object"
    if _is_deeper(value, limits.ATTRIBUTE_MAX_DEPTH):
        return f"the checkpoint's {what} are nested more than {limits.ATTRIBUTE_MAX_DEPTH} levels deep"
    return ""


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    return levels == 0 or any(
        _is_deeper(one, levels - 1) for one in (value.values() if isinstance(value, dict) else value)
    )


def checkpoint_rows(events: Iterable[tuple[str, RunKey, pb.Event]]) -> pa.Table:
    """One row for each word on a checkpoint, from (project, run, event)."""
    rows = [_row(project, run, event) for project, run, event in events if event.WhichOneof("kind") == "checkpoint"]
    return pa.Table.from_pylist(rows, schema=CHECKPOINTS)


def _row(project: str, run: RunKey, event: pb.Event) -> dict[str, Any]:
    saved = event.checkpoint
    files = [{"path": file.path, "size_bytes": file.size_bytes, "digest": file.digest.lower()} for file in saved.files]
    return {
        "project": project,
        "run": run,
        "step": saved.step + 0.0,  # -0.0 is the step 0.0
        "kind": saved.kind,
        "shard": saved.shard,
        "shards": saved.shards or 1,
        "uri": saved.uri,
        "state": _STATES[saved.state],
        "size_bytes": saved.size_bytes or sum(file.size_bytes for file in saved.files),
        "digest": saved.digest.lower(),
        "files": json.dumps(files) if files else "",
        "staged_at": saved.staged_us,
        "saved_at": saved.saved_us,
        "blocked_s": saved.blocked_s,
        "metrics": saved.metrics_json,
        "metadata": saved.metadata_json,
        "time": event.time_us,
    }
