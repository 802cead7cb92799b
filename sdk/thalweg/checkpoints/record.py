"""From the arguments of `log_checkpoint` to the record of a checkpoint in the spool. Pure but for `look`.

    {"checkpoint": {"step", "kind", "uri", "state", "shard", "shards", "size_bytes", "digest",
                    "files": [{"path", "size_bytes", "digest"}], "staged_us", "saved_us", "blocked_s",
                    "metrics": {name: number}, "metadata": {...}}}

It lies one level down, because the record has a "kind" of its own.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from thalweg import attributes
from thalweg.checkpoints.local import PathLike, Place, file_path
from thalweg.checkpoints.local import look as look_on_disk
from thalweg.checkpoints.manifest import ManifestFile, check_digest, check_files, check_path, check_size
from thalweg.errors import InputError
from thalweg.values import shorten, sort_out, to_number
from thalweg.wire import limits

KINDS: Final = ("full", "model", "optimizer", "dataloader")
STATES: Final = ("staged", "durable")

_FILE_FIELDS: Final = {"uri", "path", "size_bytes", "digest"}


class Look(Protocol):
    """Finds what lies at a URI or local path, as `local.look` does."""

    def __call__(self, place: PathLike, *, sizes: bool, files: bool) -> Place: ...


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """What `Recorder.event("checkpoint", fields)` takes, and what had to be left out of it, in whole sentences."""

    fields: dict[str, Any]
    complaints: tuple[str, ...] = ()


def describe_checkpoint(
    uri: PathLike,
    *,
    step: float,
    now_us: int,
    rank: int = 0,
    kind: str = "full",
    shards: int | Sequence[Any] | None = None,
    shard: int | None = None,
    size_bytes: int | None = None,
    digest: str | None = None,
    files: Sequence[Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    state: str = "durable",
    staged_at: float | datetime | None = None,
    blocked_s: float | None = None,
    after: float = -math.inf,
    look: Look = look_on_disk,
) -> CheckpointRecord:
    """The record of a checkpoint. Raises InputError for what must not be recorded, "cannot log checkpoint ...".

    `shards`: a number, of which this process wrote part `shard` (its rank, if not given); or all parts, which
    this process wrote: URIs below `uri`, paths relative to it, or mappings of "uri" or "path", "size_bytes" and
    "digest". `files`: the same for the files of one part. What is not given is taken from the disk if it is
    there: a file's size, a folder's files; not of a `staged` one, which is not whole yet, and not of a folder
    of several shards, in which others may be writing. `staged_at`: seconds since the epoch, or a datetime.
    `after`: the step at which the branch began.
    """
    number = check_step(step, after)
    try:
        part, parts, of_one_process = _shards(shards, shard, rank)
        if of_one_process is not None and files is not None:
            raise InputError("both shards and files name its files. Pass one of them")
        listed = files if of_one_process is None else of_one_process
        is_durable = _one_of(STATES, "state", state) == "durable"
        place = _find(uri, listed, look, sizes=is_durable, files=is_durable and parts == 1)
        logged, complaints = _metrics(metrics)
        document = {
            "step": number,
            "kind": _one_of(KINDS, "kind", kind),
            "uri": place.uri,
            "state": state,
            "shard": part,
            "shards": parts,
            "size_bytes": check_size(size_bytes) or place.size_bytes,
            "digest": check_digest(digest),
            "files": [file.as_json() for file in place.files],
            "staged_us": _time_us(staged_at, 0 if is_durable else now_us),
            "saved_us": now_us if is_durable else 0,
            "blocked_s": _seconds(blocked_s),
            "metrics": logged,
            "metadata": _metadata(metadata),
        }
        problem = place.problem or manifest_problem(document)
        if problem and listed is not None:
            raise InputError(problem)
    except InputError as error:
        raise InputError(f"cannot log checkpoint of step {number:g}: {error}") from error
    if problem:
        document["files"] = []
        complaints.append(f"without the list of its files: {problem}")
    said = tuple(f"checkpoint of step {number:g} is logged {complaint}" for complaint in complaints)
    return CheckpointRecord({"checkpoint": document}, said)


def check_step(step: object, after: float = -math.inf) -> float:
    """The step as a number. Raises InputError for what is none, or not after the step at which the branch began."""
    number = to_number(step)
    if number is None or not math.isfinite(number):
        raise InputError(f"cannot log checkpoint: step {shorten(step)} is not a finite number")
    if number <= after:
        raise InputError(
            f"cannot log checkpoint of step {number:g}: it is not after the step {after:g} at which this branch of "
            "the run began. Fork at an earlier step to rewrite history."
        )
    return number


def manifest_problem(document: Mapping[str, Any]) -> str:
    """Why a checkpoint's document does not fit in a record of the spool; empty if it does."""
    size = len(json.dumps(document))
    if size <= limits.CHECKPOINT_RECORD_MAX_BYTES:
        return ""
    return (
        f"the list of its {len(document['files'])} files has {size} bytes; {limits.CHECKPOINT_RECORD_MAX_BYTES} are "
        "allowed. Pack the files into fewer, or let each process log its own as a shard"
    )


def _one_of(allowed: tuple[str, ...], what: str, value: str) -> str:
    if value not in allowed:
        raise InputError(f"{what} {shorten(value)} is none of {', '.join(allowed)}")
    return value


