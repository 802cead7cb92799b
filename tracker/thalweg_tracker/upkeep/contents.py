"""Which objects a shard consists of: those of its manifest, one, or all in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg_tracker.checkpoints.places import UploadPlace, file_uri, last_level, path_below
from thalweg_tracker.checkpoints.state import Checkpoint, Word
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.lineage.chain import Segment
from thalweg_tracker.objects.contract import ObjectStore
from thalweg_tracker.objects.keys import canonical
from thalweg_tracker.query.checkpoints import Manifest, read_told
from thalweg_tracker.query.lineage import RunView


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One object of a shard, as it was told. `path`: below the shard's URI; of a single object its name."""

    path: str
    uri: str
    size_bytes: int  # 0: not known, or empty
    digest: str


@dataclass(frozen=True, slots=True)
class Content:
    """The objects of a shard. `is_folder`: they are not known by name, but are all that is in the folder."""

    word: Word
    files: tuple[StoredFile, ...]
    is_folder: bool


Contents = Mapping[tuple[str, int], Content]
"""Of the shards of a checkpoint, by kind and number."""


def read_contents(engine: Engine, objects: ObjectStore | None, view: RunView, checkpoint: Checkpoint) -> Contents:
    """The contents of a checkpoint."""
    told = read_told(engine, view.project, checkpoint.place)
    return contents_of(objects, view, checkpoint, told.manifests)


def contents_of(
    objects: ObjectStore | None,
    view: RunView,
    checkpoint: Checkpoint,
    manifests: Mapping[tuple[str, int], Manifest],
) -> Contents:
    """The contents of a checkpoint by its manifests."""
    (segment,) = (one for one in view.segments if one.run == checkpoint.place.run)
    return {
        (part.word.kind, part.word.shard): _content(objects, view.project, segment, part.word, manifests)
        for part in checkpoint.parts
    }


async def listed(objects: ObjectStore | None, content: Content, limit: int) -> tuple[StoredFile, ...]:
    """The objects of a shard, those of a folder as they are there, at most `limit`. Raises ObjectStoreError.

    A folder that is not the store's stands for itself: its names are not for all who may log a pointer.
    """
    folder = canonical(content.word.uri)
    if not content.is_folder:
        return content.files[:limit]
    if objects is None or not objects.covers(folder):
        return (StoredFile("", folder, content.word.size_bytes, content.word.digest),)
    infos = await objects.list_objects(folder, limit)
    return tuple(StoredFile(path_below(folder, info.uri), info.uri, info.size_bytes, "") for info in infos)


def _content(
    objects: ObjectStore | None,
    project: str,
    segment: Segment,
    word: Word,
    manifests: Mapping[tuple[str, int], Manifest],
) -> Content:
    manifest = manifests.get((word.kind, word.shard))
    if manifest is not None and manifest.uri == word.uri:
        return Content(word, _files(objects, project, segment, word, manifest.files), is_folder=False)
    if word.uri.endswith("/"):
        return Content(word, (), is_folder=True)
    file = StoredFile(last_level(word.uri), canonical(word.uri), word.size_bytes, word.digest)
    return Content(word, (file,), is_folder=False)


def _files(
    objects: ObjectStore | None, project: str, segment: Segment, word: Word, files: Sequence[dict[str, Any]]
) -> tuple[StoredFile, ...]:
    """Manifests name files as they were on the training host; the names of uploads are quoted by the store."""
    folder = canonical(word.uri)
    upload = _upload_of(objects, project, segment, word, folder)
    return tuple(
        StoredFile(
            file["path"],
            objects.uri_for(*upload.levels(file["path"])) if objects and upload else file_uri(folder, file["path"]),
            file["size_bytes"],
            file["digest"],
        )
        for file in files
    )


def _upload_of(
    objects: ObjectStore | None, project: str, segment: Segment, word: Word, folder: str
) -> UploadPlace | None:
    """The upload whose folder the URI is; None if it is another folder."""
    if objects is None or not objects.covers(folder) or not folder.endswith("/"):
        return None
    place = UploadPlace(
        project=project,
        run_id=segment.run_id,
        branch=segment.branch,
        step=word.place.step,
        kind=word.kind,
        shard=word.shard,
        upload=folder.split("/")[-2],
    )
    return place if objects.uri_for(*place.levels()) == folder else None
