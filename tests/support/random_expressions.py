"""Texts of expressions for Hypothesis, of bounded depth.

`exact`: what follows the rules of IEEE step by step, so that two right implementations agree in the last bit. Only of
such values anything is asked that jumps: comparisons, rounding, divisors, places of extremes. All else is compared
within rounding, and gets nothing on its way that makes much of little.
"""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

METRICS: Final = ("a", "b", "c", "`d/e`")
RUN: Final = "r0"
"""The run that run(...) names."""
CUSTOM: Final = "f"
CONSTANTS: Final = ("0", "1", "-2", "0.5", "3", "8", "nan", "inf", "-inf")
FACTORS: Final = ("2", "-0.5", "0.1", "3")
SIZES: Final = ("1", "2", "3", "7")
_OVER_RANKS: Final = ("min", "max", "sum", "count", "mean")
_CONDITIONS_ON_ONE: Final = ("isnan", "isinf", "isfinite")
_COMPARISONS: Final = ("<", "<=", ">", ">=", "==", "!=")


@st.composite
def series(draw: st.DrawFn, depth: int = 3, *, exact: bool = False, ranks: bool = True) -> str:
    """A value at each step. `ranks`: whether functions over ranks may be in it."""

    def inner(exact: bool = True) -> str:
        return draw(series(depth - 1, exact=exact, ranks=ranks))

    def pick(*choices: str) -> str:
        return draw(st.sampled_from(choices))

    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(metrics(ranks=ranks))
    forms = [
        "infix",
        "number",
        "function",
        "pair",
        "clip",
        "if",
        "divided",
        "lag",
        "step",
        "align",
        "extreme",
        "reduced",
    ]
    if not exact:
        forms += ["smooth", "smooth", "window", "total", "curve", "scaled", "sum"]
    form = pick(*forms)
    if form == "infix":
        return f"({inner()} {pick('+', '-', '*')} {inner()})"
    if form == "number":
        return f"({inner()} {pick('+', '-', '*')} {pick(*CONSTANTS)})"
    if form == "function":
        return f"{pick('abs', 'floor', 'ceil', 'round', 'sign', 'sqrt', '-')}({inner()})"
    if form == "pair":
        return f"{pick('minimum', 'maximum')}({inner()}, {inner()})"
    if form == "clip":
        return f"clip({inner()}, -1, 2)"
    if form == "if":
        condition = draw(conditions(depth - 1, ranks=ranks))
        return f"if({condition}, {inner(exact)}, {pick(inner(exact), *CONSTANTS)})"
    if form == "divided":
        return f"({inner()} {pick('/', '%')} ({inner()} + 0))"  # -0.0 + 0 is 0.0: of a minimum either one may come
    if form == "lag":
        return f"lag({inner(exact)}, {pick(*SIZES)})"
    if form == "step":
        return f"{pick('diff', 'rate')}({inner(exact)})"
    if form == "align":
        return f"({inner()} + 0 * fill({inner()}))" if draw(st.booleans()) else f"fill({inner(exact)})"
    if form == "extreme":
        name = pick("cummin", "cummax", "rolling_min", "rolling_max")
        return f"{name}({inner(exact)}{', ' + pick(*SIZES) if name.startswith('rolling') else ''})"
    if form == "reduced":
        return f"({inner(exact)} {pick('+', '-')} {draw(numbers(depth - 1, exact=exact, ranks=ranks, in_series=True))})"
    if form == "smooth":
        return f"ema({inner(False)}, {pick('0.5', '0.9', '0.99', '0.1')})"
    if form == "window":
        return f"rolling_{pick('mean', 'std', 'median', 'sum')}({inner(False)}, {pick(*SIZES)})"
    if form == "total":
        return f"{pick('cumsum', 'interpolate')}({inner(False)})"
    if form == "curve":
        return f"{pick('tanh', 'sigmoid', 'exp', 'abs')}(clip({inner(False)}, -5, 5))"
    if form == "scaled":
        return f"({inner(False)} * {pick(*FACTORS)})"
    return f"({inner(False)} {pick('+', '-')} {inner(False)})"


@st.composite
def metrics(draw: st.DrawFn, *, ranks: bool) -> str:
    """A metric, of this run or another one, over ranks or of one."""
    name = draw(st.sampled_from(METRICS))
    form = draw(st.sampled_from(["plain"] * 6 + ["run", "custom"] + ["over", "rank"] * ranks))
    if form == "run":
        return f'run("{RUN}", {name})'
    if form == "custom":
        return CUSTOM
    if form == "over":
        return f"{draw(st.sampled_from(_OVER_RANKS))}_over_ranks({name})"
    return f"rank({name}, {draw(st.integers(0, 2))})" if form == "rank" else name


