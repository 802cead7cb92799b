"""What asks the engine how it is: bounded, and one at a time; and the verdict that is made of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.scrape import parse
from thalweg_tracker.errors import EngineError
from thalweg_tracker.telemetry import readiness as readiness_module
from thalweg_tracker.telemetry.engine_metrics import EngineCollector
from thalweg_tracker.telemetry.probe import Probe, ProbeError, Rows
from thalweg_tracker.telemetry.readiness import Readiness


@dataclass
class Engine:
    """Answers, fails, or hangs until it is let go."""

    answers: dict[str, Rows] = field(default_factory=dict)
    error: Exception | None = None
    may_answer: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.may_answer.set()

    def ask(self, sql: str) -> Rows:
        """The rows for a word of the SQL."""
        self.asked.append(sql)
        assert self.may_answer.wait(60)
        if self.error is not None:
            raise self.error
        return next((rows for word, rows in self.answers.items() if word in sql), [{"one": 1}])


@pytest.fixture
def engine() -> Engine:
    """One that answers."""
    return Engine()


@pytest.fixture
def probe(engine: Engine) -> Iterator[Probe]:
    """A probe of it that waits for a long time, for a test."""
    probe = Probe(engine.ask, within_s=30)
    yield probe
    engine.may_answer.set()
    probe.close()


def test_an_answer_comes_through(probe: Probe) -> None:
    """As it is."""
    assert probe.rows("SELECT 1 AS one") == [{"one": 1}]


def test_a_failure_tells_nothing_of_the_database(engine: Engine, probe: Probe) -> None:
    """Who asks gets neither host nor user; the log has them."""
    engine.error = EngineError("Code: 516. user `secret` at 10.0.0.1")
    with pytest.raises(ProbeError, match="answered with an error") as caught:
        probe.rows("SELECT 1")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is engine.error


def test_an_engine_that_hangs_is_not_waited_for(engine: Engine) -> None:
    """Nor is it asked more, while it hangs: the questions behind the first one are given up."""
    engine.may_answer.clear()
    probe = Probe(engine.ask, within_s=0.01)
    for _ in range(5):
        with pytest.raises(ProbeError, match="did not answer within"):
            probe.rows("SELECT 1")
    engine.may_answer.set()
    probe.close()
    assert len(engine.asked) == 1


def test_a_probe_that_is_closed(engine: Engine) -> None:
    """It says so, and asks nothing."""
    probe = Probe(engine.ask)
    probe.close()
    with pytest.raises(ProbeError, match="stopping"):
        probe.rows("SELECT 1")
    assert engine.asked == []


# -- readiness


def test_ready_while_the_database_answers(engine: Engine, probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """It turns with the database, both ways."""
    monkeypatch.setattr(readiness_module, "_HOLDS_S", -1)
    readiness = Readiness(probe)
    assert readiness.look().is_ready
    engine.error = EngineError("away")
    verdict = readiness.look()
    assert (verdict.is_ready, verdict.checks["draining"]) == (False, "ok")
    assert "error" in verdict.checks["engine"]
    engine.error = None
    assert readiness.look().is_ready


def test_draining_is_not_ready(engine: Engine, probe: Probe) -> None:
    """At once, and for ever; the database is not asked any more."""
    readiness = Readiness(probe)
    readiness.look()
    readiness.drain()
    verdict = readiness.look()
    assert not verdict.is_ready
    assert verdict.checks == {"engine": "ok", "draining": "the server is stopping"}
    assert len(engine.asked) == 1


def test_many_who_look_ask_once(engine: Engine, probe: Probe) -> None:
    """A flood of probes is none for the database."""
    readiness = Readiness(probe)
    looks = [threading.Thread(target=readiness.look) for _ in range(20)]
    for look in looks:
        look.start()
    for look in looks:
        look.join()
    assert len(engine.asked) == 1


# -- metrics of the engine


def text_of(probe: Probe) -> str:
    """What a scrape says."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(probe))
    return generate_latest(registry).decode()


def test_the_engines_numbers(engine: Engine, probe: Probe) -> None:
    """By table, and of the whole; what it does not know is left out."""
    engine.answers = {
        "system.parts": [{"table": "points", "parts": 3, "rows": 10, "bytes": 99}],
        "system.merges": [{"name": "merges", "value": 2}, {"name": "merge_rows", "value": 5}],
    }
    told = parse(text_of(probe))
    assert told.value("thalweg_engine_parts", table="points") == 3
    assert told.value("thalweg_engine_rows", table="points") == 10
    assert told.value("thalweg_engine_bytes", table="points") == 99
    assert (told.value("thalweg_engine_merges"), told.value("thalweg_engine_merge_rows")) == (2, 5)
    assert told.value("thalweg_engine_up") == 1
    assert "thalweg_engine_queries" not in told.names


def test_a_scrape_outlives_the_engine(engine: Engine, probe: Probe) -> None:
    """It says that the engine is away, and nothing that it does not know."""
    engine.error = EngineError("away")
    assert parse(text_of(probe)).values == {("thalweg_engine_up", frozenset()): 0.0}
