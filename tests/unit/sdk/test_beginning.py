"""How a run begins: what is written down without a server, and what is refused at once."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.runs import settings_for
from thalweg.beginning import Beginning, begin, fork_of
from thalweg.errors import InputError, SettingError, UnreachableError
from thalweg.settings import Settings
from thalweg.spool.layout import Origin

MODES = ("offline", "online")
"""In both without a server: nobody listens at the address of these settings."""


def settings(mode: str = "offline", **environment: str) -> Settings:
    """Settings of a run that does not exist yet."""
    return settings_for(Path("spool"), THALWEG_MODE=mode, **environment)


def started(mode: str, environment: dict[str, str], **how: Any) -> Beginning:
    """What `init` would begin with."""
    return begin(settings(mode, **environment), how.get("fork_from"), how.get("rewind_to"), how.get("attempt"))


R = {"THALWEG_RUN_ID": "r"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("environment", "how", "next_step", "origin"),
    [
        (R, {}, 0.0, None),
        (R, {"fork_from": "a@5"}, 6.0, Origin("fork", "a", step=5.0)),
        (R, {"fork_from": "p/a@5"}, 6.0, Origin("fork", "a", step=5.0)),
        (R, {"fork_from": "a@b@-1.5"}, -0.5, Origin("fork", "a@b", step=-1.5)),
        (R, {"rewind_to": 5, "attempt": "x"}, 6.0, Origin("rewind", step=5.0, attempt="x")),
        (R | {"THALWEG_ATTEMPT": "y"}, {"rewind_to": 5}, 6.0, Origin("rewind", step=5.0, attempt="y")),
        (R | {"THALWEG_ATTEMPT": "y"}, {"rewind_to": 5, "attempt": "x"}, 6.0, Origin("rewind", step=5.0, attempt="x")),
        (R, {"rewind_to": -0.25, "attempt": "x"}, 0.75, Origin("rewind", step=-0.25, attempt="x")),
        (R, {"rewind_to": np.int8(5), "attempt": "x"}, 6.0, Origin("rewind", step=5.0, attempt="x")),
        (R, {"rewind_to": np.float32(5), "attempt": "x"}, 6.0, Origin("rewind", step=5.0, attempt="x")),
        (R, {"rewind_to": Decimal(5), "attempt": "x"}, 6.0, Origin("rewind", step=5.0, attempt="x")),
        (
            R | {"RANK": "3", "SLURM_JOB_ID": "1"},
            {"rewind_to": 5},
            6.0,
            Origin("rewind", step=5.0, attempt="slurm:1::"),
        ),
    ],
)
def test_what_is_written_down(
    mode: str, environment: dict[str, str], how: dict[str, Any], next_step: float, origin: Origin | None
) -> None:
    """Without a server a numbered step is enough; nothing is inherited that one could know of here."""
    branch = 0 if origin is not None and origin.kind == "fork" else None
    assert started(mode, environment, **how) == Beginning("r", next_step, origin, branch=branch)


@pytest.mark.parametrize(
    ("environment", "how", "error", "word"),
    [
        (R, {"fork_from": "a@5", "rewind_to": 5}, InputError, "both"),
        (R, {"fork_from": "a"}, InputError, "at which step"),
        (R, {"fork_from": "a@latest-checkpoint"}, InputError, "give the step"),
        (R, {"fork_from": "other/a@5"}, InputError, "project of its parent"),
        (R, {"fork_from": ""}, InputError, "wanted RUN"),
        (R, {"fork_from": 5}, InputError, "wanted RUN"),
        (R, {"rewind_to": "latest-checkpoint"}, InputError, "give the step"),
        (R, {"rewind_to": "5"}, InputError, "wanted a step, or 'latest-checkpoint'"),
        (R, {"rewind_to": b"5"}, InputError, "wanted a step"),
        (R, {"rewind_to": True}, InputError, "wanted a step"),
        (R, {"rewind_to": float("nan")}, InputError, "wanted a step"),
        (R, {"rewind_to": float("inf")}, InputError, "wanted a step"),
        (R, {"rewind_to": 10**400}, InputError, "wanted a step"),
        (R, {"rewind_to": [5]}, InputError, "wanted a step"),
        ({}, {"rewind_to": 5}, SettingError, "run_id"),
        (R | {"RANK": "1"}, {"rewind_to": 5}, SettingError, "attempt"),
        (R, {"rewind_to": 5, "attempt": ""}, SettingError, "1 to 256 bytes"),
        (R, {"rewind_to": 5, "attempt": "é" * 129}, SettingError, "1 to 256 bytes"),
        (R, {"rewind_to": 5, "attempt": 7}, SettingError, "1 to 256 bytes"),
        (R | {"THALWEG_ATTEMPT": "x" * 257}, {"rewind_to": 5}, SettingError, "1 to 256 bytes"),
    ],
)
def test_what_cannot_begin(environment: dict[str, str], how: dict[str, Any], error: type[Exception], word: str) -> None:
    """At once, with a word that tells what is wanted."""
    with pytest.raises(error, match=word):
        started("offline", environment, **how)


@pytest.mark.parametrize("how", [{"fork_from": "a@latest-checkpoint"}, {"rewind_to": "latest-checkpoint"}])
def test_the_latest_checkpoint_needs_the_server(how: dict[str, str]) -> None:
    """A server that does not answer is told as that."""
    with pytest.raises(UnreachableError):
        started("online", R, **how)


def test_a_rewind_alone_makes_up_its_attempt() -> None:
    """One process without a launcher: another one each time."""
    first, second = (started("offline", R, rewind_to=5).origin for _ in range(2))
    assert first is not None
    assert second is not None
    assert len(first.attempt) == len(second.attempt) == 32
    assert first.attempt != second.attempt


@pytest.mark.parametrize("how", [{"fork_from": "a@5"}, {"fork_from": "a"}, {"rewind_to": 5}, {"rewind_to": "x"}, {}])
def test_a_disabled_run_begins_with_nothing(how: dict[str, Any]) -> None:
    """Nobody is asked, and nothing is said."""
    assert started("disabled", R, **how) == Beginning("r")


@pytest.mark.parametrize(
    ("origin", "step"),
    [
        (None, None),
        (Origin("start", attempt="x"), None),
        (Origin("fork", "a", step=5.0), 5.0),
        (Origin("rewind", step=-2.0), -2.0),
        (Origin("rewind"), None),
    ],
)
def test_the_step_to_restore_from(origin: Origin | None, step: float | None) -> None:
    """None where nothing is inherited."""
    assert Beginning("r", origin=origin).fork_step == step


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("step", "at"), [(5, 5.0), (np.int64(7), 7.0), (np.array(2.5), 2.5), (-1, -1.0)])
def test_a_fork_of_a_run_at_hand(mode: str, step: Any, at: float) -> None:
    """Its id is made up unless given; the branch of the parent is kept."""
    found = fork_of(settings(mode), "a", 3, step)
    assert found.run_id not in ("", "a")
    assert (found.next_step, found.origin) == (at + 1, Origin("fork", "a", 3, at))
    assert fork_of(settings(mode, **R), "a", None, step).run_id == "r"


@pytest.mark.parametrize("step", [float("nan"), float("-inf"), "5", None, [1], True])
@pytest.mark.parametrize("mode", [*MODES, "disabled"])
def test_a_fork_at_no_step(mode: str, step: Any) -> None:
    """InputError, in every mode alike."""
    with pytest.raises(InputError, match="cannot fork at"):
        fork_of(settings(mode), "a", None, step)