@st.composite
def conditions(draw: st.DrawFn, depth: int, *, ranks: bool) -> str:
    """A condition on a series."""
    form = draw(st.sampled_from(["compare", "compare", "number", "one"] + ["and", "not"] * (depth > 0)))
    if form == "and":
        left, right = (draw(conditions(depth - 1, ranks=ranks)) for _ in range(2))
        return f"({left} {draw(st.sampled_from(['and', 'or']))} {right})"
    if form == "not":
        return f"(not {draw(conditions(depth - 1, ranks=ranks))})"
    operand = draw(series(max(depth - 1, 0), exact=True, ranks=ranks))
    if form == "one":
        return f"{draw(st.sampled_from(_CONDITIONS_ON_ONE))}({operand})"
    other = draw(st.sampled_from(CONSTANTS) if form == "number" else series(max(depth - 1, 0), exact=True, ranks=ranks))
    return f"({operand} {draw(st.sampled_from(_COMPARISONS))} {other})"


@st.composite
def numbers(
    draw: st.DrawFn, depth: int = 3, *, exact: bool = False, ranks: bool = True, in_series: bool = False
) -> str:
    """A number of a run. `in_series`: as part of a series, which knows neither tags nor the state of its run."""

    def inner(exact: bool = True) -> str:
        return draw(numbers(depth - 1, exact=exact, ranks=ranks, in_series=in_series))

    def pick(*choices: str) -> str:
        return draw(st.sampled_from(choices))

    def some_series(exact: bool) -> str:
        return draw(series(max(depth - 1, 0), exact=exact, ranks=ranks))

    forms = ["last", "last", "place", "at", "count", "first_step"]
    if depth > 0:
        forms += ["infix", "if", "default", "attribute"]
    if not exact:
        forms += ["mean", "mean", "quantile"]
    form = pick(*forms)
    if form == "last":
        return f"{pick('last', 'first', 'min', 'max')}({some_series(exact)})"
    if form == "place":
        return f"{pick('argmin', 'argmax')}({some_series(True)})"
    if form == "at":
        return f"at({some_series(exact)}, {pick('0', '1', '2.5', '-1', '5')})"
    if form == "count":
        return (
            f"count({draw(conditions(max(depth - 1, 0), ranks=ranks)) if draw(st.booleans()) else some_series(True)})"
        )
    if form == "first_step":
        return f"steps_to({draw(conditions(max(depth - 1, 0), ranks=ranks))})"
    if form == "infix":
        return f"({inner()} {pick('+', '-', '*', '%')} {inner()})"
    if form == "if":
        return f"if({draw(predicates(depth - 1, ranks=ranks, in_series=in_series))}, {inner(exact)}, {inner(exact)})"
    if form == "default":
        return f"default({inner(exact)}, {inner(exact)})"
    if form == "attribute":
        return f"(config.lr * {pick(*CONSTANTS)})"
    if form == "mean":
        return f"{pick('mean', 'sum', 'std', 'median', 'auc', 'last', 'max')}({some_series(False)})"
    return f"quantile({some_series(False)}, {pick('0', '0.25', '0.5', '0.9', '1')})"


@st.composite
def predicates(draw: st.DrawFn, depth: int = 2, *, ranks: bool = True, in_series: bool = False) -> str:
    """A bool of a run."""
    forms = ["flag", "exists", "any", "compare"] + ["tag", "status"] * (not in_series) + ["and", "not"] * (depth > 0)
    form = draw(st.sampled_from(forms))
    if form == "tag":
        return 'has_tag("t")'
    if form == "status":
        return 'status == "finished"'
    if form == "flag":
        return draw(st.sampled_from(["config.flag", "exists(config.lr)"]))
    if form == "exists":
        return f"exists({draw(series(max(depth - 1, 0), exact=True, ranks=ranks))})"
    if form == "any":
        return f"{draw(st.sampled_from(['any', 'all']))}({draw(conditions(max(depth - 1, 0), ranks=ranks))})"
    if form == "compare":
        left, right = (draw(numbers(max(depth - 1, 0), exact=True, ranks=ranks, in_series=in_series)) for _ in range(2))
        return f"({left} {draw(st.sampled_from(_COMPARISONS))} {right})"
    if form == "not":
        return f"(not {draw(predicates(depth - 1, ranks=ranks, in_series=in_series))})"
    left, right = (draw(predicates(depth - 1, ranks=ranks, in_series=in_series)) for _ in range(2))
    return f"({left} {draw(st.sampled_from(['and', 'or']))} {right})"
