"""From what a user types for a run to the run: `project/run_id`, or `run_id` alone, and a place in it: `run@step`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import click

from thalweg.api_client import ApiClient, run_path
from thalweg.checkpoints.points import ForkPoint, parse_point
from thalweg.errors import InputError, NotFoundError


@dataclass(frozen=True, slots=True)
class LocatedRun:
    """A run that is there. `document` is the server's answer for it, on `branch`, the newest if that is None."""

    project: str
    run_id: str
    document: dict[str, Any]
    branch: int | None = None

    @property
    def path(self) -> str:
        """Path of the run in the API."""
        return run_path(self.project, self.run_id)

    @property
    def series_name(self) -> dict[str, Any]:
        """What names it in an order for series: the branch that was found, whatever is begun meanwhile."""
        return {"run_id": self.run_id, "branch": self.document["branch"]}

    @property
    def label(self) -> str:
        """How a user names it."""
        return f"{self.project}/{self.run_id}"


def split(text: str, project: str | None) -> tuple[str | None, str]:
    """Project, if known, and run id. A project in the text wins over the environment's. Raises UsageError."""
    named, slash, run_id = text.partition("/")
    if not slash:
        named, run_id = project or "", text
    if not run_id or "/" in run_id or (slash and not named):
        raise click.UsageError(f"cannot use {text!r} as a run: wanted RUN_ID or PROJECT/RUN_ID")
    return named or None, run_id


def locate(client: ApiClient, text: str, project: str | None, branch: int | None = None) -> LocatedRun:
    """The run that `text` names; without a project it is looked for in all. Raises NotFoundError, InputError."""
    found = _find(client, *split(text, project))
    if branch is None:
        return found
    return replace(found, document=client.get(found.path, branch=branch), branch=branch)


def locate_point(
    client: ApiClient, text: str, project: str | None, branch: int | None = None
) -> tuple[LocatedRun, ForkPoint]:
    """The run and the place in it that RUN, RUN@STEP or RUN@latest-checkpoint names. Raises as `locate`."""
    try:
        point = parse_point(text)
    except InputError as error:
        raise click.UsageError(str(error)) from error
    named = f"{point.project}/{point.run_id}" if point.project else point.run_id
    return locate(client, named, project, branch), point


def _find(client: ApiClient, named: str | None, run_id: str) -> LocatedRun:
    if named is not None:
        return LocatedRun(named, run_id, client.get(run_path(named, run_id)))
    projects = [entry["project"] for entry in client.pages("/projects", "projects")]
    found = [run for name in projects if (run := _look(client, name, run_id)) is not None]
    if not found:
        raise NotFoundError(f"there is no run {run_id!r} in any of the server's projects ({len(projects)})")
    if len(found) > 1:
        places = ", ".join(f"{run.project}/{run_id}" for run in found)
        raise InputError(f"cannot tell which run {run_id!r} is meant: there are {places}")
    return found[0]


def _look(client: ApiClient, project: str, run_id: str) -> LocatedRun | None:
    try:
        return LocatedRun(project, run_id, client.get(run_path(project, run_id)))
    except NotFoundError:
        return None
