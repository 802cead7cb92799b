"""A foreign server for tests of the command line: answers of the HTTP API, from runs that lie in memory."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa

ARROW = "application/vnd.apache.arrow.stream"
EPOCH_US = 1_700_000_000_000_000
Points = dict[float, float]


@dataclass
class CannedRun:
    """A run: its document is that of a finished run with one writer; metrics are step -> value."""

    run_id: str
    created_at: str = "2026-01-02T03:04:05Z"
    metrics: dict[str, Points] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    writer: dict[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """The run in a list."""
        usual = {
            "run_id": self.run_id,
            "name": "",
            "status": "finished",
            "created_at": self.created_at,
            "last_seen_at": "2026-01-02T05:04:05.250000Z",
            "ended_at": "2026-01-02T05:04:05.250000Z",
            "tags": [],
        }
        return usual | {key: value for key, value in self.fields.items() if key in usual}

    def document(self) -> dict[str, Any]:
        """The run whole."""
        writer = {
            "writer": "0" * 16,
            "rank": 0,
            "primary": True,
            "host": "gpu1",
            "pid": 4711,
            "started_at": self.created_at,
            "last_seen_at": "2026-01-02T05:04:05Z",
            "ended_at": None,
            "outcome": "finished",
            "exit_code": 0,
            "signal": None,
            "exception": "",
            "traceback": "",
            "counters": {},
        }
        usual = {
            "notes": "",
            "config": {},
            "env": {},
            "branch": 0,
            "branches": [branch_line(0, self.created_at)],
            "lineage": [{"run_id": self.run_id, "branch": 0, "upto": None}],
            "last_step": None,
            "health": {"counters": {}, "writers": [writer | self.writer]},
        }
        return self.line() | usual | self.fields


def branch_line(branch: int, created_at: str, parent: tuple[str, int] | None = None, **more: Any) -> dict[str, Any]:
    """How a branch of a run began: from nothing, unless there is a parent."""
    named = parent and {"run_id": parent[0], "branch": parent[1]}
    usual = {"branch": branch, "kind": "start", "parent": named, "fork_step": None, "created_at": created_at}
    return usual | more


Answer = Callable[[dict[str, Any]], Any]
"""From the query of GET, or the body of POST and PUT, to a document; None for 404. May raise Refusal."""


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, **error: Any) -> None:
        super().__init__(status, error)
        self.status = status
        self.error = {"code": "canned", "hint": ""} | error


class CannedServer:
    """The server. `asked` lists the requests; `failing` answers that many requests with an error 503 first.

    `answers` has those that are not made of runs, by method and path below /api/v1, and `orders` what was posted.
    """

    def __init__(self) -> None:
        self.projects: dict[str, list[CannedRun]] = {}
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.orders: list[tuple[str, dict[str, Any]]] = []
        self.series_asked: list[dict[str, Any]] = []
        self.failing = 0
        self.page_size = 1000
        self.url = ""

    def add(self, project: str, run: CannedRun) -> CannedRun:
        """Takes a run in."""
        self.projects.setdefault(project, []).append(run)
        return run

    def run(self, project: str, run_id: str) -> CannedRun | None:
        """A run by its name."""
        return next((run for run in self.projects.get(project, []) if run.run_id == run_id), None)

    def get(self, path: str, query: dict[str, str]) -> Any:
        """The answer to GET, None for 404."""
        answer = self.answers.get(f"GET {unquote(path).removeprefix('/api/v1')}")
        if answer is not None:
            return answer(query)
        parts = [unquote(part) for part in path.removeprefix("/api/v1/").split("/")]
        match parts:
            case ["projects"]:
                return self._page("projects", [self._project(name) for name in sorted(self.projects)], query)
            case ["projects", project, "runs"]:
                runs = sorted(self.projects.get(project, []), key=lambda run: run.created_at, reverse=True)
                return self._page("runs", [run.line() for run in runs], query)
            case ["projects", project, "runs", run_id]:
                run = self.run(project, run_id)
                return run and run.document() | ({"branch": int(query["branch"])} if "branch" in query else {})
            case ["projects", project, "runs", run_id, "metrics"]:
                run = self.run(project, run_id)
                assert run is not None, run_id
                names = [name for name in sorted(run.metrics) if name.startswith(query.get("prefix", ""))]
                return self._page("metrics", [_metric(name, run.metrics[name]) for name in names], query)
        return None

    def _project(self, name: str) -> dict[str, Any]:
        runs = self.projects[name]
        return {"project": name, "runs": len(runs), "last_created_at": max(run.created_at for run in runs)}

    def _page(self, key: str, entries: list[Any], query: dict[str, str]) -> dict[str, Any]:
        start = int(query.get("cursor", "0"))
        end = start + min(int(query.get("limit", "100")), self.page_size)
        return {key: entries[start:end], "next_cursor": str(end) if end < len(entries) else None}

    def series(self, project: str, query: dict[str, Any]) -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
        """Run, name and points of each series that a query asks for."""
        for one in query["runs"]:
            run_id = one if isinstance(one, str) else one["run_id"]
            run = self.run(project, run_id)
            for name in [*query.get("metrics", ()), *query.get("expressions", ())] if run else ():
                low, high = query.get("from"), query.get("to")
                points = [
                    (step, value)
                    for step, value in sorted(run.metrics.get(name, {}).items())
                    if (low is None or step >= low) and (high is None or step <= high)
                ]
                if points:
                    yield run_id, name, points


def _metric(name: str, points: Points) -> dict[str, Any]:
    last = max(points)
    low, high = min(points, key=points.__getitem__), max(points, key=points.__getitem__)
    return {
        "name": name,
        "ranks": 1,
        "first_step": min(points),
        "last_step": last,
        "last_time": "2026-01-02T05:04:05Z",
        "last": _json(points[last]),
        "min": _json(points[low]),
        "argmin": low,
        "max": _json(points[high]),
        "argmax": high,
    }


def _json(value: float) -> float | str:
    return value if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]


def time_us(step: float) -> int:
    """When the point of a step was logged."""
    return EPOCH_US + int(step * 1e6)


def _exact(series: tuple[str, str, list[tuple[float, float]]], *, with_time: bool) -> dict[str, Any]:
    run_id, name, points = series
    label = {"run_id": run_id, "branch": 0, "name": name}
    one = label | {"x": [s for s, _ in points], "value": [_json(v) for _, v in points]}
    return one | ({"time": [time_us(s) for s, _ in points]} if with_time else {})


def _buckets(series: tuple[str, str, list[tuple[float, float]]], buckets: int) -> dict[str, Any]:
    run_id, name, points = series
    low, high = points[0][0], points[-1][0]
    found: dict[int, list[tuple[float, float]]] = {}
    for step, value in points:
        place = min(int((step - low) / (high - low) * buckets), buckets - 1) if high > low else 0
        found.setdefault(place, []).append((step, value))
    columns: dict[str, list[Any]] = {name: [] for name in ("x", "min", "max", "mean", "first", "last", "n", "nans")}
    for bucket in found.values():
        known = [value for _, value in bucket if not math.isnan(value)] or [math.nan]
        numbers = (min(known), max(known), sum(known) / len(known), bucket[0][1], bucket[-1][1])
        nans = sum(math.isnan(value) for _, value in bucket)
        for column, number in zip(columns, (bucket[0][0], *map(_json, numbers), len(bucket), nans), strict=True):
            columns[column].append(number)
    return {"run_id": run_id, "branch": 0, "name": name, **columns}


def bucket_table(series: list[tuple[str, str, list[tuple[float, float]]]], buckets: int) -> pa.Table:
    """The answer in long form, in buckets."""
    answers = [_buckets(one, buckets) for one in series]
    columns: dict[str, list[Any]] = {name: [] for name in answers[0]}
    for one in answers:
        for name, values in columns.items():
            told = one[name] if isinstance(one[name], list) else [one[name]] * len(one["x"])
            values += [
                float(value) if isinstance(value, str) and name not in ("run_id", "name") else value for value in told
            ]
    return pa.table(columns)


def arrow_table(series: list[tuple[str, str, list[tuple[float, float]]]], query: dict[str, Any]) -> pa.Table:
    """The answer in long form. Two ranks by rank, the second one higher by 1."""
    by_rank = query.get("by_rank")
    shifts = {0: 0.0, 1: 1.0} if by_rank else {0: 0.0}
    rows = [(r, n, k, s, v + shift) for r, n, points in series for k, shift in shifts.items() for s, v in points]
    label = pa.dictionary(pa.int32(), pa.string())
    columns = {
        "run_id": pa.array([row[0] for row in rows], label),
        "branch": pa.array([0] * len(rows), pa.uint32()),
        "name": pa.array([row[1] for row in rows], label),
        "rank": pa.array([row[2] for row in rows], pa.uint16()),
        "x": pa.array([row[3] for row in rows], pa.float64()),
        "value": pa.array([row[4] for row in rows], pa.float64()),
        "time": pa.array([time_us(row[3]) for row in rows], pa.timestamp("us", "UTC")),
    }
    table = pa.table(columns)
    return table.drop_columns([*([] if by_rank else ["rank"]), *([] if query.get("with_time") else ["time"])])


class _Handler(BaseHTTPRequestHandler):
    canned: CannedServer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _answer(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, message: str, hint: str = "") -> None:
        self._refuse(Refusal(status, message=message, hint=hint))

    def _refuse(self, refusal: Refusal) -> None:
        self._answer(json.dumps({"error": refusal.error}).encode(), status=refusal.status)

    def _fails(self) -> bool:
        self.canned.asked.append(f"{self.command} {self.path}")
        if self.canned.failing:
            self.canned.failing -= 1
            self._error(503, "the database is out of reach", "Try again.")
            return True
        return False

    def do_GET(self) -> None:
        if self._fails():
            return
        parts = urlsplit(self.path)
        answer = self.canned.get(parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()})
        if answer is None:
            self._error(404, f"there is no {unquote(parts.path)}")
        else:
            self._answer(json.dumps(answer, allow_nan=False).encode())

    def do_PUT(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        path = unquote(self.path).removeprefix("/api/v1")
        self.canned.asked.append(f"DELETE {self.path}")
        answer = self.canned.answers.get(f"DELETE {path}")
        if answer is None:
            self._error(404, f"there is no {path}")
            return
        answer({})
        self.send_response(204)
        self.end_headers()

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._fails():
            return
        path = unquote(self.path).removeprefix("/api/v1")
        if answer := self.canned.answers.get(f"{self.command} {path}"):
            self.canned.orders.append((path, query))
            try:
                self._answer(json.dumps(answer(query), allow_nan=False).encode())
            except Refusal as refusal:
                self._refuse(refusal)
            return
        self.canned.series_asked.append(query)
        found = re.fullmatch(r"/api/v1/projects/([^/]+)/series", self.path)
        assert found, self.path
        series = list(self.canned.series(unquote(found[1]), query))
        if self.headers["Accept"] == ARROW:
            self._answer(_stream(series, query), ARROW)
            return
        exact = query["points"] is None
        with_time = query.get("with_time", False)
        answers = [_exact(one, with_time=with_time) if exact else _buckets(one, query["points"]) for one in series]
        self._answer(json.dumps({"series": answers}, allow_nan=False).encode())


def _stream(series: list[tuple[str, str, list[tuple[float, float]]]], query: dict[str, Any]) -> bytes:
    """An IPC stream; like the real server, without rows it has the labels alone."""
    table = (
        arrow_table(series, query) if query["points"] is None or not series else bucket_table(series, query["points"])
    )
    if not table.num_rows:
        table = pa.table({"run_id": pa.array([], pa.string()), "name": pa.array([], pa.string())})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


@contextmanager
def serve() -> Iterator[CannedServer]:
    """A canned server that answers on a free port."""
    canned = CannedServer()
    handler = type("Handler", (_Handler,), {"canned": canned})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        canned.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield canned
        finally:
            server.shutdown()
            thread.join()
