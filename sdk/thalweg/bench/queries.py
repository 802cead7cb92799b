"""What dashboards ask over HTTP: users that ask one question after the other, for some time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from random import Random
from typing import Any, Final

from thalweg.api_client import ApiClient, segment
from thalweg.bench.numbers import quantile
from thalweg.errors import ServerError, ThalwegError

_METRICS_MAX: Final = 20
_RUNS_MAX: Final = 10


class NothingThereError(ThalwegError):
    """A project has nothing that could be asked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and whether an answer to it can be right."""

    name: str
    method: str
    path: str
    body: dict[str, Any] | None
    is_right: Callable[[Any], bool]

    def ask(self, client: ApiClient) -> Any:
        """The answer. Raises ServerError."""
        return client.get(self.path) if self.method == "GET" else client.post(self.path, self.body)


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """Times of one question by all users, in milliseconds."""

    name: str
    answers: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class QueriesResult:
    """What came of it. An answer that was wrong, or none, is an error."""

    users: int
    seconds: float
    answers_per_s: float
    p95_ms: float
    errors: int
    first_error: str
    questions: tuple[QuestionResult, ...]


def dashboard(client: ApiClient, project: str) -> list[Question]:
    """What the pages of a project ask: the newest runs, their series, names, an expression. Raises ThalwegError."""
    base = f"/projects/{segment(project)}"
    runs = [run["run_id"] for run in client.get(f"{base}/runs", limit=_RUNS_MAX)["runs"]]
    if not runs:
        raise NothingThereError(f"project {project!r} has no runs to ask for; `thalweg bench ingest` makes some")
    names = _names(client, base, runs)
    if not names:
        raise NothingThereError(f"the newest runs of project {project!r} have no metrics")
    metric = names[0]
    quoted = "`" + metric.replace("\\", "\\\\").replace("`", "\\`") + "`"
    series = {"runs": runs, "metrics": [metric], "points": 1000}
    many = {"runs": runs[:1], "metrics": names, "points": 500}
    smooth = {"runs": runs[:1], "expressions": [f"ema({quoted}, 0.9)"], "points": 1000}
    table = {"columns": [f"last({quoted})", f"min({quoted})"], "sort": [f"-last({quoted})"], "limit": 50}
    first = f"{base}/runs/{segment(runs[0])}"
    return [
        Question("run list", "GET", f"{base}/runs?limit=50", None, lambda got: len(got["runs"]) >= len(runs)),
        Question("one run", "GET", first, None, lambda got: got["run_id"] == runs[0]),
        Question("metric names", "GET", f"{first}/metrics?limit=100", None, lambda got: bool(got["metrics"])),
        Question("one metric of the newest runs", "POST", f"{base}/series", series, _has_points),
        Question("many metrics of one run", "POST", f"{base}/series", many, _has_points),
        Question("expression", "POST", f"{base}/series", smooth, _has_points),
        Question("run table by last value", "POST", f"{base}/runs/query", table, lambda got: bool(got["runs"])),
    ]


def _names(client: ApiClient, base: str, runs: list[str]) -> list[str]:
    for run in runs:
        found = client.get(f"{base}/runs/{segment(run)}/metrics", limit=_METRICS_MAX)["metrics"]
        if found:
            return [one["name"] for one in found]
    return []


def _has_points(got: Any) -> bool:
    return bool(got["series"]) and all(one["x"] for one in got["series"])


def run_queries(url: str, project: str, users: int, seconds: float, think_s: float = 0.0) -> QueriesResult:
    """Users ask in turns, each beginning with another question, and rest `think_s` on average between two."""
    questions = dashboard(ApiClient(url), project)
    took: dict[str, list[float]] = {one.name: [] for one in questions}
    errors: list[str] = []
    ends_at = time.perf_counter() + seconds

    def use(place: int) -> None:
        client, random = ApiClient(url), Random(place)  # noqa: S311  # pauses, not secrets
        for question in _turns(questions, place):
            if time.perf_counter() >= ends_at:
                return
            begin = time.perf_counter()
            try:
                answer = question.ask(client)
                took[question.name].append((time.perf_counter() - begin) * 1e3)
                if not question.is_right(answer):
                    errors.append(f"{question.name}: the answer lacks what is there")
            except ServerError as error:
                errors.append(f"{question.name}: {error}")
            if think_s:
                time.sleep(random.uniform(0.5, 1.5) * think_s)

    threads = [threading.Thread(target=use, args=(place,), daemon=True) for place in range(users)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lasted_s = time.perf_counter() - begin
    every = [ms for some in took.values() for ms in some]
    return QueriesResult(
        users=users,
        seconds=lasted_s,
        answers_per_s=len(every) / lasted_s,
        p95_ms=quantile(every, 0.95),
        errors=len(errors),
        first_error=errors[0] if errors else "",
        questions=tuple(
            QuestionResult(name, len(some), quantile(some, 0.5), quantile(some, 0.95), quantile(some, 0.99))
            for name, some in took.items()
        ),
    )


def _turns(questions: list[Question], place: int) -> Iterator[Question]:
    first = place % len(questions)
    return cycle([*questions[first:], *questions[:first]])
