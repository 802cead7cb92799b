"""`torch.distributed.checkpoint.save` and `async_save` that tell the run what they saved, and when it was safe.

A save has two moments. *Staged*: the state is copied aside, the training may go on; the checkpoint cannot be
restored yet. *Durable*: all ranks have written their parts. The coordinator, rank 0 of the process group,
records both for all ranks. The second one comes from the thread that saved: nothing here holds the training up.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from thalweg.console import say
from thalweg.errors import CheckpointError, ThalwegError
from thalweg.integrations.requirement import missing
from thalweg.run import Run

try:
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse
except ImportError as error:
    raise missing(__name__, "'torch>=2.9'", error) from error

__all__ = ["async_save", "save"]


def save(
    state_dict: dict[str, Any],
    *,
    run: Run | None,
    step: float,
    checkpoint_id: str | os.PathLike[str],
    kind: str = "full",
    metrics: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    upload: bool = False,
    **dcp_options: Any,
) -> Metadata:
    """Saves as `torch.distributed.checkpoint.save` does, records the checkpoint, and returns what torch returns.

    All ranks call it; `run` is used on rank 0 of the process group, and may be None elsewhere. `checkpoint_id`:
    a folder, or an address such as s3://bucket/key for fsspec. With `upload` the folder, which all ranks must
    share, goes to the server's object store before this returns, as by `run.save_checkpoint`. Raises what torch
    raises, and CheckpointError for an upload that cannot be whole; then nothing is recorded as durable.
    """
    started_s = time.monotonic()
    result = dcp.save(state_dict, checkpoint_id=checkpoint_id, **dcp_options)
    if run is not None and _is_coordinator(dcp_options):
        saving = _Save(run, _Checkpoint(checkpoint_id, step, kind, metrics, metadata, upload), dcp_options)
        saving.tell_durable(result, time.monotonic() - started_s)
    return result


def async_save(
    state_dict: dict[str, Any],
    *,
    run: Run | None,
    step: float,
    checkpoint_id: str | os.PathLike[str],
    kind: str = "full",
    metrics: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    upload: bool = False,
    **dcp_options: Any,
) -> Future[Any] | AsyncSaveResponse:
    """Saves as `torch.distributed.checkpoint.async_save` does, and records both moments of the checkpoint.

    Arguments as in `save`. Returns what torch returns: a future of the save, or an AsyncSaveResponse where a
    stager copies the state in the background. On rank 0 the future of the save is done when the checkpoint is
    recorded as durable, too, and uploaded where asked for. Wait for the last one before the end of the run.

    If the save fails, the future raises it, it is told once on standard error, and the checkpoint stays "staged":
    nothing will be restored from it. The seconds for which the training was held up are those of
    this call; where the training waits for `staging_completion` itself, they are not known here.
    """
    records = run is not None and _is_coordinator(dcp_options)
    started_s = time.monotonic()
    response = dcp.async_save(state_dict, checkpoint_id=checkpoint_id, **dcp_options)
    if run is None or not records:
        return response
    blocked_s = time.monotonic() - started_s
    saving = _Save(run, _Checkpoint(checkpoint_id, step, kind, metrics, metadata, upload), dcp_options)
    if not isinstance(response, AsyncSaveResponse):
        saving.tell_staged(blocked_s)
        return saving.follow(response, blocked_s)
    response.staging_completion.add_done_callback(lambda staging: saving.on_staged(staging, blocked_s))
    return AsyncSaveResponse(
        staging_completion=response.staging_completion,
        upload_completion=saving.follow(response.upload_completion, blocked_s),
    )


def _is_coordinator(dcp_options: Mapping[str, Any]) -> bool:
    """Whether this process is the one that writes the checkpoint's metadata, after all ranks have written."""
    if dcp_options.get("no_dist") or not dist.is_available() or not dist.is_initialized():
        return True
    return bool(dist.get_rank(dcp_options.get("process_group")) == 0)


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """What is saved, in the words of the caller."""

    checkpoint_id: str | os.PathLike[str]
    step: float
    kind: str
    metrics: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    upload: bool


