"""Limits of rate and number, of each token and of each project. Owns what was used of them, in this process.

Rates are buckets: what is taken beyond a bucket's content is a debt that time pays off. So a burst goes through at
once, and in the long run nothing goes faster than its rate. Threads and event loops: any.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from thalweg_tracker.access.grants import Grant
from thalweg_tracker.errors import LimitedError
from thalweg_tracker.model.access import LIMIT_VARIABLES, LimitSettings

BURST_S: Final = 2.0
"""A bucket holds what its rate gives in this time; of what is counted, at least one."""
DEBT_MOST_S: Final = 10.0
"""Points beyond this many seconds of their rate are refused, not waited for."""
_BUCKETS_MAX: Final = 100_000
_AMOUNTS: Final = frozenset({"query_seconds_per_s"})
"""What is not counted in ones."""

_Key = tuple[str, str, str]
"""What is limited, "token" or "project", and which."""


@dataclass(slots=True)
class _Bucket:
    content: float
    at_s: float


class Limiter:
    """What tokens and projects have used of their limits."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._buckets: OrderedDict[_Key, _Bucket] = OrderedDict()
        self._open: Counter[_Key] = Counter()

    def limit(self, name: str, grant: Grant) -> float:
        """A limit by its name in LimitSettings: the token's own, else the server's; 0: there is none."""
        return grant.limits.get(name, getattr(self._limits, name))

    def limits(self, grant: Grant) -> dict[str, float]:
        """All limits of a token, by their names, as `limit` tells each."""
        return {name: self.limit(name, grant) for name in LIMIT_VARIABLES}

    def least(self, name: str, grant: Grant) -> float:
        """The lesser of the token's own limit and the server's; 0: there is none."""
        return min(filter(None, (self.limit(name, grant), getattr(self._limits, name))), default=0)

    def request(self, grant: Grant, project: str | None) -> None:
        """Counts a request. Raises LimitedError where there were too many, or queries took too long of late."""
        keys = list(self._keys("requests_per_s", grant, project))
        for key, rate in self._keys("query_seconds_per_s", grant, project):
            self._refuse_debt(key, rate)
        for key, rate in keys:
            self._refuse_debt(key, rate, amount=1)
        for key, rate in keys:
            self._take(key, rate, 1)

    def answered(self, grant: Grant, project: str | None, took_s: float) -> None:
        """Counts how long the answer to a request took: what a query costs is known afterwards."""
        for key, rate in self._keys("query_seconds_per_s", grant, project):
            self._take(key, rate, took_s)

    def points(self, grant: Grant, project: str, points: int) -> float:
        """Counts points, and gives the seconds to wait before more are read. Raises LimitedError, counting nothing."""
        keys = list(self._keys("points_per_s", grant, project))
        for key, rate in keys:
            self._refuse_debt(key, rate, DEBT_MOST_S)
        return max((self._take(key, rate, points) for key, rate in keys), default=0.0)

    @contextmanager
    def stream(self, grant: Grant, project: str) -> Iterator[None]:
        """Counts a stream as long as it is open. Raises LimitedError where too many are."""
        keys = list(self._keys("streams", grant, project))
        with self._lock:
            for key, most in keys:
                if self._open[key] >= most:
                    raise LimitedError(f"{key[1]} {key[2]} has {most:g} open streams, its most", BURST_S)
            self._open.update(key for key, _ in keys)
        try:
            yield
        finally:
            with self._lock:
                self._open.subtract(key for key, _ in keys)
                self._open += Counter()  # drops those that are back at nothing

    def _keys(self, what: str, grant: Grant, project: str | None) -> Iterator[tuple[_Key, float]]:
        """The token and the project, with their limits, as far as they have one."""
        if own := self.limit(what, grant):
            yield (what, "token", grant.id), own
        if project is not None and (most := getattr(self._limits, what)):
            yield (what, "project", project), most

    def _take(self, key: _Key, rate: float, amount: float) -> float:
        """Takes from a bucket; gives the seconds until its debt is paid, 0 if it has none."""
        with self._lock:
            bucket = self._filled(key, rate)
            bucket.content -= amount
            return max(0.0, -bucket.content / rate)

    def _refuse_debt(self, key: _Key, rate: float, most_s: float = 0.0, amount: float = 0.0) -> None:
        """Raises LimitedError where that much more would be a debt of more than so many seconds."""
        with self._lock:
            debt_s = (amount - self._filled(key, rate).content) / rate
        if debt_s > most_s:
            what, kind, name = key
            raise LimitedError(f"{kind} {name} is past its {what.replace('_', ' ')} of {rate:g}", debt_s - most_s)

    def _filled(self, key: _Key, rate: float) -> _Bucket:
        now_s, most = time.monotonic(), rate * BURST_S if key[0] in _AMOUNTS else max(1.0, rate * BURST_S)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(most, now_s)
            if len(self._buckets) > _BUCKETS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.content = min(most, bucket.content + (now_s - bucket.at_s) * rate)
        bucket.at_s = now_s
        return bucket
