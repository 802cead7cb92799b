"""Traces with OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT says where they go and the extra `otel` is installed.

Owns the spans' names; all else (headers, sampling, resource) is OpenTelemetry's own `OTEL_*`. Off, a span costs one
call. A span holds templates of routes, the engine's SQL, whose values are bound, and numbers: no headers and no values.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SQL_CHARS: Final = 2000
_PARENTS: Final = ("traceparent", "tracestate")


class Span:
    """What a traced block may add. This one takes nothing."""

    def set(self, **attributes: str | int | float) -> None:
        """Adds attributes; `__` in a name stands for a dot."""

    def rename(self, name: str) -> None:
        """What it is, where that is known late."""


class _RealSpan(Span):
    def __init__(self, span: Any) -> None:
        self._span = span

    def set(self, **attributes: str | int | float) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(name.replace("__", "."), value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)


_NOTHING: Final = nullcontext(Span())


class Traces:
    """Makes spans. Without a provider it makes none."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("thalweg") if provider else None

    @classmethod
    def configured(cls, environ: Mapping[str, str], version: str) -> Traces:
        """As the environment says. Says once if it asks for traces that cannot be made."""
        if not any(environ.get(name) for name in _ENDPOINTS) or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return cls()
        try:
            provider = _make_provider(environ, version)
        except ImportError:
            log.warning("no traces, though OTEL_EXPORTER_OTLP_ENDPOINT is set: pip install 'thalweg[otel]'")
            return cls()
        if environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf") == "grpc":
            log.warning("traces go out as http/protobuf, not as OTEL_EXPORTER_OTLP_PROTOCOL=grpc says")
        return cls(provider)

    def request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
        """The span of an HTTP request, below that of its caller, if `traceparent` names one."""
        if self._tracer is None:
            return _NOTHING
        from opentelemetry import propagate

        parent = propagate.extract({name: headers[name] for name in _PARENTS if name in headers})
        return self._begun(method, "SERVER", {"http.request.method": method}, parent)

    def query(self, sql: str) -> AbstractContextManager[Span]:
        """The span of a query of the engine."""
        if self._tracer is None:
            return _NOTHING
        told = {"db.system.name": "clickhouse", "db.query.text": sql[:_SQL_CHARS]}
        return self._begun("query", "CLIENT", told)

    def commit(self) -> AbstractContextManager[Span]:
        """The span of a commit."""
        return _NOTHING if self._tracer is None else self._begun("commit", "INTERNAL")

    def _begun(
        self, name: str, kind: str, attributes: Mapping[str, str] | None = None, parent: Context | None = None
    ) -> AbstractContextManager[Span]:
        from opentelemetry.trace import SpanKind

        assert self._tracer is not None
        # Errors are told by their type alone: the words of a database may hold what nobody wants to see elsewhere.
        return _Entered(
            self._tracer.start_as_current_span(
                name,
                context=parent,
                kind=SpanKind[kind],
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            )
        )

    def close(self) -> None:
        """Sends what is left."""
        if self._provider is not None:
            self._provider.shutdown()


class _Entered(AbstractContextManager[Span]):
    """A span of OpenTelemetry as one of ours."""

    def __init__(self, inner: AbstractContextManager[Any]) -> None:
        self._inner = inner
        self._span: Any = None

    def __enter__(self) -> Span:
        self._span = self._inner.__enter__()
        return _RealSpan(self._span)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None and issubclass(kind, Exception):
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR, kind.__name__)
        return self._inner.__exit__(kind, error, trace)


def _make_provider(environ: Mapping[str, str], version: str) -> TracerProvider:
    """What makes spans and sends them. Imported here: who wants no traces does not wait for it. Raises ImportError."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = {"service.version": version}
    if "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", "") and not environ.get("OTEL_SERVICE_NAME"):
        ours["service.name"] = "thalweg"
    provider = TracerProvider(resource=Resource.create(ours))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
