"""`thalweg move`: takes an embedded database to ClickHouse servers."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from thalweg_tracker.app import open_engine
from thalweg_tracker.care.move import Move, Progress, StateFile
from thalweg_tracker.care.verify import Difference, compare
from thalweg_tracker.engine.cluster import layout_of
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.errors import TrackerError
from thalweg_tracker.model.settings import EmbeddedStore, ServerStore, parse_store

_EVERY_S: Final = 1.0


@click.command()
@click.option("--from", "folder", required=True, help="Folder of an embedded database that no server owns.")
@click.option(
    "--to",
    "store",
    envvar="THALWEG_STORE",
    required=True,
    help="Where to: clickhouse://user:password@host:9000/database; its schema is made if there is none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
def move(folder: str, store: str, as_json: bool) -> None:
    """Move an embedded database to ClickHouse servers, and compare what arrived.

    The folder is left as it is. A move that was interrupted goes on where it was; one that was done is compared again.
    Exit status 1 if anything differs: then every difference is told.

    Example: thalweg move --from ./tracking --to clickhouse://localhost:9000/thalweg
    """
    try:
        differences = _move(folder, store, as_json)
    except TrackerError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    if differences:
        sys.exit(1)


def _move(folder: str, store: str, as_json: bool) -> list[Difference]:
    source_store, to = parse_store("--from", folder), parse_store("--to", store)
    if not isinstance(source_store, EmbeddedStore) or not isinstance(to, ServerStore):
        raise click.UsageError("--from is a folder, --to is clickhouse://host:port/database")
    if not (source_store.data_dir / "clickhouse").is_dir():
        raise click.UsageError(f"--from {source_store}: there is no database")
    source = open_engine(source_store)
    try:
        destination = open_engine(to)
        try:
            return _moved_and_compared(source, destination, source_store.data_dir, to, as_json)
        finally:
            destination.close()
    finally:
        source.close()


def _moved_and_compared(
    source: Engine, destination: Engine, data_dir: Path, to: ServerStore, as_json: bool
) -> list[Difference]:
    migrate(source)
    migrate(destination, layout_of(to))
    telling = _Telling()
    started_s = time.monotonic()
    moving = Move(source, destination, StateFile(data_dir, str(to)), str(to), telling.moved)
    if moving.is_continued:
        telling.say("going on with a move that was begun" if not moving.state.is_done else "moved before: comparing")
    moving.run()
    moved_s = time.monotonic() - started_s
    differences = []
    for difference in compare(source, destination, telling.compared):
        differences.append(difference)
        if not as_json:
            print(difference, flush=True)
    took_s = time.monotonic() - started_s
    telling.end()
    points = moving.state.points
    if as_json:
        document = {
            "points": points,
            "moved_s": round(moved_s, 3),
            "took_s": round(took_s, 3),
            "inserted_again": len(moving.state.repeated),
            "differences": [asdict(one) for one in differences],
        }
        print(json.dumps(document), flush=True)
    elif differences:
        print(f"{len(differences)} differences between {data_dir} and {to}", flush=True)
    else:
        print(f"Moved {points:,} points to {to} in {took_s:.0f} s; all of it was compared.", flush=True)
    return differences


class _Telling:
    """Progress on standard error: one line that is written over on a terminal, else one every second."""

    def __init__(self) -> None:
        self._told_s = 0.0
        self._is_terminal = sys.stderr.isatty()
        self._has_line = False

    def moved(self, progress: Progress) -> None:
        """Rows were moved."""
        left = f", {_duration(progress.left_s)} left" if progress.left_s is not None else ""
        share = f"{progress.rows:,} of {progress.rows_total:,}"
        self._show(f"{progress.table}: {share} rows, {progress.rows_per_s:,.0f}/s{left}")

    def compared(self, points: int, of: int) -> None:
        """Points were compared."""
        self._show(f"compared: {points:,} of {of:,} points")

    def _show(self, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s < _EVERY_S:
            return
        self._told_s = now_s
        if self._is_terminal:
            print(f"\r{text:<79}", end="", file=sys.stderr, flush=True)
            self._has_line = True
        else:
            self.say(text)

    def say(self, text: str) -> None:
        """A line of its own."""
        self.end()
        print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leaves the line that is written over."""
        if self._has_line:
            print(file=sys.stderr, flush=True)
            self._has_line = False


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
