"""The table of functions is whole, and each of them can be called as it says."""

from __future__ import annotations

import pytest

from thalweg_tracker.expressions.check import check
from thalweg_tracker.expressions.functions import FUNCTIONS, SPELLINGS, FunctionClass, Takes
from thalweg_tracker.expressions.tree import Node

NAMES = {
    FunctionClass.POINTWISE: "abs sqrt exp log log2 log10 log1p floor ceil round sign tanh sigmoid minimum maximum clip"
    " if isnan isinf isfinite",
    FunctionClass.WINDOW: "ema rolling_mean rolling_min rolling_max rolling_std rolling_median rolling_sum cumsum"
    " cummin cummax diff lag rate",
    FunctionClass.ALIGNMENT: "fill interpolate",
    FunctionClass.REDUCER: "last first min max mean sum std median argmin argmax count auc quantile at any all"
    " steps_to",
    FunctionClass.PREDICATE: "has_tag exists contains startswith matches length default",
    FunctionClass.RANK: "rank mean_over_ranks min_over_ranks max_over_ranks std_over_ranks sum_over_ranks"
    " count_over_ranks",
    FunctionClass.NAME: "metric config env run",
}
ARGUMENTS = {
    Takes.SERIES: "x",
    Takes.POINTS: "x",
    Takes.CONDITIONS: "x > 1",
    Takes.VALUE: "x",
    Takes.CONDITION: "x > 1",
    Takes.BRANCH: "x",
    Takes.NUMBER: "last(x)",
    Takes.STRING: "run.name",
    Takes.SCALAR: "config.a",
    Takes.PRESENCE: "x",
    Takes.CONSTANT: "0",
    Takes.QUOTED: '"t"',
    Takes.METRIC: "x",
    Takes.EXPRESSION: "x",
}


@pytest.mark.parametrize("function_class", FunctionClass)
def test_no_function_is_missing(function_class: FunctionClass) -> None:
    """The functions of each class, in the order of the documents."""
    found = [one.name for one in FUNCTIONS.values() if one.function_class is function_class]
    assert found == NAMES[function_class].split()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_can_be_called(name: str) -> None:
    """A call with what the parameters take passes; the node has all arguments, defaults too."""
    function = FUNCTIONS[name]
    args = ["1" if one.low == 1 else ARGUMENTS[one.takes] for one in function.parameters]
    node = check(f"{name}({', '.join(args)})")
    if function.function_class not in (FunctionClass.RANK, FunctionClass.NAME):
        assert (node.op, len(node.args)) == (name, len(function.parameters))
    least = check(f"{name}({', '.join(args[: function.arguments_min])})")
    assert least == node


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_is_documented(name: str) -> None:
    """One line, a sentence; a constant says its range."""
    function = FUNCTIONS[name]
    assert function.doc.endswith(".")
    assert "\n" not in function.doc
    assert all(one.range_text for one in function.parameters if one.takes is Takes.CONSTANT)
    assert function.signature.startswith(f"{name}(")


def test_signatures() -> None:
    """A default is shown as it is written."""
    assert FUNCTIONS["lag"].signature == "lag(x, n=1)"
    assert FUNCTIONS["quantile"].signature == "quantile(x, q)"


def test_default_of_lag() -> None:
    """A missing argument is there in the node."""
    assert check("lag(x)").args[1] == Node("number", check("1").kind, value=1.0)


def test_spellings_of_others() -> None:
    """They lead to functions and hide none."""
    assert set(SPELLINGS.values()) <= set(FUNCTIONS)
    assert not set(SPELLINGS) & set(FUNCTIONS)
