"""One finding, as `thalweg doctor` takes it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Finding(NamedTuple):
    """`told`: one sentence; `then`: the next step, empty where there is nothing to do."""

    check: str
    state: Literal["ok", "warn", "fail"]
    told: str
    then: str = ""
