"""Parts of paths and queries that several routes take."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from thalweg.wire import limits as wire_limits
from thalweg_tracker.model import limits

ProjectName = Annotated[str, Path(min_length=1, max_length=wire_limits.PROJECT_MAX_BYTES)]
RunName = Annotated[str, Path(min_length=1, max_length=wire_limits.RUN_ID_MAX_BYTES)]
Branch = Annotated[int | None, Query(ge=0, lt=2**32, description="a branch of the run; the newest if not given")]
Limit = Annotated[int, Query(ge=1, le=limits.PAGE_MAX)]
Cursor = Annotated[str | None, Query(max_length=4096, description="next_cursor of the page before")]