class _Save:
    """One save on its way: tells its moments, each once and in order, from whichever thread they come."""

    def __init__(self, run: Run, checkpoint: _Checkpoint, dcp_options: Mapping[str, Any]) -> None:
        self._run = run
        self._checkpoint = checkpoint
        self._place = _place(checkpoint.checkpoint_id)
        # A custom writer names files as it likes; without collectives the metadata are of one rank's files only.
        self._knows_files = dcp_options.get("storage_writer") is None and dcp_options.get("use_collectives", True)
        self._lock = threading.Lock()
        self._staged_at: float | None = None
        self._is_over = False

    def tell_staged(self, blocked_s: float) -> None:
        """Records that the state is copied aside; not after the durable word, which would be taken back by it."""
        with self._lock:
            if self._is_over:
                return
            self._staged_at = time.time()
            self._log("staged", blocked_s)

    def on_staged(self, staging: Future[None], blocked_s: float) -> None:
        """The callback of a staging future. Of its failure the save's own future tells."""
        if staging.exception() is not None:
            return
        try:
            self.tell_staged(blocked_s)
        except ThalwegError as error:
            say(f"cannot record the checkpoint of step {self._checkpoint.step:g} as staged: {error}")

    def follow(self, saved: Future[Any], blocked_s: float) -> Future[Any]:
        """A future that is done when `saved` is done and the checkpoint is recorded."""
        recorded: Future[Any] = Future()
        recorded.set_running_or_notify_cancel()  # a save under way cannot be cancelled, as torch has it

        def on_saved(saved: Future[Any]) -> None:
            try:
                result = saved.result()
                self.tell_durable(result, blocked_s)
            except BaseException as error:  # noqa: BLE001  # the outermost line of torch's thread
                self._give_up(error)
                recorded.set_exception(error)
            else:
                recorded.set_result(result)

        saved.add_done_callback(on_saved)
        return recorded

    def tell_durable(self, result: Metadata, blocked_s: float) -> None:
        """Uploads where asked for, and records that the checkpoint can be restored. Raises ThalwegError."""
        checkpoint = self._checkpoint
        files = self._files(result)
        if checkpoint.upload:
            folder = _local_folder(self._place)
            _check_whole(folder, files or [])
            self._close()
            self._run.save_checkpoint(
                folder,
                step=checkpoint.step,
                kind=checkpoint.kind,
                metrics=checkpoint.metrics,
                metadata=checkpoint.metadata,
                staged_at=self._staged_at,
                blocked_s=blocked_s,
            )
            return
        self._close()
        self._log("durable", blocked_s, files)

    def _close(self) -> None:
        """No word on staging after this."""
        with self._lock:
            self._is_over = True

    def _give_up(self, error: BaseException) -> None:
        self._close()
        reason = next(reversed(str(error).strip().splitlines()), "")  # torch's is a traceback of each rank
        say(
            f"the checkpoint of step {self._checkpoint.step:g} at {self._place} is not saved: "
            f"{type(error).__name__}: {reason}. It is not recorded as durable; the training goes on."
        )

    def _log(self, state: str, blocked_s: float, files: list[str] | None = None) -> None:
        self._run.log_checkpoint(
            self._place,
            step=self._checkpoint.step,
            kind=self._checkpoint.kind,
            files=files,
            metrics=self._checkpoint.metrics,
            metadata=self._checkpoint.metadata,
            state=state,
            staged_at=self._staged_at,
            blocked_s=blocked_s,
        )

    def _files(self, result: Metadata) -> list[str] | None:
        """The files that torch says it wrote, so that one which is missing is seen; None where it does not say."""
        if not self._knows_files or not result.storage_data:
            return None
        return sorted({entry.relative_path for entry in result.storage_data.values()} | {".metadata"})


def _place(checkpoint_id: str | os.PathLike[str]) -> str:
    """A checkpoint of torch is a folder: with the trailing "/" also where it is not on this host."""
    place = os.fspath(checkpoint_id)
    return (place if "://" in place else os.path.abspath(place)).rstrip("/") + "/"


def _local_folder(place: str) -> Path:
    """The folder to upload. Raises CheckpointError."""
    parts = urlsplit(place)
    if "://" in place and parts.scheme != "file":
        raise CheckpointError(f"cannot upload {place}: it is not on this host. Save it without upload=True")
    return Path(unquote(parts.path) if "://" in place else place)


def _check_whole(folder: Path, files: list[str]) -> None:
    """Raises CheckpointError for files of other ranks that this host does not see."""
    absent = [name for name in files if not (folder / name).is_file()]
    if absent:
        raise CheckpointError(
            f"cannot upload {folder}: {len(absent)} of its {len(files)} files are not on this host, such as "
            f"{absent[0]}. Save to a folder that all ranks share"
        )
