"""Answers that are shared: asked once, also where that fails, and anew after there may be news."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from tests.support.scripted_engine import ScriptedEngine
from thalweg_tracker.errors import EngineBusyError
from thalweg_tracker.query.live_answers import Answers


def test_the_same_question_is_asked_once() -> None:
    """Threads that ask the same share an answer; other parameters are another question."""
    engine = ScriptedEngine(answer=pa.table({"x": [1]}))
    answers = Answers(engine)
    begin = threading.Barrier(8)

    def ask(number: int) -> pa.Table:
        begin.wait()
        return answers.query("q", {"n": number % 2, "m": [1]})

    with ThreadPoolExecutor(8) as threads:
        assert all(one is engine.answer for one in threads.map(ask, range(8)))
    assert engine.queries == ["q", "q"]
    answers.forget()
    answers.query("q", {"m": [1], "n": 0})
    assert len(engine.queries) == 3


def test_a_failure_is_everybody_s_until_the_next_look() -> None:
    """An error is raised for all who ask, and is no answer for later."""
    engine = ScriptedEngine(error=EngineBusyError("busy", 241), answer=pa.table({"x": [1]}))
    answers = Answers(engine)
    for _ in range(2):
        with pytest.raises(EngineBusyError):
            answers.query("q", {})
    assert len(engine.queries) == 1
    engine.error = None
    answers.forget()
    assert answers.query("q", {}).num_rows == 1
