"""The files of a resolved checkpoint, and where each belongs below the folder to which it is restored. Pure."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from thalweg.checkpoints.manifest import check_digest, check_path, check_size
from thalweg.errors import CheckpointError, InputError
from thalweg.values import shorten


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file, as the server describes it."""

    kind: str
    shard: int
    path: str  # relative to its checkpoint; of a single object its name
    uri: str
    size_bytes: int  # 0: empty, or not known
    digest: str  # empty: not known
    url: str | None  # None: the server does not hand it out

    @property
    def key(self) -> tuple[str, int, str]:
        """Names it in a later answer."""
        return self.kind, self.shard, self.path

    def is_same(self, other: RemoteFile) -> bool:
        """Whether the content is said to be the same."""
        return (self.uri, self.size_bytes, self.digest) == (other.uri, other.size_bytes, other.digest)


def read_files(resolved: Mapping[str, Any]) -> list[RemoteFile]:
    """The files of the server's answer; where it knows none, the places of its kinds. Raises CheckpointError.

    Paths come from whoever logged the checkpoint: only plain relative ones are taken.
    """
    try:
        entries = resolved["files"] or [
            {
                "kind": kind["kind"],
                "shard": 0,
                "path": "",
                "uri": kind["uri"],
                "size_bytes": 0,
                "digest": "",
                "url": None,
            }
            for kind in resolved["kinds"]
        ]
        return [
            RemoteFile(
                str(entry["kind"]),
                int(entry["shard"]),
                check_path(entry["path"] or _name(entry["uri"])),
                str(entry["uri"]),
                check_size(entry["size_bytes"]),
                check_digest(entry["digest"]),
                entry["url"],
            )
            for entry in entries
        ]
    except InputError as error:
        raise CheckpointError(f"cannot restore the checkpoint: {error}") from error
    except (KeyError, TypeError, ValueError) as error:  # something else answers there
        raise CheckpointError(f"cannot read the server's answer about the checkpoint: {error!r}") from error


def is_single_object(resolved: Mapping[str, Any], placed: Mapping[str, RemoteFile]) -> bool:
    """Whether the checkpoint is one file, not a folder of them."""
    uris = {kind.get("uri") for kind in resolved.get("kinds") or ()}
    return len(placed) == 1 and next(iter(placed.values())).uri in uris


def arrange(files: Iterable[RemoteFile]) -> dict[str, RemoteFile]:
    """Files by their paths below the destination, sorted. Raises CheckpointError where two would be at one place.

    Several kinds get a folder each, "model/"; so do the shards of a kind, "shard-00003/", if their names collide.
    """
    by_kind: dict[str, list[RemoteFile]] = defaultdict(list)
    for file in files:
        if not any(file.uri == other.uri and file.path == other.path for other in by_kind[file.kind][-1:]):
            by_kind[file.kind].append(file)
    placed: dict[str, RemoteFile] = {}
    for kind, members in by_kind.items():
        uris_of_path: dict[str, set[str]] = defaultdict(set)
        for file in members:
            uris_of_path[file.path].add(file.uri)
        is_crowded = any(len(uris) > 1 for uris in uris_of_path.values())
        for file in members:
            folders = [kind] * (len(by_kind) > 1) + [f"shard-{file.shard:05d}"] * is_crowded
            place = "/".join([*folders, file.path])
            if place in placed and placed[place].uri != file.uri:
                raise CheckpointError(f"cannot restore the checkpoint: two of its files are to be at {shorten(place)}")
            placed[place] = file
    for place in placed:
        parts = place.split("/")
        above = next((folder for end in range(1, len(parts)) if (folder := "/".join(parts[:end])) in placed), None)
        if above is not None:
            raise CheckpointError(f"cannot restore the checkpoint: {shorten(above)} is a file and a folder in it")
    return dict(sorted(placed.items()))


def stamp_of(placed: Mapping[str, RemoteFile]) -> str:
    """Tells this content from another, as far as it is known."""
    text = json.dumps([[place, file.uri, file.size_bytes, file.digest] for place, file in placed.items()])
    return hashlib.sha256(text.encode()).hexdigest()


def _name(uri: object) -> str:
    """The last part of a URI."""
    text = str(uri).rstrip("/").rpartition("/")[2]
    return unquote(text) if str(uri).startswith("file:") else text
