"""`init()`: from arguments and environment to a running `Run`. Owns the hooks at the end of the interpreter."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from random import SystemRandom
from types import TracebackType
from typing import Any, Final

from thalweg.api_client import ApiClient, run_path
from thalweg.console import say
from thalweg.errors import NotFoundError, ServerError
from thalweg.recorder import Recorder
from thalweg.run import Run
from thalweg.settings import Settings

_RESUME_TIMEOUT_S: Final = 3.0
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

    The server does not check the token yet: it listens on loopback only. It need not be there when a run
    starts: everything goes through the spool. Raises SettingError, InputError, OSError.
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
    chosen = settings.run_id or generate_run_id()
    if settings.mode == "disabled":
        return Run(chosen, settings, None, on_finish=lambda run: None)
    recorder = Recorder(settings, chosen, next_step=_next_step(settings), strict=strict)
    run = Run(chosen, settings, recorder, on_finish=_forget)
    _live[id(run)] = run
    _install_hooks()
    run.set_attributes("run", {key: text for key, text in (("name", name), ("notes", notes)) if text is not None})
    run.config.update(config or {})
    run.add_tags(*tags)
    _capture_environment(run, settings)
    say(_greeting(run, settings, recorder))
    return run


def _forget(run: Run) -> None:
    _live.pop(id(run), None)


def _greeting(run: Run, settings: Settings, recorder: Recorder) -> str:
    where = settings.url if settings.mode == "online" else f"offline, in {recorder.folder}"
    return f"run {run.project}/{run.run_id} (rank {settings.rank}): {where}"


def generate_run_id() -> str:
    """A fresh run id: date, then eight random characters that are hard to misread."""
    random = SystemRandom()
    letters = "".join(random.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(8))
    return f"{time.strftime('%Y%m%d')}-{letters}"


def _next_step(settings: Settings) -> float:
    """First automatic step: where the run already stands on the server, it goes on after its last step."""
    if settings.run_id is None or settings.mode != "online":
        return 0.0
    path = run_path(settings.project, settings.run_id)
    try:
        last_step = ApiClient(settings.url, settings.token, _RESUME_TIMEOUT_S).get(path)["last_step"]
        return 0.0 if last_step is None else float(last_step) + 1
    except NotFoundError:
        return 0.0
    except (ServerError, KeyError, TypeError, ValueError) as error:  # ..., or something else answers there
        say(f"automatic steps of run {settings.run_id} start at 0: {error}")
        return 0.0


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
