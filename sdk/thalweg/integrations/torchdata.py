"""The position of a data loader, saved beside the model: a restarted training then goes on with the next batch.

Each rank saves its own part, a small file, and records it as a checkpoint of the kind "dataloader".
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any, Protocol

from thalweg.errors import CheckpointError
from thalweg.integrations.requirement import missing
from thalweg.run import Run

try:
    import torch
    import torch.distributed as dist
except ImportError as error:
    raise missing(__name__, "torch torchdata", error) from error

__all__ = ["load_loader", "save_loader"]


class StatefulLoader(Protocol):
    """torchdata's StatefulDataLoader, its nodes.Loader, or whatever has these two methods."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None: ...


def save_loader(
    loader: StatefulLoader,
    run: Run | None,
    step: float,
    folder: str | os.PathLike[str],
    *,
    upload: bool = False,
    process_group: Any = None,
) -> Path:
    """Writes this rank's state of `loader` to a file in `folder`, records it, and returns the file.

    Every rank of `process_group` (None: of the job) calls it: the checkpoint is complete when all parts are
    there. With `upload` the file goes to the server's object store, too. `run` None: nothing is recorded. The file
    is there whole or not at all. Raises OSError.
    """
    shard, shards = _rank(process_group)
    path = Path(folder) / _file_name(shard, shards)
    buffer = io.BytesIO()
    torch.save(loader.state_dict(), buffer)
    content = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(path, content)
    if run is not None and upload:
        run.save_checkpoint(path, step=step, kind="dataloader", shard=shard, shards=shards)
    elif run is not None:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        run.log_checkpoint(path, step=step, kind="dataloader", shard=shard, shards=shards, digest=digest)
    return path


def load_loader(
    loader: StatefulLoader,
    path: str | os.PathLike[str],
    *,
    weights_only: bool = True,
    process_group: Any = None,
) -> None:
    """Puts `loader` back to where it was saved; `path` is the file, or a folder with the files of all ranks.

    With `weights_only` no code of the file runs: enough for torchdata's own state. A dataset that puts objects
    of its own into the state needs False; say so only for files that you trust. Raises CheckpointError.
    """
    file = _find(Path(path), process_group)
    try:
        state = torch.load(file, map_location="cpu", weights_only=weights_only)
    except FileNotFoundError:
        raise CheckpointError(f"cannot restore the data loader: {file} is not there") from None
    except pickle.UnpicklingError as error:
        advice = (
            "The dataset keeps objects of its own in its state. If you trust the file, pass weights_only=False"
            if weights_only
            else "The file is damaged"
        )
        raise CheckpointError(f"cannot restore the data loader from {file}. {advice}. torch says: {error}") from error
    except (RuntimeError, EOFError) as error:
        raise CheckpointError(f"cannot restore the data loader from {file}: the file is damaged: {error}") from error
    loader.load_state_dict(state)


def _rank(process_group: Any) -> tuple[int, int]:
    """Number of this part, and number of parts."""
    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return int(dist.get_rank(process_group)), int(dist.get_world_size(process_group))


def _file_name(shard: int, shards: int) -> str:
    return f"dataloader-{shard:05d}-of-{shards:05d}.pt"


def _find(path: Path, process_group: Any) -> Path:
    """This rank's file. Raises CheckpointError where there is none for as many ranks as there are now."""
    if not path.is_dir():
        return path
    shard, shards = _rank(process_group)
    file = path / _file_name(shard, shards)
    if file.is_file():
        return file
    found = ", ".join(sorted(other.name for other in path.glob("dataloader-*.pt"))[:4]) or "none"
    raise CheckpointError(
        f"cannot restore the data loader of rank {shard} of {shards}: {file.name} is not in {path}. Files of "
        f"loaders there: {found}. A position is that of one rank: restart with as many ranks as saved it"
    )


def _write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all, also after a power cut."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
