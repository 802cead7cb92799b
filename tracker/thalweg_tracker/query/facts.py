"""What is known of series without their points. States are dear to read: the SQL has only the facts that are asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from thalweg_tracker.sql import load_with

# Of each rank from the states, then over ranks: the mean of those that have a point at the first or last step.
_OF_RANK: Final = {
    "last": "argMaxMerge(s.last) AS last",
    "first": "argMinMerge(s.first) AS first",
    "min": "min(s.min) AS min",
    "max": "max(s.max) AS max",
    "argmin": "argMinMerge(s.argmin) AS argmin, min(s.min) AS lowest",
    "argmax": "argMaxMerge(s.argmax) AS argmax, max(s.max) AS highest",
}
_AT_STEP: Final = (
    "toNullable(arrayAvg(arrayMap(p -> p.2, arrayFilter(p -> p.1 = {0}, groupArray((r.{0}, r.{1})))))) AS {1}"
)
_NUMBER: Final = "if(max(r.has_number), toNullable({0}), nan) AS {1}"
_OVER_RANKS: Final = {
    "last": _AT_STEP.format("last_step", "last"),
    "first": _AT_STEP.format("first_step", "first"),
    "min": _NUMBER.format("min(r.min)", "min"),
    "max": _NUMBER.format("max(r.max)", "max"),
    "argmin": _NUMBER.format("argMin(r.argmin, (r.lowest, r.argmin))", "argmin"),
    "argmax": _NUMBER.format("argMax(r.argmax, (r.highest, -r.argmax))", "argmax"),
}


def facts_sql(facts: Iterable[str], lineage: str) -> str:
    """The query of run, metric, last_step, first_step, and some of last, first, min, max, argmin, argmax.

    `lineage`: a query like ways.sql.
    """
    asked = list(dict.fromkeys(facts))
    of_rank, over_ranks = (", ".join(forms[fact] for fact in asked) for forms in (_OF_RANK, _OVER_RANKS))
    return load_with("series_facts", of_rank=of_rank, over_ranks=over_ranks, lineage=lineage)


def marked_sql(lineage: str) -> str:
    """The query of the series whose facts have to be read from points."""
    return load_with("marked_series", lineage=lineage)
