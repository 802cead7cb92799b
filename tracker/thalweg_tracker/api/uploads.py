"""Routes of uploads: the server names the place and signs the URLs; the bytes go from training host to store."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from thalweg.wire import limits as wire_limits
from thalweg_tracker.api import checkpoint_models as models
from thalweg_tracker.api.parameters import ProjectName, RunName
from thalweg_tracker.checkpoints.places import UploadPlace, path_problem
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.model.checks import check_label
from thalweg_tracker.objects.contract import URL_LIFETIME_S, ObjectStore, Part
from thalweg_tracker.query.lineage import RunRef, find_views
from thalweg_tracker.upkeep.resolve import URLS_AT_ONCE

URLS_MAX = 1000


def add_uploads(router: APIRouter, engine: Engine, objects: ObjectStore | None) -> None:
    """Adds the routes. `objects` None: all are refused with a word."""

    @router.post("/projects/{project}/runs/{run_id}/uploads")
    async def upload(project: ProjectName, run_id: RunName, order: models.UploadOrder) -> models.UploadAnswer:
        """Begins to upload a file of a checkpoint, or goes on: tells where to PUT the parts that are still to come."""
        store = _store(objects)
        place = await _place(engine, project, run_id, order)
        uri = store.uri_for(*place.levels(order.path))
        part_bytes = store.part_bytes(order.size_bytes)
        upload_id = order.upload_id or await store.begin_upload(uri)
        arrived = await store.list_parts(uri, upload_id) if order.upload_id else []
        done = [part for part in arrived if part.size_bytes == _size_of_part(order.size_bytes, part_bytes, part.number)]
        missing = _missing(max(1, -(-order.size_bytes // part_bytes)), done)
        urls = []
        for at, number in enumerate(missing):
            if at % URLS_AT_ONCE == 0:
                await asyncio.sleep(0)
            urls.append(models.PartUrl(number=number, url=await store.presign_part(uri, upload_id, number)))
        return models.UploadAnswer(
            branch=place.branch,
            uri=uri,
            folder_uri=store.uri_for(*place.levels()),
            upload_id=upload_id,
            part_bytes=part_bytes,
            done=[models.UploadedPart(number=one.number, etag=one.etag, size_bytes=one.size_bytes) for one in done],
            parts=urls,
            expires_s=URL_LIFETIME_S,
        )

    @router.post("/projects/{project}/runs/{run_id}/uploads/complete")
    async def complete(project: ProjectName, run_id: RunName, order: models.CompleteOrder) -> models.UploadedObject:
        """Makes the object of its parts, if they have the size that was told."""
        store = _store(objects)
        uri = store.uri_for(*(await _place(engine, project, run_id, order)).levels(order.path))
        await _check_parts(store, uri, order)
        await store.complete_upload(uri, order.upload_id, [(part.number, part.etag) for part in order.parts])
        found = await store.head(uri)
        if found is None:
            raise NotFoundError("upload_not_found", f"{uri} was uploaded, and is gone", "Upload it again.")
        if found.size_bytes != order.size_bytes:  # it was complete before, and is left as it is
            raise _wrong_size(order, found.size_bytes)
        return models.UploadedObject(uri=uri, size_bytes=found.size_bytes, etag=found.etag, version=found.version)

    @router.post("/projects/{project}/runs/{run_id}/uploads/abort")
    async def abort(project: ProjectName, run_id: RunName, order: models.AbortOrder) -> models.Aborted:
        """Throws away what has arrived. An upload that is gone is no error."""
        store = _store(objects)
        uri = store.uri_for(*(await _place(engine, project, run_id, order)).levels(order.path))
        await store.abort_upload(uri, order.upload_id)
        return models.Aborted()


def _store(objects: ObjectStore | None) -> ObjectStore:
    if objects is None:
        raise RejectedError(
            "no_object_store",
            "cannot take checkpoints in: this server has no object store",
            "Start it with THALWEG_OBJECTS, or save by yourself and log the place with log_checkpoint.",
        )
    return objects


async def _place(engine: Engine, project: str, run_id: str, file: models.UploadFile) -> UploadPlace:
    """Where the file belongs. A run need not be known yet: a training may save before its first records arrive."""
    check_label("project", project, wire_limits.PROJECT_MAX_BYTES)
    check_label("run_id", run_id, wire_limits.RUN_ID_MAX_BYTES)
    if problem := path_problem(file.path):
        raise RejectedError("bad_path", problem)
    branch = file.branch if file.branch is not None else await asyncio.to_thread(_newest, engine, project, run_id)
    return UploadPlace(project, run_id, branch, file.step, file.kind, file.shard, file.upload)


async def _check_parts(store: ObjectStore, uri: str, order: models.CompleteOrder) -> None:
    """That the parts named make up the size that was told. Raises RejectedError "wrong_size".

    A part that is not there, or another one, is left to the store to refuse; so is an upload that is not under way.
    """
    try:
        arrived = {part.number: part for part in await store.list_parts(uri, order.upload_id)}
    except NotFoundError:
        return
    parts = [arrived.get(one.number) for one in order.parts]
    size_bytes = sum(part.size_bytes for part in parts if part is not None)
    if None not in parts and size_bytes != order.size_bytes:
        raise _wrong_size(order, size_bytes)


def _wrong_size(order: models.CompleteOrder, size_bytes: int) -> RejectedError:
    return RejectedError(
        "wrong_size",
        f"{order.path!r} has arrived with {size_bytes} bytes, {order.size_bytes} were told",
        "Upload it again.",
    )


def _newest(engine: Engine, project: str, run_id: str) -> int:
    try:
        return find_views(engine, project, [RunRef(run_id)])[0].branch
    except NotFoundError:
        return 0


def _size_of_part(size_bytes: int, part_bytes: int, number: int) -> int:
    return max(0, min(part_bytes, size_bytes - (number - 1) * part_bytes))


def _missing(parts: int, done: list[Part]) -> list[int]:
    """Numbers of the first parts that are still to come."""
    present = {part.number for part in done}
    found = []
    for number in range(1, parts + 1):
        if number not in present:
            found.append(number)
        if len(found) == URLS_MAX:
            break
    return found
