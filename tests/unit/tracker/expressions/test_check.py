"""Names, kinds, constants, custom metrics and limits, case by case."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.nasty_expressions import NASTY_NAMES, NASTY_TEXTS
from thalweg_tracker.errors import ExpressionError, RejectedError
from thalweg_tracker.expressions.check import (
    check,
    check_column,
    check_definition,
    check_filter,
    check_series,
    used_custom,
)
from thalweg_tracker.expressions.functions import FUNCTIONS, FunctionClass
from thalweg_tracker.expressions.names import validate_custom_name
from thalweg_tracker.expressions.tree import Kind, Node, Source, attributes, sources

Wanted: TypeAlias = Callable[[str, dict[str, str]], Node]

CUSTOM = {
    "f1": "2 * precision * recall / (precision + recall)",
    "best": "max(f1)",
    "bad": "isnan(loss) or loss > 100",
    "loss": "loss / 2",
    "train/x": "a",
    "spread": "max_over_ranks(a) - a",
    "g": "h + 1",
    "h": "abs(g)",
    "typo": "smooth(loss, 0.9)",
    "broken": "(a",
    "lr": "config.lr",
}


def kinds_below(node: Node) -> str:
    """The kinds of a node's arguments."""
    return " ".join(one.kind for one in node.args)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("loss", "series"), ("`train/loss`", "series"), ('metric("a b")', "series"), ("1", "number"),
        ("nan", "number"),
        ("'a'", "string"), ("true", "bool"), ("config.lr", "any"), ("env.x", "any"), ('config("a/b")', "any"),
        ("status", "string"), ("run.id", "string"), ("run.duration", "number"),
        ("loss + 1", "series"), ("2 ** loss", "series"), ("-loss", "series"), ("1 + 2", "number"), ("-1", "number"),
        ("config.a * 2", "number"), ("config.a * loss", "series"), ("-config.a", "number"),
        ("loss / max(loss)", "series"),
        ("loss > 1", "bool_series"), ("loss == loss", "bool_series"), ("1 < 2", "bool"),
        ("config.a == config.b", "bool"),
        ("config.a < config.b", "bool"), ("status == 'x'", "bool"), ("status < 'x'", "bool"),
        ("config.a == true", "bool"),
        ("(a > 1) == (b > 1)", "bool_series"), ("a > 1 and b > 1", "bool_series"), ("a > 1 or true", "bool_series"),
        ("not config.a", "bool"), ("not a > 1", "bool_series"), ("config.a and has_tag('x')", "bool"),
        ("abs(loss)", "series"), ("abs(-1)", "number"), ("abs(config.a)", "number"), ("minimum(loss, 1)", "series"),
        ("minimum(1, config.a)", "number"), ("clip(1, 0, loss)", "series"), ("isnan(loss)", "bool_series"),
        ("isnan(config.a)", "bool"), ("if(a > 1, 1, 0)", "series"), ("if(a > 1, b, config.c)", "series"),
        ("if(config.a, a, 1)", "series"), ("if(config.a, 1, 2)", "number"), ("if(config.a, 'x', 'y')", "string"),
        ("if(config.a, true, has_tag('x'))", "bool"), ("if(a > 1, true, false)", "bool_series"),
        ("if(a > 1, b > 1, config.c)", "bool_series"), ("if(config.a, config.b, config.c)", "any"),
        ("if(a > 1, config.b, config.c)", "series"), ("if(config.a, config.b, 'x')", "string"),
        ("ema(loss, 0.9)", "series"), ("lag(loss)", "series"), ("lag(diff(loss), 3)", "series"),
        ("fill(loss)", "series"),
        ("last(loss)", "number"), ("mean(loss > 1)", "number"), ("count(loss > 1)", "number"),
        ("quantile(loss, 0.5)", "number"),
        ("at(loss, argmin(b) + config.lag)", "number"),
        ("at(loss, -5.5)", "number"), ("any(loss > 1)", "bool"), ("all(isnan(loss))", "bool"),
        ("steps_to(loss < 1)", "number"),
        ("has_tag('x')", "bool"), ("exists(loss)", "bool"), ("exists(loss > 1)", "bool"),
        ("exists(config.a)", "bool"),
        ("exists(run.notes)", "bool"), ("contains(config.a, 'x')", "bool"), ("matches(run.name, '^a.*')", "bool"),
        ("startswith('abc', 'a')", "bool"), ("length(config.a)", "number"), ("default(config.a, 1)", "number"),
        ("default(config.a, 'x')", "string"), ("default(last(a), 1)", "number"), ("default(config.a, true)", "bool"),
        ("default(config.a, config.b)", "any"), ("default(config.a, config.b) + 1", "number"),
        ("default(1, 2)", "number"),
        ("run('r', loss)", "series"), ("last(run('r', loss))", "number"), ("rank(loss / a, 3)", "series"),
        ("std_over_ranks(a)", "series"), ("loss - run('r', loss)", "series"), ("f1", "series"), ("best", "number"),
        ("bad", "bool_series"), ("lr", "any"), ("lr + 1", "number"), ("loss > best", "bool_series"),
    ],
)  # fmt: skip
def test_kinds(text: str, kind: str) -> None:
    """A series anywhere makes a series; an attribute is what its place wants."""
    assert check(text, CUSTOM).kind == kind


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("config.a + 1", "number number"),
        ("loss * config.a", "series number"),
        ("config.a == 'x'", "string string"),
        ("1 < config.a", "number number"),
        ("config.a == has_tag('x')", "bool bool"),
        ("config.a == config.b", "any any"),
        ("config.a != config.b", "any any"),
        ("config.a < config.b", "number number"),
        ("config.a and config.b", "bool bool"),
        ("if(config.a, config.b, 1)", "bool number number"),
        ("if(config.a, config.b, config.c)", "bool any any"),
        ("if(x > 1, config.b, config.c)", "bool_series number number"),
        ("default(config.a, 'x')", "string string"),
        ("default(config.a, config.b)", "any any"),
        ("exists(config.a)", "any"),
        ("contains(config.a, 'x')", "string string"),
        ("abs(config.a)", "number"),
        ("lr + 1", "number number"),
    ],
)
def test_an_attribute_takes_the_kind_of_its_place(text: str, kinds: str) -> None:
    """In arithmetic a number, beside text text, under `and` a bool; two of them are compared as they are."""
    assert kinds_below(check(text, CUSTOM)) == kinds


