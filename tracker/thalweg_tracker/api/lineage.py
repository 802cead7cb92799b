"""Routes of forks, rewinds and the tree that they make."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, BackgroundTasks, Query
from fastapi.responses import Response

from thalweg.wire import limits as wire_limits
from thalweg.wire.run_ids import generate_run_id
from thalweg_tracker.api import models
from thalweg_tracker.api.encode import from_cursor, json_number, to_cursor
from thalweg_tracker.api.parameters import Branch, Cursor, ProjectName, RunName
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.together import together
from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.lineage.chain import Lineage, inherit
from thalweg_tracker.model import limits
from thalweg_tracker.model.checks import check_attempt, check_label
from thalweg_tracker.model.keys import run_key
from thalweg_tracker.query import runs as run_queries
from thalweg_tracker.query import tree as tree_queries
from thalweg_tracker.query.lineage import BranchOrigin, RunRef, RunView, find_views, view_of
from thalweg_tracker.query.texts import nest
from thalweg_tracker.runs.attributes import attribute_table, write_attributes
from thalweg_tracker.runs.branches import Branches
from thalweg_tracker.runs.store import Registered

LatestCheckpoint = Callable[[RunView], float | None]
"""The step of the latest complete checkpoint that a view can see, in a thread of a handler."""


def add_lineage(router: APIRouter, engine: Engine, latest_checkpoint: LatestCheckpoint) -> None:
    """Adds the routes."""
    _add_orders(router, engine, Branches(engine), latest_checkpoint)
    _add_trees(router, engine)


def _add_orders(router: APIRouter, engine: Engine, branches: Branches, latest_checkpoint: LatestCheckpoint) -> None:
    """Fork and rewind."""

    @router.post("/projects/{project}/runs/{run_id}/fork", status_code=201)
    def fork(
        project: ProjectName, run_id: RunName, order: models.ForkOrder, after: BackgroundTasks
    ) -> models.Continued:
        """Makes a new run whose history up to and including a step is that of this one. Nothing is copied.

        The same order again gives the same run.
        """
        child = order.run_id or generate_run_id()
        check_label("run_id", child, wire_limits.RUN_ID_MAX_BYTES)
        also = [RunRef(child, 0)] if order.run_id else []
        parent, *present = find_views(engine, project, [RunRef(run_id, order.branch)], also=also)
        _refuse_present(present)
        step = _fork_step(order, parent, present, latest_checkpoint)
        now_us = time.time_ns() // 1000
        key, values = run_key(project, child), _first_attributes(order)
        rows = attribute_table(project, key, values, now_us)  # bad ones are refused before anything is made
        if present:  # the parent may have been rewound since: whichever branch was found then
            made = branches.fork(project, child, run_id, order.branch, step, now_us)
            # Of the time of the fork, so that nothing that was set since is undone: the first answer may have got lost.
            write_attributes(engine, attribute_table(project, key, values, made.created_us))
            return _answer(engine, project, made)
        look = partial(run_queries.last_step, engine, parent)
        read = partial(run_queries.attributes_of, engine, parent)
        write = partial(write_attributes, engine, rows)
        if order.run_id is None:  # nobody else can have the id: what follows may come in any order
            fork_fresh = partial(branches.fork_fresh, project, child, parent.lineage, step, now_us)
            last_step, layers, _, made = together(look, read, write, fork_fresh)
            after.add_task(_mend, engine, branches, parent)
        else:
            fork_named = partial(branches.fork, project, child, run_id, parent.branch, step, now_us)
            last_step, layers, made = together(look, read, partial(fork_named, above=parent.lineage))
            write()
        own = dict(zip(rows["path"].to_pylist(), rows["json"].to_pylist(), strict=True))
        return _continued(project, made, last_step, [*layers, own])

    @router.post("/projects/{project}/runs/{run_id}/rewind")
    def rewind(project: ProjectName, run_id: RunName, order: models.RewindOrder) -> models.Continued:
        """Makes a new branch of this run, which continues it after a step. The old branch stays readable.

        All processes of one attempt get the same branch. A run that is not there begins with the first of them.
        """
        now_us = time.time_ns() // 1000
        check_label("run_id", run_id, wire_limits.RUN_ID_MAX_BYTES)
        check_label("project", project, wire_limits.PROJECT_MAX_BYTES)
        check_attempt(order.attempt)
        found = find_views(engine, project, [], also=[RunRef(run_id)])
        if not found:
            return _answer(engine, project, branches.start(project, run_id, order.attempt, now_us))
        made = branches.of_attempt(project, run_id, order.attempt, order.rank)
        if made is None:
            step = order.step if isinstance(order.step, float) else latest_checkpoint(found[0])
            after = -math.inf if step is None else step
            rank, newest = order.rank, found[0].branch
            made = branches.rewind(project, run_id, after, order.attempt, now_us, rank=rank, parent_branch=newest)
        return _answer(engine, project, made)


def _answer(engine: Engine, project: str, made: Registered) -> models.Continued:
    """What is said of a branch, with where its parent stands, if that is there."""
    above = [RunRef(one.branch.run_id, one.branch.number) for one in made.lineage[-2:-1]]
    views = find_views(engine, project, [], also=above) if above else []
    last_step = run_queries.last_step(engine, views[0]) if views else None
    layers = run_queries.attributes_of(engine, view_of(project, made.lineage))
    return _continued(project, made, last_step, layers)


def _mend(engine: Engine, branches: Branches, parent: RunView) -> None:
    """Mends lineages built on that of a view, if it has changed since it was read."""
    if find_views(engine, parent.project, [RunRef(parent.run_id, parent.branch)])[0].lineage != parent.lineage:
        branches.repair(parent.project)


def _fork_step(
    order: models.ForkOrder, parent: RunView, present: Sequence[RunView], latest_checkpoint: LatestCheckpoint
) -> float:
    """The step asked for. The latest checkpoint of a fork that is there is the one that it was made at: ranks that
    come later must not find a later one. Raises NotFoundError.
    """
    if isinstance(order.step, float):
        return order.step
    for view in present:
        if view.lineage[-2].branch.run_id == parent.run_id and view.fork_step is not None:
            return view.fork_step
    step = latest_checkpoint(parent)
    if step is None:
        raise NotFoundError(
            "no_checkpoint",
            f"cannot fork run {parent.run_id!r} at its latest checkpoint: it has no complete one",
            "Give a step, or see `thalweg checkpoints`.",
        )
    return step


def _refuse_present(found: Sequence[RunView]) -> None:
    """A run that began from nothing cannot become a fork. Raises RejectedError."""
    for view in found:
        if view.fork_step is None:
            message = f"cannot make run {view.run_id!r}: it is there already, and is no fork"
            raise RejectedError("run_exists", message, "Choose another run_id.")


def _add_trees(router: APIRouter, engine: Engine) -> None:
    """What there is."""

    @router.get("/projects/{project}/runs/{run_id}/lineage")
    def lineage(project: ProjectName, run_id: RunName, branch: Branch = None) -> models.LineageAnswer:
        """The way from the root to a run, with what each fork changed of the config; and what continues the run."""
        view = find_views(engine, project, [RunRef(run_id, branch)])[0]
        steps = lineage_steps(view.lineage)
        entries = tree_queries.way_from_root(engine, view)
        way = [
            models.LineageEntry(
                **step.model_dump(),
                kind=entry.kind,
                fork_step=entry.fork_step,
                name=entry.name,
                created_at=entry.created_at,
                changes={path: models.Change(before=old, after=new) for path, (old, new) in entry.changes.items()},
            )
            for step, entry in zip(steps, entries, strict=True)
        ]
        children = [models.ChildLine(**row) for row in tree_queries.list_children(engine, view)]
        return models.LineageAnswer(run_id=view.run_id, branch=view.branch, lineage=way, children=children)

    @router.get("/projects/{project}/lineage", response_model=models.TreePage)
    def tree(
        project: ProjectName,
        metric: Annotated[str, Query(max_length=wire_limits.METRIC_NAME_MAX_BYTES)] = "",
        limit: Annotated[int, Query(ge=1, le=limits.TREE_PAGE_MAX)] = limits.TREE_PAGE_MAX,
        cursor: Cursor = None,
    ) -> Response:
        """Lists all branches of a project with their parents, oldest first; `metric`: of their own points."""
        place = tree_queries.TreePlace(*from_cursor(cursor, (int, str, int))) if cursor else tree_queries.START
        rows = tree_queries.list_tree(engine, project, metric, place, limit + 1)
        page, more = rows[:limit], len(rows) > limit
        last = page[-1] if more else None
        following = to_cursor(_micros(last), last["run_id"], last["branch"]) if last else None
        return Response(
            orjson.dumps({"nodes": [_node(row) for row in page], "next_cursor": following}),
            media_type="application/json",
        )


def _micros(row: Mapping[str, Any]) -> int:
    return round(float(row["created_at"].timestamp()) * 1e6)


def _node(row: Mapping[str, Any]) -> dict[str, Any]:
    """A branch as models.TreeNode describes it: a tree may have ten thousand, too many for objects that check."""
    has_parent = row["kind"] != "start"
    metric = row["metric"]
    if metric and not math.isfinite(sum(metric.values())):
        metric = {name: json_number(value) for name, value in metric.items()}
    return {
        "run_id": row["run_id"],
        "branch": row["branch"],
        "kind": row["kind"],
        "parent_run_id": row["parent_run_id"] if has_parent else None,
        "parent_branch": row["parent_branch"] if has_parent else None,
        "fork_step": json_number(row["fork_step"]) if has_parent else None,
        "created_at": row["created_at"],
        "name": row["name"],
        "status": row["status"],
        "tags": row["tags"],
        "metric": metric,
    }


def _first_attributes(order: models.ForkOrder) -> dict[str, Any]:
    told = {"name": order.name, "notes": order.notes}
    named = {f"run.{key}": text for key, text in told.items() if text is not None}
    return named | {f"tags.{tag}": True for tag in order.tags} | {"config": order.config}


def _continued(
    project: str, made: Registered, last_step: float | None, layers: Sequence[Mapping[str, str]]
) -> models.Continued:
    """`layers`: what each on the way from the root has set."""
    view = view_of(project, made.lineage)
    parent = made.lineage[-2].branch if len(made.lineage) > 1 else None
    return models.Continued(
        run_id=view.run_id,
        branch=view.branch,
        kind=made.kind,
        parent=models.BranchName(run_id=parent.run_id, branch=parent.number) if parent else None,
        fork_step=view.fork_step,
        parent_last_step=last_step,
        is_ahead=view.fork_step is not None and view.fork_step > (-math.inf if last_step is None else last_step),
        lineage=lineage_steps(view.lineage),
        config=nest(inherit([run_queries.config_of(layer) for layer in layers])),
    )


def lineage_steps(lineage: Lineage) -> list[models.LineageStep]:
    """The way from the root, as the API shows it: null instead of infinity."""
    return [
        models.LineageStep(
            run_id=one.branch.run_id, branch=one.branch.number, upto=None if one.upto == math.inf else one.upto
        )
        for one in lineage
    ]


def branch_line(origin: BranchOrigin) -> models.BranchLine:
    """How a branch began, as the API shows it."""
    parent = origin.parent
    return models.BranchLine(
        branch=origin.branch,
        kind=origin.kind,
        parent=models.BranchName(run_id=parent.run_id, branch=parent.number) if parent else None,
        fork_step=origin.fork_step,
        created_at=origin.created_at,
    )
