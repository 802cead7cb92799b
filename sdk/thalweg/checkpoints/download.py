"""A resolved checkpoint from the object store to this host's disk.

Guarantees: the destination appears whole or not at all; each file has the digest that was logged, or at least the
size where no digest is known; what is at the destination is never overwritten. Until then all of it lies beside
it, in "<to>.partial/", from where a later call goes on. Several processes may restore to one place: one of them
does it. Threads live as long as the call.

    <to>.partial/stamp.json   what is being restored: another checkpoint begins anew
    <to>.partial/lock         held by the process that restores
    <to>.partial/parts/       files that are not whole, by number
    <to>.partial/files/       whole files; this folder, or the single file in it, becomes <to>
"""

from __future__ import annotations

import errno
import fcntl
import filecmp
import hashlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from thalweg.checkpoints.local import PathLike, file_path, list_files
from thalweg.checkpoints.manifest import DIGEST_PREFIX
from thalweg.checkpoints.progress import Progress, Reporter
from thalweg.checkpoints.remote import RemoteFile, arrange, is_single_object, read_files, stamp_of
from thalweg.checkpoints.sink import Sink
from thalweg.checkpoints.transfer import (
    EXPIRED_MAX,
    ExpiredError,
    ForgottenError,
    Pace,
    RefusedError,
    RetryLaterError,
    Transfer,
    once,
)
from thalweg.console import say
from thalweg.errors import CheckpointError, InputError, NotFoundError
from thalweg.values import shorten

FILES_AT_ONCE: Final = 4

_STAMP_FILE: Final = "stamp.json"
_LOCK_FILE: Final = "lock"
_BLOCK_BYTES: Final = 1 << 20
_WRONG_MAX: Final = 2  # downloads of a file that turn out to be another's content

Resolved = Mapping[str, Any]


def download(
    resolved: Resolved,
    to: PathLike,
    *,
    base_url: str,
    refresh: Callable[[], Resolved],
    progress: Progress | None = None,
    pace: Pace | None = None,
) -> Path:
    """Brings a checkpoint to `to` and returns its path there: of the folder, or of the one file it is.

    `resolved`: the server's answer of `checkpoints/resolve`; `refresh` asks again, for fresh URLs. A checkpoint of
    one object becomes the file `to`, or a file in `to` where that is a folder or ends with "/"; all others become
    the folder `to`. An identical one that is there already is left as it is. Raises CheckpointError.
    """
    pace = pace or Pace()
    files = list(_expanded(read_files(resolved)))
    placed = arrange(files)
    target, name = _target(to, placed, is_single=is_single_object(resolved, placed))
    try:
        with _work_folder(target, placed, name) as work:
            if work is not None:
                _say_what_is_copied(placed)
                total_bytes = sum(file.size_bytes for file in placed.values())
                reporter = Reporter(f"restoring {target}", total_bytes, progress, pace.monotonic)
                _Download(work, placed, Transfer(base_url, pace), refresh, reporter).run()
                (work / "files" / name).rename(target)
                shutil.rmtree(work)
    except OSError as error:
        raise CheckpointError(f"cannot restore to {target}: {error}. What arrived is kept for the next call") from error
    return target


def _expanded(files: list[RemoteFile]) -> Iterator[RemoteFile]:
    """The files, and of folders on this host, whose files nobody listed, those that are in them."""
    for file in files:
        path = None if file.url else file_path(file.uri)
        if path is None or not path.is_dir():
            yield file
            continue
        try:
            for one in list_files(path, only_inside=False):
                yield replace(file, path=one.path, uri=one.source.as_uri(), size_bytes=one.size_bytes, digest="")
        except (InputError, OSError) as error:
            raise CheckpointError(f"cannot restore the checkpoint from {file.uri}: {error}") from error


def _target(to: PathLike, placed: Mapping[str, RemoteFile], *, is_single: bool) -> tuple[Path, str]:
    """Where the checkpoint is to be, and under which name it lies in "files/" until then: "" for all of that."""
    text = os.fspath(to)
    path = file_path(text)
    if path is None:
        raise InputError(f"cannot restore to {shorten(to)}: it is no local path")
    if not is_single:
        return path, ""
    (name,) = placed
    return (path / name if text.endswith("/") or path.is_dir() else path), name


def _check_reach(placed: Mapping[str, RemoteFile]) -> None:
    """That each file can be had, before the first one is. Raises CheckpointError."""
    for place, file in placed.items():
        path = file_path(file.uri)
        if file.url or (path is not None and path.is_file()):
            continue
        why = "the server cannot read that" if path is None else f"there is no such file on {socket.gethostname()}"
        raise CheckpointError(
            f"cannot restore {place}: it lies at {file.uri}, and {why}. "
            "Restore it on a host that can, or fetch it with that store's own tools"
        )


