"""Reads the scripts that hold expressions to their meaning: tests/expressions/*.test, and ```expr in docs. Pure.

    # a comment                             load, fork, rewind are followed by indented lines of what the run has:
    load base                                 config lr=0.1 model="gpt"     env gpu="H100"
      loss 0:3 1:2.5 3:nan                    tags baseline good            status finished
      `val/loss` rank 1 0:1+2x3               config seed=removed           name "first try"
    fork child from base@1                    METRIC [rank N] STEP:VALUE+DELTAxCOUNT STEP:VALUE@SECONDS
      loss 2:9
    rewind base@2                           a new branch of the run
    re-log base                             points by another process, an hour later
      loss 1:7
    re-send base                            all that its processes have sent comes a second time
    define f1 = 2 * p * r / (p + r)         a custom metric
    eval loss + 1 run base                  asks for a series, or for a value of the run
      expect 0:4 1:3.5 3:nan                  expect nothing, expect rank 0 0:1 (after `run base by rank`)
      expect number 0.5                       expect null, expect true, expect "text"
    filter config.lr > 0.01                 asks for runs
      expect runs base child                  expect runs (none of them)
    fail smoth(loss)                        also: fail series, column, filter EXPR; fail define NAME = EXPR
      expect span 0..5 message contains unknown function 'smoth'

Points are a second apart for each step, unless they say their time. Blank lines mean nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from tests.support.twice import REMOVED

Curve: TypeAlias = list[tuple[float, float]]


class ScriptError(Exception):
    """A script that cannot be read."""


@dataclass(frozen=True, slots=True)
class Logged:
    """Points of one metric of one rank: step, value, and the second after the start, or None."""

    metric: str
    rank: int
    points: tuple[tuple[float, float, float | None], ...]


@dataclass(frozen=True, slots=True)
class Load:
    """A run, and what it has. `parent`: where it goes on from; the run itself for a rewind."""

    line: int
    run_id: str
    parent: str | None
    step: float
    logged: tuple[Logged, ...]
    attributes: dict[str, Any]
    status: str | None


@dataclass(frozen=True, slots=True)
class LogAgain:
    """Points of a later process."""

    line: int
    run_id: str
    logged: tuple[Logged, ...]


@dataclass(frozen=True, slots=True)
class SendAgain:
    """All batches a second time."""

    line: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Define:
    """A custom metric."""

    line: int
    name: str
    expression: str


@dataclass(frozen=True, slots=True)
class EvalSeries:
    """By rank, or under None the mean over ranks; empty series are left out."""

    line: int
    expression: str
    run_id: str
    by_rank: bool
    wanted: dict[int | None, Curve]


@dataclass(frozen=True, slots=True)
class EvalValue:
    """One value of a run."""

    line: int
    expression: str
    run_id: str
    wanted: float | str | bool | None


@dataclass(frozen=True, slots=True)
class Filter:
    """The runs for which it is true."""

    line: int
    expression: str
    wanted: frozenset[str]


@dataclass(frozen=True, slots=True)
class Fail:
    """What is refused, and how. `place`: series, column, filter or define; empty: as a series and as a column."""

    line: int
    expression: str
    place: str
    name: str
    span: tuple[int, int]
    words: str


Statement: TypeAlias = Load | LogAgain | SendAgain | Define | EvalSeries | EvalValue | Filter | Fail
ATTRIBUTE_LINES: Final = {"config", "env", "tags", "status", "name", "notes"}
_NUMBER: Final = r"(?:nan|inf|[0-9.]+(?:e-?[0-9]+)?)"
_POINT: Final = re.compile(
    rf"(?P<step>-?{_NUMBER}):(?P<value>-?{_NUMBER})(?:(?P<delta>[+-]{_NUMBER})x(?P<count>[0-9]+))?(?:@(?P<at>{_NUMBER}))?"
)
_METRIC: Final = re.compile(r"(?:`((?:[^`]|``)+)`|(\S+))(?: +rank +(\d+))? +(.*)")
_EVAL: Final = re.compile(r"(.+) run +(\S+?)( +by +rank)?")
_FORK: Final = re.compile(r"(\S+) +from +(\S+)@(\S+)")
_REWIND: Final = re.compile(r"(\S+)@(\S+)")
_DEFINE: Final = re.compile(r"(\S+) += +(.+)")
_SPAN: Final = re.compile(r"span +(\d+)\.\.(\d+)(?: +message +contains +(.+))?")
_SETTING: Final = re.compile(r'([^\s=]+)=("(?:[^"\\]|\\.)*"|\[[^\]]*\]|\{[^}]*\}|\S+)')
_TEXT_LINES: Final = {"name": "run.name", "notes": "run.notes"}


@dataclass
class _Block:
    """A line at the margin, and the indented ones below it."""

    line: int
    word: str
    rest: str
    below: list[tuple[int, str]] = field(default_factory=list)


def parse(text: str) -> list[Statement]:
    """The statements of a script. Raises ScriptError with the line."""
    return [_statement(block) for block in _blocks(text)]


def _blocks(text: str) -> list[_Block]:
    blocks: list[_Block] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace():
            if not blocks:
                raise ScriptError(f"line {number}: nothing stands above it")
            blocks[-1].below.append((number, line.strip()))
        else:
            word, _, rest = line.strip().partition(" ")
            blocks.append(_Block(number, word, rest.strip()))
    return blocks


def _statement(block: _Block) -> Statement:
    readers: dict[str, Callable[[_Block], Statement]] = {
        "load": _load,
        "fork": _load,
        "rewind": _load,
        "re-log": lambda block: LogAgain(block.line, block.rest, tuple(_logged(*one) for one in block.below)),
        "re-send": lambda block: SendAgain(block.line, block.rest),
        "define": _define,
        "eval": _eval,
        "filter": _filter,
        "fail": _fail,
    }
    if block.word not in readers:
        raise ScriptError(f"line {block.line}: {block.word!r} is none of {', '.join(readers)}")
    return readers[block.word](block)


def _matched(pattern: re.Pattern[str], text: str, line: int) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise ScriptError(f"line {line}: cannot read {text!r}")
    return found


def _load(block: _Block) -> Load:
    run_id, parent, step = block.rest, None, 0.0
    if block.word == "fork":
        found = _matched(_FORK, block.rest, block.line)
        run_id, parent, step = found[1], found[2], float(found[3])
    elif block.word == "rewind":
        found = _matched(_REWIND, block.rest, block.line)
        run_id, parent, step = found[1], found[1], float(found[2])
    logged: list[Logged] = []
    attributes: dict[str, Any] = {}
    status = None
    for line, text in block.below:
        word, _, rest = text.partition(" ")
        if word not in ATTRIBUTE_LINES:
            logged.append(_logged(line, text))
        elif word == "status":
            status = rest.strip()
        else:
            attributes.update(_attributes(word, rest.strip(), line))
    return Load(block.line, run_id, parent, step, tuple(logged), attributes, status)


def _attributes(word: str, rest: str, line: int) -> Iterator[tuple[str, Any]]:
    if word == "tags":
        yield from ((f"tags.{tag.replace('/', '.')}", True) for tag in rest.split())
    elif word in _TEXT_LINES:
        yield _TEXT_LINES[word], json.loads(rest)
    else:
        if _SETTING.sub("", rest).strip():
            raise ScriptError(f"line {line}: cannot read {_SETTING.sub('', rest).strip()!r}")
        yield from (
            (f"{word}.{path}", REMOVED if value == "removed" else json.loads(value))
            for path, value in _SETTING.findall(rest)
        )


def _logged(line: int, text: str) -> Logged:
    quoted, bare, rank, points = _matched(_METRIC, text, line).groups()
    found = tuple(point for word in points.split() for point in _points(word, line))
    return Logged(bare or quoted.replace("``", "`"), int(rank or 0), found)


def _points(word: str, line: int) -> Iterator[tuple[float, float, float | None]]:
    found = _matched(_POINT, word, line)
    step, value, delta, at = float(found["step"]), float(found["value"]), found["delta"], found["at"]
    for place in range(int(found["count"] or 0) + 1):
        yield step + place, value + place * float(delta or 0), None if at is None else float(at)


def _define(block: _Block) -> Define:
    found = _matched(_DEFINE, block.rest, block.line)
    return Define(block.line, found[1], found[2])


def _expectations(block: _Block) -> list[str]:
    found = []
    for line, text in block.below:
        word, _, rest = text.partition(" ")
        if word != "expect":
            raise ScriptError(f"line {line}: only `expect` may stand below {block.word}")
        found.append(rest.strip())
    if not found:
        raise ScriptError(f"line {block.line}: nothing is expected")
    return found


def _eval(block: _Block) -> EvalSeries | EvalValue:
    expression, run_id, by_rank = _matched(_EVAL, block.rest, block.line).groups()
    expected = _expectations(block)
    first = expected[0]
    if len(expected) == 1 and first[:1] == '"':
        return EvalValue(block.line, expression, run_id, str(json.loads(first)))
    if len(expected) == 1 and first in ("null", "true", "false"):
        return EvalValue(block.line, expression, run_id, json.loads(first))
    if len(expected) == 1 and first.startswith("number "):
        return EvalValue(block.line, expression, run_id, float(first.removeprefix("number ")))
    wanted: dict[int | None, Curve] = {}
    for text in expected:
        rank, points = None, text
        if by_rank and text != "nothing":
            _, number, points = text.split(maxsplit=2)
            rank = int(number)
        if text != "nothing":
            wanted[rank] = [(step, value) for word in points.split() for step, value, _ in _points(word, block.line)]
    return EvalSeries(block.line, expression, run_id, bool(by_rank), wanted)


def _filter(block: _Block) -> Filter:
    (expected,) = _expectations(block)
    word, *runs = expected.split()
    if word != "runs":
        raise ScriptError(f"line {block.line}: a filter expects runs")
    return Filter(block.line, block.rest, frozenset(runs))


def _fail(block: _Block) -> Fail:
    (expected,) = _expectations(block)
    begin, end, words = _matched(_SPAN, expected, block.line).groups()
    place, expression, name = "", block.rest, ""
    word, _, rest = expression.partition(" ")
    if word in ("series", "column", "filter", "define"):
        place, expression = word, rest.strip()
    if place == "define":
        name, expression = _matched(_DEFINE, expression, block.line).groups()
    return Fail(block.line, expression, place, name, (int(begin), int(end)), words or "")
