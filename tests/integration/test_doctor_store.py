"""`thalweg doctor` on ClickHouse servers, over the native protocol: hosts, schema, rights, and how it is called."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.support.clickhouse_server import RunningServer
from tests.support.engines import opened, server_store
from tests.support.scripted_engine import ScriptedEngine
from thalweg_tracker.cli.checks import store as store_module
from thalweg_tracker.cli.checks.finding import Finding
from thalweg_tracker.cli.checks.store import check_store
from thalweg_tracker.engine.migrate import apply, migrate, shipped
from thalweg_tracker.errors import EngineBusyError, EngineError

ROOT = Path(__file__).parents[2]
ROW = pa.schema([("number", pa.uint32()), ("name", pa.string()), ("sha256", pa.string())])
SECRET = "s3cr3t"
CHECKS = {
    "settings": "thalweg_tracker.cli.checks.settings:check_settings",
    "store": "thalweg_tracker.cli.checks.store:check_store",
}


def url(running: RunningServer, database: str, *more: int) -> str:
    """Of all listeners, and of more ports."""
    hosts = ",".join(f"127.0.0.1:{port}" for port in (*more, *running.ports))
    return f"clickhouse://default:{SECRET}@{hosts}/{database}"


def look(text: str) -> list[Finding]:
    """Each that is not well says what to do; none tells the password."""
    findings = check_store("--store", text)
    assert all(bool(one.then) == (one.state != "ok") for one in findings)
    assert SECRET not in str(findings)
    return findings


@pytest.fixture(scope="module")
def server(clickhouse: RunningServer) -> RunningServer:
    """With the database `doctor_well`, whose schema is this version's."""
    with opened(server_store(clickhouse, "doctor_well")) as engine:
        migrate(engine)
    return clickhouse


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Nobody listens there."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


def test_a_store_that_is_well(server: RunningServer) -> None:
    """The version of the host, and the number of the schema."""
    host, schema = look(url(server, "doctor_well"))
    assert host.told.startswith(f"127.0.0.1:{server.ports[0]} answers: ClickHouse 2")
    assert (schema.state, schema.told) == ("ok", f"the schema is this version's: {shipped()[-1].number}")


def test_a_host_that_is_away(server: RunningServer, closed_port: int) -> None:
    """It is named; the others are looked at all the same. With none left nothing is said of the schema."""
    away, there, schema = look(url(server, "doctor_well", closed_port))
    assert (away.state, there.state, schema.state) == ("fail", "ok", "ok")
    assert f"cannot use 127.0.0.1:{closed_port}: " in away.told
    assert "the port is 9000" in away.then
    (alone,) = look(f"clickhouse://u:{SECRET}@127.0.0.1:{closed_port}/x")
    assert alone.state == "fail"


def test_a_database_that_is_not_there(server: RunningServer) -> None:
    """It is not made."""
    for _ in range(2):
        host, database = look(url(server, "doctor_none"))
        assert (host.state, database.state) == ("ok", "fail")
        assert database.told == "there is no database doctor_none, or default may not see it"
        assert "thalweg migrate --store URL" in database.then


def test_an_older_schema(server: RunningServer) -> None:
    """What it lacks, and the command; nothing is applied."""
    with opened(server_store(server, "doctor_older")) as engine:
        apply(engine, shipped()[:-1])
    for _ in range(2):
        _, schema = look(url(server, "doctor_older"))
        last = shipped()[-1]
        assert schema.told == f"the schema is older than this version: it lacks {last.number:04d}_{last.name}"
        assert schema.then == "Run `thalweg migrate --store URL` with the same URL."


def test_a_newer_schema(server: RunningServer) -> None:
    with opened(server_store(server, "doctor_newer")) as engine:
        migrate(engine)
        engine.insert("migrations", pa.table({"number": [999], "name": ["later"], "sha256": ["x"]}, schema=ROW))
    _, schema = look(url(server, "doctor_newer"))
    assert schema.told == f"the schema is newer than this version: 999, and not {shipped()[-1].number}"
    assert schema.then == "Upgrade thalweg on this host."


def test_a_schema_of_nobody(server: RunningServer) -> None:
    """A migration of the same number and another text."""
    with opened(server_store(server, "doctor_other")) as engine:
        migrate(engine)
        engine.insert("migrations", pa.table({"number": [1], "name": ["other"], "sha256": ["x"]}, schema=ROW))
    _, schema = look(url(server, "doctor_other"))
    assert (schema.state, "migration 1 is not that of this version" in schema.told) == ("fail", True)


