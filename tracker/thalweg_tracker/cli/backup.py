"""`thalweg backup`, `thalweg restore-database`: a database to files and back."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from thalweg_tracker.app import open_engine
from thalweg_tracker.care.backup import Progress, take_backup
from thalweg_tracker.care.manifest import Manifest
from thalweg_tracker.care.places import open_place
from thalweg_tracker.care.restore import check_backup, restore_backup
from thalweg_tracker.cli.owner import Owner, OwnerError
from thalweg_tracker.cli.serve import DEFAULT_DATA
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import EngineOwnedError, RejectedError, TrackerError
from thalweg_tracker.model.settings import EmbeddedStore, Store, parse_store

_POLL_S: Final = 0.3
_store = click.option("--store", envvar="THALWEG_STORE", help="ClickHouse servers: clickhouse://user:password@host/db")
_data = click.option(
    "--data", envvar="THALWEG_DATA", help=f"Folder of an embedded database.  [default: {DEFAULT_DATA}]"
)
_json = click.option("--json", "as_json", is_flag=True, help="Print what was done as one line of JSON.")


@click.command()
@click.argument("to", metavar="TO")
@_data
@_store
@_json
def backup(to: str, data: str | None, store: str | None, as_json: bool) -> None:
    """Back up a whole database to TO: a folder that is not there yet, or s3://bucket/prefix.

    Ingest and queries go on meanwhile. Where a server has the folder, that server makes the backup; the command shows
    how far it is, sends THALWEG_TOKEN, and calls the backup off on Ctrl-C or SIGTERM. How S3 is reached, the variables
    THALWEG_S3_* say, to the server if it makes the backup.

    \b
    Example: thalweg backup /backups/2026-11-30
             thalweg backup s3://backups/thalweg/2026-11-30 --store clickhouse://localhost:9000/thalweg
    """
    where = to if "://" in to else str(Path(to).expanduser().absolute())
    begun_s = time.monotonic()
    with _errors(), _bar() as tell:
        chosen = _chosen(data, store)
        try:
            with closing(_present(chosen)) as engine, open_place("TO", where, os.environ) as place:
                made = take_backup(engine, place, time.time_ns() // 1000, tell)
            result = _told(made)
        except EngineOwnedError as error:
            if not error.http:
                raise
            result = _ask(Owner(error.http, error.instance, os.environ), where, tell)
    took_s = time.monotonic() - begun_s
    if as_json:
        click.echo(json.dumps({"to": where, **result, "seconds": round(took_s, 3)}))
    else:
        click.echo(
            f"Backed up {result['points']:,} points and {result['rows'] - result['points']:,} other rows to {where}:"
            f" {_size(result['bytes'])} in {result['files']} files, {took_s:,.1f} s."
        )


@click.command("restore-database")
@click.argument("source", metavar="FROM")
@_data
@_store
@click.option("--check", is_flag=True, help="Only compare all files with their checksums; restore nothing.")
@_json
def restore_database(source: str, data: str | None, store: str | None, check: bool, as_json: bool) -> None:
    """Restore a backup into an empty database, of either engine, and verify it.

    The database must not be served meanwhile. It is not usable before all is verified: who opens it is told.

    \b
    Example: thalweg restore-database /backups/2026-11-30 --data ./tracking
             thalweg restore-database s3://backups/thalweg/2026-11-30 --store clickhouse://localhost:9000/thalweg
    """
    begun_s = time.monotonic()
    with _errors(), _bar() as tell, open_place("FROM", source, os.environ) as place:
        if check:
            result = _told(check_backup(place, tell))
        else:
            chosen = _chosen(data, store)
            with closing(open_engine(chosen)) as engine:
                found = restore_backup(engine, place, tell)
            counted = {"points": found.points, "series": found.series, "runs": found.runs, "projects": found.projects}
            result = {"into": str(chosen), **counted}
    took_s = time.monotonic() - begun_s
    if as_json:
        click.echo(json.dumps({"from": source, **result, "seconds": round(took_s, 3)}))
    elif check:
        click.echo(f"The backup is whole: {result['points']:,} points, {_size(result['bytes'])}, {took_s:,.1f} s.")
    else:
        click.echo(
            f"Restored and verified: {result['points']:,} points of {result['series']:,} series in {result['runs']:,}"
            f" runs of {result['projects']:,} projects, counted in {result['into']}; {took_s:,.1f} s."
        )


def _chosen(data: str | None, store: str | None) -> Store:
    if data and store:
        raise click.UsageError("give one of --data and --store")
    return parse_store("--store" if store else "--data", store or data or DEFAULT_DATA)


def _present(store: Store) -> Engine:
    """The engine of a database that is there: opening a folder would make one."""
    if isinstance(store, EmbeddedStore) and not store.data_dir.is_dir():
        raise RejectedError("no_database", f"cannot back up {store}: there is no such folder", "Name it with --data.")
    return open_engine(store)


def _told(made: Manifest) -> dict[str, Any]:
    return {
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made.created_us / 1e6)),
        "schema_number": made.schema,
        "rows": made.rows,
        "points": made.rows_of("points"),
        "bytes": made.size_bytes,
        "files": sum(len(table.files) for table in made.tables),
    }


def _ask(owner: Owner, to: str, tell: Callable[[Progress], None]) -> dict[str, Any]:
    """The same, made by the server that owns the folder. Raises SystemExit after a signal, when it is called off."""
    with _signals() as signals:
        begun = state = owner.ask("POST", "/admin/backups", {"to": to})
        print(f"The server at {owner} makes the backup.", file=sys.stderr)
        is_called_off = False
        while state["state"] == "running" and state["id"] == begun["id"]:
            if signals and not is_called_off:
                print("Calling it off. Once more, and this command ends without waiting for that.", file=sys.stderr)
                owner.ask("DELETE", f"/admin/backups/{begun['id']}")
                is_called_off = True
            time.sleep(_POLL_S)
            state = owner.ask("GET", "/admin/backups/last")
            tell(Progress(state["stage"], state["rows_done"], state["rows_total"]))
    if state["id"] != begun["id"]:
        raise OwnerError(f"the server made another backup meanwhile, to {state['to']}")
    if is_called_off and state["state"] != "failed":
        became = f"was called off. What may be at {to} is no backup: remove it."
        if state["state"] == "done":
            became = "was whole before it could be called off."
        print(f"The backup {became}", file=sys.stderr)
        sys.exit(128 + signals[0])
    if state["state"] != "done":
        raise OwnerError(state["error"])
    result: dict[str, Any] = state["result"]
    return result


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Takes SIGINT and SIGTERM down as they come, in place of what they do. A second one ends the command at once."""
    came: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        if came:
            sys.exit(128 + number)
        came.append(number)

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _errors() -> Iterator[None]:
    """What went wrong, in one line."""
    try:
        yield
    except RejectedError as error:
        print(f"Error: {error.message}." + (f" {error.hint}" if error.hint else ""), file=sys.stderr)
        sys.exit(1)
    except TrackerError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    shown = Console(stderr=True)
    with Bars(*columns, console=shown, disable=not sys.stderr.isatty(), transient=True) as bars:
        task = bars.add_task("", total=None)

        def tell(progress: Progress) -> None:
            bars.update(task, description=progress.stage, completed=progress.rows, total=progress.total_rows or None)

        yield tell


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:,.0f} {unit}" if unit == "B" else f"{size_bytes:,.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:,.1f} TiB"
