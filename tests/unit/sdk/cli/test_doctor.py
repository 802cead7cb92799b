"""`thalweg doctor`: each thing that can be wrong gives a finding that says so, and what to do."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import psutil
import pytest

from tests.support import spools
from tests.support.certificates import Certificates, make_certificates
from tests.unit.sdk.cli.canned_server import CannedServer
from tests.unit.sdk.cli.conftest import Command
from thalweg.api_client import ApiClient
from thalweg.cli.checks import disk
from thalweg.cli.checks.data import check_data
from thalweg.cli.checks.finding import Finding
from thalweg.cli.checks.ingest import check_ingest
from thalweg.cli.checks.server import check_server
from thalweg.cli.checks.settings import check_settings
from thalweg.cli.checks.spool import check_spool
from thalweg.cli.checks.token import check_token
from thalweg.settings import Settings
from thalweg.spool import layout
from thalweg.version import __version__

SECRET = "s3cr3t"


def settings(spool: Path | None = None, url: str = "http://127.0.0.1:1", **environ: str) -> Settings:
    """As a training would have them."""
    return Settings.read({"THALWEG_SPOOL_DIR": str(spool or "/nowhere"), "THALWEG_URL": url, **environ})


def states(findings: list[Finding]) -> list[tuple[str, str]]:
    """What matters of findings."""
    return [(one.check, one.state) for one in findings]


def only(findings: list[Finding], state: str) -> Finding:
    """The one finding of a state, which has a next step if anything is wrong."""
    (found,) = [one for one in findings if one.state == state]
    assert bool(found.then) == (state != "ok")
    return found


# -- settings


def test_settings_that_are_right() -> None:
    findings, read = check_settings({"THALWEG_PROJECT": "p", "PATH": "x"}, None)
    assert states(findings) == [("settings", "ok")]
    assert "THALWEG_PROJECT" in findings[0].told
    assert read.project == "p"


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"THALWEG_MODE": "onlin"}, "THALWEG_MODE='onlin'"),
        ({"THALWEG_URL": "tracker:7412"}, "THALWEG_URL='tracker:7412'"),
        ({"THALWEG_PROJECT": "a/b"}, "THALWEG_PROJECT='a/b'"),
        ({"THALWEG_RUN_ID": ".."}, "run_id='..'"),
        ({"RANK": "x"}, "RANK='x'"),
        ({"THALWEG_SPOOL_LIMIT_BYTES": "20GB"}, "THALWEG_SPOOL_LIMIT_BYTES='20GB'"),
        ({"THALWEG_SYSTEM_INTERVAL_S": "-1"}, "THALWEG_SYSTEM_INTERVAL_S='-1'"),
        ({"THALWEG_TOKEN": f"{SECRET} {SECRET}"}, "THALWEG_TOKEN='***'"),
    ],
)
def test_settings_that_cannot_be_used(environ: dict[str, str], told: str) -> None:
    """All of them are told, and the rest is checked with what is usual in their place. Never a token's text."""
    findings, _ = check_settings(environ, None)
    assert told in only(findings, "fail").told
    assert SECRET not in str(findings)
    both, _ = check_settings({**environ, "THALWEG_MODE": "no"}, None)
    assert "THALWEG_MODE" in str(both)


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"THALWEG_SPOOLDIR": "/x"}, "THALWEG_SPOOLDIR is set, which nothing reads"),
        ({"THALWEG_MODE": "offline"}, "runs are not sent"),
        ({"THALWEG_MODE": "disabled"}, "runs are not sent"),
        ({"THALWEG_TOKEN": SECRET, "THALWEG_URL": "http://tracker:7412"}, "without encryption"),
    ],
)
def test_settings_that_are_odd(environ: dict[str, str], told: str) -> None:
    findings, _ = check_settings(environ, None)
    assert told in only(findings, "warn").told
    assert SECRET not in str(findings)


# -- spool


