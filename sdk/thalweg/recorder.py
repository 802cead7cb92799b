"""Turns what a training process says into spool records. Owns the lock, the spool folder and the sender's life.

Thread-safe, and safe in signal handlers: what one says in the middle of a call of its own thread is done when that
call is. No network: the lock is held for the time of a memory copy. After `os.fork()` the child records into a folder
of its own. Nothing here raises into a training loop, unless `strict`.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from time import time_ns
from typing import Any, Final

from thalweg import attributes
from thalweg.console import call_site, say
from thalweg.errors import InputError
from thalweg.sender.launch import SenderProcess, start_sender
from thalweg.settings import Settings
from thalweg.spool import layout, process
from thalweg.spool.state import State
from thalweg.spool.writer import SpoolFullError, SpoolWriter
from thalweg.values import Refusal, shorten, sort_out
from thalweg.wire import limits

_CHECK_SENDER_US: Final = 1_000_000
_RESTART_MOST_US: Final = 60_000_000
_RETRY_FULL_US: Final = 100_000
_WARN_EVERY_US: Final = 60_000_000
_KNOWN_COMPLAINTS_MAX: Final = 1000
_REOPEN_S: Final = 10.0
_UNSAID_MAX: Final = 1000
"""Events that wait in memory for room in the spool: the start of the writer first of all."""
_UNSAID_MAX_BYTES: Final = 64 << 20


class Recorder:
    """The recording end of one run in one process."""

    def __init__(
        self,
        settings: Settings,
        run_id: str,
        *,
        next_step: float,
        strict: bool,
        origin: layout.Origin | None = None,
        branch: int | None = None,
    ) -> None:
        """Makes the spool folder and starts the sender. Raises OSError.

        `origin`: of the branch; None: the run goes on as it stands, on `branch`, if the server has told.
        """
        self._settings = settings
        self._run_id = run_id
        self._origin = origin
        self._branch = branch
        self._began_us = time.time_ns() // 1000
        self._after = origin.step if origin is not None and origin.kind != "start" else -math.inf
        self.is_strict = strict
        self._next_step = next_step
        self._last_time_us = 0
        self._complaints: set[tuple[str, str]] = set()
        self._lock = threading.RLock()
        self._is_busy = False
        self._deferred: deque[Callable[[], object]] = deque()
        self._is_closed = False
        self._reopen_due_s = 0.0
        self._open(primary=True)
        _alive.add(self)

    def _open(self, *, primary: bool) -> None:
        """Begins a folder as this process. Raises OSError."""
        self._pid = os.getpid()
        self._primary = primary
        self._full_until_us = 0
        self._full_warning_due_us = 0
        self._check_sender_due_us = 0
        self._restart_delay_us = _CHECK_SENDER_US
        identity = layout.Identity(
            project=self._settings.project,
            run_id=self._run_id,
            rank=self._settings.rank,
            writer=layout.new_writer_id(),
            url=self._settings.url,
            host=socket.gethostname(),
            pid=self._pid,
            process_started=process.started_s(self._pid),
            primary=primary,
            mode=self._settings.mode,
            origin=self._origin,
            branch=self._branch,
            began_us=self._began_us,
        )
        self.folder = layout.create_folder(self._settings.spool_dir, identity)
        self._writer_lock = layout.hold_writer_lock(self.folder)
        self.state = State(self.folder)
        self._logged = self.state.counter("logged")
        self._tell_logged = self.state.setter("logged")
        self._writer = SpoolWriter(self.folder, self._settings.spool_limit_bytes)
        self._sender: SenderProcess | None = None
        self._unsaid: deque[bytes] = deque()
        self._unsaid_bytes = 0
        self._forked = False
        self._append_event("started", {"primary": primary, "host": identity.host, "pid": identity.pid})
        self._start_sender()

    def _is_ready(self) -> bool:
        """Opens a folder of its own in a forked child. False where that fails: the parent's must not be touched."""
        if self._forked and time.monotonic() >= self._reopen_due_s:
            self._reopen_due_s = time.monotonic() + _REOPEN_S
            try:
                self._open(primary=False)
            except OSError as error:
                self._complain(("", "fork"), f"cannot record in this forked process: {error}. Its points are dropped.")
        return not self._forked

    def _start_sender(self) -> None:
        try:
            self._sender = start_sender(self.folder, self._settings.token, self._settings.system_interval_s)
        except OSError as error:
            say(f"cannot start the sender: {error}. Points are kept in {self.folder}; `thalweg sync` sends them.")

    def log(self, values: Mapping[Any, Any], step: float | None) -> None:
        """Writes one frame. `step` None: one after the highest so far."""
        with self._lock:
            if self._is_busy:
                self._deferred.append(partial(self._log, values, step))
                return
            try:
                self._is_busy = True
                self._log(values, step)
                while self._deferred:  # what a signal handler or finalizer said in the middle of this call
                    self._deferred.popleft()()
            finally:
                self._is_busy = False

    def _log(self, values: Mapping[Any, Any], step: float | None) -> None:
        """Few calls, as each counts; what is not plain goes the slow way."""
        if self._forked and not self._is_ready():
            return
        time_us = time_ns() // 1000
        if time_us <= self._last_time_us:
            time_us = self._last_time_us + 1
        self._last_time_us = time_us
        at = self._next_step if step is None else step
        writer = self._writer
        try:
            names = tuple(values)
            schema = writer.declared[names]
            column = array("d", [*values.values()])  # of a list: known to be so long, it takes two thirds of the time
            number = float(at + 0.0)  # no text; and a NumPy integer of few bits must not overflow in the next step
            is_plain = self._after < number < math.inf and len(column) == len(names)
            is_plain = is_plain and writer.append_frame(schema, number, time_us, column)
        except Exception:  # noqa: BLE001  # new names, or a user's mapping or number, which may raise anything
            is_plain = False
        if not is_plain:
            self._log_slowly(values, at, time_us)
            return
        self._logged += len(column)
        self._tell_logged(self._logged)
        if number >= self._next_step:
            self._next_step = number + 1
        if time_us > self._check_sender_due_us:
            self._check_sender(time_us)

    def _now_us(self) -> int:
        """The time; strictly increasing, for of two values the later wins: no ties, whatever the clock does."""
        self._last_time_us = max(time.time_ns() // 1000, self._last_time_us + 1)
        return self._last_time_us

    def _log_slowly(self, values: Mapping[Any, Any], step: Any, time_us: int) -> None:
        """Whatever the fast path does not take: nested or bad values, new names, a new segment, a full spool."""
        good, refused = sort_out(values)
        number = _finite(step)
        for refusal in refused:
            self._refuse(refusal, 1)
        if number is None:
            message = f"step {shorten(step)} is not a finite number"
            self._refuse(Refusal(next(iter(good), "?"), "dropped_bad_step", message), len(good))
            return
        if number <= self._after:
            message = (
                f"step {number:g} is not after the step {self._after:g} at which this branch of the run began. "
                "Fork at an earlier step to rewrite history."
            )
            self._refuse(Refusal(next(iter(good), "?"), "dropped_before_fork", message), len(good))
            return
        items = list(good.items())
        for start in range(0, len(items), limits.FRAME_MAX_POINTS):
            self._append(dict(items[start : start + limits.FRAME_MAX_POINTS]), number, time_us)
        if number >= self._next_step:
            self._next_step = number + 1
        if not self._is_closed:
            self._check_sender(time_us)

    def _append(self, values: dict[str, float], step: float, time_us: int) -> None:
        """Appends a checked frame, or counts it as dropped where there is no room."""
        if self._is_closed or time_us < self._full_until_us:
            self._drop(len(values), time_us)
            return
        names = tuple(values)
        if _json_bytes(names) > limits.SCHEMA_NAMES_MAX_BYTES:
            items = list(values.items())
            half = len(items) // 2
            self._append(dict(items[:half]), step, time_us)
            self._append(dict(items[half:]), step, time_us)
            return
        try:
            self._say_unsaid()
            schema = self._writer.declare(names, len(names))
        except (SpoolFullError, OSError) as error:
            self._full_until_us = time_us + _RETRY_FULL_US
            self._drop(len(values), time_us, str(error))
            return
        self._writer.append_frame(schema, step, time_us, array("d", [*values.values()]))
        self._logged += len(values)
        self._tell_logged(self._logged)

    def _drop(self, points: int, time_us: int, reason: str = "") -> None:
        """Counts points for which there is no room, and says so once a minute."""
        if self._is_closed:
            self._complain(("", "finished"), "cannot log: the run is finished. Start another with thalweg.init().")
            return
        self.state.count("dropped_spool_full", points)
        if time_us >= self._full_warning_due_us:
            self._full_warning_due_us = time_us + _WARN_EVERY_US
            dropped = self.state.counter("dropped_spool_full")
            say(
                f"the spool is full: {dropped} points dropped so far ({reason}). Logging continues when the "
                f"server takes points, or when there is room in {self._settings.spool_dir}."
            )

    def _refuse(self, refusal: Refusal, points: int) -> None:
        """Counts bad input, and says so once for each metric and reason, or raises where strict."""
        self.state.count(refusal.reason, points)
        text = f"cannot log {refusal.metric!r}: {refusal.message}"
        if self.is_strict:
            raise InputError(text)
        if (refusal.metric, refusal.reason) not in self._complaints:
            self._complain(
                (refusal.metric, refusal.reason),
                f"{text} ({call_site()}). Further cases are counted on the run, not told.",
            )

    def complain(self, error: InputError) -> None:
        """Says what is wrong with the user's input, once, or raises it where strict."""
        if self.is_strict:
            raise error
        self._complain(("", str(error)), f"{error} ({call_site()})")

    def _complain(self, key: tuple[str, str], message: str) -> None:
        if key not in self._complaints and len(self._complaints) < _KNOWN_COMPLAINTS_MAX:
            self._complaints.add(key)
            say(message)

    def set_attributes(self, namespace: str, values: Mapping[Any, Any]) -> None:
        """Writes attributes below a namespace. A bad one is left out with a word, or raises where strict."""
        good: dict[str, str] = {}
        for parts, value in attributes.flatten(values, namespace):
            try:
                path = attributes.join(*parts)
                good[path] = attributes.to_json(path, value)
            except InputError as error:
                if self.is_strict:
                    raise
                self._complain((namespace, str(error)), f"{error} ({call_site()})")
        for some in attributes.split(good):
            self.event("attributes", {"attributes": some})

    def event(self, kind: str, fields: dict[str, Any]) -> bool:
        """Writes one event. False where there was no room, or the run is finished."""
        with self._lock:
            if self._is_busy:
                self._deferred.append(partial(self._append_event, kind, fields))
                return True
            try:
                self._is_busy = True
                done = self._is_ready() and self._append_event(kind, fields)
                while self._deferred:
                    self._deferred.popleft()()
            finally:
                self._is_busy = False
            return done

    def _append_event(self, kind: str, fields: dict[str, Any]) -> bool:
        if self._is_closed:
            self._complain(("", "finished"), "cannot change the run: it is finished.")
            return False
        text = json.dumps({"time_us": self._now_us(), "kind": kind, **fields}).encode()
        try:
            self._say_unsaid()
            self._writer.append_event(text)
        except (SpoolFullError, OSError) as error:
            self._keep_unsaid(kind, text, error)
            return False
        return True

    def _keep_unsaid(self, kind: str, text: bytes, error: Exception) -> None:
        """Lets an event wait for room in the spool. One too many is dropped, counted, and told the first time."""
        waiting = len(self._unsaid)
        if waiting < _UNSAID_MAX and (not waiting or self._unsaid_bytes + len(text) <= _UNSAID_MAX_BYTES):
            self._unsaid.append(text)
            self._unsaid_bytes += len(text)
            say(f"cannot record {kind} yet: the spool is full ({error}).")
            return
        self.state.count("dropped_spool_full", 1)
        self._complain(
            ("", "unsaid"),
            f"cannot record {kind}: {waiting} events wait for room in the spool already ({error}). It is dropped, as "
            f"are others until there is room in {self._settings.spool_dir}; they are counted on the run, not told.",
        )

    def _say_unsaid(self) -> None:
        """Writes the events for which there was no room before, oldest first. Raises SpoolFullError, OSError."""
        while self._unsaid:
            self._writer.append_event(self._unsaid[0])
            self._unsaid_bytes -= len(self._unsaid.popleft())

    @property
    def next_step(self) -> float:
        """The step that `log()` takes where none is given: one after the highest so far."""
        return self._next_step

    @property
    def after(self) -> float:
        """The step at which this branch of the run began: only later ones are its own."""
        return self._after

    @property
    def sequence(self) -> int:
        """Sequence number of the last record."""
        return self._writer.sequence

    def sender_status(self) -> dict[str, Any]:
        """What the sender last said of itself: status, error. Empty before its first word."""
        try:
            document = json.loads((self.folder / layout.STATUS_FILE).read_text())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def is_server_away(self) -> bool:
        """Whether the sender waits for the server, or was refused by it, as it last said."""
        return self.sender_status().get("status") in ("waiting", "refused")

    def check_sender(self) -> None:
        """Starts the sender again if it is gone before its time."""
        with self._lock:
            self._check_sender(time.time_ns() // 1000)

    def _check_sender(self, time_us: int) -> None:
        if time_us <= self._check_sender_due_us or self._forked:  # a parent's sender is not a child's
            return
        self._check_sender_due_us = time_us + _CHECK_SENDER_US
        if self._sender is not None and self._sender.is_running():
            return
        status = self.sender_status()
        if status.get("status") == "refused":
            self._complain(("", "refused"), f"the server refuses this run: {status['error']}")
            return
        self._complain(("", "sender"), f"the sender ended before its time and is started again; see {self.folder}")
        self._start_sender()
        self._check_sender_due_us = time_us + self._restart_delay_us
        self._restart_delay_us = min(2 * self._restart_delay_us, _RESTART_MOST_US)

    def close(self, last_word: dict[str, Any] | None = None) -> None:
        """Ends recording, in the process that began the run with its last word, which nothing can follow.

        The folder stays for the sender, which offline has nothing more to do but see the exit.
        """
        with self._lock:
            self._deferred.append(partial(self._close, last_word))
            if self._is_busy:
                return
            try:
                self._is_busy = True
                while self._deferred:
                    self._deferred.popleft()()
            finally:
                self._is_busy = False

    def _close(self, last_word: dict[str, Any] | None) -> None:
        if self._is_closed:
            return
        if last_word is not None and self.is_owner:
            self._append_event("ended", last_word)
        self._is_closed = True
        self._writer.close()
        os.close(self._writer_lock)
        _alive.discard(self)
        exiting = last_word is not None and bool(last_word.get("at_exit"))
        if self._settings.mode == "offline" and self._sender is not None and not exiting:
            self._sender.terminate()

    def after_fork(self) -> None:
        """In a forked child: leaves the parent's folder alone; the first word opens one of its own."""
        self._lock = threading.RLock()
        self._is_busy = False
        self._deferred.clear()
        self._forked = True

    @property
    def is_owner(self) -> bool:
        """Whether this process is the one that began the run, not a fork of it."""
        return self._primary and self._pid == os.getpid()


def _finite(step: Any) -> float | None:
    if isinstance(step, (str, bytes)):
        return None
    try:
        number = float(step)
    except Exception:  # noqa: BLE001  # a user's __float__ may raise anything
        return None
    return number if math.isfinite(number) else None


_alive: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for recorder in list(_alive):
        recorder.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _json_bytes(names: tuple[str, ...]) -> int:
    """Bytes of the names as JSON, or a little less than what would be too many."""
    most = 6 * sum(map(len, names)) + 4 * len(names)  # a character takes up to six
    return most if most <= limits.SCHEMA_NAMES_MAX_BYTES else len(json.dumps(names))
