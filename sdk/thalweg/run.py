"""`Run`: what a training script holds. Owns the user's words; recorder.py does the work.

Thread-safe. With mode "disabled" every method returns at once.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

from thalweg import attributes
from thalweg.console import say
from thalweg.errors import InputError
from thalweg.recorder import Recorder
from thalweg.settings import Settings
from thalweg.wire import limits

_POLL_S: Final = 0.005
FINISH_TIMEOUT_S: Final = 60.0
UNREACHABLE_GRACE_S: Final = 3.0


class Run:
    """One training execution, as seen from one of its processes.

    Use as a context manager, or call `finish()`, or let the end of the interpreter do it.
    """

    def __init__(
        self, run_id: str, settings: Settings, recorder: Recorder | None, on_finish: Callable[[Run], None]
    ) -> None:
        self._run_id = run_id
        self._settings = settings
        self._recorder = recorder
        self._on_finish = on_finish
        self._is_finished = False
        self.config = Config(self)

    @property
    def run_id(self) -> str:
        """The run's user-visible id."""
        return self._run_id

    @property
    def project(self) -> str:
        """The project that the run belongs to."""
        return self._settings.project

    @property
    def url(self) -> str:
        """The server's HTTP address."""
        return self._settings.url

    def log(self, values: Mapping[str, Any], step: float | None = None) -> None:
        """Logs one value for each metric, at one step and the present time.

        `values`: numbers, NumPy or torch scalars, or nested mappings of them, joined by "/". NaN and
        infinities are kept. `step`: finite; None continues after the highest step so far. After the
        return, `kill -9` loses nothing. Bad input is warned about once and counted on the run; it raises
        `InputError` only where the run was made with `strict=True`.
        """
        if self._recorder is not None:
            self._recorder.log(values, step)

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
            if unreachable or waited_s > FINISH_TIMEOUT_S or status.get("status") == "refused":
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

    Holds what this process has set; setting a nested mapping sets its leaves.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._values: dict[str, Any] = {}

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
    """The last word of a run that an exception ended."""
    if isinstance(error, SystemExit):
        return _describe_exit(error.code)
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    interrupted = isinstance(error, KeyboardInterrupt)
    return {
        "outcome": "killed" if interrupted else "failed",
        "exit_code": None if interrupted else 1,
        "signal": 2 if interrupted else None,
        "exception": f"{type(error).__name__}: {_message(error)}"[:4096],
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