def test_an_attribute_takes_its_kind_through_calls() -> None:
    """Under default() and if() too."""
    node = check("default(if(true, config.a, config.b), config.c) + 1")
    assert {one.kind for one in node.walk() if one.op == "attribute"} == {Kind.NUMBER}
    assert {one.kind for one in node.walk() if one.op in ("default", "if")} == {Kind.NUMBER}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.b_1", [Source("a.b_1")]),
        ("`config.lr`", [Source("config.lr")]),
        ("metric('status')", [Source("status")]),
        ("a + b + a", [Source("a"), Source("b")]),
        ("min + max(min)", [Source("min")]),
        ("run('r', a + b) - a", [Source("a", "r"), Source("b", "r"), Source("a")]),
        ("run('r', run('s', a) + b)", [Source("a", "s"), Source("b", "r")]),
        ("rank(a, 3)", [Source("a", None, 3)]),
        ("rank(run('r', a), 0)", [Source("a", "r", 0)]),
        ("rank(rank(a, 1) + b, 2)", [Source("a", None, 1), Source("b", None, 2)]),
        ("max_over_ranks(a)", [Source("a", None, "max")]),
        ("mean_over_ranks(a)", [Source("a")]),
        ("count_over_ranks(run('r', a))", [Source("a", "r", "count")]),
        ("rank(a / max_over_ranks(a), 1)", [Source("a", None, 1), Source("a", None, "max")]),
        ("run('r', f1)", [Source("precision", "r"), Source("recall", "r")]),
        ("loss", [Source("loss")]),
        ("`train/x` + `train/y`", [Source("a"), Source("train/y")]),
        ("metric('train/x')", [Source("a")]),
        ("max_over_ranks(`train/x`)", [Source("a", None, "max")]),
        ("rank(spread, 1)", [Source("a", None, "max"), Source("a", None, 1)]),
    ],
)
def test_metrics(text: str, found: list[Source]) -> None:
    """The innermost run() and rank() count; a custom metric's name in its own text is the logged metric."""
    assert sources(check(text, CUSTOM)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("config.lr + env.x", ["config.lr", "env.x"]),
        ('config("a/b.c")', ["config.a.b.c"]),
        ("env('A B')", ["env.A B"]),
        ("status", ["run.status"]),
        ("config == 1 or env == 2 or run == 3", []),
        ("configs.lr", []),
    ],
)
def test_attributes(text: str, found: list[str]) -> None:
    """Three namespaces and the word `status`; everything else is a metric."""
    assert attributes(check(text)) == found


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("foo(a)", "foo", "unknown function 'foo'"),
        ("emaa(a, 1)", "emaa", "did you mean 'ema'?"),
        ("smoth(a)", "smoth", "did you mean 'ema'?"),
        ("stddev(a)", "stddev", "did you mean 'std'?"),
        ("f1(a)", "f1(a)", "'f1' is a custom metric, not a function"),
        ("ema(a)", "ema(a)", "ema(x, weight) takes 2 arguments, not 1"),
        ("lag()", "lag()", "lag(x, n=1) takes 1 or 2 arguments, not 0"),
        ("abs(a, b)", "abs(a, b)", "takes 1 argument, not 2"),
        ("run('r')", "run('r')", "run(run_id, x) takes 2 arguments"),
        ("ema(a, 1)", "1", "ema's weight is a number from 0 to below 1, written out; not 1"),
        ("ema(a, -0.1)", "-0.1", "from 0 to below 1"),
        ("ema(a, config.w)", "config.w", "written out; not config.w"),
        ("ema(a, 1 - 0.1)", "1 - 0.1", "written out"),
        ("ema(a, nan)", "nan", "from 0 to below 1"),
        ("lag(a, 0)", "0", "a whole number from 1 to 10000"),
        ("lag(a, 1.5)", "1.5", "a whole number"),
        ("rolling_mean(a, 10001)", "10001", "from 1 to 10000"),
        ("quantile(a, 1.1)", "1.1", "from 0 to 1"),
        ("rank(a, 65536)", "65536", "from 0 to 65535"),
        ("at(a, b)", "b", "at's step takes a number, and b is a series"),
        ("has_tag(1)", "1", "has_tag's tag is text in quotes"),
        ("contains(run.name, run.id)", "run.id", "contains's part is text in quotes"),
        ("matches(run.name, '" + "a" * 513 + "')", "'" + "a" * 513 + "'", "more than 512 characters"),
        ("contains(loss, 'x')", "loss", "contains's s takes text, and loss is a series"),
        ("exists(1)", "1", "exists's x takes a series or an attribute, and 1 is neither"),
        ("exists(last(a))", "last(a)", "is neither"),
        ("ema(config.a, 0.5)", "config.a", "ema's x takes a series, and config.a is an attribute"),
        ("loss + run.name", "run.name", "'+' takes numbers and series, and run.name is text"),
        ("run.name == 1", "1", "cannot compare with '==': run.name is text, and 1 is a number"),
        ("loss == run.name", "run.name", "loss is a series, and run.name is text"),
        ("true < false", "true", "'<' compares numbers or text, and true is a bool"),
        ("if(true, 'a', 1)", "'a'", "if(...) gives one kind of value: 1 is a number"),
        ("if(a > 1, 'x', 'y')", "if(a > 1, 'x', 'y')", "text has no series"),
        ("default(config.a, loss)", "loss", "default's b takes one value a run, and loss is a series"),
        ("run('r', config.lr)", "config.lr", "is always that of the run that is asked about"),
        ("run('r', has_tag('x'))", "has_tag('x')", "of the run that is asked about"),
        ("run('r', 1)", "run('r', 1)", "there is none in it"),
        ("rank(1, 2)", "rank(1, 2)", "there is none that it chooses"),
        ("rank(max_over_ranks(a), 1)", "rank(max_over_ranks(a), 1)", "there is none that it chooses"),
        ("max_over_ranks(a + b)", "a + b", "takes one logged metric, and a + b is another expression"),
        ("max_over_ranks(f1)", "f1", "takes one logged metric, and f1 is a custom metric"),
        ("max_over_ranks(rank(a, 1))", "rank(a, 1)", "without rank(...)"),
        ("max_over_ranks(min_over_ranks(a))", "min_over_ranks(a)", "without min_over_ranks(...)"),
        ("run.stats", "run.stats", "unknown 'run.stats'; there are run.id, "),
        ("config.", "config.", "has an empty part"),
        ("config.a..b", "config.a..b", "has an empty part"),
        ("config('')", "config('')", "has an empty part"),
        ("``", "``", "1 to 1024 bytes, not 0"),
        ("metric('')", "metric('')", "1 to 1024 bytes, not 0"),
        ("`" + "é" * 513 + "`", "`" + "é" * 513 + "`", "1 to 1024 bytes, not 1026"),
        ("a == None", "None", "exists(x)"),
        ("1 + g", "g", "in the custom metric `h`: custom metrics go in a circle: g -> h -> g"),
        ("1 + typo", "typo", "in the custom metric `typo`: unknown function 'smooth'; did you mean 'ema'?"),
        ("1 + broken * 2", "broken", "in the custom metric `broken`: a ')' is missing"),
        ("best + last(bad) + max(lr)", "max(lr)", "lr is an attribute: it is one value already"),
    ],
)
def test_messages(text: str, place: str, said: str) -> None:
    """A message names what is wrong, the span is its place in the text that was asked."""
    with pytest.raises(ExpressionError, match=re.escape(said)) as caught:
        check(text, CUSTOM)
    assert caught.value.text == text
    assert text[slice(*caught.value.span)] == place


