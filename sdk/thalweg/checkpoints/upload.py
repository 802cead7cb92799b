"""A file or folder to the object store, in parts, through URLs that the server presigns.

Guarantees: an object is there whole or not at all; what arrived is not sent again, also not after a crash of this
process; a file that changes while it is read is refused. Memory: a few parts, see `parts.Room`. Threads live as
long as the call.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from thalweg.api_client import ApiClient, run_path
from thalweg.checkpoints.local import LocalFile, PathLike, describe_file, file_path, list_files
from thalweg.checkpoints.manifest import DIGEST_PREFIX, ManifestFile, check_path, digest_of
from thalweg.checkpoints.parts import PARTS_AT_ONCE, PartUrls, Room, UploadAnswer
from thalweg.checkpoints.progress import Progress, Reporter
from thalweg.checkpoints.record import manifest_problem
from thalweg.checkpoints.transfer import (
    BLOCK_BYTES,
    EXPIRED_MAX,
    PATIENCE_S,
    ExpiredError,
    ForgottenError,
    OtherBytesError,
    Pace,
    RefusedError,
    RetryLaterError,
    Transfer,
    once,
)
from thalweg.checkpoints.upload_state import FileState, Target, UploadState
from thalweg.errors import CheckpointError, InputError, NotFoundError, ServerError
from thalweg.values import shorten

FILES_AT_ONCE: Final = 4

_BEGINS_MAX: Final = 3  # of one file, where the store forgets its uploads
_NO_FILE: Final = "empty"
_REST_MAX_CHARS: Final = 256 << 10  # of a record without its manifest: URI, metrics and metadata


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What lies in the object store now."""

    uri: str
    """Of the object; of a folder it ends with "/"."""
    files: tuple[ManifestFile, ...]
    """Of a folder, sorted by path. Of a single object none."""
    size_bytes: int
    digest: str
    """SHA-256 of the file; of a folder, see `manifest.digest_of`."""


