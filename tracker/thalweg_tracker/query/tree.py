"""The tree of a project's branches, and the way from the root to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from thalweg_tracker.engine.answers import rows_of
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.together import together
from thalweg_tracker.lineage.chain import changes
from thalweg_tracker.lineage.tree import START as BEGUN
from thalweg_tracker.lineage.tree import Kind
from thalweg_tracker.model import limits
from thalweg_tracker.query.lineage import RunRef, RunView, find_views
from thalweg_tracker.query.metrics import metric_of_branches
from thalweg_tracker.query.runs import attributes_of, config_of
from thalweg_tracker.query.states import NO_LABELS, States, read_labels
from thalweg_tracker.query.texts import as_text, read_json
from thalweg_tracker.sql import load


@dataclass(frozen=True, slots=True)
class TreePlace:
    """A place in the tree, which goes from old to new: everything after it."""

    created_us: int
    run_id: str
    branch: int


START: Final = TreePlace(-(2**62), "", -1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A branch on the way from the root. `changes`: JSON texts by path, before and after, empty where absent."""

    name: str
    created_at: datetime | None
    kind: Kind
    fork_step: float | None
    changes: dict[str, tuple[Any, Any]]


def list_tree(engine: Engine, project: str, metric: str, place: TreePlace, limit: int) -> list[dict[str, Any]]:
    """Branches of a project, oldest first, with what is known of a metric of their own points."""
    where: dict[str, Any] = {
        "project": project,
        "created_after": place.created_us,
        "id_after": place.run_id,
        "branch_after": place.branch,
        "limit": limit,
    }
    read = partial(engine.query, load("tree"), where, limits.QUERY_TIMEOUT_S)
    known, found = together(partial(_metric, engine, project, metric), read)
    rows = rows_of(found)
    if not rows:
        return []
    keys = [row["key"] for row in rows]
    named = {row["key"]: row["run_id"] for row in rows}
    states, labels = together(partial(States, engine, project, keys), partial(read_labels, engine, project, named))
    for row in rows:  # there may be ten thousand
        state = states.of(row["key"], row["created_at"], is_fork=row["kind"] == "fork")
        label = labels.get(row["run_id"], NO_LABELS)
        row["kind"] = row["kind"] or BEGUN
        row["status"], row["name"], row["tags"] = state.status, label.name, label.tags
        row["metric"] = known.get(row["key"])
    return rows


def _metric(engine: Engine, project: str, metric: str) -> dict[int, dict[str, Any]]:
    return metric_of_branches(engine, project, metric) if metric else {}


def list_children(engine: Engine, view: RunView) -> list[dict[str, Any]]:
    """What continues a branch itself, oldest first: run_id, branch, kind, fork_step, created_at."""
    where: dict[str, Any] = {"project": view.project, "run_id": view.run_id, "branch": view.branch}
    rows: list[dict[str, Any]] = rows_of(engine.query(load("children"), where, limits.QUERY_TIMEOUT_S))
    return rows


def way_from_root(engine: Engine, view: RunView) -> list[Entry]:
    """The branches of a lineage with what each changed of the config that it inherited."""
    layers = attributes_of(engine, view)
    refs = [RunRef(one.branch.run_id, one.branch.number) for one in view.lineage]
    present = find_views(engine, view.project, [], also=refs)
    origins = {(one.run_id, origin.branch): origin for one in present for origin in one.branches}
    differences = changes([config_of(layer) for layer in layers])
    entries = []
    for one, layer, different in zip(view.lineage, layers, differences, strict=True):
        origin = origins.get((one.branch.run_id, one.branch.number))
        read = {path: (_value(before), _value(after)) for path, (before, after) in sorted(different.items())}
        entries.append(
            Entry(
                name=as_text(layer.get("run.name", "")),
                created_at=origin.created_at if origin else None,
                kind=origin.kind if origin else BEGUN,
                fork_step=origin.fork_step if origin else None,
                changes=read,
            )
        )
    return entries


def _value(text: str) -> Any:
    return read_json(text) if text else None