@pytest.mark.parametrize(
    ("want", "text", "fixed"),
    [
        (check, "emaa(a, 0.5)", "ema(a, 0.5)"),
        (check, "avg(a)", "mean(a)"),
        (check, "pow(a + 1, 2)", "(a + 1) ** (2)"),
        (check, "f1(a)", "f1"),
        (check, "min(a, 1)", "minimum(a, 1)"),
        (check, "max(a, b)", "maximum(a, b)"),
        (check, "last(config.a)", "config.a"),
        (check, "last(max(a)) + 1", "max(a) + 1"),
        (check, "any(max(a) > 1)", "max(a) > 1"),
        (check, "last('train/loss')", "last(`train/loss`)"),
        (check, "'train/loss' * 2", "`train/loss` * 2"),
        (check, "'train/loss' > 0.3", "`train/loss` > 0.3"),
        (check, "any(a)", "any(a != 0)"),
        (check, "not (a)", "not ((a) != 0)"),
        (check, "a and b > 1", "(a != 0) and b > 1"),
        (check, "(a > 1) * 2", "if(a > 1, 1, 0) * 2"),
        (check, "rolling_mean(isnan(a), 5)", "rolling_mean(if(isnan(a), 1, 0), 5)"),
        (check, "default(loss, 1)", "default(last(loss), 1)"),
        (check, "config.a == True", "config.a == true"),
        (check, "run.stats == 'x'", "run.status == 'x'"),
        (check, "has_tag(baseline)", 'has_tag("baseline")'),
        (check_filter, "a", "last(a) != 0"),
        (check_filter, "last(a)", "last(a) != 0"),
        (check_filter, "a < 2", "last(a) < 2"),
        (
            check_filter,
            "(a + 1) < 2 and not isnan(b) or config.x",
            "last(a + 1) < 2 and not isnan(last(b)) or config.x",
        ),
        (check_filter, "bad", "any(bad)"),
        (check_filter, "a < 2 and bad", "any(a < 2 and bad)"),
        (check_filter, "run('r', a < 2)", "run('r', last(a) < 2)"),
        (check_column, "a", "last(a)"),
        (check_column, "(a + b)", "last(a + b)"),
        (check_column, "a > max(a)", "last(a) > max(a)"),
        (check_series, "'train/loss'", "`train/loss`"),
    ],
)
def test_fixes(want: Wanted, text: str, fixed: str) -> None:
    """A fix put in the span's place makes the expression right."""
    with pytest.raises(ExpressionError) as caught:
        want(text, CUSTOM)
    begin, end = caught.value.span
    assert text[:begin] + caught.value.fix + text[end:] == fixed
    assert caught.value.hint == f"Write {caught.value.fix}"
    want(fixed, CUSTOM)


