"""An embedded database moves to a ClickHouse server: all of it, exactly, also after interruptions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support import wire
from tests.support.clickhouse_server import RunningServer
from tests.support.engines import opened, server_store
from tests.support.tracker import Tracker, answering, tracking
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.care import move as moving
from thalweg_tracker.care.move import Move, Progress, StateFile
from thalweg_tracker.care.verify import compare
from thalweg_tracker.cli.move import move
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.engine.server import ServerEngine
from thalweg_tracker.errors import EngineBusyError, EngineError
from thalweg_tracker.model import series_flags
from thalweg_tracker.model.settings import EmbeddedStore

NAMES = ["loss", "größe/ü"]
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("series", {"runs": ["plain", "child", "odd"], "metrics": NAMES, "points": None}),
    ("series", {"runs": ["plain", "child", "odd"], "metrics": NAMES, "points": 3}),
    ("series", {"runs": ["plain"], "metrics": [], "expressions": ["twice"], "points": None}),
]


def fill(tracker: Tracker) -> None:
    """Plain runs, a fork, ranks, odd numbers, steps that fall, copies, attributes, a custom metric, a checkpoint."""
    saved = pb.Event(
        time_us=wire.START_US + 5, checkpoint=pb.CheckpointSaved(step=3, uri="s3://b/c", kind="full", shards=1)
    )
    events = [wire.started(), wire.attributes(config__lr="0.1", tags__a="true"), saved]
    ended = [wire.ended(pb.WriterEnded.Outcome.FINISHED)]
    rows = [[step / 3, -step] for step in range(50)]
    tracker.take(
        wire.hello("plain"),
        wire.batch(1, NAMES, range(50), rows, events=events, counters={"logged": 100}),
        wire.batch(2, events=ended),
    )
    tracker.take(wire.hello("plain", writer=2, rank=1), wire.batch(1, NAMES, range(50), rows))
    odd = [[math.nan, math.inf], [-math.inf, -0.0], [5e-324, 1e308], [math.nan, math.nan]]
    tracker.take(wire.hello("odd", writer=3), wire.batch(1, NAMES, [0.5, 1, 2, 3], odd))
    tracker.take(wire.hello("odd", writer=3), wire.batch(2, NAMES, [2, 0.5], odd[:2], [wire.START_US + 9] * 2))
    again = wire.batch(1, NAMES, range(50), rows, resent=True)
    tracker.take(wire.hello("plain"), again)
    answer = tracker.http.post(f"/projects/{wire.PROJECT}/runs/plain/fork", json={"run_id": "child", "step": 20})
    assert answer.status_code < 300, answer.text
    tracker.take(wire.hello("child", writer=4), wire.batch(1, NAMES, [21, 22], [[7.0, 8.0], [9.0, 1.0]]))
    made = tracker.http.put(f"/projects/{wire.PROJECT}/custom-metrics/twice", json={"expression": "2 * loss"})
    assert made.status_code < 300, made.text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An embedded database that nobody owns."""
    with tracking(tmp_path / "data") as tracker:
        fill(tracker)
    return tmp_path / "data"


def answers(engine: Engine) -> list[Any]:
    """What a reader sees."""
    found: list[Any] = []
    with answering(engine) as http:
        for path, body in QUESTIONS:
            found.append(http.post(f"/projects/{wire.PROJECT}/{path}", json=body).raise_for_status().json())
        of_run = (f"runs/{run}{what}" for run in ("plain", "child", "odd") for what in ("", "/metrics", "/checkpoints"))
        for path in ("runs", "custom-metrics", *of_run):
            found.append(http.get(f"/projects/{wire.PROJECT}/{path}").raise_for_status().json())
    return found


def run_move(folder: Path, clickhouse: RunningServer, database: str, *more: str) -> Result:
    """`thalweg move`."""
    store = f"clickhouse://default:open-sesame@127.0.0.1:{clickhouse.ports[0]}/{database}"
    return CliRunner().invoke(move, ["--from", str(folder), "--to", store, *more])


def test_all_of_it_arrives(folder: Path, clickhouse: RunningServer) -> None:
    """Readers see the same on both sides; to move again compares again, and changes nothing."""
    ended = run_move(folder, clickhouse, "moved", "--json")
    assert ended.exit_code == 0, ended.output
    result = json.loads(ended.stdout)
    assert (result["differences"], result["inserted_again"]) == ([], 0)
    with opened(EmbeddedStore(folder)) as source:
        wanted = answers(source)
        stored = source.query("SELECT count() AS n FROM points")["n"][0].as_py()
    assert result["points"] == stored
    with opened(server_store(clickhouse, "moved")) as destination:
        assert answers(destination) == wanted
    again = run_move(folder, clickhouse, "moved")
    assert (again.exit_code, f"Moved {stored:,} points" in again.stdout) == (0, True), again.output
    assert "open-sesame" not in ended.output + again.output + "".join(p.read_text() for p in folder.glob("move-*"))


class StopHere(Exception):  # it is none
    """What ends a move in these tests."""


class Interrupted(ServerEngine):
    """Ends a move at its n-th insert into a table, after the insert was made or before."""

    def __init__(self, clickhouse: RunningServer, database: str, table: str, at: int, *, is_made: bool) -> None:
        super().__init__(server_store(clickhouse, database))
        self._at = (table, at, is_made)
        self._count = 0

    def insert(self, table: str, rows: Any) -> None:
        """See contract."""
        wanted, at, is_made = self._at
        self._count += table == wanted
        is_here = table == wanted and self._count == at
        if not is_here or is_made:
            super().insert(table, rows)
        if is_here:
            raise StopHere


