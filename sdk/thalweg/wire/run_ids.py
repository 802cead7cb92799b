"""Made-up names of runs, alike wherever a run begins."""

from __future__ import annotations

import time
from random import SystemRandom


def generate_run_id() -> str:
    """A fresh run id: date, then eight random characters that are hard to misread."""
    random = SystemRandom()
    letters = "".join(random.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(8))
    return f"{time.strftime('%Y%m%d')}-{letters}"
