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
BranchKind = Literal["start", "fork", "rewind"]
ExpressionKind = Literal["series", "bool_series", "number", "string", "bool", "any"]
"""`any`: an attribute, whose type each run has for itself."""
RunStatus = Literal["created", "running", "finished", "failed", "killed", "lost"]
"""`created`: a fork that nothing has written to yet."""
MetricName = Annotated[str, Field(min_length=1, max_length=wire_limits.METRIC_NAME_MAX_BYTES)]
BranchNumber = Annotated[int, Field(ge=0, lt=2**32)]
Expression = Annotated[str, Field(min_length=1, max_length=limits.EXPRESSION_MAX_CHARS)]
RunId = Annotated[str, Field(min_length=1, max_length=wire_limits.RUN_ID_MAX_BYTES)]


class ErrorBody(BaseModel):
    """What went wrong. `code` is for programs and does not change; `hint` may be empty."""

    code: str
    message: str
    hint: str
    span: tuple[int, int] | None = Field(default=None, description="place in `expression`, in characters")
    expression: str | None = Field(default=None, description="the expression that is wrong, where one is")
    request_id: str | None = Field(default=None, description="of a 500: what finds its lines in the server's log")


class ErrorAnswer(BaseModel):
    """The shape of every error."""

    error: ErrorBody


class Health(BaseModel):
    """That the server is there, and where records are taken in."""

    status: Literal["ok"]
    version: str
    grpc: str | None = Field(
        description="host:port of the gRPC ingest, grpcs://host:port if it uses TLS; null where there is none"
    )
    engine: str = Field(description="what and where the database is; empty where the server asks for tokens")


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
    status: RunStatus
    created_at: datetime
    last_seen_at: datetime | None
    ended_at: datetime | None
    tags: list[str]


class RunPage(BaseModel):
    """Runs, newest first."""

    runs: list[RunLine]
    next_cursor: str | None


class BranchName(BaseModel):
    """One branch of a run; a run that was never rewound has branch 0 alone."""

    run_id: str
    branch: int


class LineageStep(BranchName):
    """One branch on the way from the root. Its points up to step `upto`, included, are seen; all where it is null.

    Those up to the `upto` before it are not its own: where both are equal, it contributes nothing.
    """

    upto: Number | None


class BranchLine(BaseModel):
    """How a branch of a run began."""

    branch: int
    kind: BranchKind
    parent: BranchName | None
    fork_step: Number | None = Field(description="last step that is the parent's")
    created_at: datetime


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
    """One run whole, on one branch: the newest, or the one asked for."""

    branch: int
    branches: list[BranchLine]
    notes: str
    config: dict[str, Any] = Field(description="what it inherited, and its own over that")
    env: dict[str, Any]
    lineage: list[LineageStep] = Field(description="the way from the root, itself last")
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


class RunOnBranch(BaseModel):
    """A branch of a run; the newest, if it names none."""

    model_config = ConfigDict(extra="forbid")

    run_id: RunId
    branch: BranchNumber | None = None


class SeriesQuery(BaseModel):
    """Which series of which runs, logged or computed, and how fine. Those without points are left out of the answer."""

    model_config = ConfigDict(extra="forbid")

    runs: list[RunId | RunOnBranch] | None = Field(
        default=None, min_length=1, max_length=limits.SERIES_MAX_PER_REQUEST, description="these, or those of `filter`"
    )
    filter: Expression | None = Field(default=None, description="a condition on runs")
    metrics: list[MetricName] = Field(default=[], max_length=limits.SERIES_MAX_PER_REQUEST)
    expressions: list[Expression] = Field(default=[], max_length=limits.EXPRESSIONS_PER_REQUEST)
    x: Expression = Field(default="step", description="step, time, relative_time (seconds), or a series")
    from_: float | None = Field(default=None, alias="from", description="least x, included", allow_inf_nan=False)
    to: float | None = Field(default=None, description="greatest x, included", allow_inf_nan=False)
    points: int | None = Field(
        default=1000, ge=1, le=limits.BUCKETS_MAX, description="number of buckets; null for the exact points"
    )
    by_rank: bool = Field(default=False, description="one series a rank, instead of the mean over ranks")
    with_time: bool = Field(default=False, description="exact points: their times too, in microseconds")
    group_by: list[Expression] = Field(
        default=[],
        max_length=limits.EXPRESSIONS_PER_REQUEST,
        description="one series for all runs that agree in these: their mean and spread at each x",
    )


