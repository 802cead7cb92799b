"""Runs scripts of expressions (expression_scripts.py): asks the server over HTTP, and the oracle, about everything.

Each expression is asked about all runs of the script: the one that the script names must be as it says, all must be as
the oracle says. What is asked between two changes is asked together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

import httpx
import pytest

from tests.support import wire
from tests.support.expression_scripts import (
    Curve,
    Define,
    EvalSeries,
    EvalValue,
    Fail,
    Filter,
    Load,
    LogAgain,
    Logged,
    SendAgain,
    Statement,
)
from tests.support.oracle import Oracle
from tests.support.twice import SECOND_US, Point, Twice
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import ExpressionError
from thalweg_tracker.expressions.check import check

_LATER_US: Final = 3600 * SECOND_US
_TOGETHER: Final = 16
Answers = dict[tuple[str, str], Any]
"""By expression and run."""


def same(value: float, scale: float = 1.0) -> Any:
    """Equal but for rounding; NaN to NaN."""
    return pytest.approx(value, rel=1e-9, abs=1e-12 * scale, nan_ok=True)


def is_same_curve(found: Curve, wanted: Curve, scale: float = 1.0) -> bool:
    """The same steps exactly, with the same values."""
    return [step for step, _ in found] == [step for step, _ in wanted] and all(
        value == same(other, scale) for (_, value), (_, other) in zip(found, wanted, strict=True)
    )


def is_same_value(found: object, wanted: object, scale: float = 1.0) -> bool:
    """Of the same type, with the same value."""
    if isinstance(wanted, float) and isinstance(found, float):
        return bool(found == same(wanted, scale))
    return type(found) is type(wanted) and found == wanted


class Client:
    """The part of the HTTP API that knows expressions."""

    def __init__(self, http: httpx.Client, project: str = wire.PROJECT) -> None:
        self._http = http
        self._prefix = f"/projects/{project}"

    def post(self, path: str, **body: Any) -> httpx.Response:
        """Any answer."""
        return self._http.post(f"{self._prefix}{path}", json=body)

    def define(self, name: str, expression: str) -> httpx.Response:
        """Stores a custom metric."""
        return self._http.put(f"{self._prefix}/custom-metrics/{name}", json={"expression": expression})

    def series(
        self, expressions: Sequence[str], runs: Sequence[str], *, by_rank: bool, **more: Any
    ) -> dict[tuple[str, str], dict[int | None, Curve]]:
        """Exact series, by expression and run, then by rank. Raises AssertionError if one is refused."""
        asked = {"runs": list(runs), "expressions": list(expressions), "points": None, "by_rank": by_rank, **more}
        answer = self.post("/series", **asked)
        assert answer.status_code == 200, answer.text
        found: dict[tuple[str, str], dict[int | None, Curve]] = {
            (expression, run_id): {} for expression in expressions for run_id in runs
        }
        for one in answer.json()["series"]:
            curve = [(step, float(value)) for step, value in zip(one["x"], one["value"], strict=True)]
            found[one["name"], one["run_id"]][one["rank"] if by_rank else None] = curve
        return found

    def values(self, expressions: Sequence[str]) -> Answers:
        """Columns of all runs, by expression and run. Raises AssertionError if one is refused."""
        answer = self.post("/runs/query", columns=list(expressions), limit=1000)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["next_cursor"] is None
        found = {}
        for row in body["runs"]:
            for expression, column, value in zip(expressions, body["columns"], row["values"], strict=True):
                assert column["name"] == expression
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                is_number |= column["kind"] == "number" and value is not None  # "NaN"
                found[expression, row["run_id"]] = float(value) if is_number else value
        return found

    def matching(self, expression: str) -> list[str]:
        """The runs for which it is true. Raises AssertionError if it is refused."""
        answer = self.post("/runs/query", filter=expression, columns=[], limit=1000)
        assert answer.status_code == 200, answer.text
        return [row["run_id"] for row in answer.json()["runs"]]


class Session:
    """One script on one engine, in a project of its own. `complaints`: what is not as it should be."""

    def __init__(self, engine: Engine, http: httpx.Client | None, project: str = wire.PROJECT) -> None:
        self.complaints: list[str] = []
        self._runs = Twice(engine, project)
        self._client = Client(http, project) if http else None
        self._custom: dict[str, str] = {}
        self._oracle = Oracle({}, {})

    def run(self, statements: Sequence[Statement]) -> None:
        """From the first to the last."""
        waiting: list[EvalSeries | EvalValue | Filter] = []
        for one in statements:
            if isinstance(one, EvalSeries | EvalValue | Filter):
                waiting.append(one)
                continue
            self._ask(waiting)
            waiting = []
            self._change(one)
        self._ask(waiting)

    def _change(self, statement: Statement) -> None:
        if isinstance(statement, Load):
            self._load(statement)
        elif isinstance(statement, LogAgain):
            self._log(statement.run_id, statement.logged, _LATER_US)
        elif isinstance(statement, SendAgain):
            self._runs.send_again(statement.run_id)
        elif isinstance(statement, Define):
            self._custom[statement.name] = statement.expression
            answer = self._client.define(statement.name, statement.expression) if self._client else None
            if answer is not None and answer.status_code not in (200, 201):
                self._complain(statement, statement.name, answer.text)
        elif isinstance(statement, Fail):
            self._fail(statement)

    def _load(self, statement: Load) -> None:
        run_id, runs = statement.run_id, self._runs
        if statement.parent is None:
            runs.begin(run_id)
        elif statement.parent == run_id:
            runs.rewind(run_id, statement.step)
        else:
            runs.fork(run_id, statement.parent, statement.step)
        if statement.attributes:
            runs.describe(run_id, statement.attributes)
        if statement.status:
            runs.end(run_id, statement.status)
        self._log(run_id, statement.logged, 0)

    def _log(self, run_id: str, logged: Sequence[Logged], later_us: int) -> None:
        for rank, some in groupby(sorted(logged, key=lambda one: one.rank), lambda one: one.rank):
            self._runs.log(run_id, rank, {one.metric: _timed(one, later_us) for one in some})

    def _ask(self, questions: list[EvalSeries | EvalValue | Filter]) -> None:
        questions = [one for one in questions if self._can_be_checked(one)]
        self._oracle = Oracle(self._runs.points(), self._runs.attributes())
        for by_rank in (False, True):
            of_series = [one for one in questions if isinstance(one, EvalSeries) and one.by_rank == by_rank]
            for some in _portions(of_series):
                self._check_series(some, by_rank=by_rank)
        for some_values in _portions([one for one in questions if isinstance(one, EvalValue)]):
            self._check_values(some_values)
        for one in questions:
            if isinstance(one, Filter):
                self._check_filter(one)

    def _can_be_checked(self, question: EvalSeries | EvalValue | Filter) -> bool:
        try:
            check(question.expression, self._custom)
        except ExpressionError as error:
            self._complain(question, question.expression, f"is refused: {error.message} at {error.span}")
            return False
        return True

    def _check_series(self, questions: list[EvalSeries], *, by_rank: bool) -> None:
        runs = self._runs.run_ids
        expressions = list(dict.fromkeys(one.expression for one in questions))
        found = {}
        if self._client:
            try:
                found = self._client.series(expressions, runs, by_rank=by_rank)
            except AssertionError as error:
                if len(questions) > 1:  # which one is it?
                    for one in questions:
                        self._check_series([one], by_rank=by_rank)
                    return
                self._complain(questions[0], questions[0].expression, f"is refused: {error}")
        for question in questions:
            wanted = self._expected_series(question, runs, by_rank=by_rank)
            self._compare_series(question, "the oracle", wanted.get(question.run_id, {}), question.wanted)
            for run_id in runs:
                if (question.expression, run_id) in found:
                    answer = found[question.expression, run_id]
                    self._compare_series(question, f"the server about {run_id}", answer, wanted[run_id])

    def _expected_series(
        self, question: EvalSeries, runs: Sequence[str], *, by_rank: bool
    ) -> dict[str, dict[int | None, Curve]]:
        node = check(question.expression, self._custom)
        found = {}
        for run_id in runs:
            ranks: Iterable[int | None] = self._oracle.ranks(run_id, node) if by_rank else [None]
            curves = {rank: self._oracle.series(run_id, node, rank) for rank in ranks}
            found[run_id] = {rank: curve for rank, curve in curves.items() if curve}
        return found

    def _compare_series(
        self, question: EvalSeries, whose: str, found: dict[int | None, Curve], wanted: dict[int | None, Curve]
    ) -> None:
        if set(found) != set(wanted) or not all(is_same_curve(found[rank], wanted[rank]) for rank in wanted):
            self._complain(question, question.expression, f"{whose} says {_shown(found)}, not {_shown(wanted)}")

    def _check_values(self, questions: list[EvalValue]) -> None:
        expressions = list(dict.fromkeys(one.expression for one in questions))
        found: Answers = {}
        if self._client:
            try:
                found = self._client.values(expressions)
            except AssertionError as error:
                if len(questions) > 1:
                    for one in questions:
                        self._check_values([one])
                    return
                self._complain(questions[0], questions[0].expression, f"is refused: {error}")
        for question in questions:
            node = check(question.expression, self._custom)
            self._compare_value(question, "the oracle", self._oracle.value(question.run_id, node), question.wanted)
            for run_id in self._runs.run_ids:
                if (question.expression, run_id) in found:
                    wanted = self._oracle.value(run_id, node)
                    self._compare_value(
                        question, f"the server about {run_id}", found[question.expression, run_id], wanted
                    )

    def _compare_value(self, question: EvalValue, whose: str, found: object, wanted: object) -> None:
        if not is_same_value(found, wanted):
            self._complain(question, question.expression, f"{whose} says {found!r}, not {wanted!r}")

    def _check_filter(self, question: Filter) -> None:
        node = check(question.expression, self._custom)
        wanted = [run_id for run_id in self._runs.run_ids if self._oracle.value(run_id, node) is True]
        if set(wanted) != question.wanted:
            self._complain(question, question.expression, f"the oracle says {wanted}, not {sorted(question.wanted)}")
        try:
            found = self._client.matching(question.expression) if self._client else wanted
        except AssertionError as error:
            self._complain(question, question.expression, f"is refused: {error}")
            return
        if sorted(found) != sorted(wanted):
            self._complain(question, question.expression, f"the server says {found}, not {wanted}")

    def _fail(self, statement: Fail) -> None:
        if not self._client:
            return
        text, runs = statement.expression, self._runs.run_ids
        answers = {}
        if statement.place in ("", "series"):
            answers["series"] = self._client.post("/series", runs=runs, expressions=[text])
        if statement.place in ("", "column"):
            answers["column"] = self._client.post("/runs/query", columns=[text])
        if statement.place == "filter":
            answers["filter"] = self._client.post("/runs/query", filter=text)
        if statement.place == "define":
            answers["define"] = self._client.define(statement.name, text)
        for place, answer in answers.items():
            error = answer.json().get("error", {})
            if answer.status_code != 400 or error.get("code") != "bad_expression":
                self._complain(statement, text, f"as {place}: {answer.status_code} {answer.text}")
            elif tuple(error.get("span") or ()) != statement.span or error.get("expression") != text:
                self._complain(statement, text, f"as {place}: span of {error}, not {statement.span}")
            elif statement.words not in f"{error['message']} {error['hint']}":
                self._complain(statement, text, f"as {place}: {error} does not contain {statement.words!r}")

    def _complain(self, statement: Statement, expression: str, text: str) -> None:
        self.complaints.append(f"line {statement.line}: {expression}: {text}")


def _timed(logged: Logged, later_us: int) -> list[Point]:
    """Of several at one step each comes a microsecond after the one before, so that the last one stands."""
    seen: dict[float, int] = defaultdict(int)
    points = []
    for step, value, at_s in logged.points:
        moment_us = wire.START_US + later_us + seen[step] + int(SECOND_US * (step if at_s is None else at_s))
        points.append(Point(step, value, moment_us))
        seen[step] += 1
    return points


def _portions(questions: list[Any]) -> list[list[Any]]:
    return [questions[begin : begin + _TOGETHER] for begin in range(0, len(questions), _TOGETHER)]


def _shown(curves: dict[int | None, Curve]) -> str:
    """As a script has them."""
    found = [
        " ".join([*([] if rank is None else ["rank", str(rank)]), *(f"{step:g}:{value:.10g}" for step, value in curve)])
        for rank, curve in curves.items()
    ]
    return "; ".join(found) or "nothing"
