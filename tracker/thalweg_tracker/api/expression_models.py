"""Bodies of what expressions are asked and answered with, as the OpenAPI document shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from thalweg.wire import limits as wire_limits
from thalweg_tracker.api.models import Expression, ExpressionKind, Number, RunId, RunLine
from thalweg_tracker.model import limits


class NewCustomMetric(BaseModel):
    """An expression to be asked for by a name."""

    model_config = ConfigDict(extra="forbid")

    expression: Expression
    description: str = Field(default="", max_length=wire_limits.TRACEBACK_MAX_BYTES)


class CustomMetricLine(BaseModel):
    """A custom metric. `inputs`: the logged metrics that it reads, also through others."""

    name: str
    expression: str
    description: str
    kind: ExpressionKind | None = Field(description="null where it is wrong by now; `problem` says why")
    inputs: list[str]
    problem: str | None = None
    created_at: datetime
    updated_at: datetime


class CustomMetricPage(BaseModel):
    """Custom metrics by name: all of them, there are at most a thousand."""

    custom_metrics: list[CustomMetricLine]
    next_cursor: str | None = None


class ExpressionCheck(BaseModel):
    """An expression to look at, and the runs that it would be asked of: those, or all."""

    model_config = ConfigDict(extra="forbid")

    expression: Expression
    runs: list[RunId] | None = Field(default=None, min_length=1, max_length=limits.SERIES_MAX_PER_REQUEST)
    filter: Expression | None = None


class ExpressionCost(BaseModel):
    """What it takes. `points`: stored points of its inputs."""

    nodes: int
    depth: int
    windows: int
    points: int


class CheckedExpression(BaseModel):
    """What an expression is."""

    kind: ExpressionKind
    inputs: list[str]
    attributes: list[str]
    custom_metrics: list[str]
    cost: ExpressionCost


class RunQuery(BaseModel):
    """A table of runs."""

    model_config = ConfigDict(extra="forbid")

    filter: Expression | None = Field(default=None, description="a condition; only runs where it is true")
    columns: list[Expression] = Field(default=[], max_length=limits.EXPRESSIONS_PER_REQUEST)
    sort: list[Expression] = Field(
        default=[],
        max_length=limits.EXPRESSIONS_PER_REQUEST,
        description='expressions, falling with "-" before them; else the newest run comes first',
    )
    group_by: list[Expression] = Field(
        default=[], max_length=limits.EXPRESSIONS_PER_REQUEST, description="one row for all runs that agree in these"
    )
    limit: int = Field(default=limits.PAGE_DEFAULT, ge=1, le=limits.PAGE_MAX)
    cursor: str | None = Field(default=None, max_length=16384)


class Column(BaseModel):
    """A column, called as it was asked for."""

    name: str
    kind: ExpressionKind


class RunRow(RunLine):
    """A run with its values, in the order of the columns; null where it has none."""

    branch: int
    values: list[Any]


class Statistics(BaseModel):
    """Of a column over the runs of a group that have a number there; std is that of the whole group."""

    mean: Number
    std: Number
    min: Number
    max: Number
    n: int


class GroupRow(BaseModel):
    """Runs that agree in the expressions of `group_by`."""

    group: list[Any]
    runs: int
    values: list[Statistics | None]


class RunTable(BaseModel):
    """Rows of runs, or of groups of them."""

    columns: list[Column]
    runs: list[RunRow] | None = None
    groups: list[GroupRow] | None = None
    next_cursor: str | None
