"""Backups that a server was asked for: one at a time, in a thread of its own, watched by whoever asks. Threads: any."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from thalweg_tracker.care.backup import Progress, StoppedError, take_backup
from thalweg_tracker.care.manifest import Manifest
from thalweg_tracker.care.places import open_place
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import NotFoundError, RejectedError, TrackerError

log = logging.getLogger(__name__)

State = Literal["running", "done", "failed", "cancelled"]
_NOTHING: Final = Progress("", 0, 0)


@dataclass(frozen=True, slots=True)
class BackupState:
    """What became of a backup so far."""

    id: str
    to: str
    state: State
    started_us: int
    progress: Progress = _NOTHING
    manifest: Manifest | None = None
    error: str = ""


class BackupJobs:
    """The backups of one server process."""

    def __init__(self, engine: Engine, environ: Mapping[str, str] = os.environ) -> None:
        self._engine = engine
        self._environ = environ
        self._lock = threading.Lock()
        self._last: BackupState | None = None
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._is_cancelled = False

    def start(self, to: str) -> BackupState:
        """Begins one. Raises RejectedError while another goes on, or where `to` is no absolute path and no bucket."""
        if "://" not in to and not os.path.isabs(to):
            raise RejectedError(
                "bad_place", f"cannot back up to {to!r}: the server needs an absolute path", "Or s3://bucket/prefix."
            )
        with self._lock:
            if self._last is not None and self._last.state == "running":
                raise RejectedError(
                    "backup_running", f"a backup to {self._last.to} is under way", "Begin another when it has ended."
                )
            self._stopped, self._is_cancelled = threading.Event(), False
            state = self._last = BackupState(secrets.token_hex(8), to, "running", time.time_ns() // 1000)
            self._thread = threading.Thread(target=self._run, args=(state,), name="backup")
            self._thread.start()
        return state

    def last(self) -> BackupState:
        """The backup that is under way, or was the last one of this process. Raises NotFoundError."""
        if self._last is None:
            raise NotFoundError("no_backup", "this server process was not asked for a backup yet")
        return self._last

    def cancel(self, backup_id: str) -> BackupState:
        """Calls a backup off: it ends at its next step, and leaves no manifest. One that has ended stays what it is.

        Raises NotFoundError for one that is neither under way nor the last one of this process.
        """
        with self._lock:
            found = self._last
            if found is None or found.id != backup_id:
                raise NotFoundError("no_backup", f"this server process makes no backup {backup_id[:64]!r}")
            if found.state == "running":
                log.info("the backup to %s is called off", found.to)
                self._is_cancelled = True
                self._stopped.set()
        return found

    def stop(self) -> None:
        """Calls off the one that is under way, and waits for that."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, begun: BackupState) -> None:
        def tell(progress: Progress) -> None:
            self._last = replace(begun, progress=progress)

        try:
            with open_place("to", begun.to, self._environ) as place:
                made = take_backup(self._engine, place, begun.started_us, tell, self._stopped.is_set)
            self._last = replace(self.last(), state="done", manifest=made)
            log.info("backed up %d rows to %s", made.rows, begun.to)
        except StoppedError:
            if self._is_cancelled:
                self._last = replace(self.last(), state="cancelled", error="the backup was called off")
            else:
                stopped = "the server stopped before the backup was whole"
                self._last = replace(self.last(), state="failed", error=stopped)
        except TrackerError as error:
            log.warning("the backup to %s failed: %s", begun.to, error)
            self._last = replace(self.last(), state="failed", error=str(error))
        except Exception:  # the outermost line of a thread
            log.exception("the backup to %s failed", begun.to)
            self._last = replace(self.last(), state="failed", error="a defect of the server; its log says where")
