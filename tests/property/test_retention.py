"""Laws of retention: whatever the policy, what is needed stays, and doing it again changes nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalweg_tracker.checkpoints.retention import Candidate, Policy, plan, pointed_at
from thalweg_tracker.checkpoints.state import STATES, Check, Place, Word, assemble
from thalweg_tracker.model.keys import RunKey

STEPS = st.one_of(st.integers(-20, 20).map(float), st.sampled_from([0.5, 0.25, 1e9, -7.125]))
KINDS = st.frozensets(st.sampled_from(["full", "model", "optimizer"]))


def candidate(step: float, is_good: bool, kinds: frozenset[str], value: float | None) -> Candidate:
    """All kinds of a good one are good."""
    return Candidate(step, is_good, kinds or frozenset({"full"}) if is_good else kinds, value)


CANDIDATES = st.lists(
    st.builds(candidate, STEPS, st.booleans(), KINDS, st.none() | st.sampled_from([0.0, 1.0, -1.0, 0.5])),
    unique_by=lambda one: one.step,
    max_size=20,
)
POLICIES = st.builds(
    Policy,
    keep_last=st.none() | st.integers(1, 5),
    keep_every=st.none() | st.sampled_from([0.5, 1.0, 2.0, 3.0, 10.0, 1e-9]),
    keep_best=st.none() | st.integers(1, 3),
    mode=st.sampled_from(["min", "max"]),
)
FORKS = st.lists(STEPS, max_size=4)


@given(CANDIDATES, POLICIES, FORKS)
def test_each_is_kept_with_a_reason_or_deleted(some: list[Candidate], policy: Policy, forks: list[float]) -> None:
    """By ascending steps, whatever the order in which they come."""
    planned = plan(some, policy, pointed_at(some, forks))
    kept = [one.step for one in planned.kept]
    assert kept == sorted(kept)
    assert list(planned.deleted) == sorted(planned.deleted)
    assert sorted([*kept, *planned.deleted]) == sorted(one.step for one in some)
    assert all(one.reasons for one in planned.kept)
    assert planned == plan(some[::-1], policy, pointed_at(some[::-1], forks))


@given(CANDIDATES, POLICIES, FORKS)
def test_what_is_needed_stays(some: list[Candidate], policy: Policy, forks: list[float]) -> None:
    """The newest good one, of each kind too; what forks point at, by a loop over all; what is younger."""
    deleted = set(plan(some, policy, pointed_at(some, forks)).deleted)
    for upto in (*forks, float("inf")):
        for kind in (None, "full", "model", "optimizer"):
            fit = [o.step for o in some if o.step <= upto and (o.is_good if kind is None else kind in o.good_kinds)]
            assert not fit or max(fit) not in deleted
    newest = max((one.step for one in some if one.is_good), default=None)
    assert all(newest is not None and step < newest for step in deleted)


@given(CANDIDATES, POLICIES, FORKS)
def test_it_is_idempotent(some: list[Candidate], policy: Policy, forks: list[float]) -> None:
    """What was kept is kept again: nothing that stays depends on what went."""
    planned = plan(some, policy, pointed_at(some, forks))
    left = [one for one in some if one.step not in planned.deleted]
    again = plan(left, policy, pointed_at(left, forks))
    assert again.deleted == ()
    assert again.kept == planned.kept


@given(CANDIDATES, FORKS, st.integers(1, 5))
def test_a_larger_policy_keeps_more(some: list[Candidate], forks: list[float], count: int) -> None:
    """What is kept of the last n is kept of the last n + 1."""
    smaller = plan(some, Policy(keep_last=count), pointed_at(some, forks))
    larger = plan(some, Policy(keep_last=count + 1), pointed_at(some, forks))
    assert set(larger.deleted) <= set(smaller.deleted)


WORDS = st.builds(
    Word,
    place=st.builds(Place, run=st.sampled_from([RunKey(1), RunKey(2)]), step=st.sampled_from([1.0, 2.0])),
    kind=st.sampled_from(["full", "model"]),
    shard=st.integers(0, 2),
    shards=st.just(3),
    uri=st.sampled_from(["s3://b/x", "s3://b/y"]),
    is_durable=st.booleans(),
    size_bytes=st.just(1),
    digest=st.just(""),
    staged_us=st.just(0),
    saved_us=st.just(0),
    blocked_s=st.just(0.0),
    time_us=st.integers(0, 50),
)
CHECKS = st.builds(
    Check,
    place=st.builds(Place, run=st.sampled_from([RunKey(1), RunKey(2)]), step=st.sampled_from([1.0, 2.0])),
    kind=st.sampled_from(["full", "model"]),
    shard=st.integers(0, 2),
    uri=st.sampled_from(["s3://b/x", "s3://b/y"]),
    state=st.sampled_from(["verified", "missing", "changed", "unchecked", "deleted"]),
    detail=st.just(""),
    size_bytes=st.just(1),
    etag=st.just(""),
    version=st.just(""),
    told_us=st.integers(0, 50),
    checked_us=st.integers(0, 50),
)


@given(
    st.lists(WORDS, max_size=12, unique_by=lambda one: (one.place, one.kind, one.shard, one.time_us)),
    st.lists(CHECKS, max_size=8, unique_by=lambda one: (one.place, one.kind, one.shard)),
    st.randoms(use_true_random=False),
)
def test_states_do_not_depend_on_the_order(words: list[Word], checks: list[Check], random: object) -> None:
    """And are those of a naive reading of the rules."""
    found = assemble(words, checks)
    shuffled = list(words)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert assemble([*shuffled, *words], checks[::-1]) == found
    for checkpoint in found:
        assert checkpoint.state == max((kind.state for kind in checkpoint.kinds), key=STATES.index)
        for kind in checkpoint.kinds:
            mine = [one for one in words if (one.place, one.kind) == (checkpoint.place, kind.kind)]
            latest = [max((o for o in mine if o.shard == n), key=lambda o: o.time_us, default=None) for n in range(3)]
            told = [one for one in latest if one is not None]
            seen = {
                check.shard: check.state
                for one in told
                for check in checks
                if (check.place, check.kind, check.shard, check.uri) == (one.place, one.kind, one.shard, one.uri)
                and check.told_us == one.time_us
            }
            damage = [state for state in ("deleted", "missing", "changed") if state in seen.values()]
            if damage:
                assert kind.state == damage[0]
            elif any(not one.is_durable for one in told):
                assert kind.state == "staged"
            elif len(told) < 3:
                assert kind.state == "incomplete"
            else:
                is_verified = [seen.get(n) for n in range(3)] == ["verified"] * 3
                assert kind.state == ("verified" if is_verified else "complete")
