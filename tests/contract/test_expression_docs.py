"""docs/expressions.md tells the truth: its examples run, its tables name all functions and the limits that hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.support.expression_runner import Session
from tests.support.expression_scripts import parse
from tests.support.tracker import answering
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.expressions.functions import FUNCTIONS
from thalweg_tracker.model import limits

PAGE: Final = (Path(__file__).parents[2] / "docs" / "expressions.md").read_text()
CALL: Final = re.compile(r"^\| `(\w+)\(([^`]*)\)` \|", re.MULTILINE)


def examples(page: str) -> str:
    """The ```expr blocks as one script; all else is blank, so that its lines have the page's numbers."""
    lines, is_inside = [], False
    for line in page.splitlines():
        if line.startswith("```"):
            is_inside = line == "```expr"
            lines.append("")
        else:
            lines.append(line if is_inside else "")
    return "\n".join(lines)


def test_examples(engine: Engine) -> None:
    """Each says what the server and the oracle say."""
    migrate(engine)
    with answering(engine) as http:
        session = Session(engine, http)
        session.run(parse(examples(PAGE)))
    assert not session.complaints, "\n".join(session.complaints)


def test_all_functions_are_in_the_tables() -> None:
    """Each once, with as many arguments as it takes, and no other."""
    found = CALL.findall(PAGE[PAGE.index("## Functions") :])
    assert sorted(name for name, _ in found) == sorted(FUNCTIONS)
    taken = {name: len(function.parameters) for name, function in FUNCTIONS.items()}
    assert {name: arguments.count(",") + 1 for name, arguments in found} == taken


def test_limits_are_those_of_the_code() -> None:
    """In the order of the table."""
    table = PAGE[PAGE.index("## Limits") :]
    shown = [int(number.replace(",", "")) for number in re.findall(r"\| ([0-9,]+) \|$", table, re.MULTILINE)]
    assert shown == [
        limits.EXPRESSION_MAX_CHARS,
        limits.EXPRESSION_MAX_DEPTH,
        limits.EXPRESSION_MAX_NODES,
        limits.EXPRESSION_MAX_INPUTS,
        limits.WINDOW_MAX_POINTS,
        limits.REGEX_MAX_CHARS,
        limits.EXPRESSIONS_PER_REQUEST,
        limits.CUSTOM_METRICS_MAX,
    ]