class Mount(NamedTuple):
    """What psutil tells of one."""

    mountpoint: str
    fstype: str


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A disk of a usual kind with much room."""
    monkeypatch.setattr(disk, "filesystem", lambda folder: "ext4")
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1 << 50)
    return monkeypatch


def test_an_empty_spool(tmp_path: Path, local: pytest.MonkeyPatch) -> None:
    """There or not."""
    for folder in (tmp_path, tmp_path / "not" / "yet"):
        assert {state for _, state in states(check_spool(settings(folder)))} == {"ok"}
    assert not (tmp_path / "not").exists()


def test_a_spool_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is no folder" in only(check_spool(settings(tmp_path / "file")), "fail").told
    assert "is no folder" in only(check_spool(settings(tmp_path / "file" / "below")), "fail").told
    assert disk.write_problem(Path("/proc")) != ""


@pytest.mark.parametrize(
    ("kind", "state", "told"),
    [("nfs4", "warn", "network"), ("lustre", "warn", "network"), ("tmpfs", "warn", "memory"), ("xfs", "ok", "local")],
)
def test_the_kind_of_disk(tmp_path: Path, local: pytest.MonkeyPatch, kind: str, state: str, told: str) -> None:
    local.setattr(disk, "filesystem", lambda folder: kind)
    (finding,) = [one for one in check_spool(settings(tmp_path)) if f"({kind})" in one.told]
    assert (finding.state, told in finding.told) == (state, True)


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    mounts = [Mount("/", "ext4"), Mount(str(tmp_path / "a"), "nfs"), Mount(f"{tmp_path}/a/bb", "xfs")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    assert (disk.filesystem(place), disk.filesystem(tmp_path)) == ("nfs", "ext4")


@pytest.mark.parametrize(("free", "state"), [(1 << 20, "fail"), (5 << 30, "warn"), (21 << 30, "ok")])
def test_the_room(tmp_path: Path, local: pytest.MonkeyPatch, free: int, state: str) -> None:
    local.setattr(disk, "free_bytes", lambda folder: free)
    assert next(one.state for one in check_spool(settings(tmp_path)) if "are free" in one.told) == state


def a_writer(spool: Path, *, status: str = "", error: str = "", **fields: Any) -> Path:
    """A folder with a segment, and what its sender said last."""
    folder = spools.new_folder(spool, **fields)
    (folder / "00000001.seg").write_bytes(bytes(10_000))
    if status:
        (folder / layout.STATUS_FILE).write_text(json.dumps({"status": status, "error": error}))
    return folder


def test_what_waits_in_the_spool(tmp_path: Path, local: pytest.MonkeyPatch) -> None:
    """Left behind, refused, live and stuck, live and well: each is another finding."""
    a_writer(tmp_path, pid=0, process_started=0.0, mode="offline")
    a_writer(tmp_path, pid=0, process_started=0.0, run_id="bad", status="refused", error="no such parent")
    a_writer(tmp_path, status="waiting", error="cannot reach it")
    a_writer(tmp_path, status="connecting")
    before = sorted(tmp_path.rglob("*"))
    findings = check_spool(settings(tmp_path))
    refused = only(findings, "fail")
    assert "p/bad" in refused.told
    assert "no such parent" in refused.told
    warnings = {one.told: one.then for one in findings if one.state == "warn"}
    assert any("1 folder" in told and then.endswith("thalweg sync") for told, then in warnings.items())
    assert any("cannot reach it" in told for told in warnings)
    assert any(one.told.startswith("1 folder") and one.state == "ok" for one in findings)
    assert sorted(tmp_path.rglob("*")) == before, "looking changes nothing"


def test_quarantine_and_what_cannot_be_read(tmp_path: Path, local: pytest.MonkeyPatch) -> None:
    kept = tmp_path / layout.QUARANTINE_FOLDER / "w"
    kept.mkdir(parents=True)
    (kept / "00000001-00000000.bin").write_bytes(b"x")
    assert "1 damaged piece" in only(check_spool(settings(tmp_path)), "warn").told
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / layout.IDENTITY_FILE).write_text("{")
    assert [one for one in check_spool(settings(tmp_path)) if "cannot read" in one.told and one.state == "warn"]


# -- server


@contextmanager
def answering(
    status: int = 200,
    date: str | None = None,
    body: object = None,
    certificates: Certificates | None = None,
    **more: Any,
) -> Iterator[str]:
    """A server that says one thing to everybody, at some time; with `certificates` over TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = body if body is not None else {"status": "ok", "version": __version__, "grpc": None, **more}
            text = json.dumps(told).encode()
            self.send_response_only(status)
            if date:
                self.send_header("Date", date)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.certificate, certificates.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{'https' if certificates else 'http'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_is_well() -> None:
    with answering(date=formatdate(usegmt=True)) as url:
        answered = check_server(settings(url=url))
    assert states(answered.findings) == [("http", "ok"), ("version", "ok"), ("clock", "ok"), *[("token", "ok")] * 2]
    assert answered.health is not None


@pytest.mark.parametrize(
    ("date", "told"),
    [
        ("Thu, 01 Jan 2015 00:00:00 GMT", "ahead of the server's"),
        ("Fri, 01 Jan 2100 00:00:00 GMT", "behind the server's"),
    ],
)
def test_a_clock_that_differs(date: str, told: str) -> None:
    with answering(date=date) as url:
        assert told in only(check_server(settings(url=url)).findings, "warn").told


@pytest.mark.parametrize(("version", "state"), [("99.0.0", "warn"), (f"{__version__}.post1", "ok")])
def test_versions(version: str, state: str) -> None:
    with answering(body={"version": version}) as url:
        findings = check_server(settings(url=url)).findings
    assert next(one.state for one in findings if one.check == "version") == state


@pytest.mark.parametrize(
    ("status", "token", "told"),
    [
        (401, "", "THALWEG_TOKEN is not set"),
        (401, SECRET, "does not take this token"),
        (403, SECRET, "may not read project"),
    ],
)
def test_a_token_that_is_refused(status: int, token: str, told: str) -> None:
    with answering(status, body={"error": {"code": "x", "message": "no", "hint": ""}}) as url:
        findings = check_server(settings(url=url, THALWEG_TOKEN=token)).findings
    assert told in only(findings, "fail").told
    assert SECRET not in str(findings)


def test_a_server_that_cannot_tell_of_tokens(canned: CannedServer) -> None:
    """One from before that question: no failure, and what a read says is told as ever."""
    canned.answers["GET /projects/default/runs"] = lambda query: {"runs": [], "next_cursor": None}
    client = ApiClient(canned.url, SECRET)
    findings = check_token(client, settings(url=canned.url, THALWEG_TOKEN=SECRET), datetime.now(timezone.utc))
    assert canned.asked == ["GET /api/v1/token", "GET /api/v1/projects/default/runs?limit=1"]
    assert states(findings) == [("token", "ok")] * 2
    assert "cannot tell" in findings[0].told


def test_a_server_that_fails_to_tell_of_tokens(canned: CannedServer) -> None:
    canned.failing = 1
    found = only(check_token(ApiClient(canned.url), settings(url=canned.url), datetime.now(timezone.utc)), "fail")
    assert "the database is out of reach" in found.told


def a_free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def talking(words: bytes) -> Iterator[int]:
    """A port where something answers that is no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(100)
                peer.sendall(words)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_why_a_server_cannot_be_reached() -> None:
    """Name, port, TLS where there is none, something else on the port: each is said plainly."""
    port = a_free_port()
    assert f"nothing listens on 127.0.0.1:{port}" in fails(f"http://127.0.0.1:{port}")
    assert "no address is known for no-such-host.invalid" in fails("http://no-such-host.invalid:7412")
    with answering() as url:
        assert "no TLS with 127.0.0.1" in fails(url.replace("http://", "https://"))
    with talking(b"SSH-2.0-x\r\n") as port:
        assert "speaks no HTTP" in fails(f"http://127.0.0.1:{port}")
    with answering(body=["something else"]) as url:
        assert "not as a Thalweg server" in fails(url)
    with answering(404, body={"detail": "Not Found"}) as url:
        assert "not as a Thalweg server" in fails(url)


def test_a_certificate_that_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step is the setting that all of the SDK reads: with it, the server is reached."""
    certificates = make_certificates(tmp_path)
    with answering(certificates=certificates) as url:
        found = only(check_server(settings(url=url)).findings, "fail")
        assert "is not trusted" in found.told
        assert "with THALWEG_CA_FILE" in found.then
        monkeypatch.setenv("THALWEG_CA_FILE", str(certificates.authority))
        assert check_server(settings(url=url)).health is not None


def fails(url: str) -> str:
    """What is told of the only failure."""
    return only(check_server(settings(url=url)).findings, "fail").told


# -- ingest


class Words(grpc.GenericRpcHandler):
    """A gRPC server that knows the health service alone, and always says the same."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Its answer, as it is on the wire."""
        if self._answer is None or details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._answer)


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [(b"\x08\x01", "ok", "takes records in"), (b"\x08\x02", "warn", "is stopping"), (None, "ok", "answers")],
)
def test_the_ingest_answers(answer: bytes | None, state: str, told: str) -> None:
    """Serving, draining, or of a version that has no health service."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Words(answer)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        (finding,) = check_ingest(settings(), {"grpc": f"127.0.0.1:{port}"}, None)
    finally:
        server.stop(None).wait()
    assert (finding.state, told in finding.told) == (state, True)


def test_an_ingest_that_cannot_be_reached() -> None:
    port = a_free_port()
    (finding,) = check_ingest(settings(), None, f"127.0.0.1:{port}")
    assert (finding.state, finding.told) == ("fail", f"nothing listens on 127.0.0.1:{port}")
    (finding,) = check_ingest(settings(), {"grpc": None}, None)
    assert "names no address" in finding.told
    (finding,) = check_ingest(settings(url="http://tracker:7412"), {"grpc": "127.0.0.1:7411"}, None)
    assert "each sender's own host" in finding.told
    assert check_ingest(settings(), None, None) == []


# -- the folder of a database


def test_a_folder_of_a_database(tmp_path: Path, local: pytest.MonkeyPatch) -> None:
    """Not there yet; empty; closed; open in a process, whose lock stays as it is."""
    folder = tmp_path / "data"
    assert "not there yet" in check_data(folder)[0].told
    folder.mkdir(mode=0o700)
    assert [one.state for one in check_data(folder)] == ["ok"] * 4
    owner = folder / "owner.json"
    owner.write_text(json.dumps({"pid": 12345, "host": "here", "http": "http://127.0.0.1:7412"}))
    assert "no server has it open" in check_data(folder)[-1].told
    descriptor = os.open(owner, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    told = check_data(folder)[-1].told
    assert "process 12345 on here has it open, which serves http://127.0.0.1:7412" in told
    os.close(descriptor)
    folder.chmod(0o755)
    assert only(check_data(folder), "warn").then == f"chmod 700 {folder}"


@pytest.mark.parametrize(("free", "state"), [(1 << 20, "fail"), (5 << 30, "warn"), (50 << 30, "ok")])
def test_the_room_of_a_database(tmp_path: Path, local: pytest.MonkeyPatch, free: int, state: str) -> None:
    local.setattr(disk, "free_bytes", lambda folder: free)
    assert next(one.state for one in check_data(tmp_path) if "are free" in one.told) == state


def test_what_is_no_folder_of_a_database(tmp_path: Path, local: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert "is no folder" in only(check_data(tmp_path / "file"), "fail").told
    tmp_path.chmod(0o700)
    assert "no owner.json" in only(check_data(tmp_path), "warn").told


# -- the command


def test_as_json(canned: CannedServer, thalweg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document of findings; exit status 1 where one fails, as here: the server names no ingest."""
    monkeypatch.setenv("THALWEG_SPOOL_DIR", str(tmp_path))
    monkeypatch.setenv("THALWEG_TOKEN", SECRET)
    canned.answers["GET /health"] = lambda query: {"status": "ok", "version": __version__, "grpc": None}
    outcome = thalweg("doctor", "--json", "--data", str(tmp_path / "data"))
    assert (outcome.status, outcome.document["ok"]) == (1, False)
    findings = outcome.document["findings"]
    assert all(set(one) == {"check", "state", "told", "then"} for one in findings)
    assert [one["check"] for one in findings if one["state"] == "fail"] == ["grpc"]
    assert {"settings", "spool", "http", "version", "clock", "token", "grpc", "data"} == {
        one["check"] for one in findings
    }
    assert SECRET not in outcome.out + outcome.err


def test_for_people(canned: CannedServer, thalweg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State, subject, sentence; the next step below; how many at the end."""
    monkeypatch.setenv("THALWEG_SPOOL_DIR", str(tmp_path))
    outcome = thalweg("doctor", "--url", f"http://127.0.0.1:{a_free_port()}")
    assert outcome.status == 1
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("fail")]
    assert "  http      nothing listens on 127.0.0.1:" in line
    assert "-> Start the server" in outcome.out
    assert "1 failure, " in outcome.err


def test_a_bad_address_by_hand(thalweg: Command) -> None:
    """It is an error of the command, not a finding."""
    outcome = thalweg("doctor", "--url", "nonsense")
    assert (outcome.status, outcome.out) == (1, "")
    assert "nonsense" in outcome.err
