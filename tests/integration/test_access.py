"""Attempts to get at what a token is not good for, over HTTP and gRPC: each refused, and with nothing told by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.support import wire
from tests.support.access import NOBODYS, OURS, World, series, two_projects
from tests.support.tracker import tracking
from thalweg.testing import ServerProcess, running_server

PAGE = "https://page.example"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """See two_projects."""
    with two_projects(tmp_path_factory.mktemp("access") / "data", "--cors-origins", PAGE) as world:
        yield world


# -- tokens that are none


def bad_headers(world: World) -> dict[str, dict[str, str]]:
    """Headers with which nobody comes in."""
    revoked = world.guarded.make("read", OURS)
    world.ask("DELETE", f"/tokens/{revoked['id']}", world.guarded.admin).raise_for_status()
    return {
        "none": {},
        "empty": {"Authorization": ""},
        "no scheme": {"Authorization": world.read},
        "another scheme": {"Authorization": f"Basic {world.read}"},
        "wrong": {"Authorization": "Bearer thalweg_0000000000000000000000000000000000000000000"},
        "cut": {"Authorization": f"Bearer {world.read[:-1]}"},
        "longer": {"Authorization": f"Bearer {world.read}x"},
        "very long": {"Authorization": f"Bearer {'x' * 20_000}"},
        "revoked": {"Authorization": f"Bearer {revoked['token']}"},
        "no ASCII": {"Authorization": "Bearer \u00e9\u00e9"},
    }


def test_without_a_good_token_everything_is_refused_alike(world: World) -> None:
    """One answer, whatever is wrong with the token, and whether or not there is what was asked for."""
    base = world.guarded.server.url
    answers = set()
    for headers in bad_headers(world).values():
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        for path in (f"/projects/{OURS}/runs/run", f"/projects/{NOBODYS}/runs/none", "/projects", "/tokens", "/audit"):
            found = httpx.get(f"{base}/api/v1{path}", headers=raw)
            answers.add((found.status_code, found.text, found.headers.get("www-authenticate")))
        found = httpx.post(f"{base}/api/v1/projects/{OURS}/series", headers=raw, content=b"{no json")
        answers.add((found.status_code, found.text, found.headers.get("www-authenticate")))
    assert len(answers) == 1, answers
    ((status, text, scheme),) = answers
    assert (status, scheme) == (401, 'Bearer realm="thalweg"')
    assert "unauthenticated" in text


def test_an_expired_token_is_refused(world: World) -> None:
    """It was good: what it did before stands in its way of nothing."""
    made = world.guarded.make("read", OURS, expires_s=0.001)
    answer = world.ask("GET", f"/projects/{OURS}/runs", made["token"])
    assert answer.status_code == 401
    (line,) = [
        one for one in world.ask("GET", "/tokens", world.guarded.admin).json()["tokens"] if one["id"] == made["id"]
    ]
    assert line["state"] == "expired"


def test_a_malformed_header_is_no_request(world: World) -> None:
    """Control characters, and headers without end: the connection is closed, and the server goes on."""
    base = world.guarded.server.url
    broken = httpx.get(f"{base}/api/v1/projects", headers=[(b"Authorization", b"Bearer \x01\x7f")])
    assert broken.status_code == 400
    answer: httpx.Response | None = None
    with suppress(httpx.TransportError):
        answer = httpx.get(f"{base}/api/v1/projects", headers=[(b"Authorization", b"Bearer " + b"x" * (1 << 20))])
    assert answer is None or answer.status_code in (400, 401, 431)
    assert world.ask("GET", "/projects", world.read).status_code == 200


@pytest.mark.parametrize("token", [None, "wrong", "thalweg_" + "0" * 43, "x" * 5000])
def test_grpc_without_a_good_token(world: World, token: str | None) -> None:
    """Refused before the greeting is looked at."""
    for greeting in (wire.hello("run", project=OURS), wire.hello("new", project=NOBODYS), None):
        with wire.writing(world.guarded.server.grpc, greeting, token) as stream:
            code, details = stream.ending()
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert "token is needed" in details


def test_grpc_with_a_token_that_was_good(world: World) -> None:
    """Expired or revoked, a new stream is told what one without a token is told."""
    expired = world.guarded.token("write", OURS, expires_s=0.001)
    revoked = world.guarded.make("write", OURS)
    world.ask("DELETE", f"/tokens/{revoked['id']}", world.guarded.admin).raise_for_status()
    endings = set()
    for token in (None, expired, revoked["token"]):
        with wire.writing(world.guarded.server.grpc, wire.hello("run", project=OURS), token) as stream:
            endings.add(stream.ending())
    ((code, details),) = endings
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "token is needed" in details


def test_grpc_with_a_header_without_end(world: World) -> None:
    """What is far too long is refused before it is a token, and the server goes on."""
    with wire.writing(world.guarded.server.grpc, wire.hello("run", project=OURS), "x" * (1 << 20)) as stream:
        code, _ = stream.ending()
    assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAUTHENTICATED)
    with wire.writing(world.guarded.server.grpc, wire.hello("after", writer=40, project=OURS), world.write) as stream:
        assert stream.commit(wire.batch(1, ["loss"], [1], [[1.0]])) == []


def test_grpc_with_a_malformed_header(world: World) -> None:
    """Two tokens are none, even where both are good."""
    metadata = [("authorization", f"Bearer {world.write}")] * 2
    with wire.writing(world.guarded.server.grpc, None, None) as stream:
        assert stream.ending()[0] is grpc.StatusCode.UNAUTHENTICATED
    with grpc.insecure_channel(world.guarded.server.grpc) as channel:
        call = channel.stream_stream("/thalweg.wire.v1.Ingest/Stream")(iter([]), metadata=metadata, timeout=60)
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.code() is grpc.StatusCode.UNAUTHENTICATED


# -- a role that is too low


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/runs/run/fork", {"step": 1}),
        ("POST", "/runs/run/rewind", {"step": 1, "attempt": "a"}),
        ("PUT", "/custom-metrics/f1", {"expression": "loss"}),
        ("DELETE", "/custom-metrics/f1", None),
        ("POST", "/runs/run/checkpoints/prune", {"keep_last": 1}),
        ("POST", "/runs/run/checkpoints/verify", {}),
        ("POST", "/runs/run/uploads", {}),
        ("POST", "/runs/run/uploads/complete", {}),
        ("POST", "/runs/run/uploads/abort", {}),
    ],
)
def test_reading_is_not_writing(world: World, method: str, path: str, body: dict[str, Any] | None) -> None:
    """Refused before the body is looked at, whether or not the run is there."""
    for run in ("run", "none"):
        answer = world.ask(method, f"/projects/{OURS}{path.replace('/run/', f'/{run}/')}", world.read, json=body)
        assert answer.status_code == 403, answer.text
        assert answer.json()["error"]["code"] == "forbidden"


def test_reading_is_not_logging(world: World) -> None:
    """The same over gRPC, and the run is as it was."""
    with wire.writing(world.guarded.server.grpc, wire.hello("run", writer=9, project=OURS), world.read) as stream:
        code, _ = stream.ending()
    assert code is grpc.StatusCode.PERMISSION_DENIED
    answer = world.ask("POST", f"/projects/{OURS}/series", world.read, json=series())
    assert answer.json()["series"][0]["value"] == [0.5, 0.25]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tokens"),
        ("POST", "/tokens"),
        ("DELETE", "/tokens/tk-000000000000"),
        ("GET", "/audit"),
        ("DELETE", f"/projects/{OURS}"),
        ("DELETE", f"/projects/{OURS}/runs/run"),
        ("DELETE", f"/projects/{OURS}/runs/none"),
        ("POST", f"/projects/{OURS}/runs/run/undelete"),
        ("GET", f"/admin/projects/{OURS}/retention"),
        ("PUT", f"/admin/projects/{OURS}/retention"),
        ("POST", "/admin/backups"),
        ("GET", "/admin/backups/last"),
        ("DELETE", "/admin/backups/none"),
    ],
)
def test_writing_is_not_administrating(world: World, method: str, path: str) -> None:
    """Neither tokens, nor what administrators did, nor what can be lost: refused before a body is looked at."""
    for token in (world.read, world.write):
        answer = world.ask(method, path, token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), answer.text
    assert world.ask("GET", f"/projects/{OURS}/runs/run", world.read).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/audit"), ("POST", "/admin/backups"), ("GET", "/admin/backups/last"), ("DELETE", "/admin/backups/none")],
)
def test_a_project_is_not_the_server(world: World, method: str, path: str) -> None:
    """What belongs to all of it is not for the administrator of a project, nor for a writer of all projects."""
    for token in (world.project_admin, world.guarded.token("write")):
        answer = world.ask(method, path, token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), answer.text


# -- what is under way when a token is revoked


def test_a_revoked_writer_is_stopped_and_loses_nothing_that_was_acknowledged(world: World) -> None:
    """The next batch is refused: it stays with the sender."""
    made = world.guarded.make("write", OURS)
    with wire.writing(world.guarded.server.grpc, wire.hello("cut", writer=20, project=OURS), made["token"]) as stream:
        assert stream.commit(wire.batch(1, ["loss"], [1], [[1.0]])) == []
        world.ask("DELETE", f"/tokens/{made['id']}", world.guarded.admin).raise_for_status()
        stream.send(wire.batch(2, ["loss"], [2], [[2.0]]))
        assert stream.ending()[0] is grpc.StatusCode.UNAUTHENTICATED
    answer = world.ask("POST", f"/projects/{OURS}/series", world.read, json=series("cut"))
    assert answer.json()["series"][0]["value"] == [1.0]


def test_a_revoked_listener_gets_no_more(world: World) -> None:
    """The live stream is cut off at the next event, which it does not get."""
    made = world.guarded.make("read", OURS)
    url = f"{world.guarded.server.url}/api/v1/projects/{OURS}/live"
    headers = {"Authorization": f"Bearer {made['token']}"}
    told: list[str] = []
    with httpx.stream(
        "GET", url, params={"runs": "run", "metrics": "loss", "from_now": "false"}, headers=headers, timeout=60
    ) as answer:
        lines = answer.iter_lines()
        for line in lines:
            told.append(line)
            if "0.25" in line:
                break
        world.ask("DELETE", f"/tokens/{made['id']}", world.guarded.admin).raise_for_status()
        world.guarded.log(OURS, "run", {3: 0.125}, writer=21)
        with pytest.raises(httpx.RemoteProtocolError):
            told.extend(lines)
    assert "0.125" not in "".join(told)


def test_a_revoked_writer_that_says_nothing_gives_its_place_up(world: World) -> None:
    """Its stream is ended though no batch comes."""
    made = world.guarded.make("write", OURS, limits={"streams": 1})
    with wire.writing(world.guarded.server.grpc, wire.hello("idle", writer=30, project=OURS), made["token"]) as stream:
        assert stream.commit(wire.batch(1, ["loss"], [1], [[1.0]])) == []
        world.ask("DELETE", f"/tokens/{made['id']}", world.guarded.admin).raise_for_status()
        assert stream.ending()[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_may_end_itself(world: World) -> None:
    """With a whole answer; the next request is refused."""
    made = world.guarded.make("admin", OURS)
    answer = world.ask("DELETE", f"/tokens/{made['id']}", made["token"])
    assert (answer.status_code, answer.json()["state"]) == (200, "revoked")
    assert world.ask("GET", "/projects", made["token"]).status_code == 401


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("HEAD", "/projects", 405)])
def test_what_is_no_route(world: World, method: str, path: str, status: int) -> None:
    """Is answered as that, to whoever has a token."""
    assert world.ask(method, path, world.read).status_code == status
    assert world.ask(method, path, None).status_code == 401


# -- what is written down


def test_administration_is_written_down(world: World) -> None:
    """Who, from where, what, and what became of it; neither tokens nor bodies."""
    made = world.guarded.make("read", OURS, name="audited")
    world.ask("DELETE", f"/tokens/{made['id']}", world.project_admin).raise_for_status()
    found = world.ask("GET", "/audit?limit=2", world.guarded.admin)
    revoked, created = found.json()["entries"]
    assert (created["actor"], created["action"], created["status"]) == ("initial", "POST", 201)
    assert created["path"] == f"/api/v1/tokens -> {made['id']} read {OURS}"
    assert (revoked["action"], revoked["path"], revoked["status"]) == ("DELETE", f"/api/v1/tokens/{made['id']}", 200)
    assert revoked["actor"].startswith("tk-")
    assert revoked["address"] == "127.0.0.1"
    assert made["token"] not in found.text
    assert world.ask("POST", "/tokens", world.write, json={"role": "read"}).status_code == 403
    (refused,) = world.ask("GET", "/audit?limit=1", world.guarded.admin).json()["entries"]
    assert (refused["path"], refused["status"]) == ("/api/v1/tokens", 403)


def test_nothing_that_is_secret_is_logged(world: World) -> None:
    """Neither the tokens that were used, nor those that were tried."""
    tried = "thalweg_tried_and_refused_0123456789abcdefghij"
    world.ask("GET", "/projects", tried)
    with wire.writing(world.guarded.server.grpc, wire.hello("run", project=OURS), tried) as stream:
        stream.ending()
    logged = world.guarded.server.log.read_text()
    assert "audit: POST /api/v1/tokens -> tk-" in logged
    for secret in (world.guarded.admin, world.read, world.write, world.project_admin, tried):
        assert secret not in logged


# -- what is there without a token


def test_what_needs_no_token(world: World) -> None:
    """That the server is there, and its documentation."""
    for path in ("/api/v1/health", "/api/v1/openapi.json", "/docs"):
        assert world.ask("GET", f"{world.guarded.server.url}{path}", None).status_code == 200


def test_headers_for_browsers(world: World) -> None:
    """On answers and on refusals; no page of another origin may read either."""
    for token in (world.read, None):
        headers = world.ask("GET", "/projects", token, headers={"Origin": "https://evil.example"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "access-control-allow-origin" not in headers


def test_pages_that_were_named_may_ask(world: World) -> None:
    """A browser's question before is answered without a token, and for them alone; the answer still needs one."""
    url = f"{world.guarded.server.url}/api/v1/projects"
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    allowed = httpx.options(url, headers={"Origin": PAGE, **asked})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "access-control-allow-credentials" not in allowed.headers
    other = httpx.options(url, headers={"Origin": "https://evil.example", **asked})
    assert "access-control-allow-origin" not in other.headers
    read = world.ask("GET", "/projects", world.read, headers={"Origin": PAGE})
    assert (read.status_code, read.headers["access-control-allow-origin"]) == (200, PAGE)
    assert world.ask("GET", "/projects", None, headers={"Origin": PAGE}).status_code == 401


