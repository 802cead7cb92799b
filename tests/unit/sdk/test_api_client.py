"""The client of the HTTP API against a server whose answers are scripted byte by byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from thalweg.api_client import ApiClient, run_path, segment
from thalweg.errors import NotFoundError, ServerError


class Script:
    """Answers to give, in order: each the bytes after the connection is made. `requests` are those that came."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""


@contextmanager
def playing(script: Script) -> Iterator[ApiClient]:
    """A client of a server that plays a script."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            script.requests.append((self.command, self.path, dict(self.headers), body))
            self.wfile.write(script.answers.pop(0))
            self.close_connection = True

        do_POST = do_PUT = do_DELETE = do_GET

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield ApiClient(script.url, "secret", timeout_s=30)
        finally:
            server.shutdown()
            thread.join()


def answer(body: bytes | object, status: str = "200 OK", length: int | None = None) -> bytes:
    """A whole HTTP answer; `length` instead of the true one."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = len(content) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + content


def chunked(*chunks: bytes, end: bool = True) -> bytes:
    """An HTTP answer in chunks; without `end` it breaks off."""
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks]
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + (b"0\r\n\r\n" if end else b"")


def test_get_sends_the_query_and_the_token() -> None:
    script = Script(answer({"a": 1}))
    with playing(script) as client:
        assert client.get("/x", limit=3, cursor=None, match="a b&c") == {"a": 1}
    method, path, headers, _ = script.requests[0]
    assert (method, path) == ("GET", "/api/v1/x?limit=3&match=a+b%26c")
    assert headers["Authorization"] == "Bearer secret"


def test_post_sends_json() -> None:
    script = Script(answer({"a": 1}))
    with playing(script) as client:
        assert client.post("/x", {"b": [2]}) == {"a": 1}
    method, path, headers, body = script.requests[0]
    assert (method, path, json.loads(body)) == ("POST", "/api/v1/x", {"b": [2]})
    assert headers["Content-Type"] == "application/json"


def test_pages_follow_the_cursor_to_the_end() -> None:
    script = Script(
        answer({"runs": [{"n": 1}, {"n": 2}], "next_cursor": "c d"}), answer({"runs": [{"n": 3}], "next_cursor": None})
    )
    with playing(script) as client:
        assert [entry["n"] for entry in client.pages("/runs", "runs", prefix="p")] == [1, 2, 3]
    assert [request[1] for request in script.requests] == [
        "/api/v1/runs?limit=1000&prefix=p",
        "/api/v1/runs?limit=1000&cursor=c+d&prefix=p",
    ]


def test_pages_stop_at_the_limit() -> None:
    page = {"runs": [{"n": 1}, {"n": 2}], "next_cursor": "c"}
    script = Script(answer(page), answer(page), answer(page))
    with playing(script) as client:
        assert [entry["n"] for entry in client.pages("/runs", "runs", limit=3)] == [1, 2, 1]
    assert [request[1] for request in script.requests] == [
        "/api/v1/runs?limit=3",
        "/api/v1/runs?limit=1&cursor=c",
    ]


@pytest.mark.parametrize("body", [answer(b"x" * 3_000_000), chunked(b"x" * 1_000_000, b"x" * 2_000_000)])
def test_an_arrow_answer_is_read_as_a_stream(body: bytes) -> None:
    script = Script(body)
    with playing(script) as client, client.stream_arrow("/x", {}) as stream:
        assert stream.read(10) == b"x" * 10
        assert stream.read() == b"x" * 2_999_990
    assert script.requests[0][2]["Accept"] == "application/vnd.apache.arrow.stream"


def test_post_for_arrow_gives_the_whole_answer() -> None:
    with playing(Script(chunked(b"ab", b"c"))) as client:
        assert client.post_for_arrow("/x", {}) == b"abc"


@pytest.mark.parametrize("body", [answer(b"abc", length=9), chunked(b"abc", end=False)])
def test_an_answer_that_breaks_off_is_an_error_and_no_end(body: bytes) -> None:
    with (
        playing(Script(body)) as client,
        client.stream_arrow("/x", {}) as stream,
        pytest.raises(ServerError, match="broke off"),
    ):
        stream.read()


@pytest.mark.parametrize("body", [answer(b'{"a": 1}', length=99), chunked(b'{"a": 1}', end=False)])
def test_json_that_breaks_off_is_an_error(body: bytes) -> None:
    with playing(Script(body)) as client, pytest.raises(ServerError, match="broke off"):
        client.get("/x")


