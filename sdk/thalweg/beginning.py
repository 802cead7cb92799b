"""How a run begins in this process: new, continued, forked or rewound. Owns what `init` asks the server for that.

Without a server the same is written down for it (`layout.Origin`), as far as it does not need the server's knowledge.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from thalweg.api_client import ApiClient, run_path
from thalweg.checkpoints.points import LATEST_CHECKPOINT, ForkPoint, parse_point
from thalweg.console import say
from thalweg.errors import InputError, NotFoundError, ServerError, SettingError, UnreachableError
from thalweg.settings import Settings
from thalweg.spool.layout import Origin
from thalweg.values import shorten
from thalweg.wire import limits
from thalweg.wire.run_ids import generate_run_id

_RESUME_TIMEOUT_S: Final = 3.0
_ORDER_TIMEOUT_S: Final = 60.0
"""For a fork or rewind: the server may have to look at the objects of checkpoints."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is known of a run before its first record."""

    run_id: str
    next_step: float = 0.0
    origin: Origin | None = None
    inherited: Mapping[str, Any] = field(default_factory=dict)  # config as it stands, nested
    branch: int | None = None  # of the run, where the server has told

    @property
    def fork_step(self) -> float | None:
        """The last inherited step; None where there is none."""
        if self.origin is None or not math.isfinite(self.origin.step):
            return None
        return self.origin.step


def begin(settings: Settings, fork_from: str | None, rewind_to: float | str | None, attempt: str | None) -> Beginning:
    """Decides it. Raises SettingError, InputError, NotFoundError, ServerError."""
    if settings.mode == "disabled":
        return Beginning(settings.run_id or generate_run_id())
    if fork_from is not None and rewind_to is not None:
        raise InputError("cannot both fork and rewind: give `fork_from` for a new run, `rewind_to` for the same one")
    if fork_from is not None:
        return _fork(settings, parse_point(fork_from), None)
    if rewind_to is not None:
        return _rewind(settings, rewind_to, attempt)
    if settings.run_id is None:
        return Beginning(generate_run_id())
    standing = _standing(settings, settings.run_id)
    return Beginning(settings.run_id, standing.next_step, inherited=standing.config, branch=standing.branch)