# -- servers that ask for no token


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for this machine alone."""
    with running_server(tmp_path_factory.mktemp("open") / "data") as server:
        yield server


@pytest.mark.parametrize(
    "host", ["[", "evil.example", "evil.example:80", "169.254.169.254", "127.0.0.1.evil.example", ""]
)
def test_a_name_of_elsewhere_does_not_lead_here(unguarded: ServerProcess, host: str) -> None:
    """A web page whose name leads to this machine reads nothing (DNS rebinding)."""
    answer = httpx.get(f"{unguarded.url}/api/v1/projects", headers={"Host": host})
    assert answer.status_code in (400, 403)
    assert httpx.get(f"{unguarded.url}/api/v1/projects", headers={"Host": "localhost:7412"}).status_code == 200


def test_a_page_of_elsewhere_writes_nothing(unguarded: ServerProcess) -> None:
    """Neither by a form nor by a script; a page of this machine may."""
    url = f"{unguarded.url}/api/v1/tokens"
    for origin in ("https://evil.example", "null"):
        answer = httpx.post(url, json={"role": "admin"}, headers={"Origin": origin})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "from_elsewhere"
    assert httpx.post(url, json={"role": "read"}, headers={"Origin": "http://localhost:3000"}).status_code == 201


def test_a_network_without_tokens_is_refused(tmp_path: Path) -> None:
    """Before anything is opened, with what to do about it."""
    for option in ("--http", "--grpc"):
        places = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", option[2:]: "0.0.0.0:0"}
        with pytest.raises(RuntimeError, match="--auth tokens"):
            ServerProcess(tmp_path / "data", log=tmp_path / "log", **places)
    assert not (tmp_path / "data").exists()


def test_the_first_start_leaves_a_token_in_a_file(tmp_path: Path) -> None:
    """Only its owner may read it; the second start leaves it as it is."""
    for _ in range(2):
        with running_server(tmp_path / "data", "--auth", "tokens") as server:
            path = tmp_path / "data" / "admin-token"
            assert path.stat().st_mode & 0o777 == 0o600
            token = path.read_text().strip()
            answer = httpx.get(f"{server.url}/api/v1/tokens", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
            assert len(answer.json()["tokens"]) == 1
            assert token not in server.log.read_text()


def test_many_garbage_tokens_cost_the_database_nothing(world: World) -> None:
    """They are answered from memory: a good one is as quick among them."""
    with httpx.Client(base_url=world.guarded.server.url) as client:
        statuses = {
            client.get("/api/v1/projects", headers={"Authorization": f"Bearer x{number}"}).status_code
            for number in range(200)
        }
    assert statuses == {401}
    assert world.ask("GET", "/projects", world.read).status_code == 200


def test_threads_of_one_token(world: World) -> None:
    """Admission holds no lock that would let one request wait for another."""
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(world.ask("GET", "/projects", world.read).status_code))
        for _ in range(16)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert statuses == [200] * 16


def test_the_tracker_of_tests_asks_for_nothing(tmp_path: Path) -> None:
    """The default stays what it was: on this machine no token is needed, and a wrong one does no harm."""
    with tracking(tmp_path / "data") as tracker:
        assert tracker.http.get("/projects").status_code == 200
        assert tracker.http.get("/projects", headers={"Authorization": "Bearer x"}).status_code == 200