@contextmanager
def both(folder: Path, destination: Engine) -> Iterator[tuple[Engine, Engine]]:
    """Source and destination, closed after the block."""
    source = EmbeddedEngine(folder)
    try:
        migrate(destination)
        yield source, destination
    finally:
        destination.close()
        source.close()


def a_move(source: Engine, destination: Engine, folder: Path, tell: list[Progress]) -> Move:
    return Move(source, destination, StateFile(folder, "there"), "there", tell.append, wait=lambda _: None)


@pytest.mark.parametrize(
    ("table", "at", "is_made"),
    [
        ("metric_names", 1, True),
        ("points", 1, False),
        ("points", 3, True),
        ("series_stats_feed", 1, True),
        ("branches", 1, False),
    ],
)
def test_an_interrupted_move_goes_on(
    folder: Path, clickhouse: RunningServer, monkeypatch: pytest.MonkeyPatch, table: str, at: int, is_made: bool
) -> None:
    """From where it was; what may be there twice is read once; no run is listed before all is there."""
    monkeypatch.setattr(moving, "BLOCK_ROWS", 20)
    monkeypatch.setattr(moving, "INSERTS_AT_ONCE", 1)
    database = f"interrupted_{table}_{at}"
    told: list[Progress] = []
    destination = Interrupted(clickhouse, database, table, at, is_made=is_made)
    with both(folder, destination) as (source, there), pytest.raises(StopHere):
        a_move(source, there, folder, told).run()
    with opened(server_store(clickhouse, database)) as there:
        assert there.query("SELECT * FROM branches").num_rows == 0
    with both(folder, ServerEngine(server_store(clickhouse, database))) as (source, there):
        there.execute("SYSTEM STOP MERGES points")
        second = a_move(source, there, folder, told)
        assert second.is_continued == (table != "metric_names")
        second.run()
        assert list(compare(source, there, lambda *_: None)) == []
        wanted = answers(source)
        if table == "points":
            flags = there.query("SELECT DISTINCT flags FROM series_stats")["flags"].to_pylist()
            assert any(one & series_flags.RESENT for one in flags)
    with opened(server_store(clickhouse, database)) as there:
        assert answers(there) == wanted


def test_a_busy_destination_is_tried_again(
    folder: Path, clickhouse: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An insert that fails for now is made again, and the series in it are marked: it may have been made."""
    made: list[str] = []

    class Busy(ServerEngine):
        def insert(self, table: str, rows: Any) -> None:
            super().insert(table, rows)
            made.append(table)
            if made.count("points") == 1 and table == "points":
                raise EngineBusyError("too many parts", 252)

    with both(folder, Busy(server_store(clickhouse, "busy"))) as (source, there):
        there.execute("SYSTEM STOP MERGES points")
        one = a_move(source, there, folder, [])
        one.run()
        assert len(one.state.repeated) == 1
        assert list(compare(source, there, lambda *_: None)) == []
        wanted = answers(source)
    with opened(server_store(clickhouse, "busy")) as there:
        assert answers(there) == wanted


def test_differences_are_told(folder: Path, clickhouse: RunningServer) -> None:
    """Each by the names that people know; exit status 1."""
    assert run_move(folder, clickhouse, "differs").exit_code == 0
    with opened(server_store(clickhouse, "differs")) as there:
        there.execute("ALTER TABLE points DELETE WHERE rank = 1 AND step = 7 SETTINGS mutations_sync = 1")
        there.execute("ALTER TABLE attributes DELETE WHERE path = 'config.lr' SETTINGS mutations_sync = 1")
    ended = run_move(folder, clickhouse, "differs")
    assert ended.exit_code == 1
    for told in (
        "points: run p/plain, metric loss, rank 1: 50 at the source, 49 moved",
        "points: run p/plain, metric größe/ü, rank 1: 50 at the source, 49 moved",
        "attributes: run p/plain: ",
        "3 differences",
    ):
        assert told in ended.stdout, ended.output


def test_what_is_refused(folder: Path, clickhouse: RunningServer, tmp_path: Path) -> None:
    """A run that the destination has from elsewhere, a folder in use, a folder without a database."""
    with opened(server_store(clickhouse, "has_runs")) as there:
        migrate(there)
        Tracker(there, None).log("plain", "loss", {1.0: 2.0})  # type: ignore[arg-type]
    ended = run_move(folder, clickhouse, "has_runs")
    assert (ended.exit_code, "has run plain of project p already" in ended.stderr) == (1, True), ended.output
    with opened(EmbeddedStore(folder)):
        ended = run_move(folder, clickhouse, "never")
        assert (ended.exit_code, "Stop that process first" in ended.stderr) == (1, True), ended.output
    ended = run_move(tmp_path / "nothing", clickhouse, "never")
    assert (ended.exit_code, "there is no database" in ended.stderr) == (2, True), ended.output
    assert not (tmp_path / "nothing").exists()


def test_a_state_that_cannot_be_read(tmp_path: Path) -> None:
    """It is not taken for a move that was never begun."""
    states = StateFile(tmp_path, "there")
    states.write(moving.State("there", upto=(1, 2, 3, -math.inf), repeated=[((0, 0, 0, 1.5), (1, 1, 1, 2.5))]))
    (file,) = tmp_path.glob("move-*.json")
    found = states.read()
    assert found is not None
    assert (found.upto, found.repeated) == ((1, 2, 3, -math.inf), [((0, 0, 0, 1.5), (1, 1, 1, 2.5))])
    file.write_text(file.read_text()[:20])
    with pytest.raises(EngineError, match=str(file)):
        states.read()