def fork_of(settings: Settings, parent_run_id: str, parent_branch: int | None, step: float) -> Beginning:
    """The beginning of a fork of a run that is at hand."""
    point = ForkPoint(None, parent_run_id, _as_step(step, "fork at"), False)
    if settings.mode == "disabled":
        return Beginning(settings.run_id or generate_run_id())
    try:
        return _fork(settings, point, parent_branch)
    except NotFoundError:  # its own first record is still on its way
        say(f"run {parent_run_id} is not delivered yet. The order to fork it is recorded with the fork.")
        return _recorded_fork(settings.run_id or generate_run_id(), point, parent_branch)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a run stands on the server: first automatic step after its last one, config, branch."""

    next_step: float = 0.0
    config: Mapping[str, Any] = field(default_factory=dict)
    branch: int | None = None


def _standing(settings: Settings, run_id: str, branch: int | None = None) -> _Standing:
    """Where a run stands, on a branch or the newest; nowhere if the server does not know it, or does not answer."""
    if settings.mode != "online":
        return _Standing()
    path = run_path(settings.project, run_id)
    try:
        found = ApiClient(settings.url, settings.token, _RESUME_TIMEOUT_S).get(path, branch=branch)
        last_step, config = found["last_step"], found["config"]
        next_step = 0.0 if last_step is None else float(last_step) + 1
        return _Standing(next_step, config if isinstance(config, dict) else {}, int(found["branch"]))
    except NotFoundError:
        return _Standing()
    except (ServerError, KeyError, TypeError, ValueError) as error:  # ..., or something else answers there
        say(f"automatic steps of run {run_id} start at 0: {error}")
        return _Standing()


def _fork(settings: Settings, point: ForkPoint, branch: int | None) -> Beginning:
    """Asks for the fork; without a server a numbered step is written down for it."""
    if point.project not in (None, settings.project):
        raise InputError(
            f"cannot fork run {point.run_id} of project {point.project} in project {settings.project}:"
            " a fork lies in the project of its parent"
        )
    if point.step is None and not point.latest_checkpoint:
        raise InputError(
            f"cannot fork run {point.run_id}: at which step? Give {point.run_id}@STEP or"
            f" {point.run_id}@{LATEST_CHECKPOINT}"
        )
    run_id = settings.run_id or generate_run_id()
    order = {"run_id": run_id, "step": LATEST_CHECKPOINT if point.step is None else point.step, "branch": branch}
    path = f"{run_path(settings.project, point.run_id)}/fork"
    answer = _order(settings, path, order, f"fork run {point.run_id}")
    if answer is None:
        return _recorded_fork(run_id, point, branch)
    step = float(answer["fork_step"])
    if answer["is_ahead"]:
        last = answer["parent_last_step"]
        stands = "has no points yet" if last is None else f"stands at step {float(last):g}"
        say(f"run {point.run_id} {stands}: what it logs up to step {step:g} will be seen from {run_id} too")
    origin = Origin("fork", point.run_id, answer["parent"]["branch"], step)
    standing = _standing(settings, run_id, 0)
    return Beginning(run_id, max(standing.next_step, step + 1), origin, standing.config or answer["config"], 0)


def _recorded_fork(run_id: str, point: ForkPoint, branch: int | None) -> Beginning:
    assert point.step is not None, point
    return Beginning(run_id, point.step + 1, Origin("fork", point.run_id, branch, point.step), branch=0)


def _rewind(settings: Settings, rewind_to: float | str, attempt: str | None) -> Beginning:
    """Asks for the branch of this attempt; without a server a numbered step is written down for it."""
    if settings.run_id is None:
        raise SettingError("run_id", None, "the id of the run to rewind (or THALWEG_RUN_ID)")
    run_id = settings.run_id
    step = _rewind_step(rewind_to)
    label = settings.attempt if attempt is None else attempt
    if label is None and settings.rank:
        raise SettingError(
            "attempt",
            None,
            f"what names this start of the training in all its processes: rank {settings.rank} is not alone",
        )
    label = uuid.uuid4().hex if label is None else _checked(label)
    order = {"step": LATEST_CHECKPOINT if step is None else step, "attempt": label, "rank": settings.rank}
    answer = _order(settings, f"{run_path(settings.project, run_id)}/rewind", order, f"rewind run {run_id}")
    if answer is None:
        assert step is not None
        return Beginning(run_id, step + 1, Origin("rewind", step=step, attempt=label))
    if answer["kind"] == "start":
        return Beginning(run_id, 0.0, Origin("start", attempt=label), answer["config"], 0)
    after = float(answer["fork_step"])
    origin = Origin("rewind", step=after, attempt=label, branch=answer["branch"])
    branch = int(answer["branch"])
    standing = _standing(settings, run_id, branch)
    return Beginning(run_id, max(standing.next_step, after + 1), origin, standing.config or answer["config"], branch)


def _rewind_step(rewind_to: object) -> float | None:
    """None for the latest checkpoint."""
    if rewind_to == LATEST_CHECKPOINT:
        return None
    return _as_step(rewind_to, "rewind to", f", or {LATEST_CHECKPOINT!r}")


def _as_step(value: object, what: str, wanted: str = "") -> float:
    """A number that may be NumPy's or torch's. Raises InputError."""
    try:
        number = math.nan if isinstance(value, (str, bytes, bool)) else float(cast(Any, value))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"cannot {what} {shorten(value)}: wanted a step{wanted}")
    return number


def _checked(attempt: str) -> str:
    if not isinstance(attempt, str) or not 1 <= len(attempt.encode(errors="replace")) <= limits.ATTEMPT_MAX_BYTES:
        raise SettingError("attempt", attempt, f"a text of 1 to {limits.ATTEMPT_MAX_BYTES} bytes")
    return attempt


def _order(settings: Settings, path: str, order: Mapping[str, Any], what: str) -> Any:
    """The server's answer; None where there is none, and the order can be written down for later."""
    needs_server = order["step"] == LATEST_CHECKPOINT
    if settings.mode == "offline":
        if needs_server:
            raise InputError(f"cannot {what} at its latest checkpoint offline: give the step")
        return None
    try:
        return ApiClient(settings.url, settings.token, _ORDER_TIMEOUT_S).post(path, dict(order))
    except UnreachableError as error:
        if needs_server:
            raise
        say(f"{error} The order to {what} at step {order['step']:g} is recorded with the run.")
        return None