def upload(
    client: ApiClient,
    source: PathLike,
    target: Target,
    *,
    state_path: Path,
    progress: Progress | None = None,
    pace: Pace | None = None,
    hurries: bool = False,
) -> Uploaded:
    """Uploads a file or folder; with the same `state_path` it goes on where an earlier call ended.

    Links in a folder are followed to files inside it; empty folders are not kept. `progress(done, total)` in bytes;
    without it, a long upload says a line every 10 s. `hurries`: the server is thought to be away, one short try must
    do to begin; `transfer` says how long it is waited for. Raises InputError for what cannot be uploaded, and
    CheckpointError where it did not succeed.
    """
    pace = pace or Pace()
    try:
        path = file_path(os.fspath(source))
        if path is None or not path.exists():
            raise InputError("there is no such file or folder")
        files = list_files(path, only_inside=True) if path.is_dir() else [describe_file(path, check_path(path.name))]
        _check_manifest(files)
        state = UploadState(state_path, path, target, pace.monotonic)
        reporter = Reporter(f"uploading {path}", sum(file.size_bytes for file in files), progress, pace.monotonic)
        job = _Upload(client, target, state, reporter, pace, hurries=hurries)
        done = job.send_all(files)
        folder_uri = job.folder_uri() if path.is_dir() else ""
    except InputError as error:
        raise InputError(f"cannot upload {shorten(source, 200)}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"cannot upload {shorten(source, 200)}: {error}") from error
    state.remove()
    manifest = tuple(
        ManifestFile(file.path, file.size_bytes, one.digest) for file, one in zip(files, done, strict=True)
    )
    if not folder_uri:
        return Uploaded(done[0].uri, (), manifest[0].size_bytes, manifest[0].digest)
    return Uploaded(folder_uri, manifest, sum(file.size_bytes for file in manifest), digest_of(manifest))


def _check_manifest(files: list[LocalFile]) -> None:
    """Before hours of upload: that its record will fit."""
    placeholder = DIGEST_PREFIX + "0" * 64
    listed = [ManifestFile(file.path, file.size_bytes, placeholder).as_json() for file in files]
    problem = manifest_problem({"files": listed, "rest": "x" * _REST_MAX_CHARS})
    if problem:
        raise InputError(problem)


def _uploads_path(target: Target) -> str:
    return f"{run_path(target.project, target.run_id)}/uploads"


def _body(target: Target, upload_name: str, path: str, size_bytes: int) -> dict[str, Any]:
    """What names a file of an upload in each request."""
    return {
        "branch": target.branch,
        "step": target.step,
        "kind": target.kind,
        "shard": target.shard,
        "upload": upload_name,
        "path": path,
        "size_bytes": size_bytes,
    }


class _Upload:
    """One call of `upload`."""

    def __init__(
        self,
        client: ApiClient,
        target: Target,
        state: UploadState,
        reporter: Reporter,
        pace: Pace,
        *,
        hurries: bool,
    ) -> None:
        self._client = client
        self._target = target
        self._state = state
        self._reporter = reporter
        self._pace = pace
        self._transfer = Transfer(client.url, pace, has_answered=False, hurries=hurries)
        self._room = Room(self._transfer)

    def send_all(self, files: list[LocalFile]) -> list[FileState]:
        """Uploads what is not complete yet."""
        try:
            with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="thalweg-part") as pool:
                jobs = [partial(self._send, file, pool) for file in files]
                return self._transfer.run_all(jobs, FILES_AT_ONCE)
        finally:
            self._state.save()

    def folder_uri(self) -> str:
        """Where the files are. An upload without files begins one to learn it, and takes that back."""
        if self._state.folder_uri:
            return self._state.folder_uri
        nothing = LocalFile(_NO_FILE, Path(), 0, 0)
        answer = self._begin(nothing, None)
        self._abort(nothing, answer.upload_id)
        return answer.folder_uri

    def _send(self, file: LocalFile, pool: ThreadPoolExecutor) -> FileState:
        """One file, from its begin to its end, or from where an earlier call came to."""
        known = self._known(file)
        if known is not None and known.uri:
            self._reporter.add(file.path, file.size_bytes)
            return known
        upload_id = None if known is None else known.upload_id
        for _ in range(_BEGINS_MAX):
            answer = self._begin(file, upload_id)
            is_long = file.size_bytes > answer.part_bytes
            begun = FileState(file.size_bytes, file.mtime_ns, answer.upload_id)
            self._state.put(file.path, begun, answer.folder_uri, now=is_long)
            try:
                digest, etags = self._send_parts(file, answer, pool)
                uri = self._complete(file, answer.upload_id, etags)
            except ForgottenError as error:
                upload_id, last = None, error
                self._reporter.take_back(file.path)
                continue
            complete = replace(begun, uri=uri, digest=digest)
            self._state.put(file.path, complete, answer.folder_uri, now=is_long)
            return complete
        raise CheckpointError(f"cannot upload {file.path}: its upload was gone {_BEGINS_MAX} times ({last})")

    def _known(self, file: LocalFile) -> FileState | None:
        """What an earlier call did of it. If the file has changed since, that is thrown away."""
        known = self._state.find(file.path)
        if known is None or known.is_of(file):
            return known
        if not known.uri:
            self._abort(file, known.upload_id)
        return None

    def _send_parts(
        self, file: LocalFile, answer: UploadAnswer, pool: ThreadPoolExecutor
    ) -> tuple[str, dict[int, str]]:
        """Reads the file once, from begin to end; sends what is missing. Digest of the file, and etags by number."""
        urls = PartUrls(answer, partial(self._begin_again, file, answer.upload_id), self._pace.monotonic)
        digest = hashlib.sha256()
        etags: dict[int, str] = {}
        sent: dict[int, Future[str]] = {}
        with file.source.open("rb") as stream:
            _check_unchanged(stream, file)
            for number, size_bytes in answer.parts(file.size_bytes):
                self._transfer.check()
                etag, arrived_bytes = answer.done.get(number, ("", -1))
                if arrived_bytes == size_bytes:
                    etags[number] = etag
                    for at in range(0, size_bytes, BLOCK_BYTES):
                        digest.update(_read(stream, min(BLOCK_BYTES, size_bytes - at), file))
                    self._reporter.add(file.path, size_bytes)
                    continue
                self._room.take(size_bytes)
                try:
                    data = _read(stream, size_bytes, file)
                    digest.update(data)
                    sent[number] = pool.submit(
                        self._transfer.guarded, partial(self._send_part, file, number, data, urls)
                    )
                except BaseException:
                    self._room.give_back(size_bytes)
                    raise
                del data  # the part's own thread has it
                if urls.is_forgotten:
                    break
            wait(sent.values())
            etags.update((number, future.result()) for number, future in sent.items())
            _check_unchanged(stream, file)
        return f"{DIGEST_PREFIX}{digest.hexdigest()}", etags

    def _send_part(self, file: LocalFile, number: int, data: bytes, urls: PartUrls) -> str:
        """Etag of a part, once the store has it."""
        expired = 0
        is_wrong = False

        def attempt() -> str:
            nonlocal expired, is_wrong
            url, etag = urls.find(number, len(data))
            if etag and is_wrong:
                raise RefusedError("the object store keeps other bytes than were sent")
            if etag:  # it arrived, though the answer did not
                return etag
            try:
                return self._transfer.put(url, data)
            except OtherBytesError:
                is_wrong = True
                raise
            except ExpiredError as error:
                urls.drop(number, url)
                expired += 1
                if expired == EXPIRED_MAX:
                    raise RefusedError(str(error)) from error
                raise
            except RetryLaterError:
                urls.drop(number, url)  # its credentials may have ended: some stores then hang up
                raise

        try:
            etag = self._transfer.persist(f"upload {file.path}, part {number}", attempt)
        except ForgottenError:
            urls.is_forgotten = True
            raise
        finally:
            self._room.give_back(len(data))
        self._reporter.add(file.path, len(data))
        return etag

    def _begin(self, file: LocalFile, upload_id: str | None) -> UploadAnswer:
        """Begins an upload, or goes on with one; anew where that is gone."""
        what = f"begin the upload of {file.path}"
        try:
            return self._transfer.persist(what, lambda: self._ask_to_begin(file, upload_id))
        except NotFoundError as error:
            if upload_id is None:
                raise CheckpointError(f"cannot {what}: {error}") from error
        return self._begin(file, None)

    def _begin_again(self, file: LocalFile, upload_id: str) -> UploadAnswer:
        try:
            return self._ask_to_begin(file, upload_id)
        except NotFoundError as error:
            raise ForgottenError(str(error)) from error

    def _ask_to_begin(self, file: LocalFile, upload_id: str | None) -> UploadAnswer:
        body = _body(self._target, self._state.upload, file.path, file.size_bytes) | {"upload_id": upload_id}
        path, timeout_s = _uploads_path(self._target), self._transfer.answer_s()
        return UploadAnswer.read(once(lambda: self._client.post(path, body, timeout_s=timeout_s)))

    def _complete(self, file: LocalFile, upload_id: str, etags: dict[int, str]) -> str:
        """Makes the object of its parts, and returns its URI."""
        parts = [{"number": number, "etag": etag} for number, etag in sorted(etags.items())]
        named = _body(self._target, self._state.upload, file.path, file.size_bytes)
        body = named | {"upload_id": upload_id, "parts": parts}
        path = f"{_uploads_path(self._target)}/complete"
        what = f"complete the upload of {file.path}"

        def attempt() -> Any:  # asked twice, a server that is slow to do it has forgotten the upload by then
            return once(lambda: self._client.post(path, body, timeout_s=PATIENCE_S))

        try:
            answer = self._transfer.persist(what, attempt)
        except NotFoundError as error:
            raise ForgottenError(str(error)) from error
        if answer["size_bytes"] != file.size_bytes:
            raise CheckpointError(f"cannot {what}: it has {answer['size_bytes']} bytes there, {file.size_bytes} here")
        return str(answer["uri"])

    def _abort(self, file: LocalFile, upload_id: str) -> None:
        """Throws an upload away; where that fails, the object store does it one day."""
        body = _body(self._target, self._state.upload, file.path, file.size_bytes) | {"upload_id": upload_id}
        with suppress(ServerError):
            self._client.post(f"{_uploads_path(self._target)}/abort", body, timeout_s=self._transfer.answer_s())


def _read(stream: BinaryIO, size_bytes: int, file: LocalFile) -> bytes:
    data = stream.read(size_bytes)
    if len(data) != size_bytes:
        raise _has_changed(file)
    return data


def _check_unchanged(stream: BinaryIO, file: LocalFile) -> None:
    found = os.fstat(stream.fileno())
    if (found.st_size, found.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        raise _has_changed(file)


def _has_changed(file: LocalFile) -> CheckpointError:
    return CheckpointError(f"cannot upload {file.path}: it changes while it is uploaded. Call again when it is written")