@pytest.mark.parametrize(
    "text", ["has_tag('x')", "config.done", "config.lr > 1e-3 and last(loss) < 2.1", "any(bad)", "true"]
)
def test_filters(text: str) -> None:
    """A filter is a bool; an attribute by itself is taken as one."""
    assert check_filter(text, CUSTOM).kind is Kind.BOOL


@pytest.mark.parametrize("text", ["1", "config.a", "'x'", "has_tag('x')", "last(loss)"])
def test_one_value_is_no_series(text: str) -> None:
    """It is refused where a series is wanted."""
    with pytest.raises(ExpressionError, match="a series is wanted"):
        check_series(text, CUSTOM)


@pytest.mark.parametrize(
    ("text", "kind"), [("config.a", "any"), ("status", "string"), ("last(a)", "number"), ("has_tag('x')", "bool")]
)
def test_columns(text: str, kind: str) -> None:
    """Anything of one value a run is a column, an attribute as it is."""
    assert check_column(text).kind == kind
    assert check_series("a > 1").kind is Kind.BOOL_SERIES


def test_spans_of_a_custom_metric_are_its_names() -> None:
    """Whatever it holds lies where its name stands."""
    node = check("1 + f1 * 2", CUSTOM)
    assert {one.span for one in node.args[1].args[0].walk()} == {(4, 6)}


