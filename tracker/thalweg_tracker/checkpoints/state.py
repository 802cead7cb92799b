"""From what writers said of the shards of checkpoints, and what was found when somebody looked, to their states.

Rules:
 * of several words on one shard the latest stands, and of several numbers of shards the one of the latest word;
 * a kind is complete when all its shards are durable; else "staged" if one of those told is, else "incomplete";
 * a check counts for the word that it looked at, by its URI and time;
 * one shard that is changed, missing or deleted makes its kind so; a complete kind whose shards are all verified is
   "verified";
 * the state of a checkpoint is the worst of its kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Final, Literal

from thalweg_tracker.checkpoints.places import common_folder
from thalweg_tracker.model.keys import RunKey

CheckState = Literal["verified", "missing", "changed", "unchecked", "deleted"]
"""What was found. "unchecked": the store cannot look there, and `detail` says why."""
State = Literal["verified", "complete", "staged", "incomplete", "changed", "missing", "deleted"]

STATES: Final[tuple[State, ...]] = ("verified", "complete", "staged", "incomplete", "changed", "missing", "deleted")
"""From good to bad."""
GOOD: Final[frozenset[State]] = frozenset({"verified", "complete"})
_DAMAGED: Final = {"changed": 0, "missing": 1, "deleted": 2}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a checkpoint stands: a step of one branch of a run."""

    run: RunKey
    step: float


@dataclass(frozen=True, slots=True)
class Word:
    """What was last said of one shard. Times and sizes are 0 where they are not known."""

    place: Place
    kind: str
    shard: int
    shards: int
    uri: str
    is_durable: bool
    size_bytes: int
    digest: str
    staged_us: int
    saved_us: int
    blocked_s: float
    time_us: int


@dataclass(frozen=True, slots=True)
class Check:
    """What was last found of one shard. `etag` and `version` are what its objects have to have from then on."""

    place: Place
    kind: str
    shard: int
    uri: str
    state: CheckState
    detail: str
    size_bytes: int
    etag: str
    version: str
    told_us: int
    """Time of the word that was looked at."""
    checked_us: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A word that stands, and the check that counts for it."""

    word: Word
    check: Check | None


@dataclass(frozen=True, slots=True)
class KindState:
    """All shards of one kind. `uri`: that of all of them, else the folder that they have in common, if any."""

    kind: str
    state: State
    uri: str
    shards: int
    parts: tuple[Shard, ...]  # those told, by number

    @property
    def shards_done(self) -> int:
        """Number of durable shards."""
        return sum(part.word.is_durable for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """Sum over the shards, as far as it was told or found."""
        return sum(part.word.size_bytes or (part.check.size_bytes if part.check else 0) for part in self.parts)

    @property
    def digest(self) -> str:
        """Of the one object."""
        return self.parts[0].word.digest if len(self.parts) == 1 else ""

    @property
    def detail(self) -> str:
        """What was found of the worst shard."""
        checks = [part.check for part in self.parts if part.check and part.check.detail]
        return max(checks, key=lambda check: _DAMAGED.get(check.state, -1)).detail if checks else ""

    @property
    def saved_us(self) -> int:
        """When the last shard was written; 0 if nobody told."""
        return max(part.word.saved_us for part in self.parts)

    @property
    def staged_us(self) -> int:
        """When the last shard was copied aside; 0 if nobody told."""
        return max(part.word.staged_us for part in self.parts)

    @property
    def checked_us(self) -> int:
        """Since when all shards are looked at; 0 if one is not."""
        return min(part.check.checked_us if part.check else 0 for part in self.parts)

    @property
    def blocked_s(self) -> float:
        """For how long the training waited: its processes save their shards side by side."""
        return max(part.word.blocked_s for part in self.parts)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved state of the training at one step."""

    place: Place
    state: State
    kinds: tuple[KindState, ...]  # by name

    @property
    def is_good(self) -> bool:
        """Whether the training can go on from it, as far as is known."""
        return self.state in GOOD

    @property
    def created_us(self) -> int:
        """When its last shard was written, as far as that was told, else when it was spoken of."""
        return max(part.word.saved_us or part.word.time_us for kind in self.kinds for part in kind.parts)

    @property
    def blocked_s(self) -> float:
        """For how long the training waited: kinds are saved one after the other."""
        return sum(kind.blocked_s for kind in self.kinds)

    @property
    def size_bytes(self) -> int:
        """Sum over the kinds, as far as it is known."""
        return sum(kind.size_bytes for kind in self.kinds)

    @property
    def parts(self) -> list[Shard]:
        """All shards of all kinds."""
        return [part for kind in self.kinds for part in kind.parts]

    @property
    def detail(self) -> str:
        """What is wrong with its worst kind."""
        worst = max(self.kinds, key=lambda kind: STATES.index(kind.state))
        if worst.detail:
            return worst.detail
        done = f"{worst.kind}: {worst.shards_done} of {worst.shards} shards are written"
        return "" if worst.state in GOOD else done


def assemble(words: Iterable[Word], checks: Iterable[Check]) -> list[Checkpoint]:
    """The checkpoints that these words and checks tell of, by run and step."""
    by_shard = {(check.place, check.kind, check.shard): check for check in checks}
    latest: dict[tuple[Place, str, int], Word] = {}
    for word in words:
        key = (word.place, word.kind, word.shard)
        if key not in latest or latest[key].time_us <= word.time_us:
            latest[key] = word
    checkpoints = []
    ordered = [latest[key] for key in sorted(latest)]
    for place, of_place in groupby(ordered, attrgetter("place")):
        kinds = tuple(
            _kind(kind, [Shard(word, standing(word, by_shard.get((place, kind, word.shard)))) for word in of_kind])
            for kind, of_kind in groupby(of_place, attrgetter("kind"))
        )
        checkpoints.append(Checkpoint(place, max((kind.state for kind in kinds), key=STATES.index), kinds))
    return checkpoints


def standing(word: Word, check: Check | None) -> Check | None:
    """The check, if it counts for the word."""
    return check if check is not None and (check.uri, check.told_us) == (word.uri, word.time_us) else None


def _kind(kind: str, told: Sequence[Shard]) -> KindState:
    shards = max(told, key=lambda part: (part.word.time_us, part.word.shards)).word.shards
    parts = tuple(part for part in told if part.word.shards == shards)
    uris = {part.word.uri for part in parts}
    uri = common_folder(uris) if len(uris) > 1 else parts[0].word.uri
    return KindState(kind, _state(parts, shards), uri, shards, parts)


def _state(parts: Sequence[Shard], shards: int) -> State:
    damaged: list[State] = []
    for part in parts:
        if part.check is not None and part.check.state in ("changed", "missing", "deleted"):
            damaged.append(part.check.state)
    if damaged:
        return max(damaged, key=STATES.index)
    if not all(part.word.is_durable for part in parts):
        return "staged"
    if len(parts) < shards:
        return "incomplete"
    return "verified" if all(part.check and part.check.state == "verified" for part in parts) else "complete"