def _say_what_is_copied(placed: Mapping[str, RemoteFile]) -> None:
    local = [file for file in placed.values() if not file.url]
    if local:
        part = "all of it" if len(local) == len(placed) else f"{len(local)} of {len(placed)} files"
        say(f"copying the checkpoint from this host: {part}, from {local[0].uri}")


@contextmanager
def _work_folder(target: Path, placed: Mapping[str, RemoteFile], name: str) -> Iterator[Path | None]:
    """The folder beside the destination, for this process alone; None where the checkpoint is there already."""
    work = target.with_name(f"{target.name}.partial")
    stamp = stamp_of(placed)
    has_waited = False
    while True:
        if _is_there(target, placed, is_file=bool(name), trusts_sizes=has_waited):
            yield None
            return
        _check_reach(placed)
        _prepare(work, target)
        with _locked(work) as (is_current, other):
            has_waited = has_waited or other == stamp
            if is_current:
                _claim(work, stamp)
                yield work
                return


def _is_there(target: Path, placed: Mapping[str, RemoteFile], *, is_file: bool, trusts_sizes: bool) -> bool:
    """Whether the destination holds these files and no others. Raises CheckpointError where it holds something else."""
    if not os.path.lexists(target) or (not is_file and target.is_dir() and not any(target.iterdir())):
        return False
    try:
        if is_file:
            found = dict.fromkeys(placed, target)
        else:
            found = {one.path: one.source for one in list_files(target, only_inside=False)}
        is_same = found.keys() == placed.keys() and all(
            _is_content(found[place], file, trusts_sizes=trusts_sizes) for place, file in placed.items()
        )
    except (InputError, NotADirectoryError):
        is_same = False
    if not is_same:
        raise CheckpointError(
            f"cannot restore to {target}: it is there and not known to be the same. Remove it, or choose another place"
        )
    return True


def _is_content(path: Path, file: RemoteFile, *, trusts_sizes: bool) -> bool:
    if not path.is_file() or (file.size_bytes and path.stat().st_size != file.size_bytes):
        return False
    if file.digest:
        return _digest(path) == file.digest
    source = None if file.url else file_path(file.uri)
    if source is not None and source.is_file():
        return filecmp.cmp(path, source, shallow=False)
    return trusts_sizes


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return f"{DIGEST_PREFIX}{digest.hexdigest()}"


def _prepare(work: Path, target: Path) -> None:
    """Makes the folder, unless it is there. Raises CheckpointError where it is somebody else's."""
    work.mkdir(parents=True, exist_ok=True)
    if _stamp(work) is None and {entry.name for entry in work.iterdir()} - {_LOCK_FILE}:
        raise CheckpointError(f"cannot restore to {target}: {work} is in the way. Remove it, or choose another place")