def test_a_cluster_that_clickhouse_does_not_know(server: RunningServer) -> None:
    host, cluster = look(url(server, "doctor_well") + "?cluster=nobodys")
    assert (host.state, cluster.state) == ("ok", "fail")
    assert "cannot use the cluster nobodys" in cluster.told


def test_rights_that_are_missing() -> None:
    """Each is told with the statement that grants it; an older ClickHouse cannot be asked."""
    store = server_store(RunningServer(None, (9000,)), "thalweg")  # type: ignore[arg-type]  # no process is needed
    answer = pa.table({"result": [1]})
    denied = ScriptedEngine(answer=answer, answers={"GRANT INSERT": pa.table({"result": [0]})})
    (found,) = store_module._rights(denied, store)
    assert found.told == "default may not INSERT on thalweg"
    assert found.then == "GRANT INSERT ON `thalweg`.* TO default"
    assert list(store_module._rights(ScriptedEngine(error=EngineError("syntax", 62)), store)) == []


@pytest.mark.parametrize(
    ("error", "then"),
    [
        (EngineError("Authentication failed", 516), "Correct user and password"),
        (EngineError("Not enough privileges", 497), "GRANT SELECT, INSERT, ALTER, CREATE, SHOW ON `thalweg`.* TO "),
        (EngineBusyError("Connection refused", 210), "Start it"),
        (EngineError("else", 1), "Mend that"),
    ],
)
def test_why_a_host_cannot_be_used(error: EngineError, then: str) -> None:
    store = server_store(RunningServer(None, (9000,)), "thalweg")  # type: ignore[arg-type]  # no process is needed
    assert then in store_module._failed("cannot use it", store, error).then


@pytest.mark.parametrize(
    ("text", "state", "told"),
    [
        (f"http://u:{SECRET}@h/d", "fail", "clickhouse://user:password@host:9000/database"),
        ("/some/folder", "warn", "--store is a folder"),
    ],
)
def test_what_is_no_store_of_servers(text: str, state: str, told: str) -> None:
    (found,) = look(text)
    assert (found.state, told in found.told) == (state, True)


def doctor(folder: Path, *arguments: str, **variables: str) -> dict[str, list[tuple[str, str]]]:
    """State and words of the findings of the command, by what was checked, with the checks of pyproject.toml."""
    metadata = folder / "checks-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: checks\nVersion: 1.0\n")
    lines = [f"{name} = {place}" for name, place in CHECKS.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[thalweg.checks]", *lines]) + "\n")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    line = [sys.executable, "-m", "thalweg.cli.main", "doctor", "--json", *arguments]
    environment = {**os.environ, "PYTHONPATH": path, "THALWEG_SPOOL_DIR": str(folder / "spool"), **variables}
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.stderr == ""
    assert SECRET not in done.stdout
    found: dict[str, list[tuple[str, str]]] = {}
    for one in json.loads(done.stdout)["findings"]:
        found.setdefault(one["check"], []).append((one["state"], one["told"]))
    return found


def test_the_checks_are_those_of_the_package() -> None:
    """So the command finds them where it is installed."""
    text = (ROOT / "pyproject.toml").read_text()
    assert all(f'\n{name} = "{place}"\n' in text for name, place in CHECKS.items())


def test_the_command(server: RunningServer, tmp_path: Path) -> None:
    """With the option, and with the variable; the server's settings are read by the server's own code."""
    store = url(server, "doctor_well")
    by_option = doctor(tmp_path, "--store", store, THALWEG_LIMIT_STREAMS="x", THALWEG_TLS_KEY="/no/such.pem")
    assert [state for state, _ in by_option["store"]] == ["ok", "ok"]
    told = [text for state, text in by_option["settings"] if state == "fail"]
    assert any("THALWEG_LIMIT_STREAMS='x'" in text for text in told)
    assert any("THALWEG_TLS_CERT" in text for text in told)
    by_variable = doctor(tmp_path, THALWEG_STORE=store)
    assert by_variable["store"] == by_option["store"]
    assert ("ok", "set for the server: THALWEG_STORE") in by_variable["settings"]
    assert "store" not in doctor(tmp_path)