class Series(BaseModel):
    """One series. Exact: x, value, and time if asked for. In buckets: x (the first in the bucket) and the others.

    Of a group of runs: x, mean, std, min, max over the runs that have a value there, n of them.
    """

    run_id: str | None = None
    branch: int | None = None
    group: dict[str, Any] | None = None
    name: str
    rank: int | None = None
    x: list[Number]
    value: list[Number] | None = None
    time: list[int] | None = None
    min: list[Number] | None = None
    max: list[Number] | None = None
    mean: list[Number] | None = None
    std: list[Number] | None = None
    first: list[Number] | None = None
    last: list[Number] | None = None
    n: list[int] | None = None
    nans: list[int] | None = None


class SeriesAnswer(BaseModel):
    """Series in the order asked for."""

    series: list[Series]


class NewRun(BaseModel):
    """What a fork begins with beside what it inherits."""

    model_config = ConfigDict(extra="forbid")

    run_id: RunId | None = Field(default=None, description="made up if not given")
    name: str | None = Field(default=None, max_length=wire_limits.METRIC_NAME_MAX_BYTES)
    notes: str | None = Field(default=None, max_length=wire_limits.TRACEBACK_MAX_BYTES)
    tags: list[Annotated[str, Field(min_length=1, max_length=wire_limits.RUN_ID_MAX_BYTES)]] = Field(
        default=[], max_length=limits.PAGE_MAX
    )
    config: dict[str, Any] = {}


ForkStep = Annotated[float, Field(allow_inf_nan=False)] | Literal["latest-checkpoint"]


class ForkOrder(NewRun):
    """A new run that continues another one after a step."""

    step: ForkStep = Field(description="last step that is inherited, or that of the latest complete checkpoint")
    branch: BranchNumber | None = Field(default=None, description="of the parent; the newest if not given")


class RewindOrder(BaseModel):
    """A new branch of a run that continues it after a step."""

    model_config = ConfigDict(extra="forbid")

    step: ForkStep
    attempt: str = Field(
        min_length=1,
        max_length=wire_limits.ATTEMPT_MAX_BYTES,
        description="names one start of the training: all its ranks say the same, and get the same branch",
    )
    rank: int = Field(default=0, ge=0, le=wire_limits.RANK_MAX)


class Continued(BranchName):
    """A branch that was made, or was there already."""

    kind: BranchKind
    parent: BranchName | None
    fork_step: Number | None = Field(description="its own points have steps above this one; null for a start")
    parent_last_step: Number | None
    is_ahead: bool = Field(
        description="the fork step is beyond the parent's last one, whose coming points will be seen too"
    )
    lineage: list[LineageStep]
    config: dict[str, Any]


class Change(BaseModel):
    """A value of the config before and after a fork; null where it was not there."""

    before: Any
    after: Any


class LineageEntry(LineageStep):
    """A branch on the way, and what it changed of the config that it inherited, by dotted path."""

    kind: BranchKind
    fork_step: Number | None
    name: str
    created_at: datetime | None
    changes: dict[str, Change]


class ChildLine(BranchName):
    """A branch that continues another."""

    kind: BranchKind
    fork_step: Number
    created_at: datetime


class LineageAnswer(BranchName):
    """The way from the root to a branch, itself last, and what continues it."""

    lineage: list[LineageEntry]
    children: list[ChildLine]


class TreeMetric(BaseModel):
    """A metric of a branch's own points, inherited ones left out."""

    last: Number
    last_step: Number
    min: Number
    argmin: Number
    max: Number
    argmax: Number


class TreeNode(BranchName):
    """A branch in the tree of a project."""

    kind: BranchKind
    parent_run_id: str | None
    parent_branch: int | None
    fork_step: Number | None
    created_at: datetime
    name: str
    status: RunStatus
    tags: list[str]
    metric: TreeMetric | None


class TreePage(BaseModel):
    """Branches of a project, oldest first."""

    nodes: list[TreeNode]
    next_cursor: str | None