def _stamp(work: Path) -> str | None:
    try:
        return str(json.loads((work / _STAMP_FILE).read_text())["stamp"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _claim(work: Path, stamp: str) -> None:
    """Throws away what is there of another checkpoint."""
    if _stamp(work) != stamp:
        for folder in ("parts", "files"):
            shutil.rmtree(work / folder, ignore_errors=True)
        draft = work / f".{_STAMP_FILE}"
        draft.write_text(json.dumps({"stamp": stamp}))
        draft.replace(work / _STAMP_FILE)
    for folder in ("parts", "files"):
        (work / folder).mkdir(exist_ok=True)


@contextmanager
def _locked(work: Path) -> Iterator[tuple[bool, str | None]]:
    """Yields whether the folder is still there and now this process' own, and the stamp of another that had it."""
    other = None
    try:
        descriptor = os.open(work / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # the other one has just finished
        yield False, None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = _stamp(work)
            say(f"waiting for another process that restores to {work}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have no locks: then two restores at once end in an error
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        try:
            is_current = os.path.samestat(os.fstat(descriptor), os.stat(work / _LOCK_FILE))
        except FileNotFoundError:
            is_current = False
        yield is_current, other
    finally:
        os.close(descriptor)


class _Download:
    """Brings all files into "files/"."""

    def __init__(
        self,
        work: Path,
        placed: Mapping[str, RemoteFile],
        transfer: Transfer,
        refresh: Callable[[], Resolved],
        reporter: Reporter,
    ) -> None:
        self._work = work
        self._placed = placed
        self._transfer = transfer
        self._refresh = refresh
        self._reporter = reporter
        self._lock = threading.Lock()
        self._urls = {file.key: file.url for file in placed.values()}

    def run(self) -> None:
        """Raises CheckpointError, OSError."""
        jobs = [partial(self._bring, number, place, file) for number, (place, file) in enumerate(self._placed.items())]
        self._transfer.run_all(jobs, FILES_AT_ONCE)

    def _bring(self, number: int, place: str, file: RemoteFile) -> None:
        """One file, if it is not there yet."""
        path = self._work / "files" / place
        if path.exists() and path.stat().st_size == (file.size_bytes or path.stat().st_size):
            self._reporter.add(place, path.stat().st_size)  # it was checked before it got this name
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with Sink(self._work / "parts" / f"{number:06d}") as sink:
            self._reporter.add(place, sink.size_bytes)
            if file.url:
                self._fetch(place, file, sink)
            else:
                self._copy(place, file, sink)
            sink.move_to(path)

    def _copy(self, place: str, file: RemoteFile, sink: Sink) -> None:
        self._restart(place, sink)
        sink.begin("")
        with Path(str(file_path(file.uri))).open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                self._transfer.check()
                self._write(place, block, sink)
        problem = _problem(file, sink)
        if problem:
            raise CheckpointError(f"cannot restore {place} from {file.uri}: {problem}")

    def _fetch(self, place: str, file: RemoteFile, sink: Sink) -> None:
        expired = wrong = expired_at_bytes = 0

        def attempt() -> None:
            nonlocal expired, expired_at_bytes, wrong
            url = self._urls[file.key] or ""
            try:
                if not file.size_bytes or sink.size_bytes != file.size_bytes:
                    self._receive(place, url, file, sink)
            except ExpiredError as error:
                expired = expired + 1 if sink.size_bytes <= expired_at_bytes else 1
                expired_at_bytes = sink.size_bytes
                if expired == EXPIRED_MAX:
                    raise RefusedError(str(error)) from error
                self._renew(file, url)
                raise
            except ForgottenError as error:
                raise RefusedError(f"it is not there any more ({error})") from error
            problem = _problem(file, sink)
            if problem:
                self._restart(place, sink)
                wrong += 1
                raise RefusedError(problem) if wrong == _WRONG_MAX else RetryLaterError(problem)

        self._transfer.persist(f"restore {place} from {file.uri}", attempt, lambda: sink.size_bytes)

    def _receive(self, place: str, url: str, file: RemoteFile, sink: Sink) -> None:
        """Appends what is missing, or begins anew where the object is not the one that was begun."""
        with self._transfer.get(url, sink.size_bytes) as response:
            etag = response.getheader("ETag") or ""
            start = f"bytes {sink.size_bytes}-"
            goes_on = response.status == 206 and (response.getheader("Content-Range") or "").startswith(start)
            if sink.size_bytes and not (goes_on and etag == sink.etag):
                self._restart(place, sink)
                if response.status != 200:
                    raise RetryLaterError("it has changed since the download began")
            if not sink.size_bytes:
                sink.begin(etag)
            for block in self._transfer.read(response):
                self._write(place, block, sink)
                if file.size_bytes and sink.size_bytes > file.size_bytes:
                    return

    def _write(self, place: str, block: bytes, sink: Sink) -> None:
        sink.write(block)
        self._reporter.add(place, len(block))

    def _restart(self, place: str, sink: Sink) -> None:
        sink.restart()
        self._reporter.take_back(place)

    def _renew(self, file: RemoteFile, url: str) -> None:
        """Fresh URLs, unless another thread has got them meanwhile. Raises RetryLaterError, RefusedError."""
        with self._lock:
            if self._urls[file.key] != url:
                return
            try:
                fresh = {one.key: one for one in read_files(once(self._refresh))}
            except NotFoundError as error:
                raise RefusedError(str(error)) from error
            for old in self._placed.values():
                new = fresh.get(old.key)
                if old.url and (new is None or not new.url or not new.is_same(old)):
                    raise RefusedError("the checkpoint was changed or deleted meanwhile")
                if old.url and new is not None:
                    self._urls[old.key] = new.url


def _problem(file: RemoteFile, sink: Sink) -> str:
    """Why the bytes are not the file's; empty if they are."""
    if file.size_bytes and sink.size_bytes != file.size_bytes:
        return f"it has {sink.size_bytes} bytes, and had {file.size_bytes} when it was logged"
    if file.digest and sink.digest != file.digest:
        return f"its digest is {sink.digest}, and was {file.digest} when it was logged"
    return ""
