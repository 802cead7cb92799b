"""What this process counts and measures, for Prometheus. Owns the names; knows nothing of who counts.

Nothing here is called for a point: the ingest says a word a batch and a few a commit, the API a few a request. What is
a number somewhere already (queues, streams) is read when Prometheus asks. Labels have few values, which the code names:
no run, project, path or token ever becomes one. All methods may be called from any thread.
"""

from __future__ import annotations

import platform
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from thalweg_tracker.model import limits

_FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COMMIT_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_AGES_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21_600, 86_400, 604_800)
_ROWS: Final = (1, 10, 100, 1_000, 10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000)
STREAM_ENDS: Final = ("ended", "gone", "refused", "no_access", "limited", "stopping", "database", "defect")
"""Why a stream ended: the writer said all; its connection broke; what it sent cannot be taken; its token is not
good for that; a limit was reached; the server stops; the database failed; the server has a defect."""


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, version: str = "", engine: str = "") -> None:
        """`engine`: its kind, not where it is."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nobody reads
        self.registry = CollectorRegistry()
        self.ingest = IngestMetrics(self.registry)
        self.http = HttpMetrics(self.registry)
        self.ready = Gauge("thalweg_ready", "1 if this process is ready, as /readyz says.", registry=self.registry)
        build = Info("thalweg_build", "What runs here.", registry=self.registry)
        build.info({"version": version, "python": platform.python_version(), "engine": engine})
        ProcessCollector(registry=self.registry)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the format that a scraper accepts, and the name of that format."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class IngestMetrics:
    """What the ingest role takes in. One flat list: to split it would tell nothing more."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.points = Counter("thalweg_ingest_points", "Points committed.", registry=registry)
        self.rejected = Counter(
            "thalweg_ingest_rejected_points",
            "Points refused for good, by reason of the protocol.",
            ["reason"],
            registry=registry,
        )
        self.batches = Counter("thalweg_ingest_batches", "Batches committed.", registry=registry)
        self.commit_failures = Counter(
            "thalweg_ingest_commit_failures",
            "Commits that failed; what was in them is sent again by its writers.",
            registry=registry,
        )
        self.commit_s = Histogram(
            "thalweg_ingest_commit_duration_seconds",
            "Time that the inserts of a commit took, also of one that failed.",
            buckets=_COMMIT_S,
            registry=registry,
        )
        self.commit_rows = Histogram(
            "thalweg_ingest_commit_rows", "Points of a commit.", buckets=_ROWS, registry=registry
        )
        self.ack_s = Histogram(
            "thalweg_ingest_ack_duration_seconds",
            "From the arrival of a commit's oldest batch to its commit, waiting for room included.",
            buckets=_COMMIT_S,
            registry=registry,
        )
        self.queue_bytes = Gauge(
            "thalweg_ingest_queue_bytes", "Batches taken in and not yet committed.", registry=registry
        )
        limit = Gauge(
            "thalweg_ingest_queue_limit_bytes", "Past so many bytes, streams wait: back-pressure.", registry=registry
        )
        limit.set(limits.INGEST_BUFFER_BYTES)
        self.oldest_batch_s = Gauge(
            "thalweg_ingest_oldest_batch_age_seconds",
            "How long the oldest batch has waited that is not yet committed; 0 if there is none.",
            registry=registry,
        )
        self.backpressure_s = Counter(
            "thalweg_ingest_backpressure_seconds",
            "Time that streams have waited for room, all of them together.",
            registry=registry,
        )
        self.waiting = Gauge(
            "thalweg_ingest_waiting_streams", "Streams that wait for room at this moment.", registry=registry
        )
        self.streams = Gauge("thalweg_ingest_streams", "Open gRPC streams, one a writer.", registry=registry)
        self.stream_ends = Counter(
            "thalweg_ingest_stream_ends", "Streams that ended, by reason.", ["reason"], registry=registry
        )
        for reason in STREAM_ENDS:
            self.stream_ends.labels(reason)  # zero is told too: a rate needs where it began
        self.point_age_s = Histogram(
            "thalweg_ingest_point_age_seconds",
            "Of each batch the age of its first point at its commit, by the writer's clock.",
            buckets=_AGES_S,
            registry=registry,
        )
        self.worst_point_age_s = Gauge(
            "thalweg_ingest_worst_point_age_seconds",
            "The greatest such age over the connected writers, of the last batch of each: a spool that lags behind.",
            registry=registry,
        )


class HttpMetrics:
    """What the API is asked. Routes are templates such as `/api/v1/projects/{project}/runs`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "thalweg_http_requests",
            "Requests that were answered, by route and status; 499: the client went away before.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.duration_s = Histogram(
            "thalweg_http_request_duration_seconds",
            "Time to the last byte of an answer; of a live stream to its first.",
            ["method", "route"],
            buckets=_FAST_S,
            registry=registry,
        )
        self.in_progress = Gauge(
            "thalweg_http_requests_in_progress", "Requests under way, live streams included.", registry=registry
        )
        self.listeners = Gauge("thalweg_live_listeners", "Open live streams.", registry=registry)
        limit = Gauge("thalweg_live_listeners_limit", "Most of them that this process takes.", registry=registry)
        limit.set(limits.LIVE_LISTENERS_MAX)
