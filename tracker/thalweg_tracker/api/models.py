"""Bodies of requests and answers, as the OpenAPI document shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from thalweg.wire import limits as wire_limits
from thalweg_tracker.api.encode import json_number
from thalweg_tracker.model import limits

Number = Annotated[
    float,
    PlainSerializer(json_number, return_type=float | Literal["NaN", "Infinity", "-Infinity"], when_used="json"),
]
"""A float64; NaN and infinities are strings in JSON."""
MetricName = Annotated[str, Field(min_length=1, max_length=wire_limits.METRIC_NAME_MAX_BYTES)]
RunId = Annotated[str, Field(min_length=1, max_length=wire_limits.RUN_ID_MAX_BYTES)]


class ErrorBody(BaseModel):
    """What went wrong. `code` is for programs and does not change; `hint` may be empty."""

    code: str
    message: str
    hint: str


class ErrorAnswer(BaseModel):
    """The shape of every error."""

    error: ErrorBody


class Health(BaseModel):
    """That the server is there, and where records are taken in."""

    status: Literal["ok"]
    version: str
    grpc: str | None = Field(description="host:port of the gRPC ingest; null where this process has none")
    engine: str


class Project(BaseModel):
    """A namespace of runs."""

    project: str
    runs: int
    last_created_at: datetime


class ProjectPage(BaseModel):
    """Projects by name."""

    projects: list[Project]
    next_cursor: str | None


class RunLine(BaseModel):
    """A run in a list."""

    run_id: str
    name: str
    status: Literal["running", "finished", "failed", "killed", "lost"]
    created_at: datetime
    last_seen_at: datetime | None
    ended_at: datetime | None
    tags: list[str]


class RunPage(BaseModel):
    """Runs, newest first."""

    runs: list[RunLine]
    next_cursor: str | None


class LineageStep(BaseModel):
    """One run of a lineage; its points up to step `upto` are visible, all of them where it is null."""

    run_id: str
    branch: int
    upto: Number | None


class WriterState(BaseModel):
    """A writing process. `outcome` is null while it lives."""

    writer: str
    rank: int
    primary: bool
    host: str
    pid: int
    started_at: datetime | None
    last_seen_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    exit_code: int | None
    signal: int | None
    exception: str
    traceback: str
    counters: dict[str, int]


class RunHealth(BaseModel):
    """What became of the run's points: `logged` by the SDK, `accepted` by the server, or a reason for their loss."""

    counters: dict[str, int]
    writers: list[WriterState]


class Run(RunLine):
    """One run whole."""

    notes: str
    config: dict[str, Any]
    env: dict[str, Any]
    lineage: list[LineageStep]
    last_step: Number | None
    health: RunHealth


class Metric(BaseModel):
    """What is known of a run's metric without reading its points. Over all ranks; `last` is their mean."""

    name: str
    ranks: int
    first_step: Number
    last_step: Number
    last_time: datetime
    last: Number
    min: Number
    argmin: Number
    max: Number
    argmax: Number


class MetricPage(BaseModel):
    """Metrics by name."""

    metrics: list[Metric]
    next_cursor: str | None


class SeriesQuery(BaseModel):
    """Which series, which part of them, and how fine. Series that do not exist are left out of the answer."""

    model_config = ConfigDict(extra="forbid")

    runs: list[RunId] = Field(min_length=1, max_length=limits.SERIES_MAX_PER_REQUEST)
    metrics: list[MetricName] = Field(min_length=1, max_length=limits.SERIES_MAX_PER_REQUEST)
    x: Literal["step"] = "step"
    from_step: float | None = Field(default=None, alias="from", description="first step, included", allow_inf_nan=False)
    to_step: float | None = Field(default=None, alias="to", description="last step, included", allow_inf_nan=False)
    points: int | None = Field(
        default=1000, ge=1, le=limits.BUCKETS_MAX, description="number of buckets; null for the exact points"
    )
    by_rank: bool = Field(default=False, description="one series a rank, instead of the mean over ranks")
    with_time: bool = Field(default=False, description="exact points: their times too, in microseconds")


class Series(BaseModel):
    """One series. Exact: x, value, and time if asked for. In buckets: x (first step in the bucket) and the others."""

    run_id: str
    name: str
    rank: int | None = None
    x: list[Number]
    value: list[Number] | None = None
    time: list[int] | None = None
    min: list[Number] | None = None
    max: list[Number] | None = None
    mean: list[Number] | None = None
    first: list[Number] | None = None
    last: list[Number] | None = None
    n: list[int] | None = None
    nans: list[int] | None = None


class SeriesAnswer(BaseModel):
    """Series in the order asked for."""

    series: list[Series]
