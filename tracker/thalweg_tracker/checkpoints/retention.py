"""Which checkpoints may go. Decides by steps and numbers alone; what is deleted, and how, others know.

What stays, whatever the policy says:
 * the newest good one, and the newest good one of each kind: the training goes on from them;
 * what is younger than the newest good one: it is being written, or tells of a fault that is still to be looked at;
 * without a good one, everything;
 * what a fork or rewind points at: the newest good one, of each kind too, at or before its step.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

NEWEST = "the newest complete one"
YOUNGER = "younger than the newest complete one"
_TOLERANCE = 1e-9

Mode = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint of the own part of a branch. `good_kinds`: those of its kinds that are good by themselves."""

    step: float
    is_good: bool
    good_kinds: frozenset[str]
    value: float | None = None  # of the policy's metric; None: not known, or NaN


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept of the good ones: the union of these."""

    keep_last: int | None = None
    keep_every: float | None = None
    keep_best: int | None = None
    mode: Mode = "min"


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that stays, and why."""

    step: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """By ascending steps."""

    kept: tuple[Kept, ...]
    deleted: tuple[float, ...]


def pointed_at(checkpoints: Sequence[Candidate], fork_steps: Iterable[float]) -> dict[float, list[str]]:
    """The checkpoints that forks at these steps go on from, with the reasons to keep them."""
    groups = _good_steps(checkpoints)
    reasons: dict[float, list[str]] = {}
    for fork_step in sorted(set(fork_steps)):
        found = {steps[at - 1] for steps in groups if (at := bisect_right(steps, fork_step))}
        for step in sorted(found):
            reasons.setdefault(step, []).append(f"a fork at step {fork_step:g} points at it")
    return reasons


def plan(checkpoints: Sequence[Candidate], policy: Policy, protected: Mapping[float, Sequence[str]]) -> Plan:
    """What stays and what goes. `protected`: steps that stay, with their reasons."""
    ordered = sorted(checkpoints, key=lambda one: one.step)
    reasons: dict[float, list[str]] = {one.step: list(protected.get(one.step, ())) for one in ordered}
    good = [one for one in ordered if one.is_good]
    for step in {steps[-1] for steps in _good_steps(ordered)}:
        reasons[step].append(NEWEST)
    for one in ordered:
        if not good or one.step > good[-1].step:
            reasons[one.step].append(YOUNGER if good else "none is complete")
    for step, reason in _wanted(good, policy):
        reasons[step].append(reason)
    return Plan(
        kept=tuple(Kept(step, tuple(why)) for step, why in reasons.items() if why),
        deleted=tuple(step for step, why in reasons.items() if not why),
    )


def _good_steps(checkpoints: Iterable[Candidate]) -> list[list[float]]:
    """Ascending steps of the good ones, and of those of which each kind is good; without empty ones."""
    whole: list[float] = []
    by_kind: dict[str, list[float]] = {}
    for one in sorted(checkpoints, key=lambda one: one.step):
        if one.is_good:
            whole.append(one.step)
        for kind in one.good_kinds:
            by_kind.setdefault(kind, []).append(one.step)
    return [steps for steps in (whole, *by_kind.values()) if steps]


def _wanted(good: Sequence[Candidate], policy: Policy) -> Iterator[tuple[float, str]]:
    """Steps that the policy keeps, and why."""
    if policy.keep_last:
        for one in good[-policy.keep_last :]:
            yield one.step, f"one of the last {policy.keep_last}"
    if policy.keep_every:
        for one in good:
            if is_multiple(one.step, policy.keep_every):
                yield one.step, f"every {policy.keep_every:g} steps"
    if policy.keep_best:
        sign = 1 if policy.mode == "min" else -1
        ranked = sorted((sign * one.value, -one.step) for one in good if one.value is not None)
        for _, negative in ranked[: policy.keep_best]:
            yield -negative, f"one of the best {policy.keep_best}"


def is_multiple(step: float, of: float) -> bool:
    """Whether a step is a multiple of another, as far as doubles can tell."""
    ratio = step / of
    return not math.isfinite(ratio) or abs(ratio - round(ratio)) <= _TOLERANCE * max(abs(ratio), 1.0)