def test_definitions() -> None:
    """In its own text a name is the logged metric; a circle through others is seen before the metric is there."""
    assert sources(check_definition("f", "f * 2", {})) == [Source("f")]
    assert sources(check_definition("loss", "loss * 3", CUSTOM)) == [Source("loss")]
    with pytest.raises(ExpressionError, match=re.escape("f -> uses_f -> f")):
        check_definition("f", "uses_f * 2", {"uses_f": "f + 1"})


@pytest.mark.parametrize(
    ("text", "name", "used"),
    [
        ("a + 1", "", []),
        ("best + a", "", ["best", "f1"]),
        ("run('r', `train/x`) + metric('bad')", "", ["train/x", "bad", "loss"]),
        ("g", "", ["g", "h"]),
        ("loss * 2", "loss", []),
        ("loss * 2", "", ["loss"]),
    ],
)
def test_used_custom_metrics(text: str, name: str, used: list[str]) -> None:
    """Those that are named, then those that they name; circles end."""
    assert used_custom(text, CUSTOM, name) == used


@pytest.mark.parametrize(
    ("text", "custom", "said"),
    [
        ("f9", {"f0": "a + a"} | {f"f{n}": f"f{n - 1} + f{n - 1}" for n in range(1, 10)}, "more than 1000 parts"),
        ("f70", {"f0": "a"} | {f"f{n}": f"f{n - 1}" for n in range(1, 71)}, "more than 64 levels deep"),
        ("f999", {"f0": "a"} | {f"f{n}": f"f{n - 1}" for n in range(1, 1000)}, "more than 64 levels deep"),
        ("+".join(f"m{n}" for n in range(33)), {}, "more than 32 metrics"),
        ("+".join(f"rank(m, {n})" for n in range(33)), {}, "more than 32 metrics"),
    ],
)
def test_limits(text: str, custom: dict[str, str], said: str) -> None:
    """Parts, depth and metrics are counted with custom metrics in their places."""
    with pytest.raises(ExpressionError, match=said) as caught:
        check(text, custom)
    assert len(caught.value.message) < 400


def test_within_the_limits() -> None:
    """As many as are allowed pass."""
    check("+".join(f"m{n}" for n in range(32)))
    check("f7", {"f0": "a + a"} | {f"f{n}": f"f{n - 1} + f{n - 1}" for n in range(1, 8)})


@pytest.mark.parametrize("name", NASTY_NAMES, ids=range(len(NASTY_NAMES)))
def test_any_name_is_kept_exactly(name: str) -> None:
    """A name in backticks reaches the tree as it is, also as a custom metric's."""
    quoted = f"`{name.replace('`', '``')}`"
    assert sources(check(f"last({quoted}) + max({quoted})")) == [Source(name)]
    assert check(f"{quoted} + 1", {name: "inner * 2"}) == check("inner * 2 + 1")
    validate_custom_name(name)


