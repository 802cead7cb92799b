"""The server's commands as processes: what they refuse, what they print, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.cli import main
from thalweg.testing import ServerProcess, running_server

SECRET = "s3cr3t"


def thalweg(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "thalweg.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("up", "--http", "0.0.0.0:7412"), "or --auth tokens"),
        (("up", "--grpc", "192.168.1.1:7411"), "or --auth tokens"),
        (("up", "--grpc", "nonsense"), "--grpc='nonsense': wanted host:port"),
        (("up", "--ops", "nonsense"), "--ops='nonsense': wanted host:port"),
        (("up", "--log-format", "xml"), "'xml' is not one of 'text', 'json'"),
        (("up", "--data", f"clickhouse://u:{SECRET}@h/d"), "a folder"),
        (("ingest",), "--store"),
        (("ingest", "--store", "/some/folder"), "clickhouse://host:port/database"),
        (("api", "--store", f"http://u:{SECRET}@h/d"), "clickhouse://user:password@host:9000/database"),
        (("api", "--store", f"clickhouse://u:{SECRET}@h/d?x=1"), "--store"),
        (("ingest", "--store", f"clickhouse://u:{SECRET}@127.0.0.1:1/d"), "Connection refused (127.0.0.1:1)"),
        (("migrate", "--store", f"clickhouse://u:{SECRET}@127.0.0.1:1/d"), "Connection refused (127.0.0.1:1)"),
        (("migrate",), "--store or --data"),
        (("up", "--workers", "2"), "belongs to one process"),
        (("ingest", "--store", f"clickhouse://u:{SECRET}@h/d", "--workers", "0"), "--workers"),
        (
            ("api", "--store", f"clickhouse://u:{SECRET}@h/d", "--workers", "2", "--objects", "/some/folder"),
            "Keep them in s3://",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    """A clear message, no traceback, no password, an exit status that is not 0."""
    environment = {"HOME": str(tmp_path), "THALWEG_STORE": "", "THALWEG_DATA": ""}
    ended = CliRunner().invoke(main.thalweg, arguments, env=environment)
    assert ended.exit_code in (1, 2)
    assert isinstance(ended.exception, SystemExit)
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.output


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    """A second one names the first, and says what to do."""
    with running_server(tmp_path / "data") as server:
        ended = thalweg("up", "--data", str(tmp_path / "data"), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
        assert ended.returncode == 1
        for told in (str(server.process.pid), server.url, "Stop that process first"):
            assert told in ended.stderr
        assert "Traceback" not in ended.stderr


def test_why_it_cannot_start_in_json(tmp_path: Path) -> None:
    """Also the last line of a log is what a reader of that log can read."""
    (tmp_path / "file").write_text("")
    ended = thalweg("up", "--data", str(tmp_path / "file" / "data"), THALWEG_LOG_FORMAT="json")
    line = json.loads(ended.stderr)
    assert (ended.returncode, line["level"]) == (1, "CRITICAL")
    assert str(tmp_path / "file" / "data") in line["message"]


@pytest.mark.parametrize("what", ["http", "grpc", "ops"])
def test_an_address_has_one_server(tmp_path: Path, what: str) -> None:
    """The address that is taken is named."""
    with running_server(tmp_path / "one") as server:
        taken = server.grpc if what == "grpc" else server.url.removeprefix("http://")
        addresses = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"} | {what: taken}
        arguments = [f"--{name}={address}" for name, address in addresses.items()]
        ended = thalweg("up", "--data", str(tmp_path / "two"), *arguments)
        assert (ended.returncode, f"--{what}='{taken}'" in ended.stderr, "free" in ended.stderr) == (1, True, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(tmp_path: Path, number: signal.Signals) -> None:
    """Exit status 0, and nothing on standard error but its log."""
    server = ServerProcess(tmp_path / "data")
    server.process.send_signal(number)
    assert server.process.wait(60) == 0
    server.stop()
    assert "Traceback" not in server.log.read_text()


def test_what_it_prints(tmp_path: Path) -> None:
    """For programs one line of JSON; for people where it listens, and a word at the end."""
    with running_server(tmp_path / "data") as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert not server.grpc.endswith(":0")
    addresses = ["--http=127.0.0.1:0", "--grpc=127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-m", "thalweg.cli.main", "up", "--data", str(tmp_path / "data"), *addresses],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        head = [process.stdout.readline() for _ in range(6)]
        process.terminate()
        rest = process.stdout.read()
    assert head[0] == "thalweg is up\n"
    assert "http    http://127.0.0.1:" in head[1]
    assert str(tmp_path / "data") in "".join(head)
    assert rest == "thalweg: stopped\n"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in its place: one line that names it."""
    (tmp_path / "file").write_text("")
    ended = thalweg("up", "--data", str(tmp_path / "file" / "data"))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert str(tmp_path / "file" / "data") in ended.stderr


def test_migrate_in_dry_run_changes_nothing(tmp_path: Path) -> None:
    """It prints the SQL that is pending; then the same is applied, then nothing is left."""
    arguments = ("migrate", "--data", str(tmp_path / "data"))
    dry = thalweg(*arguments, "--dry-run")
    assert dry.returncode == 0
    assert "-- 0001_initial" in dry.stdout
    assert "CREATE TABLE points" in dry.stdout
    assert json.loads(thalweg(*arguments, "--dry-run", "--json").stdout)["pending"][0] == "0001_initial"
    assert json.loads(thalweg(*arguments, "--json").stdout)["applied"][0] == "0001_initial"
    assert thalweg(*arguments).stdout == "The schema is up to date.\n"
