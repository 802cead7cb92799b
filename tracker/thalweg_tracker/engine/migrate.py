"""Brings a database to the newest schema. Migrations are numbered SQL files, applied in order, never edited.

A statement that has already run (a crash in the middle of a migration) is recognised by its CREATE being
there: migrations are written so that `IF NOT EXISTS` may be added to each CREATE.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Final

import pyarrow as pa

from thalweg_tracker.engine.cluster import Layout, as_it_is
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import EngineError

_FILE: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_TABLE: Final = """CREATE TABLE IF NOT EXISTS migrations (number UInt32, name String, sha256 String)
ENGINE = ReplacingMergeTree ORDER BY number"""
_ROW: Final = pa.schema([("number", pa.uint32()), ("name", pa.string()), ("sha256", pa.string())])
_RESTORE: Final = 0
"""Number of a row that tells of a restore; of several the last one stands."""
_ENDED: Final = "ended"
_CREATE: Final = re.compile(r"\bCREATE (TABLE|MATERIALIZED VIEW|VIEW) (?!IF NOT EXISTS)")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the text, which may never change."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The statements, without comments. Neither `--` nor `;` may stand in a text literal."""
        bare = re.sub(r"--[^\n]*", "", self.text)
        return [part.strip() for part in bare.split(";") if part.strip()]


def shipped() -> list[Migration]:
    """All migrations of this version, in order."""
    files = resources.files("thalweg_tracker.schema").iterdir()
    found = [(match, file) for file in files if (match := _FILE.fullmatch(file.name))]
    migrations = [Migration(int(m[1]), m[2], file.read_text("utf-8")) for m, file in found]
    return sorted(migrations, key=lambda migration: migration.number)


def pending(engine: Engine) -> list[Migration]:
    """Migrations that the database lacks. Changes nothing. Raises EngineError if it is newer, or differs."""
    present = applied(engine)
    known = {migration.number: migration for migration in shipped()}
    for number, sha256 in present.items():
        if number not in known:
            raise EngineError(
                f"cannot use the database: it has schema {number}, newer than this version's {max(known)}."
                " Upgrade thalweg."
            )
        if known[number].sha256 != sha256:
            raise EngineError(f"cannot use the database: its migration {number} is not that of this version")
    return [migration for number, migration in sorted(known.items()) if number not in present]


def applied(engine: Engine) -> dict[int, str]:
    """The migrations that the database has: number to hash. Raises EngineError where a restore into it did not end."""
    tables = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name = 'migrations'"
    if not engine.query(tables).num_rows:
        return {}
    rows = engine.query("SELECT number, sha256 FROM migrations FINAL ORDER BY number").to_pylist()
    found = {row["number"]: row["sha256"] for row in rows}
    if found.pop(_RESTORE, _ENDED) != _ENDED:
        raise EngineError(
            "cannot use the database: a restore into it did not end. Remove it, its folder or the database on the"
            " server, and restore again."
        )
    return found


def bookkeeping(layout: Layout = as_it_is) -> list[str]:
    """What makes the table in which is noted what was applied."""
    return layout(_TABLE)


def statements(todo: list[Migration], layout: Layout = as_it_is) -> list[str]:
    """What is run for some migrations, each as often as need be."""
    every = [statement for migration in todo for statement in migration.statements]
    return [_CREATE.sub(r"CREATE \1 IF NOT EXISTS ", laid) for one in every for laid in layout(one)]


def migrate(engine: Engine, layout: Layout = as_it_is) -> list[Migration]:
    """Applies what is pending and returns it. `layout`: how the tables of the store are made (`cluster.layout_of`)."""
    todo = pending(engine)
    apply(engine, todo, layout)
    return todo


def apply(engine: Engine, migrations: Iterable[Migration], layout: Layout = as_it_is) -> None:
    """Applies these. Whoever calls this has seen that they are pending."""
    for statement in bookkeeping(layout):
        engine.execute(statement)
    for migration in migrations:
        for statement in statements([migration], layout):
            engine.execute(statement)
        _note(engine, migration.number, migration.name, migration.sha256)


def begin_restore(engine: Engine, layout: Layout = as_it_is) -> None:
    """From here on the database is not to be used, until `end_restore`: whatever happens, half of it is not served."""
    for statement in bookkeeping(layout):
        engine.execute(statement)
    _note(engine, _RESTORE, "restore", "begun")


def end_restore(engine: Engine) -> None:
    """The database is whole."""
    _note(engine, _RESTORE, "restore", _ENDED)


def _note(engine: Engine, number: int, name: str, sha256: str) -> None:
    row = {"number": [number], "name": [name], "sha256": [sha256]}
    engine.insert("migrations", pa.table(row, schema=_ROW))