@pytest.mark.parametrize("text", NASTY_TEXTS, ids=range(len(NASTY_TEXTS)))
@pytest.mark.parametrize("want", [check, check_filter, check_series, check_column])
def test_any_text_passes_or_is_refused(text: str, want: Wanted) -> None:
    """Nothing but ExpressionError comes out, from the text itself or from a custom metric's."""
    for asked, custom in ((text, CUSTOM), ("1 + nasty", {"nasty": text})):
        _, error = result(want, asked, custom)
        if error is not None:
            assert 0 <= error.span[0] <= error.span[1] <= len(error.text)
            f"{error.text}{error.message}{error.fix}".encode()


def result(want: Wanted, text: str, custom: dict[str, str]) -> tuple[Node | None, ExpressionError | None]:
    """The tree or why there is none."""
    try:
        return want(text, custom), None
    except ExpressionError as error:
        return None, error


WORDS = "a f1 best lr bad config.a status 'x' 1 0.5 true nan , , ) ) ( + * == < and not -"
PIECES = st.sampled_from([*(f"{name}(" for name in FUNCTIONS), *WORDS.split()])


@given(st.lists(PIECES, max_size=30).map(" ".join))
def test_random_text(text: str) -> None:
    """The same of text that nobody would write."""
    for want in (check, check_filter, check_column):
        _, error = result(want, text, CUSTOM)
        assert error is None or error.text == text


OPERATORS = ["+", "-", "/", "**", "==", "<", "and", "or"]


def _texts(depth: int) -> st.SearchStrategy[str]:
    """Calls with as many arguments as they take, and operators; not all kinds fit."""
    leaves = st.sampled_from(["a", "b", "f1", "config.a", "1", "0.5", "'x'", "true", "a > 1", "status", "lr", "bad"])
    if depth == 0:
        return leaves
    inner = _texts(depth - 1)

    def calls(name: str) -> st.SearchStrategy[str]:
        return st.tuples(*[inner] * len(FUNCTIONS[name].parameters)).map(lambda args: f"{name}({', '.join(args)})")

    operations = st.tuples(inner, st.sampled_from(OPERATORS), inner).map(lambda one: f"({' '.join(one)})")
    return st.one_of(leaves, st.sampled_from(sorted(FUNCTIONS)).flatmap(calls), operations)


@given(_texts(3), st.sampled_from([check, check_filter, check_column]))
def test_a_fix_leads_on(text: str, want: Wanted) -> None:
    """An expression with the fix in its place is right or has another mistake: the same one never comes twice."""
    seen = set()
    for _ in range(20):
        _, error = result(want, text, CUSTOM)
        if error is None or not error.fix:
            return
        assert (text, error.message) not in seen
        seen.add((text, error.message))
        text = text[: error.span[0]] + error.fix + text[error.span[1] :]
    pytest.fail(f"the fixes have no end: {text}")


@given(_texts(3))
def test_trees_are_well_formed(text: str) -> None:
    """Only operators, functions and leaves of the language; a point-wise node is a series if an argument is one."""
    node, _ = result(check, text, CUSTOM)
    for one in node.walk() if node is not None else ():
        assert one.op in ALLOWED
        assert one.kind is not Kind.ANY or one.op in ("attribute", "if", "default")
        if FUNCTIONS.get(one.op) is None or FUNCTIONS[one.op].function_class is FunctionClass.POINTWISE:
            assert not one.args or one.is_series == any(inner.is_series for inner in one.args)


GONE = (FunctionClass.NAME, FunctionClass.RANK)
ALLOWED = {one.name for one in FUNCTIONS.values() if one.function_class not in GONE}
ALLOWED |= {"number", "text", "boolean", "metric", "attribute", "and", "or", "not", "neg"}
ALLOWED |= {"+", "-", "*", "/", "%", "**", "<", "<=", ">", ">=", "==", "!="}


@pytest.mark.parametrize("name", ["", "x" * 1025, "é" * 513, "\ud800"])
def test_names_that_no_custom_metric_has(name: str) -> None:
    """1 to 1,024 bytes of UTF-8."""
    with pytest.raises(RejectedError, match="1 to 1024 bytes"):
        validate_custom_name(name)
