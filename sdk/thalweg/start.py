"""`init()`: from arguments and environment to a running `Run`. Owns the hooks at the end of the interpreter."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any

from thalweg.beginning import Beginning, begin, fork_of
from thalweg.console import say
from thalweg.recorder import Recorder
from thalweg.run import Run
from thalweg.settings import Settings, name_setting

_live: dict[int, Run] = {}
_hooks_installed: list[bool] = []


def init(
    project: str | None = None,
    *,
    run_id: str | None = None,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    notes: str | None = None,
    mode: str | None = None,
    url: str | None = None,
    token: str | None = None,
    rank: int | None = None,
    fork_from: str | None = None,
    rewind_to: float | str | None = None,
    attempt: str | None = None,
    spool_dir: str | os.PathLike[str] | None = None,
    system_interval_s: float | None = None,
    strict: bool = False,
) -> Run:
    """Starts or continues a run.

    Arguments that are not given come from `THALWEG_PROJECT`, `THALWEG_RUN_ID`, `THALWEG_MODE`,
    `THALWEG_URL`, `THALWEG_TOKEN`, `THALWEG_SPOOL_DIR` and `THALWEG_SYSTEM_INTERVAL_S` (seconds between
    samples of the host, 0 for none); `rank` from the launcher's variables. The same `run_id` from another
    process or after a restart continues the run. `mode`: "online"; "offline" writes the spool only;
    "disabled" does nothing. With `strict`, bad input raises instead of being warned about and counted.

    `fork_from`: "RUN@STEP" or "RUN@latest-checkpoint": a new run whose series and config begin with those of
    that run, up to and including the step. `rewind_to`: a step, or "latest-checkpoint": the run `run_id` goes on
    after it on a new branch, and what it had logged after it stays readable on the old one; a run that is not
    there yet begins. All ranks of one start of the training get the same branch: launchers say which start it
    is (torchrun, SLURM, PMIx), else `attempt`, or `THALWEG_ATTEMPT`, does. `run.fork_step` tells the step that was
    found. Both need the server where they name the latest checkpoint; a step is otherwise written down for it.

    The server need not be there when a run starts: everything goes through the spool. So a token that it refuses
    is told of later, and the records wait. Raises SettingError, InputError, OSError; for forks and rewinds
    NotFoundError where there is no such run or checkpoint, and ServerError.
    """
    settings = Settings.read(
        os.environ,
        project=project,
        url=url,
        token=token,
        mode=mode,
        run_id=run_id,
        rank=rank,
        spool_dir=spool_dir,
        system_interval_s=system_interval_s,
    )
    beginning = begin(settings, fork_from, rewind_to, attempt)
    return _start(settings, beginning, name=name, config=config, tags=tags, notes=notes, strict=strict)


def _start(
    settings: Settings,
    beginning: Beginning,
    *,
    name: str | None,
    config: Mapping[str, Any] | None,
    tags: Sequence[str],
    notes: str | None,
    strict: bool = False,
) -> Run:
    if settings.mode == "disabled":
        unrecorded = Run(beginning, settings, None, on_finish=_forget, on_fork=_fork)
        unrecorded.config.update(config or {})  # which the training may read
        return unrecorded
    recorder = Recorder(
        settings,
        beginning.run_id,
        next_step=beginning.next_step,
        strict=strict,
        origin=beginning.origin,
        branch=beginning.branch,
    )
    run = Run(beginning, settings, recorder, on_finish=_forget, on_fork=partial(_fork, strict=strict))
    _live[id(run)] = run
    _install_hooks()
    run.set_attributes("run", {key: text for key, text in (("name", name), ("notes", notes)) if text is not None})
    run.config.update(config or {})
    run.add_tags(*tags)
    _capture_environment(run, settings)
    say(_greeting(run, settings, recorder))
    return run


def _fork(parent: Run, step: float, *, run_id: str | None, **more: Any) -> Run:
    """What `Run.fork` does."""
    own = None if run_id is None else name_setting("run_id", run_id)
    settings = replace(parent.settings, run_id=own)
    beginning = fork_of(settings, parent.run_id, parent.branch, step)
    if not beginning.inherited:  # the server was not asked
        beginning = replace(beginning, inherited=dict(parent.config))
    return _start(settings, beginning, **more)


def _forget(run: Run) -> None:
    _live.pop(id(run), None)


def _greeting(run: Run, settings: Settings, recorder: Recorder) -> str:
    where = settings.url if settings.mode == "online" else f"offline, in {recorder.folder}"
    after = "" if run.fork_step is None else f", after step {run.fork_step:g} of {run.forked_from}"
    return f"run {run.project}/{run.run_id} (rank {settings.rank}{after}): {where}"


def _capture_environment(run: Run, settings: Settings) -> None:
    """Records `env.*`: whole for rank 0, host and process for the others."""
    from thalweg.system import environment

    captured = environment.capture(time.time_ns() // 1000)
    if settings.rank == 0:
        run.set_attributes("env", captured)
    else:
        keys = ("host.name", "process.pid")
        run.set_attributes(f"env.ranks.{settings.rank}", {key: captured[key] for key in keys if key in captured})


class _Exit:
    """What is known of the interpreter's end before it comes."""

    error: BaseException | None = None
    code: object = 0


def _install_hooks() -> None:
    """Once: sees uncaught exceptions and exit codes, and ends live runs with the interpreter."""
    if _hooks_installed:
        return
    _hooks_installed.append(True)
    previous_hook, previous_exit = sys.excepthook, sys.exit

    def on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _Exit.error = error
        previous_hook(kind, error, trace)

    def on_exit(code: Any = None, /) -> Any:
        if threading.current_thread() is threading.main_thread():  # in another thread it ends that thread alone
            _Exit.code = code
        return previous_exit(code)

    sys.excepthook = on_exception
    sys.exit = on_exit
    atexit.register(_finish_live_runs)


def _finish_live_runs() -> None:
    for run in list(_live.values()):
        run.finish_at_exit(_Exit.error, _Exit.code)