@pytest.mark.parametrize(
    ("status", "kind", "body", "message"),
    [
        ("400 Bad Request", ServerError, {"error": {"code": "c", "message": "no", "hint": "Do."}}, "no. Do."),
        ("400 Bad Request", ServerError, {"error": {"code": "c", "message": "no", "hint": ""}}, "no"),
        ("400 Bad Request", ServerError, {"error": {"code": "c", "message": "no?", "hint": "Do."}}, "no? Do."),
        ("400 Bad Request", ServerError, {"error": {"code": "c", "message": 7, "hint": "Do."}}, "400 Bad Request"),
        ("404 Not Found", NotFoundError, {"error": {"code": "c", "message": "none", "hint": ""}}, "none"),
        ("502 Bad Gateway", ServerError, b"<html>", "/api/v1/x: 502 Bad Gateway"),
        ("500 Oops", ServerError, {"error": "text"}, "/api/v1/x: 500 Oops"),
    ],
)
def test_errors_of_the_server(status: str, kind: type[ServerError], body: object, message: str) -> None:
    with playing(Script(answer(body, status))) as client, pytest.raises(ServerError) as caught:
        client.get("/x")
    assert type(caught.value) is kind
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("status", "header", "body", "after_s", "message"),
    [
        (
            "429 Too Many Requests",
            "7",
            {"code": "limited", "message": "no", "hint": "Later."},
            7,
            "no. Ask again in 7 s.",
        ),
        ("429 Too Many Requests", "7", None, 7, "/api/v1/x: 429 Too Many Requests. Ask again in 7 s."),
        ("429 Too Many Requests", "soon", {"code": "limited", "message": "no", "hint": "Later."}, 0, "no. Later."),
        ("503 Service Unavailable", "1", {"code": "busy", "message": "no", "hint": "Later."}, 0, "no. Later."),
    ],
)
def test_a_limit_tells_its_delay(status: str, header: str, body: object, after_s: float, message: str) -> None:
    """Of a limit alone: what fails otherwise is not mended by that time."""
    raw = answer(b"busy" if body is None else {"error": body}, status)
    raw = raw.replace(b"\r\n", f"\r\nRetry-After: {header}\r\n".encode(), 1)
    with playing(Script(raw)) as client, pytest.raises(ServerError) as caught:
        client.get("/x")
    assert caught.value.retry_after_s == after_s
    assert str(caught.value).endswith(message)


def test_put_sends_json_and_delete_takes_an_empty_answer() -> None:
    """204 has no body."""
    script = Script(answer({"a": 1}), b"HTTP/1.1 204 No Content\r\n\r\n")
    with playing(script) as client:
        assert client.put("/x", {"b": 2}) == {"a": 1}
        client.delete("/x/y")
    assert [(method, path, body) for method, path, _, body in script.requests] == [
        ("PUT", "/api/v1/x", b'{"b": 2}'),
        ("DELETE", "/api/v1/x/y", b""),
    ]


@pytest.mark.parametrize(
    ("fields", "span", "shown"),
    [
        ({"span": [0, 3], "expression": "bad"}, (0, 3), ["no", "  bad", "  ^^^"]),
        ({"span": [0, 3]}, (0, 3), ["no"]),
        ({"span": None, "expression": "bad"}, None, ["no"]),
        ({"span": "text", "expression": "bad"}, None, ["no"]),
    ],
)
def test_an_error_in_an_expression(fields: dict[str, Any], span: tuple[int, int] | None, shown: list[str]) -> None:
    """It is shown where the server tells text and place; whatever the server says, the error is one."""
    body = {"error": {"code": "bad_expression", "message": "no", "hint": "", **fields}}
    with playing(Script(answer(body, "400 Bad Request"))) as client, pytest.raises(ServerError) as caught:
        client.post("/x", {})
    error = caught.value
    assert (error.code, error.span, error.expression) == ("bad_expression", span, fields.get("expression", ""))
    assert str(error).splitlines() == shown


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (answer(b"<html>hello"), "it is not JSON. Is this address a Thalweg server?"),
        (answer(b"\xff\xfe\x00"), "it is not JSON"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot reach"),
        (b"", "cannot reach"),
    ],
)
def test_what_is_no_thalweg_server_is_a_server_error(raw: bytes, message: str) -> None:
    with playing(Script(raw)) as client, pytest.raises(ServerError, match=message):
        client.get("/x")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(ServerError, match=r"cannot reach http://127.0.0.1:1: .*refused.*thalweg up"):
        ApiClient("http://127.0.0.1:1").get("/x")


def test_parts_of_a_path_are_quoted() -> None:
    assert segment("a/b c%ü") == "a%2Fb%20c%25%C3%BC"
    assert run_path("p q", "r?") == "/projects/p%20q/runs/r%3F"
