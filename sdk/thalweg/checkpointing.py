"""What a run does with checkpoints: records them, uploads and records them, brings them back.

The user's words come from `Run` and `thalweg.restore`; the work is done in thalweg.checkpoints.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from thalweg.api_client import ApiClient, run_path
from thalweg.checkpoints.download import download
from thalweg.checkpoints.local import PathLike, file_path, look
from thalweg.checkpoints.points import ForkPoint, parse_point
from thalweg.checkpoints.progress import Progress
from thalweg.checkpoints.record import describe_checkpoint
from thalweg.checkpoints.upload import Uploaded, upload
from thalweg.checkpoints.upload_state import Target
from thalweg.console import say
from thalweg.errors import CheckpointError, InputError, ServerError
from thalweg.recorder import Recorder
from thalweg.settings import Settings
from thalweg.values import shorten

_UPLOADS_FOLDER: Final = "uploads"


Staged = dict[tuple[float, str, int], int]
"""When the checkpoints were staged that are not durable yet, by step, kind and shard: microseconds."""


def record(recorder: Recorder, uri: PathLike, *, rank: int, staged: Staged, **told: Any) -> str:
    """Writes the record of a checkpoint and returns its URI. Raises InputError for what must not be recorded.

    A durable one that was staged before, by `staged`, keeps that moment.
    """
    described = describe_checkpoint(uri, now_us=time.time_ns() // 1000, rank=rank, after=recorder.after, **told)
    for complaint in described.complaints:
        say(complaint)
    document = described.fields["checkpoint"]
    key = (document["step"], document["kind"], document["shard"])
    if document["state"] == "staged":
        staged[key] = document["staged_us"]
    else:
        document["staged_us"] = document["staged_us"] or staged.pop(key, 0)
    recorder.event("checkpoint", described.fields)
    return str(document["uri"])


def save(
    recorder: Recorder,
    settings: Settings,
    source: PathLike,
    target: Target,
    *,
    progress: Progress | None,
    metrics: Mapping[str, Any] | None,
    blocked_s: float | None,
    began_s: float,
    **told: Any,
) -> str:
    """Uploads a file or folder and records it; where that fails, records where it lies here. Returns the URI.

    `began_s`: when the training began to wait for it, monotonic. Raises InputError for what cannot be recorded,
    before it is uploaded; where strict also what went wrong with the upload: InputError, ServerError, CheckpointError.
    """
    told |= {"step": target.step, "kind": target.kind, "shard": target.shard, "metrics": metrics}
    described = told | {"blocked_s": blocked_s, "state": "staged"}  # of which no file is looked at
    describe_checkpoint(source, now_us=0, rank=settings.rank, after=recorder.after, **described)
    uploaded: Uploaded | None = None
    if settings.mode == "online":
        try:
            uploaded = upload(
                ApiClient(settings.url, settings.token),
                source,
                target,
                state_path=_state_path(settings, source, target),
                progress=progress,
                hurries=recorder.is_server_away(),
            )
        except InputError as error:
            recorder.complain(error)
            if not _is_here(source):
                return local_uri(source)
        except (CheckpointError, ServerError) as error:
            if recorder.is_strict:
                raise
            say(f"the checkpoint of step {target.step:g} stays in {source}: {error}")
    files = [file.as_json() for file in uploaded.files] if uploaded and uploaded.files else None
    return record(
        recorder,
        source if uploaded is None else uploaded.uri,
        rank=settings.rank,
        staged={},
        files=files,
        size_bytes=uploaded and uploaded.size_bytes,
        digest=uploaded and uploaded.digest,
        blocked_s=time.monotonic() - began_s if blocked_s is None else blocked_s,
        **told,
    )


def _is_here(source: PathLike) -> bool:
    path = file_path(os.fspath(source))
    return path is not None and path.exists()


def local_uri(place: PathLike) -> str:
    """The file:// URI of a local path; of what is no path, its text."""
    try:
        return look(place, sizes=False, files=False).uri
    except (InputError, TypeError):
        return shorten(place, 200)


def _state_path(settings: Settings, source: PathLike, target: Target) -> Path:
    """Where an upload remembers how far it came: the same for the same files and target, in any process."""
    named = repr((os.path.abspath(source), target)).encode(errors="surrogateescape")
    return settings.spool_dir / _UPLOADS_FOLDER / f"{hashlib.sha256(named).hexdigest()[:32]}.json"


def bring_back(
    settings: Settings,
    project: str,
    run_id: str,
    step: float | None,
    to: PathLike,
    *,
    branch: int | None = None,
    kind: str | None = None,
    progress: Progress | None = None,
    say_step: Callable[[float], object] = lambda step: None,
) -> Path:
    """Downloads the nearest complete checkpoint at or before a step; None: the latest. Raises NotFoundError,
    ServerError, CheckpointError.
    """
    client = ApiClient(settings.url, settings.token)
    path = f"{run_path(project, run_id)}/checkpoints/resolve"

    def resolve() -> Any:
        return client.get(path, step=step, kind=kind, branch=branch)

    resolved = resolve()
    for skipped in resolved["skipped"]:
        say(f"the checkpoint of step {skipped['step']:g} is {skipped['state']}: {skipped['detail']}")
    if resolved.get("skipped_more"):
        say(f"{resolved['skipped_more']} more checkpoints were skipped, too")
    say_step(float(resolved["step"]))
    return download(resolved, to, base_url=settings.url, refresh=resolve, progress=progress)


def restore(
    run: str,
    *,
    to: PathLike,
    kind: str | None = None,
    branch: int | None = None,
    url: str | None = None,
    token: str | None = None,
    project: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Downloads a checkpoint to `to` and returns its path: "RUN@STEP", "RUN@latest-checkpoint" or "RUN".

    The nearest complete checkpoint at or before the step, also one of the run's ancestors; PROJECT/ may stand before
    RUN. `progress(done, total)` in bytes. Raises InputError, NotFoundError where there is none, ServerError, and
    CheckpointError where an object is missing or is not what was saved.
    """
    settings = Settings.read(os.environ, url=url, token=token, project=project, rank=0)
    point: ForkPoint = parse_point(run)
    return bring_back(
        settings,
        point.project or settings.project,
        point.run_id,
        point.step,
        to,
        branch=branch,
        kind=kind,
        progress=progress,
        say_step=lambda step: say(f"restoring the checkpoint of step {step:g} of {run}"),
    )
