"""Routes of checkpoints. They talk to the object store, so they are coroutines, and ask the database in threads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import islice
from typing import Annotated

import anyio.from_thread
import orjson
from fastapi import APIRouter, Query
from fastapi.responses import Response

from thalweg.wire import limits as wire_limits
from thalweg_tracker.api import checkpoint_models as models
from thalweg_tracker.api.encode import from_cursor, to_cursor
from thalweg_tracker.api.parameters import Branch, Cursor, Limit, ProjectName, RunName
from thalweg_tracker.api.uploads import add_uploads
from thalweg_tracker.checkpoints import interval
from thalweg_tracker.checkpoints.state import Checkpoint, KindState, Place
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.query.checkpoint_advice import observe
from thalweg_tracker.query.checkpoints import NO_TEXTS, Texts, find_steps, read_texts, walk
from thalweg_tracker.query.lineage import RunRef, RunView, find_views
from thalweg_tracker.upkeep.prune import Order, Pruner
from thalweg_tracker.upkeep.reach import Reach
from thalweg_tracker.upkeep.resolve import FileUrl, Found, Resolver, Wish
from thalweg_tracker.upkeep.verify import Verifier

_Texts = dict[Place, Texts]


def add_checkpoints(router: APIRouter, engine: Engine, reach: Reach) -> None:
    """Adds the routes of checkpoints and uploads. Its store is open on the event loop of the application."""
    objects = reach.objects
    verifier = Verifier(engine, objects, reach=reach)
    _add_list(router, engine)
    _add_resolve(router, engine, Resolver(engine, objects, verifier))
    _add_upkeep(router, engine, verifier, Pruner(engine, objects, verifier))
    add_uploads(router, engine, objects)


def latest_checkpoint(engine: Engine, reach: Reach) -> Callable[[RunView], float | None]:
    """Finds the step of the latest checkpoint of a view that is really there; for handlers that are no coroutines."""
    resolver = Resolver(engine, reach.objects, Verifier(engine, reach.objects, reach=reach))
    return lambda view: anyio.from_thread.run(resolver.latest_step, view)


def _add_list(router: APIRouter, engine: Engine) -> None:
    @router.get("/projects/{project}/runs/{run_id}/checkpoints")
    def checkpoints(
        project: ProjectName,
        run_id: RunName,
        branch: Branch = None,
        limit: Limit = limits.PAGE_DEFAULT,
        cursor: Cursor = None,
    ) -> models.CheckpointPage:
        """Lists the checkpoints along the lineage of a run, the highest step first, and advises how often to save."""
        view = find_views(engine, project, [RunRef(run_id, branch)])[0]
        before = _step_of(cursor) if cursor else math.inf
        found = list(islice(walk(engine, view, before=before, first_rows=limit + 1), limit + 1))
        page, more = found[:limit], len(found) > limit
        texts = read_texts(engine, project, page)
        seen = None if cursor else observe(engine, view)
        advice = interval.advise(seen) if seen else None
        return models.CheckpointPage(
            checkpoints=_checkpoints(view, page, texts),
            next_cursor=to_cursor(repr(page[-1].place.step)) if more else None,
            advice=models.Advice(**asdict(advice)) if advice else None,
            advice_missing=interval.missing(seen) if seen else "it is on the first page",
        )


def _add_resolve(router: APIRouter, engine: Engine, resolver: Resolver) -> None:
    @router.get("/projects/{project}/runs/{run_id}/checkpoints/resolve", response_model=models.ResolvedCheckpoint)
    async def resolve(
        project: ProjectName,
        run_id: RunName,
        step: Annotated[float | None, Query(allow_inf_nan=False, description="the last one to go on from")] = None,
        kind: Annotated[models.KindName | None, Query(description="only this kind of what was saved")] = None,
        best: Annotated[
            str | None,
            Query(
                min_length=1,
                max_length=wire_limits.METRIC_NAME_MAX_BYTES,
                description="a metric: the best one, instead of the nearest. By the checkpoint's own metrics, else the"
                " last value that was logged at or before it",
            ),
        ] = None,
        mode: Annotated[
            models.Mode | None,
            Query(description="what is best; if not given, min for names that end in loss, error or perplexity"),
        ] = None,
        verify: Annotated[bool, Query(description="look at the objects first")] = True,
        branch: Branch = None,
    ) -> Response:
        """Finds the checkpoint to go on from: the nearest at or before a step that is really there."""
        view = await _view(engine, project, run_id, branch)
        wish = Wish(math.inf if step is None else step, kind or "", best or "", mode)
        found = await resolver.find(view, wish, verify=verify)
        content = await asyncio.to_thread(_resolved, view, found, await resolver.files(project, found))
        return Response(content, media_type="application/json")


def _add_upkeep(router: APIRouter, engine: Engine, verifier: Verifier, pruner: Pruner) -> None:
    @router.post("/projects/{project}/runs/{run_id}/checkpoints/verify")
    async def verify(
        project: ProjectName, run_id: RunName, order: models.VerifyOrder, branch: Branch = None
    ) -> models.VerifyAnswer:
        """Looks whether the objects of checkpoints are there, and are those that were told."""
        view = await _view(engine, project, run_id, branch)
        if order.steps is None:
            newest = await asyncio.to_thread(lambda: list(islice(walk(engine, view), limits.PAGE_MAX)))
        else:
            newest = await asyncio.to_thread(find_steps, engine, view, order.steps)
        found = await verifier.verify(view, newest)
        texts = await asyncio.to_thread(read_texts, engine, project, found)
        return models.VerifyAnswer(checkpoints=_checkpoints(view, found, texts))

    @router.post("/projects/{project}/runs/{run_id}/checkpoints/prune")
    async def prune(
        project: ProjectName, run_id: RunName, order: models.PruneOrder, branch: Branch = None
    ) -> models.PruneAnswer:
        """Deletes the checkpoints of a branch that are not to be kept; with `dry_run` tells which they are.

        Those of its ancestors are left to them.
        """
        if order.keep_last is None and order.keep_every is None and order.keep_best is None:
            raise RejectedError(
                "nothing_to_keep",
                "cannot prune: it is not told what to keep",
                "Give at least one of keep_last, keep_every and keep_best.",
            )
        view = await _view(engine, project, run_id, branch)
        wanted = Order(
            keep_last=order.keep_last,
            keep_every=order.keep_every,
            metric=order.keep_best.metric if order.keep_best else "",
            mode=order.keep_best.mode if order.keep_best else None,
            keep_best=order.best if order.keep_best else None,
        )
        pruned = await pruner.prune(view, wanted, dry_run=order.dry_run)
        return models.PruneAnswer(
            kept=[models.KeptCheckpoint(step=one.step, reasons=list(one.reasons)) for one in pruned.kept],
            deleted=[
                models.DeletedCheckpoint(step=one.step, bytes=one.size_bytes, objects=one.objects)
                for one in pruned.deleted
            ],
            failed=[models.FailedCheckpoint(step=one.step, detail=one.detail) for one in pruned.failed],
            dry_run=order.dry_run,
        )


async def _view(engine: Engine, project: str, run_id: str, branch: int | None) -> RunView:
    return (await asyncio.to_thread(find_views, engine, project, [RunRef(run_id, branch)]))[0]


def _step_of(cursor: str) -> float:
    (text,) = from_cursor(cursor, (str,))
    try:
        step = float(text)
    except ValueError:
        step = math.nan
    if math.isnan(step):
        raise RejectedError(
            "bad_cursor", f"cannot read the cursor {cursor[:60]!r}", "Use next_cursor of the page before."
        )
    return step


def _checkpoints(view: RunView, found: Sequence[Checkpoint], texts: _Texts) -> list[models.Checkpoint]:
    segments = {segment.run: segment for segment in view.segments}
    return [
        models.Checkpoint(
            run_id=segments[one.place.run].run_id,
            branch=segments[one.place.run].branch,
            step=one.place.step,
            state=one.state,
            created_at=_moment(one.created_us),
            blocked_s=one.blocked_s,
            size_bytes=one.size_bytes,
            metrics=texts.get(one.place, NO_TEXTS).metrics,
            metadata=texts.get(one.place, NO_TEXTS).metadata,
            kinds=[_kind(kind) for kind in one.kinds],
        )
        for one in found
    ]


def _kind(kind: KindState) -> models.CheckpointKind:
    return models.CheckpointKind(
        kind=kind.kind,
        state=kind.state,
        uri=kind.uri,
        shards=kind.shards,
        shards_done=kind.shards_done,
        size_bytes=kind.size_bytes,
        digest=kind.digest,
        detail=kind.detail,
        saved_at=_known(kind.saved_us),
        staged_at=_known(kind.staged_us),
        checked_at=_known(kind.checked_us),
    )


def _resolved(view: RunView, found: Found, files: Sequence[FileUrl]) -> bytes:
    """A models.ResolvedCheckpoint as JSON. Its files, up to 100,000, by hand: models of them take seconds."""
    (one,) = _checkpoints(view, [found.checkpoint], {found.checkpoint.place: found.texts})
    whole = models.ResolvedCheckpoint(
        **one.model_dump(), files=[], skipped=_skipped(found), skipped_more=found.skipped_more
    )
    head = whole.model_dump_json(exclude={"files"}).encode()
    return head.removesuffix(b"}") + b',"files":' + orjson.dumps([_file(file) for file in files]) + b"}"


def _file(one: FileUrl) -> dict[str, object]:
    """A models.CheckpointFile."""
    return {
        "kind": one.kind,
        "shard": one.shard,
        "path": one.file.path,
        "uri": one.file.uri,
        "size_bytes": one.file.size_bytes,
        "digest": one.file.digest,
        "url": one.url,
    }


def _skipped(found: Found) -> list[models.Skipped]:
    return [models.Skipped(step=one.place.step, state=one.state, detail=one.detail) for one in found.skipped]


def _moment(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / 1e6, timezone.utc)


def _known(time_us: int) -> datetime | None:
    return _moment(time_us) if time_us else None
