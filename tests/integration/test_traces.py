"""Traces as a collector gets them: real exporters, real spans, over HTTP."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support import wire
from tests.support.operators import serving

ANY = "127.0.0.1:0"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """What came to it: spans with the name of their service."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[tuple[str, Any]] = []

    def named(self, name: str) -> list[Any]:
        """The spans of a name."""
        return [span for _, span in self.spans if span.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                facts = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    collector.spans += [(facts["service.name"], span) for span in scope.spans]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def attributes(span: Any) -> dict[str, Any]:
    """By name; numbers as numbers."""
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_spans_of_requests_queries_and_commits(tmp_path: Path) -> None:
    """Requests by route, below their caller; queries below their request, without values; commits with their points."""
    arguments = ("up", "--data", str(tmp_path / "data"), f"--http={ANY}", f"--grpc={ANY}")
    with collecting() as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=s3cr3t"}
        with serving(tmp_path / "log", *arguments, **variables) as running:
            with wire.writing(running.ready["grpc"], wire.hello("some-run")) as stream:
                stream.commit(wire.batch(1, ["some-metric"], [1, 2], [[1]] * 2))
            headers = {"traceparent": CALLER, "Authorization": "Bearer s3cr3t"}
            httpx.get(f"{running.ready['http']}/api/v1/projects/p/runs/some-run?x=s3cr3t", headers=headers)
            httpx.get(f"{running.ready['http']}/healthz", headers=headers)
    (request,) = [span for _, span in collector.spans if span.name.startswith("GET")]
    assert request.name == "GET /api/v1/projects/{project}/runs/{run_id}"
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (CALLER[3:35], CALLER[36:52])
    assert attributes(request)["http.response.status_code"] == 200
    queries = collector.named("query")
    assert len(queries) > 2
    assert {span.trace_id for span in queries} == {request.trace_id}
    assert {span.parent_span_id for span in queries} == {request.span_id}, "also those that ran side by side"
    assert all(attributes(span)["db.system.name"] == "clickhouse" for span in queries)
    (commit,) = collector.named("commit")
    assert attributes(commit)["thalweg.points"] == 2
    assert {service for service, _ in collector.spans} == {"thalweg"}
    told = str(collector.spans)
    for word in ("s3cr3t", "some-run", "some-metric"):
        assert word not in told
    assert "s3cr3t" not in (tmp_path / "log").read_text()


def test_a_collector_that_is_away_is_no_trouble(tmp_path: Path) -> None:
    """The server serves, and ends in time."""
    arguments = ("up", "--data", str(tmp_path / "data"), f"--http={ANY}", f"--grpc={ANY}")
    with serving(tmp_path / "log", *arguments, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as running:
        assert httpx.get(f"{running.ready['http']}/api/v1/projects").status_code == 200
