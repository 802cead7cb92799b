"""`thalweg migrate`: brings a database to the newest schema."""

from __future__ import annotations

import json
import sys

import click

from thalweg_tracker.app import open_engine
from thalweg_tracker.engine import migrate as migrations
from thalweg_tracker.engine.cluster import create_database, layout_of
from thalweg_tracker.engine.failures import has_no_database
from thalweg_tracker.engine.migrate import Migration
from thalweg_tracker.errors import EngineError, TrackerError
from thalweg_tracker.model.settings import ServerStore, Store, parse_store


@click.command()
@click.option(
    "--store",
    envvar="THALWEG_STORE",
    help="A folder, or clickhouse://user:password@host:9000/database; ?cluster=NAME makes the tables of a cluster.",
)
@click.option("--data", envvar="THALWEG_DATA", help="Folder of an embedded database; the same as --store FOLDER.")
@click.option("--dry-run", is_flag=True, help="Print the SQL that is pending; apply none of it.")
@click.option("--json", "as_json", is_flag=True, help="Print the names of the migrations as JSON.")
def migrate(store: str | None, data: str | None, dry_run: bool, as_json: bool) -> None:
    """Apply the migrations that a database lacks.

    Example: thalweg migrate --store clickhouse://localhost:9000/thalweg --dry-run
    """
    where = store or data
    if not where:
        raise click.UsageError("name the database with --store or --data")
    try:
        found = parse_store("--store", where)
        layout = layout_of(found)
        todo, begin = _pending(found) if dry_run else (_apply(found), [])
    except TrackerError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    if as_json:
        print(json.dumps({"pending" if dry_run else "applied": [f"{m.number:04d}_{m.name}" for m in todo]}))
    elif not todo:
        print("The schema is up to date.")
    for statement in [] if as_json else begin:
        print(f"{statement};")
    for migration in [] if as_json else todo:
        print(f"-- {migration.number:04d}_{migration.name}" + ("" if dry_run else ": applied"))
        if dry_run:
            print(";\n".join(laid for one in migration.statements for laid in layout(one)) + ";")


def _apply(store: Store) -> list[Migration]:
    engine = open_engine(store)
    try:
        return migrations.migrate(engine, layout_of(store))
    finally:
        engine.close()


def _pending(store: Store) -> tuple[list[Migration], list[str]]:
    """What is pending, and what comes before it where there is no database yet: nothing is made."""
    try:
        engine = open_engine(store, makes_database=False)
    except EngineError as error:
        if not has_no_database(error) or not isinstance(store, ServerStore):
            raise
        return migrations.shipped(), [create_database(store), *migrations.bookkeeping(layout_of(store))]
    try:
        return migrations.pending(engine), []
    finally:
        engine.close()
