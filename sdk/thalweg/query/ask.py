"""What is asked of the server, as bodies of requests. Pure but for `connect`, which reads the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from thalweg.api_client import PAGE_MAX, ApiClient, segment
from thalweg.errors import InputError
from thalweg.query.table import Table
from thalweg.settings import Settings

Texts = str | Sequence[str]
"""One text, or several."""
RunName = str | tuple[str, int] | Mapping[str, Any]
"""A run by its id, or one of its branches: (run_id, branch)."""
Runs = RunName | Sequence[RunName] | Table
Place = float | datetime


@dataclass(frozen=True, slots=True)
class Server:
    """A client, and the project that is asked about."""

    client: ApiClient
    project: str

    def path(self, *parts: str) -> str:
        """A path of the project in the API."""
        return "/".join(["/projects", segment(self.project), *parts])

    def post_pages(
        self, path: str, body: Mapping[str, Any], field: str, limit: int | None
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Answers to POST, page after page, the first in any case, and their entries `field`, at most `limit`."""
        left, cursor = limit, None
        while True:
            size = PAGE_MAX if left is None else min(left, PAGE_MAX)
            page: dict[str, Any] = self.client.post(path, {**body, "limit": size, "cursor": cursor})
            found = page[field][:size]
            yield page, found
            cursor = page["next_cursor"]
            left = None if left is None else left - len(found)
            if cursor is None or left == 0:
                return


def connect(project: str | None, url: str | None, token: str | None) -> Server:
    """The server and project of the arguments, else of THALWEG_URL, THALWEG_TOKEN, THALWEG_PROJECT.

    Raises SettingError.
    """
    settings = Settings.read(os.environ, project=project, url=url, token=token, rank=0)
    return Server(ApiClient(settings.url, settings.token), settings.project)


def texts(given: Texts) -> list[str]:
    """One text, or several, as a list."""
    return [given] if isinstance(given, str) else list(given)


def run_names(given: Runs) -> list[Any]:
    """Runs as requests name them. Of a table: its runs, each once, on the branches that it shows."""
    if isinstance(given, Table):
        pairs = dict.fromkeys(zip(given["run_id"], given["branch"], strict=True))
        return [{"run_id": run_id, "branch": branch} for run_id, branch in pairs]
    if isinstance(given, (str, Mapping)):
        return [_run_name(given)]
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str) and isinstance(given[1], int):
        return [{"run_id": given[0], "branch": given[1]}]
    return [_run_name(one) for one in given]


def run_ids(given: Runs) -> list[str]:
    """Runs by their ids alone, where branches do not matter."""
    names = (one if isinstance(one, str) else str(one["run_id"]) for one in run_names(given))
    return list(dict.fromkeys(names))


def _run_name(given: Any) -> Any:
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, tuple) and len(given) == 2:
        return {"run_id": given[0], "branch": given[1]}
    raise InputError(f"cannot use {given!r} as a run: wanted its id, or (id, branch)")


def series_body(
    *,
    runs: Runs | None,
    filter: str | None,
    metrics: Texts,
    expressions: Texts,
    x: str,
    from_: Place | None,
    to: Place | None,
    points: int | None,
    by_rank: bool,
    with_time: bool,
    group_by: Texts = (),
) -> dict[str, Any]:
    """An order for series. What is not given is left to the server. Raises InputError."""
    body = {
        "runs": None if runs is None else run_names(runs),
        "filter": filter or None,
        "metrics": texts(metrics),
        "expressions": texts(expressions),
        "x": x,
        "from": _place(from_),
        "to": _place(to),
        "by_rank": by_rank,
        "with_time": with_time,
        "group_by": texts(group_by),
    }
    given = {key: value for key, value in body.items() if key == "runs" or value not in ("", [])}
    return {key: value for key, value in given.items() if value is not None and value is not False} | {"points": points}


def _place(given: Place | None) -> float | None:
    """A place on the axis; times are seconds since the epoch there."""
    return given.timestamp() if isinstance(given, datetime) else given


def point_columns(body: Mapping[str, Any]) -> list[str]:
    """The columns that an answer to an order for series has, but for those of its groups."""
    if body.get("group_by"):
        return ["name", "x", "mean", "std", "min", "max", "n"]
    labels = ["run_id", "branch", "name", *(["rank"] if body.get("by_rank") else []), "x"]
    if body["points"] is not None:
        return [*labels, "min", "max", "mean", "first", "last", "n", "nans"]
    return [*labels, "value", *(["time"] if body.get("with_time") else [])]
