"""RUN@STEP as people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.checkpoints.points import ForkPoint, parse_point
from thalweg.errors import InputError


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("run", ForkPoint(None, "run", None, False)),
        ("run@7", ForkPoint(None, "run", 7.0, False)),
        ("run@-0.5", ForkPoint(None, "run", -0.5, False)),
        ("run@1e3", ForkPoint(None, "run", 1000.0, False)),
        ("run@latest-checkpoint", ForkPoint(None, "run", None, True)),
        ("digits/run@7", ForkPoint("digits", "run", 7.0, False)),
        ("digits/run", ForkPoint("digits", "run", None, False)),
        ("a@b", ForkPoint(None, "a@b", None, False)),
        ("a@b@7", ForkPoint(None, "a@b", 7.0, False)),
        ("a@7@8", ForkPoint(None, "a@7", 8.0, False)),
        ("a@", ForkPoint(None, "a@", None, False)),
        ("a@nan", ForkPoint(None, "a@nan", None, False)),
        ("a@inf", ForkPoint(None, "a@inf", None, False)),
        ("a@1e999", ForkPoint(None, "a@1e999", None, False)),
        ("a@1_000", ForkPoint(None, "a@1_000", None, False)),
        ("a@ 7", ForkPoint(None, "a@ 7", None, False)),
        ("a@\u0667", ForkPoint(None, "a@\u0667", None, False)),
        ("p@1/run@2", ForkPoint("p@1", "run", 2.0, False)),
        ("läufe/größe@1", ForkPoint("läufe", "größe", 1.0, False)),
    ],
)
def test_cases(text: str, point: ForkPoint) -> None:
    """The last @ counts where a finite number or latest-checkpoint follows; if not, it belongs to the id."""
    assert parse_point(text) == point


@pytest.mark.parametrize(
    "text",
    ["", "@7", "@latest-checkpoint", "/run@7", "a/b/run@7", "digits/@7", "digits/", "a\nb", ".", "..@3", "\udc80"],
)
def test_refused(text: str) -> None:
    """What can be no run is refused with the wanted form."""
    with pytest.raises(InputError, match=r"wanted RUN, RUN@STEP or RUN@latest-checkpoint"):
        parse_point(text)


NAMES = st.text(st.characters(whitelist_categories=("L", "N"), whitelist_characters="@.-_"), min_size=1, max_size=20)


@given(NAMES.filter(lambda name: name not in (".", "..")), st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_written_is_read(run_id: str, step: float) -> None:
    """Any id and finite step: written with @ between them they are read again."""
    assert parse_point(f"p/{run_id}@{step!r}") == ForkPoint("p", run_id, step, False)
    assert parse_point(f"{run_id}@latest-checkpoint") == ForkPoint(None, run_id, None, True)
