"""What names mean: metrics, attributes of a run, words that other languages have. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from thalweg.wire.limits import ATTRIBUTE_MAX_DEPTH, ATTRIBUTE_PATH_MAX_BYTES, METRIC_NAME_MAX_BYTES
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.expressions.mistakes import shown
from thalweg_tracker.expressions.syntax import Call, Literal, Name, Operation, Syntax
from thalweg_tracker.expressions.tree import Kind

RUN_FIELDS: Final[Mapping[str, Kind]] = {
    "run.id": Kind.STRING,
    "run.name": Kind.STRING,
    "run.status": Kind.STRING,
    "run.notes": Kind.STRING,
    "run.created_at": Kind.NUMBER,
    "run.ended_at": Kind.NUMBER,
    "run.last_seen_at": Kind.NUMBER,
    "run.duration": Kind.NUMBER,
}
WORDS_OF_OTHERS: Final = {"True": "true", "False": "false", "NaN": "nan", "Infinity": "inf", "None": "", "null": ""}
"""Bare words that are meant as a constant, and how it is written here, if at all."""


def attribute_path(word: str) -> str:
    """Of a bare word; empty if it is a metric."""
    if word == "status":
        return "run.status"
    return word if word.startswith(("config.", "env.", "run.")) else ""


def attribute_problem(path: str) -> tuple[str, str]:
    """What is wrong with the path of an attribute, and the one that may be meant; empty if nothing is."""
    if path.startswith("run."):
        if path in RUN_FIELDS:
            return "", ""
        near = difflib.get_close_matches(path, RUN_FIELDS, 1)
        return f"unknown {shown(path)!r}; there are {', '.join(RUN_FIELDS)}", near[0] if near else ""
    if not all(path.split(".")):
        return f"the path {shown(path)!r} has an empty part", ""
    if len(path.encode()) > ATTRIBUTE_PATH_MAX_BYTES or path.count(".") >= ATTRIBUTE_MAX_DEPTH:
        return f"the path {shown(path)!r} is longer than that of any attribute", ""
    return "", ""


def metric_names(tree: Syntax) -> list[str]:
    """The metrics, logged or custom, in the order of the text, each as often as it is named."""
    found: list[str] = []
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Name) and (one.is_quoted or not attribute_path(one.text)):
            found.append(one.text)
        elif isinstance(one, Call) and one.function == "metric" and len(one.args) == 1:
            inner = one.args[0]
            found += [inner.value] if isinstance(inner, Literal) and isinstance(inner.value, str) else []
        elif isinstance(one, (Call, Operation)):
            waiting += reversed(one.args)
    return found


def validate_custom_name(name: str) -> None:
    """Raises RejectedError if no custom metric can have that name."""
    size = len(name.encode(errors="surrogatepass"))
    if not 1 <= size <= METRIC_NAME_MAX_BYTES or any("\ud800" <= one <= "\udfff" for one in name):
        raise RejectedError(
            "bad_custom_metric",
            f"cannot name it {shown(name)!r}: wanted are 1 to {METRIC_NAME_MAX_BYTES} bytes of UTF-8, not {size}",
        )
