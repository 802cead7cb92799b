"""What dashboards ask over HTTP: users that ask one question after the other, for some time.

Answers are checked by what holds of any data (`answers`): it is not known here what was logged.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import Any, Final

from thalweg.api_client import ApiClient, segment
from thalweg.bench import answers
from thalweg.bench.numbers import quantile
from thalweg.errors import ServerError, ThalwegError

_METRICS_MAX: Final = 20
_RUNS_MAX: Final = 10
_LIST_MAX: Final = 50
_NAMES_MAX: Final = 100


class NothingThereError(ThalwegError):
    """A project has nothing that could be asked for."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked about: the newest runs of a project, and of these one that has metrics, with some of its names."""

    project: str
    runs: tuple[str, ...]
    run: str
    names: tuple[str, ...]

    @property
    def quoted(self) -> str:
        """The first metric as it stands in an expression."""
        return "`" + self.names[0].replace("`", "``") + "`"


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and what its answer is checked for. `page`: the page of a dashboard that asks it."""

    name: str
    page: str
    method: str
    path: str
    body: dict[str, Any] | None
    check: answers.Check

    def ask(self, client: ApiClient) -> Any:
        """The answer. Raises ServerError."""
        return client.get(self.path) if self.method == "GET" else client.post(self.path, self.body)

    def check_answer(self, answer: Any) -> None:
        """Raises WrongAnswerError."""
        answers.checked(self.check, answer)


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """Times of one question by all users, in milliseconds; of right answers, NaN where there were none."""

    name: str
    answers: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class QueriesResult:
    """What came of it. `errors`: answers that were wrong, or did not come; none of them counts in the times."""

    users: int
    seconds: float
    answers_per_s: float
    p95_ms: float
    errors: int
    first_error: str
    questions: tuple[QuestionResult, ...]


def find_subject(client: ApiClient, project: str) -> Subject:
    """The newest runs, and one of them with metrics. Raises NothingThereError, ServerError."""
    base = f"/projects/{segment(project)}"
    runs = tuple(run["run_id"] for run in client.get(f"{base}/runs", limit=_RUNS_MAX)["runs"])
    if not runs:
        raise NothingThereError(f"project {project!r} has no runs to ask for; `thalweg bench ingest` makes some")
    for run in runs:
        found = client.get(f"{base}/runs/{segment(run)}/metrics", limit=_METRICS_MAX)["metrics"]
        if found:
            return Subject(project, runs, run, tuple(one["name"] for one in found))
    raise NothingThereError(f"the newest {len(runs)} runs of project {project!r} have no metrics")


def define_custom(client: ApiClient, subject: Subject) -> str:
    """Sets a custom metric under a name that nobody has: how far a metric is above its best. Raises ServerError."""
    name = f"bench/above_best/{secrets.token_hex(6)}"
    quoted = subject.quoted
    body = {"expression": f"{quoted} - cummin({quoted})", "description": "of a benchmark that is under way"}
    client.put(_custom_path(subject.project, name), body)
    return name


def remove_custom(client: ApiClient, project: str, name: str) -> None:
    """Takes it away again. Raises ServerError."""
    client.delete(_custom_path(project, name))


def _custom_path(project: str, name: str) -> str:
    return f"/projects/{segment(project)}/custom-metrics/{segment(name)}"


@contextmanager
def _custom_metric(client: ApiClient, subject: Subject) -> Iterator[str]:
    name = define_custom(client, subject)
    try:
        yield name
    finally:
        remove_custom(client, subject.project, name)


def questions(subject: Subject, custom: str) -> list[Question]:
    """What the pages of a project ask; `custom`: the name that `define_custom` gave."""
    runs, run, names = subject.runs, subject.run, subject.names
    base = f"/projects/{segment(subject.project)}"
    asked = f"{base}/runs/{segment(run)}"
    columns = [f"last({subject.quoted})", f"min({subject.quoted})"]
    table = {"columns": columns, "sort": [f"-{columns[0]}"], "limit": _LIST_MAX}
    return [
        Question("run list", "project", "GET", f"{base}/runs?limit={_LIST_MAX}", None, answers.run_list(len(runs))),
        Question(
            "run table by last value",
            "project",
            "POST",
            f"{base}/runs/query",
            table,
            answers.run_table(columns, _LIST_MAX),
        ),
        Question("one run", "run", "GET", asked, None, answers.one_run(run)),
        Question(
            "metric names", "run", "GET", f"{asked}/metrics?limit={_NAMES_MAX}", None, answers.metric_names(names)
        ),
        _curves("many metrics of one run", "run", subject, (run,), names, points=500),
        _curves("one metric of the newest runs", "comparison", subject, runs, names[:1]),
        _curves("expression", "computed", subject, (run,), (f"ema({subject.quoted}, 0.9)",), key="expressions"),
        _curves("custom metric", "computed", subject, (run,), (custom,), is_above=True),
    ]


def _curves(
    name: str,
    page: str,
    subject: Subject,
    runs: Sequence[str],
    names: Sequence[str],
    *,
    key: str = "metrics",
    points: int = 1000,
    is_above: bool = False,
) -> Question:
    """A question for series in buckets. Of the run with metrics, all have to come."""
    body = {"runs": list(runs), key: list(names), "points": points}
    there = [(subject.run, one) for one in names]
    check = answers.series(runs, names, points, there, is_above=is_above)
    return Question(name, page, "POST", f"/projects/{segment(subject.project)}/series", body, check)


@dataclass(slots=True)
class _Log:
    """What users tell. Lists that threads append to."""

    took_ms: dict[str, list[float]]
    errors: list[str] = field(default_factory=list)


def run_queries(client: ApiClient, project: str, users: int, seconds: float, think_s: float = 0.0) -> QueriesResult:
    """Users ask in turns, each beginning with another question, and rest `think_s` on average between two.

    Each asks once at least. A custom metric is there meanwhile, and gone afterwards. Raises ThalwegError.
    """
    subject = find_subject(client, project)
    with _custom_metric(client, subject) as custom:
        asked = questions(subject, custom)
        log = _Log({one.name: [] for one in asked})
        begin = time.perf_counter()
        ends_at = begin + seconds

        def use(place: int) -> None:
            try:
                _use(client, _turns(asked, place), log, ends_at, think_s, Random(place))  # noqa: S311  # pauses
            except Exception as error:  # noqa: BLE001  # the outermost line of a thread: no user ends in silence
                log.errors.append(f"a user ended before its time: {type(error).__name__}: {error}")

        threads = [threading.Thread(target=use, args=(place,), daemon=True) for place in range(users)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lasted_s = time.perf_counter() - begin
    every = [ms for some in log.took_ms.values() for ms in some]
    return QueriesResult(
        users=users,
        seconds=lasted_s,
        answers_per_s=len(every) / lasted_s,
        p95_ms=quantile(every, 0.95),
        errors=len(log.errors),
        first_error=log.errors[0] if log.errors else "",
        questions=tuple(
            QuestionResult(name, len(some), quantile(some, 0.5), quantile(some, 0.95), quantile(some, 0.99))
            for name, some in log.took_ms.items()
        ),
    )


def _use(
    client: ApiClient, turns: Iterator[Question], log: _Log, ends_at: float, think_s: float, random: Random
) -> None:
    """What one user does, until the time is over."""
    for question in turns:
        begin = time.perf_counter()
        try:
            answer = question.ask(client)
            took_ms = (time.perf_counter() - begin) * 1e3
            question.check_answer(answer)
            log.took_ms[question.name].append(took_ms)
        except (ServerError, answers.WrongAnswerError) as error:
            log.errors.append(f"{question.name}: {error}")
        left_s = ends_at - time.perf_counter()
        time.sleep(max(0.0, min(left_s, random.uniform(0.5, 1.5) * think_s)))
        if time.perf_counter() >= ends_at:
            return


def _turns(questions: list[Question], place: int) -> Iterator[Question]:
    first = place % len(questions)
    return cycle([*questions[first:], *questions[:first]])
