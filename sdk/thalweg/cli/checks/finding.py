"""One finding of `thalweg doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

State = Literal["ok", "warn", "fail"]
OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """`told`: one sentence; `then`: the next step, empty where there is nothing to do."""

    check: str
    state: State
    told: str
    then: str = ""
