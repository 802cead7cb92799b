"""Whether traces are made: what the environment asks for against what is installed."""

from __future__ import annotations

import logging
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from thalweg_tracker.telemetry.traces import Traces

ASKED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize("environ", [{}, {"OTEL_SERVICE_NAME": "x"}, {**ASKED, "OTEL_SDK_DISABLED": "true"}])
def test_off_unless_asked_for(environ: dict[str, str]) -> None:
    """A span is then one that takes nothing, the same for all."""
    traces = Traces.configured(environ, "1")
    with traces.request("GET", {}) as span, traces.query("SELECT 1") as inner, traces.commit() as commit:
        span.set(a__b=1)
        span.rename("x")
    assert span is inner is commit
    traces.close()


def test_packages_that_are_missing_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server goes on without traces, and says how to have some."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with caplog.at_level(logging.WARNING):
        traces = Traces.configured(ASKED, "1")
    (told,) = caplog.messages
    assert "thalweg[otel]" in told
    with traces.commit() as span:
        span.set(a=1)


def test_a_failure_is_named_by_its_type_alone() -> None:
    """The words of a database are not for everybody."""
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    traces = Traces(provider)
    with pytest.raises(ValueError, match="secret"), traces.query("SELECT 1"):
        raise ValueError("secret")
    (span,) = exported.get_finished_spans()
    assert (span.status.description, list(span.events)) == ("ValueError", [])
    traces.close()
