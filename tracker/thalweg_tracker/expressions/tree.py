"""What a checked expression is: a small frozen tree. Equal trees mean the same, wherever they stand in a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What an expression gives. ANY: an attribute, whose type each run has for itself, taken as its place wants it."""

    SERIES = "series"
    BOOL_SERIES = "bool_series"
    NUMBER = "number"
    STRING = "string"
    BOOL = "bool"
    ANY = "any"


SERIES_KINDS: Final = frozenset({Kind.SERIES, Kind.BOOL_SERIES})
MEAN: Final = "mean"


@dataclass(frozen=True, slots=True)
class Source:
    """A logged metric as an expression reads it."""

    name: str
    run: str | None = None  # of that run; None: of the run that is asked about
    ranks: str | int = MEAN  # over ranks: mean, min, max, std, sum, count; or one rank's number


@dataclass(frozen=True, slots=True)
class Node:
    """An operator, a function or a leaf: "number", "text", "boolean", "metric", "attribute"."""

    op: str
    kind: Kind
    args: tuple[Node, ...] = ()
    value: float | str | bool | Source | None = None
    """Of leaves: the constant, the Source, the attribute's path such as `config.lr` or `run.status`."""
    span: tuple[int, int] = field(default=(0, 0), compare=False)
    """Begin and end in the text that was asked, in characters."""

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        yield self
        for one in self.args:
            yield from one.walk()

    @property
    def is_series(self) -> bool:
        """Whether it has a value a step, not one a run."""
        return self.kind in SERIES_KINDS


def sources(node: Node) -> list[Source]:
    """The logged metrics that an expression reads, each once, in the order of the text."""
    found = (one.value for one in node.walk() if one.op == "metric")
    return list(dict.fromkeys(value for value in found if isinstance(value, Source)))


def attributes(node: Node) -> list[str]:
    """The paths of the attributes that it reads, each once."""
    return list(dict.fromkeys(str(one.value) for one in node.walk() if one.op == "attribute"))
