"""Bodies of requests and answers about checkpoints, as the OpenAPI document shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from thalweg.wire import limits as wire_limits
from thalweg_tracker.api.models import BranchNumber, MetricName, Number
from thalweg_tracker.model import limits

KindName = Literal["full", "model", "optimizer", "dataloader"]
StateName = Literal["verified", "complete", "staged", "incomplete", "changed", "missing", "deleted"]
Mode = Literal["min", "max"]
Step = Annotated[float, Field(allow_inf_nan=False)]
_PARTS_MAX = 1_000_000


class CheckpointKind(BaseModel):
    """What was saved of one kind. `size_bytes` 0: not known; `digest` is that of a single object.

    `uri` is that of all shards, or the folder that they have in common; `detail` says what was found.
    """

    kind: str
    state: StateName
    uri: str
    shards: int
    shards_done: int
    size_bytes: int
    digest: str
    detail: str
    saved_at: datetime | None
    staged_at: datetime | None
    checked_at: datetime | None


class Checkpoint(BaseModel):
    """A saved state of the training; its state is the worst of its kinds.

    `complete`: all shards are written; `verified`: and their objects were looked at. `staged`: being written.
    """

    run_id: str
    branch: int
    step: Number
    state: StateName
    created_at: datetime
    blocked_s: Number
    size_bytes: int
    metrics: dict[str, Any]
    metadata: dict[str, Any]
    kinds: list[CheckpointKind]


class Advice(BaseModel):
    """How often to save, and the numbers from which it was computed."""

    interval_s: Number
    interval_steps: int | None
    young_s: Number
    daly_s: Number
    save_cost_s: Number
    saves: int
    mtbf_s: Number
    failures: int
    observed_s: Number
    current_interval_s: Number | None
    seconds_per_step: Number | None
    note: str


class CheckpointPage(BaseModel):
    """Checkpoints along the lineage, the highest step first. `advice` is on the first page; or why there is none."""

    checkpoints: list[Checkpoint]
    next_cursor: str | None
    advice: Advice | None
    advice_missing: str = Field(description="what there is too little of for an advice; empty if there is one")


class CheckpointFile(BaseModel):
    """A file to fetch. `path` is relative to the URI of its shard; of a single object it is its name.

    `url` is absolute or a path of this server; null: the server does not hand it out.
    """

    kind: str
    shard: int
    path: str
    uri: str
    size_bytes: int
    digest: str
    url: str | None


class Skipped(BaseModel):
    """A checkpoint that would have come first, were it good."""

    step: Number
    state: StateName
    detail: str


class ResolvedCheckpoint(Checkpoint):
    """The checkpoint to go on from."""

    files: list[CheckpointFile]
    skipped: list[Skipped]
    skipped_more: int = Field(description="how many more were skipped than are told")


class VerifyOrder(BaseModel):
    """Which checkpoints to look at; null: the newest ones."""

    model_config = ConfigDict(extra="forbid")

    steps: list[Step] | None = Field(default=None, max_length=limits.PAGE_MAX)


class VerifyAnswer(BaseModel):
    """The checkpoints as they were found, the highest step first."""

    checkpoints: list[Checkpoint]


class BestPolicy(BaseModel):
    """A metric to keep the best by. Without a mode: the least for names that end in loss, error or perplexity."""

    model_config = ConfigDict(extra="forbid")

    metric: MetricName
    mode: Mode | None = None


class PruneOrder(BaseModel):
    """What to keep: the union of what is given. The newest complete one, and what forks need, is kept in any case."""

    model_config = ConfigDict(extra="forbid")

    keep_last: int | None = Field(default=None, ge=1)
    keep_every: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="a number of steps")
    keep_best: BestPolicy | None = None
    best: int = Field(default=1, ge=1, description="how many of the best to keep")
    dry_run: bool = False


class KeptCheckpoint(BaseModel):
    """A checkpoint that stays."""

    step: Number
    reasons: list[str]


class DeletedCheckpoint(BaseModel):
    """A checkpoint whose objects are deleted, or would be."""

    step: Number
    bytes: int
    objects: int


class FailedCheckpoint(BaseModel):
    """A checkpoint that could not be deleted."""

    step: Number
    detail: str


class PruneAnswer(BaseModel):
    """What became of each checkpoint, by ascending steps."""

    kept: list[KeptCheckpoint]
    deleted: list[DeletedCheckpoint]
    failed: list[FailedCheckpoint]
    dry_run: bool


class UploadFile(BaseModel):
    """Names one file of one save. The place in the store is made of all of it; `upload` is chosen by the client."""

    model_config = ConfigDict(extra="forbid")

    branch: BranchNumber | None = Field(default=None, description="the newest if not given")
    step: Step
    kind: KindName = "full"
    shard: int = Field(default=0, ge=0, lt=wire_limits.CHECKPOINT_SHARDS_MAX)
    upload: str = Field(pattern="^[0-9a-f]{32}$")
    path: str = Field(min_length=1, max_length=wire_limits.CHECKPOINT_PATH_MAX_BYTES)
    size_bytes: int = Field(ge=0, lt=2**63)


class UploadOrder(UploadFile):
    """Begins the upload of a file, or with `upload_id` goes on with one."""

    upload_id: str | None = Field(default=None, max_length=4096)


class UploadedPart(BaseModel):
    """A part that has arrived."""

    number: int
    etag: str
    size_bytes: int


class PartUrl(BaseModel):
    """Where to PUT a part: absolute, or a path of this server."""

    number: int
    url: str


class UploadAnswer(BaseModel):
    """An upload under way. All parts but the last have `part_bytes`; ask again for URLs beyond those told."""

    branch: int
    uri: str
    folder_uri: str
    upload_id: str
    part_bytes: int
    done: list[UploadedPart]
    parts: list[PartUrl]
    expires_s: int


class PartEtag(BaseModel):
    """A part, and the ETag of the answer to its PUT."""

    model_config = ConfigDict(extra="ignore")

    number: int = Field(ge=1, le=_PARTS_MAX)
    etag: str = Field(max_length=256)


class CompleteOrder(UploadFile):
    """Makes the object of its parts."""

    upload_id: str = Field(max_length=4096)
    parts: list[PartEtag] = Field(min_length=1, max_length=_PARTS_MAX)


class UploadedObject(BaseModel):
    """An object, as its store shows it."""

    uri: str
    size_bytes: int
    etag: str
    version: str


class AbortOrder(UploadFile):
    """Throws an upload away."""

    upload_id: str = Field(max_length=4096)


class Aborted(BaseModel):
    """Nothing to say."""
