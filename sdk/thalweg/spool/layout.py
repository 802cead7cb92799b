"""Names of files in a writer's folder, and the identity that lies in it as `writer.json`.

Owns the paths; knows nothing of what the files hold but the identity.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

IDENTITY_FILE: Final = "writer.json"
STATE_FILE: Final = "state"
STATUS_FILE: Final = "sender.json"
LOG_FILE: Final = "sender.log"
LOCK_FILE: Final = "sender.lock"
WRITER_LOCK_FILE: Final = "writer.lock"
QUARANTINE_FOLDER: Final = "quarantine"
SEGMENT_SUFFIX: Final = ".seg"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """How the branch of the run began that a writer logs to: `pb.Origin`, as it lies in writer.json."""

    kind: Literal["start", "fork", "rewind"]
    parent_run_id: str = ""
    parent_branch: int | None = None
    step: float = -math.inf  # the last one that is inherited
    attempt: str = ""
    branch: int | None = None  # of the run, where the server has told


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes a spool folder, as it must be known to deliver it later, on its own."""

    project: str
    run_id: str
    rank: int
    writer: str  # 32 hexadecimal digits
    url: str  # the server's HTTP address at the time of init
    host: str  # name of the host on which `pid` is meant
    pid: int  # the process whose end is watched
    process_started: float  # as process.py tells it
    primary: bool
    mode: str  # online or offline
    format: int = FORMAT
    origin: Origin | None = None  # None: the run goes on as it stands
    branch: int | None = None  # on which it stands, where the server has told
    began_us: int = 0  # when the training process began; its helpers repeat it. 0: not told


def new_writer_id() -> str:
    """A random 128-bit id as 32 hexadecimal digits."""
    return uuid.uuid4().hex


def create_folder(spool_dir: Path, identity: Identity) -> Path:
    """Makes the writer's folder with its identity in it and returns its absolute path. Raises OSError."""
    folder = spool_dir.absolute() / identity.writer  # a training may change its working directory
    folder.mkdir(parents=True, mode=0o700)
    write_atomically(folder / IDENTITY_FILE, json.dumps(asdict(identity), indent=1))
    return folder


def read_identity(folder: Path) -> Identity:
    """The identity of a writer's folder. Raises OSError, or ValueError where it is not one."""
    document = json.loads((folder / IDENTITY_FILE).read_text())
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"cannot read {folder / IDENTITY_FILE}: its format is not {FORMAT}")
    try:
        origin = document.pop("origin", None)
        return Identity(**document, origin=None if origin is None else Origin(**origin))
    except TypeError as error:
        raise ValueError(f"cannot read {folder / IDENTITY_FILE}: {error}") from error


def writer_folders(spool_dir: Path) -> list[Path]:
    """All writers' folders of a spool, oldest first."""
    found: list[tuple[float, Path]] = []
    for path in spool_dir.glob(f"*/{IDENTITY_FILE}"):
        with suppress(FileNotFoundError):  # delivered and deleted meanwhile
            found.append((path.stat().st_mtime, path.parent))
    return [folder for _, folder in sorted(found)]


def segment_path(folder: Path, number: int) -> Path:
    """Path of a segment. Numbers begin at 1."""
    return folder / f"{number:08d}{SEGMENT_SUFFIX}"


def segment_numbers(folder: Path) -> list[int]:
    """Numbers of the segments that are there, ascending."""
    names = (entry.name for entry in os.scandir(folder) if entry.name.endswith(SEGMENT_SUFFIX))
    return sorted(int(name[: -len(SEGMENT_SUFFIX)]) for name in names if name[:-4].isdecimal())


def write_atomically(path: Path, text: str) -> None:
    """Replaces a small file so that a reader sees the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def hold_writer_lock(folder: Path) -> int:
    """Marks the folder as written to, as long as the descriptor is open in any process. Raises OSError."""
    descriptor = os.open(folder / WRITER_LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def is_written_to(folder: Path) -> bool:
    """Whether its writer still holds the folder: also where its pid means nothing, as across containers."""
    try:
        descriptor = os.open(folder / WRITER_LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def sender_lock(folder: Path) -> Iterator[bool]:
    """Yields whether this process now is the one that delivers the folder."""
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
