"""ClickHouse servers: are their hosts there, may the user do what the roles do, is the schema this version's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Final

from thalweg_tracker.cli.checks.finding import FAIL, OK, WARN, Finding
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.failures import has_no_database
from thalweg_tracker.engine.hosts import Host
from thalweg_tracker.engine.literals import quote_identifier
from thalweg_tracker.engine.migrate import applied, pending, shipped
from thalweg_tracker.engine.server import ServerEngine
from thalweg_tracker.errors import EngineBusyError, EngineError, TrackerError
from thalweg_tracker.model.settings import Address, EmbeddedStore, ServerStore, parse_store

CHECK: Final = "store"
_MIGRATE: Final = "Run `thalweg migrate --store URL` with the same URL."
_RIGHTS: Final = ("SELECT", "INSERT", "ALTER", "CREATE")
_SYNTAX_ERROR: Final = 62
_BAD_LOGIN: Final = frozenset({192, 193, 516})
_ACCESS_DENIED: Final = 497


def check_store(key: str, text: str) -> list[Finding]:
    """Findings on the store that a URL names; changes nothing. `key`: the option or variable that has it."""
    try:
        store = parse_store(key, text)
    except TrackerError as error:
        return [Finding(CHECK, FAIL, str(error), f"Correct {key}.")]
    if isinstance(store, EmbeddedStore):
        return [Finding(CHECK, WARN, f"{key} is a folder: {store}", "Look at it with --data, on the server's host.")]
    looked = {host: _host(store, host) for host in store.hosts}
    there = tuple(host for host, found in looked.items() if found.state == OK)
    findings = list(looked.values())
    return [*findings, *_database(replace(store, hosts=there))] if there else findings


def _host(store: ServerStore, host: Host) -> Finding:
    place = str(Address(*host))
    try:
        with closing(ServerEngine(replace(store, hosts=(host,), cluster=None), makes_database=False)) as engine:
            (version,) = engine.query("SELECT version() AS version")["version"].to_pylist()
    except TrackerError as error:
        if isinstance(error, EngineError) and has_no_database(error):
            return Finding(CHECK, OK, f"{place} answers")
        return _failed(f"cannot use {place}", store, error)
    return Finding(CHECK, OK, f"{place} answers: ClickHouse {version}")


def _database(store: ServerStore) -> list[Finding]:
    """Of hosts that answer: the schema, and what the user may do."""
    try:
        with closing(ServerEngine(store, makes_database=False)) as engine:
            return [_schema(engine), *_rights(engine, store)]
    except TrackerError as error:
        if isinstance(error, EngineError) and has_no_database(error):
            told = f"there is no database {store.database}, or {store.user} may not see it"
            return [Finding(CHECK, FAIL, told, _MIGRATE)]
        return [_failed(f"cannot use {store}", store, error)]


def _schema(engine: Engine) -> Finding:
    """Raises EngineError where the database is of no version."""
    has, newest = max(applied(engine), default=0), max(one.number for one in shipped())
    if has > newest:
        told = f"the schema is newer than this version: {has}, and not {newest}"
        return Finding(CHECK, FAIL, told, "Upgrade thalweg on this host.")
    if todo := pending(engine):
        names = ", ".join(f"{one.number:04d}_{one.name}" for one in todo)
        return Finding(CHECK, FAIL, f"the schema is older than this version: it lacks {names}", _MIGRATE)
    return Finding(CHECK, OK, f"the schema is this version's: {has}")


def _rights(engine: Engine, store: ServerStore) -> Iterator[Finding]:
    database = quote_identifier(store.database)
    for right in _RIGHTS:
        try:
            (has,) = engine.query(f"CHECK GRANT {right} ON {database}.*").column(0).to_pylist()
        except EngineError as error:
            if error.code == _SYNTAX_ERROR:  # ClickHouse before 24.11, which cannot be asked
                return
            raise
        if not has:
            told = f"{store.user} may not {right} on {store.database}"
            yield Finding(CHECK, FAIL, told, f"GRANT {right} ON {database}.* TO {store.user}")


def _failed(what: str, store: ServerStore, error: TrackerError) -> Finding:
    code = error.code if isinstance(error, EngineError) else 0
    if code in _BAD_LOGIN:
        then = "Correct user and password in the URL: what it cannot hold is percent-encoded."
    elif code == _ACCESS_DENIED:
        then = f"GRANT {', '.join(_RIGHTS)}, SHOW ON {quote_identifier(store.database)}.* TO {store.user}"
    elif isinstance(error, EngineBusyError):
        then = "Start it, or correct its address: without secure=true the port is 9000, with it 9440."
    else:
        then = "Mend that, or name another store."
    return Finding(CHECK, FAIL, f"{what}: {error}", then)
