"""`Run`: what a training script holds. Owns the user's words; recorder.py does the work.

Thread-safe. With mode "disabled" every method returns at once.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from thalweg import attributes, checkpointing
from thalweg.beginning import Beginning
from thalweg.checkpoints.local import PathLike
from thalweg.checkpoints.progress import Progress
from thalweg.checkpoints.record import check_step
from thalweg.checkpoints.upload_state import Target
from thalweg.console import say
from thalweg.errors import InputError
from thalweg.recorder import Recorder
from thalweg.settings import Settings
from thalweg.system.redact import redact_text
from thalweg.wire import limits

_POLL_S: Final = 0.005
FINISH_TIMEOUT_S: Final = 60.0
UNREACHABLE_GRACE_S: Final = 3.0


class Run:
    """One training execution, as seen from one of its processes.

    Use as a context manager, or call `finish()`, or let the end of the interpreter do it.
    """

    def __init__(
        self,
        beginning: Beginning,
        settings: Settings,
        recorder: Recorder | None,
        *,
        on_finish: Callable[[Run], None],
        on_fork: Callable[..., Run],
    ) -> None:
        self._beginning = beginning
        self._settings = settings
        self._recorder = recorder
        self._on_finish = on_finish
        self._on_fork = on_fork
        self._is_finished = False
        self._staged: checkpointing.Staged = {}
        self.config = Config(self, beginning.inherited)

    @property
    def run_id(self) -> str:
        """The run's user-visible id."""
        return self._beginning.run_id

    @property
    def project(self) -> str:
        """The project that the run belongs to."""
        return self._settings.project

    @property
    def settings(self) -> Settings:
        """What the run was started with."""
        return self._settings

    @property
    def url(self) -> str:
        """The server's HTTP address."""
        return self._settings.url

    @property
    def branch(self) -> int | None:
        """The branch of the run that this process logs to; None where the server was not asked, or did not know."""
        return self._beginning.branch

    @property
    def fork_step(self) -> float | None:
        """The last step that this branch has from another one: where to restore from. None where it begins anew."""
        return self._beginning.fork_step

    @property
    def forked_from(self) -> str | None:
        """The run that this branch continues; None where it begins anew."""
        origin = self._beginning.origin
        return None if origin is None or self.fork_step is None else origin.parent_run_id or self.run_id

    def fork(
        self,
        step: float | None = None,
        *,
        run_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
    ) -> Run:
        """Starts a new run whose series and config begin with those of this one, up to and including `step`.

        `step` None: the highest logged so far. Both runs go on, in this process. Raises InputError, ServerError.
        """
        at = self._highest_step if step is None else step
        self.flush(timeout=UNREACHABLE_GRACE_S)  # the server must know the run
        return self._on_fork(self, at, run_id=run_id, config=config, name=name, tags=tags, notes=notes)

    @property
    def _highest_step(self) -> float:
        if self._recorder is None:
            return 0.0
        return self._recorder.next_step - 1

    def log(self, values: Mapping[str, Any], step: float | None = None) -> None:
        """Logs one value for each metric, at one step and the present time.

        `values`: numbers, NumPy or torch scalars, or nested mappings of them, joined by "/". NaN and
        infinities are kept. `step`: finite; None continues after the highest step so far. After the
        return, `kill -9` loses nothing. Bad input is warned about once and counted on the run; it raises
        `InputError` only where the run was made with `strict=True`.
        """
        if self._recorder is not None:
            self._recorder.log(values, step)

    def log_checkpoint(
        self,
        uri: PathLike,
        *,
        step: float,
        kind: str = "full",
        shards: int | Sequence[Any] | None = None,
        shard: int | None = None,
        size_bytes: int | None = None,
        digest: str | None = None,
        files: Sequence[Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        state: str = "durable",
        staged_at: float | datetime | None = None,
        blocked_s: float | None = None,
    ) -> None:
        """Records where a state of the training was saved. Nothing is read but sizes, and nothing is copied.

        `uri`: s3://bucket/key, or a local path; with a trailing "/" or a folder: all below it. `kind`: "full",
        "model", "optimizer" or "dataloader". `shards`: how many processes write parts of it, of which this one wrote
        part `shard` (its rank, if not given); or the list of all parts, as URIs or mappings of "path", "size_bytes"
        and "digest" ("sha256:..."). `state` "staged": it is copied aside and being written, `staged_at` (seconds
        since the epoch) says since when; say it again as "durable" when it is. `blocked_s`: seconds for which saving
        held the training up, from which the best interval is computed. Bad input is told, and raises where strict.
        """
        if self._recorder is None:
            return
        told: dict[str, Any] = {
            "step": step, "kind": kind, "shards": shards, "shard": shard, "size_bytes": size_bytes, "digest": digest,
            "files": files, "metrics": metrics, "metadata": metadata, "state": state, "staged_at": staged_at,
            "blocked_s": blocked_s,
        }  # fmt: skip
        try:
            checkpointing.record(self._recorder, uri, rank=self._settings.rank, staged=self._staged, **told)
        except InputError as error:
            self._recorder.complain(error)

    def save_checkpoint(
        self,
        path: PathLike,
        *,
        step: float,
        kind: str = "full",
        shard: int = 0,
        shards: int = 1,
        metrics: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        staged_at: float | datetime | None = None,
        blocked_s: float | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Uploads a file or folder to the server's object store, records it as a checkpoint, and returns its URI.

        The upload goes in parts, whose digests are checked, and resumes where an earlier call for the same path, step
        and kind ended. `blocked_s`: seconds for which saving held the training up, if not for the whole call.
        `progress(done, total)` in bytes. Offline, or where the upload does not succeed, the local
        path is recorded, and returned as a file:// URI; where strict the latter raises CheckpointError or ServerError.
        Bad input is told, and raises InputError where strict.
        """
        recorder = self._recorder
        if recorder is None:
            return checkpointing.local_uri(path)
        began_s = time.monotonic()
        try:
            at = check_step(step, recorder.after)
            if not recorder.state.acked and not recorder.is_server_away():
                self.flush(timeout=UNREACHABLE_GRACE_S)  # the server must know the run
            return checkpointing.save(
                recorder,
                self._settings,
                path,
                Target(self.project, self.run_id, self.branch, at, kind, shard),
                progress=progress,
                metrics=metrics,
                metadata=metadata,
                shards=shards,
                staged_at=staged_at,
                blocked_s=blocked_s,
                began_s=began_s,
            )
        except InputError as error:
            recorder.complain(error)
            return checkpointing.local_uri(path)

    def restore(
        self, step: float | None = None, *, to: PathLike, kind: str | None = None, progress: Progress | None = None
    ) -> Path:
        """Downloads the nearest complete checkpoint at or before `step` to `to`, and returns its path.

        `step` None: the one at which this branch was forked or rewound, else the latest. Ancestors' checkpoints count.
        Raises NotFoundError where there is none, ServerError, CheckpointError where it is not what was saved.
        """
        self.flush(timeout=UNREACHABLE_GRACE_S)
        at = self.fork_step if step is None else step
        return checkpointing.bring_back(
            self._settings, self.project, self.run_id, at, to, branch=self.branch, kind=kind, progress=progress
        )

    def set_attributes(self, namespace: str, values: Mapping[str, Any]) -> None:
        """Sets attributes below "config", "env" or "run". A bad one is warned about, or raises where strict."""
        if self._recorder is not None and values:
            self._recorder.set_attributes(namespace, values)

    def remove_attribute(self, path: str) -> None:
        """Removes one attribute by its whole path."""
        if self._recorder is not None:
            self._recorder.event("attributes", {"attributes": {path: ""}})

    def add_tags(self, *tags: str) -> None:
        """Adds tags to the run."""
        self.set_attributes("tags", dict.fromkeys(tags, True))

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until the server has acknowledged everything logged so far, and says whether it has.

        `timeout` in seconds; None waits as long as it takes. Offline nothing is acknowledged: False at once.
        """
        recorder = self._recorder
        if recorder is None:
            return True
        if self._settings.mode == "offline":
            return False
        deadline = None if timeout is None else time.monotonic() + timeout
        sequence = recorder.sequence  # what other threads log meanwhile is not waited for
        while recorder.state.acked < sequence:
            recorder.check_sender()
            if recorder.sender_status().get("status") == "refused":
                return False
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    @property
    def unacknowledged(self) -> int:
        """Records, such as calls of `log()`, that the server has not acknowledged yet."""
        recorder = self._recorder
        return 0 if recorder is None else max(recorder.sequence - recorder.state.acked, 0)

    def finish(self, exit_code: int = 0) -> None:
        """Ends the run: "finished" for exit code 0, else "failed". Waits for the ack of a server in reach."""
        self._end(_describe_exit(exit_code))

    def finish_with(self, error: BaseException) -> None:
        """Ends the run as failed by an uncaught exception."""
        self._end(describe_exception(error))

    def finish_at_exit(self, error: BaseException | None, exit_code: object) -> None:
        """Ends the run at the end of the interpreter, whose exit code is only guessed: the sender will see it."""
        self._end({**(_describe_exit(exit_code) if error is None else describe_exception(error)), "at_exit": True})

    def _end(self, last_word: dict[str, Any]) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        self._on_finish(self)
        recorder = self._recorder
        if recorder is None:
            return
        recorder.close(last_word)
        if recorder.is_owner:
            self._wait_for_delivery(recorder)

    def _wait_for_delivery(self, recorder: Recorder) -> None:
        """Waits while the server takes records; says what happens with the rest."""
        if self._settings.mode == "offline":
            say(f"run {self.run_id} is recorded. To send it: thalweg sync {self._settings.spool_dir}")
            return
        started = time.monotonic()
        while not self.flush(timeout=0.25):
            waited_s = time.monotonic() - started
            status = recorder.sender_status()
            unreachable = status.get("status") == "waiting" and waited_s > UNREACHABLE_GRACE_S
            if status.get("status") == "refused":
                say(
                    f"run {self.run_id} is not delivered: the server refuses it ({status.get('error')}). Nothing is "
                    f"retried; the records are kept in {recorder.folder}."
                )
                return
            if unreachable or waited_s > FINISH_TIMEOUT_S:
                reason = status.get("error") or "the server is slow"
                say(
                    f"run {self.run_id} is not delivered yet ({reason}). The sender goes on in the background; "
                    f"nothing is lost: the records are in {recorder.folder}, and `thalweg sync` sends them too."
                )
                return

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.finish_with(error)

    def __repr__(self) -> str:
        return f"<thalweg.Run {self.project}/{self.run_id} ({self._settings.mode})>"


class Config(MutableMapping[str, Any]):
    """The run's configuration as a mapping of dotted paths; "/" means the same as ".".

    Holds what this process has set, and in a fork or rewind what it has inherited; setting a nested mapping sets
    its leaves.
    """

    def __init__(self, run: Run, inherited: Mapping[str, Any]) -> None:
        self._run = run
        self._values = {attributes.join(*parts): value for parts, value in attributes.flatten(inherited)}

    def __setitem__(self, path: str, value: Any) -> None:
        self.update({path: value})

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Sets several values with one record."""
        values = dict(*args, **kwargs)
        self._run.set_attributes("config", values)
        for parts, value in attributes.flatten(values):
            with suppress(InputError):  # which was told, or raised, above
                self._values[attributes.join(*parts)] = value

    def __getitem__(self, path: str) -> Any:
        return self._values[attributes.join(path)]

    def __delitem__(self, path: str) -> None:
        key = attributes.join(path)
        del self._values[key]
        self._run.remove_attribute(f"config.{key}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def describe_exception(error: BaseException) -> dict[str, Any]:
    """The last word of a run that an exception ended, without secrets in its message and lines of source."""
    if isinstance(error, SystemExit):
        return _describe_exit(error.code)
    # Redacted before it is cut: half a secret does not look like one. The message by itself: after the name of, say,
    # a NoCredentialsError all of its line would go.
    message = redact_text(_message(error))
    trace = redact_text("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    interrupted = isinstance(error, KeyboardInterrupt)
    return {
        "outcome": "killed" if interrupted else "failed",
        "exit_code": None if interrupted else 1,
        "signal": 2 if interrupted else None,
        "exception": f"{type(error).__name__}: {message}"[:4096],
        "traceback": trace[-limits.TRACEBACK_MAX_BYTES // 4 :],
    }


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001  # a user's __str__ may raise anything
        return f"<no message: its __str__ raised {type(failure).__name__}>"


def _describe_exit(code: object) -> dict[str, Any]:
    """The last word of a process that ends with `sys.exit(code)`, with the exit code as its parent sees it."""
    status = 0 if code is None else code & 0xFF if isinstance(code, int) else 1
    return {"outcome": "failed" if status else "finished", "exit_code": status}