def _shards(shards: Any, shard: int | None, rank: int) -> tuple[int, int, Sequence[Any] | None]:
    """Number of this part, number of parts, and the files of one process that wrote all."""
    if shards is None or not hasattr(shards, "__index__"):
        if shard is not None:
            raise InputError(f"shard {shorten(shard)} is of an unknown number of shards. Pass shards, too")
        if shards is not None and (isinstance(shards, (str, bytes)) or not isinstance(shards, Sequence)):
            raise InputError(f"shards {shorten(shards)} is neither a number nor a list of URIs")
        return 0, 1, shards
    count = shards.__index__()
    if not 1 <= count <= limits.CHECKPOINT_SHARDS_MAX:
        raise InputError(f"shards {shorten(shards)} is not within 1..{limits.CHECKPOINT_SHARDS_MAX}")
    number = rank if shard is None else shard
    if not hasattr(number, "__index__") or not 0 <= number.__index__() < count:
        origin = "the rank of this process" if shard is None else "counted from 0"
        raise InputError(f"shard {shorten(number)} ({origin}) is not within 0..{count - 1}. Pass shard")
    return number.__index__(), count, None


def _find(uri: PathLike, listed: Sequence[Any] | None, look: Look, *, sizes: bool, files: bool) -> Place:
    """Where the checkpoint lies, with its files as they are listed, or as they are on the disk."""
    if not isinstance(uri, (str, os.PathLike)):
        raise InputError(f"uri {shorten(uri)} is a {type(uri).__name__}, neither text nor a path")
    if listed is None:
        return look(uri, sizes=sizes, files=files)
    if isinstance(listed, (str, bytes)) or not isinstance(listed, Sequence):
        raise InputError(f"files {shorten(listed)} is not a list")
    place = look(uri, sizes=False, files=False)
    if not listed:
        return place
    if len(listed) > limits.CHECKPOINT_FILES_MAX:
        raise InputError(f"it has {len(listed)} files, over {limits.CHECKPOINT_FILES_MAX}. Pack them into fewer")
    folder = place.uri.rstrip("/") + "/"
    manifest = tuple(_manifest_file(entry, folder, look, sizes=sizes) for entry in listed)
    check_files(manifest)
    are_known = all(file.size_bytes for file in manifest)
    return Place(folder, sum(file.size_bytes for file in manifest) if are_known else 0, manifest)


def _manifest_file(entry: Any, folder: str, look: Look, *, sizes: bool) -> ManifestFile:
    """A file of a manifest: a ManifestFile, a mapping, a URI below the folder, or a path relative to it."""
    if isinstance(entry, ManifestFile):
        return entry
    fields = entry if isinstance(entry, Mapping) else {"path": entry}
    where = fields.get("uri", fields.get("path"))
    if not isinstance(where, (str, os.PathLike)) or not set(fields) <= _FILE_FIELDS:
        raise InputError(f'file {shorten(entry)} is not a URI, a path, or a mapping of "path", "size_bytes", "digest"')
    text = os.fspath(where)
    size = check_size(fields.get("size_bytes"))
    if "://" in text or text.startswith("/"):
        found = look(text, sizes=sizes, files=False)
        text = _below(folder, found.uri)
        size = size or found.size_bytes
    elif folder.startswith("file://") and sizes and not size:
        size = look(f"{file_path(folder)}/{text}", sizes=True, files=False).size_bytes
    return ManifestFile(check_path(text), size, check_digest(fields.get("digest")))


def _below(folder: str, uri: str) -> str:
    """The path of an object relative to its folder."""
    if not uri.startswith(folder) or uri.endswith("/"):
        raise InputError(f"file {shorten(uri, 200)} does not lie below {shorten(folder, 200)}")
    path, top = file_path(uri), file_path(folder)
    return uri[len(folder) :] if path is None else os.path.relpath(path, top)


def _metrics(values: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
    """Names and numbers as JSON has them, and what had to be left out."""
    if not values:
        return {}, []
    good, refused = sort_out(values)
    return _json("metrics", good), [f"without metric {refusal.metric!r}: {refusal.message}" for refusal in refused]


def _metadata(values: Mapping[str, Any] | None) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InputError(f"its metadata {shorten(values)} is a {type(values).__name__}, not a mapping")
    return _json("metadata", values)


def _json(what: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The nearest that JSON has, within its limits. NaN and infinities become their names, as in the HTTP API."""
    try:
        text = attributes.to_json(what, values)
    except InputError as error:
        raise InputError(f"its {what} cannot be written as JSON") from error
    plain: dict[str, Any] = json.loads(text)
    size = len(json.dumps(plain))  # as the sender writes it
    if size > limits.CHECKPOINT_JSON_MAX_BYTES:
        raise InputError(f"its {what} has {size} bytes as JSON, over {limits.CHECKPOINT_JSON_MAX_BYTES}")
    if _depth(plain) > limits.ATTRIBUTE_MAX_DEPTH:
        raise InputError(f"its {what} is nested more than {limits.ATTRIBUTE_MAX_DEPTH} levels deep")
    return plain


def _depth(value: Any) -> int:
    """Levels of brackets."""
    depth = 0
    level = [value]
    while level := [inner for inner in level if isinstance(inner, (dict, list))]:
        depth += 1
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return depth


def _time_us(given: float | datetime | None, otherwise_us: int) -> int:
    """A time given as seconds since the epoch or a datetime, in microseconds."""
    if given is None:
        return otherwise_us
    seconds = given.timestamp() if isinstance(given, datetime) else to_number(given)
    if seconds is None or not limits.TIME_MIN_US <= seconds * 1e6 < limits.TIME_MAX_US:  # also for NaN
        raise InputError(f"staged_at {shorten(given)} is neither seconds since the epoch nor a datetime before 2200")
    return round(seconds * 1e6)


def _seconds(given: float | None) -> float:
    if given is None:
        return 0.0
    seconds = to_number(given)
    if seconds is None or not 0 <= seconds < math.inf:
        raise InputError(f"blocked_s {shorten(given)} is not a number of seconds, 0 or more")
    return seconds
