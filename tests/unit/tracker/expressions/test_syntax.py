"""Text to syntax trees: precedence, names, text, and what is said of mistakes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.nasty_expressions import NASTY_NAMES, NASTY_TEXTS
from thalweg_tracker.errors import ExpressionError
from thalweg_tracker.expressions.syntax import Call, Literal, Name, Operation, Syntax, parse

_BINDING = {"or": 1, "and": 2, "not": 3, "<": 4, "<=": 4, ">": 4, ">=": 4, "==": 4, "!=": 4, "+": 5, "-": 5}
_BINDING |= {"*": 6, "/": 6, "%": 6, "neg": 7, "**": 8}
_RESERVED = {"and", "or", "not", "true", "false", "nan", "inf"}


def unparsed(tree: Syntax, least: int = 0) -> str:
    """The text of a tree, with parentheses only where precedence asks for them."""
    if isinstance(tree, Literal):
        if isinstance(tree.value, bool):
            return "true" if tree.value else "false"
        return repr(tree.value) if isinstance(tree.value, float) else quoted_text(tree.value)
    if isinstance(tree, Name):
        return in_backticks(tree.text) if tree.is_quoted else tree.text
    if isinstance(tree, Call):
        return f"{tree.function}({', '.join(unparsed(one) for one in tree.args)})"
    own = _BINDING[tree.op]
    if len(tree.args) == 1:
        text = f"{'-' if tree.op == 'neg' else 'not '}{unparsed(tree.args[0], own)}"
    else:
        left, right = (own + 1, 7) if tree.op == "**" else (own, own + 1)
        left += own == 4
        text = f"{unparsed(tree.args[0], left)} {tree.op} {unparsed(tree.args[1], right)}"
    return f"({text})" if own < least else text


def quoted_text(text: str) -> str:
    """Text in double quotes."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def in_backticks(name: str) -> str:
    """A metric's name in backticks."""
    return f"`{name.replace('`', '``')}`"


def shape(tree: Syntax) -> str:
    """A tree in prefix form: (+ a (* b c))."""
    if isinstance(tree, (Call, Operation)):
        head = tree.function if isinstance(tree, Call) else tree.op
        return f"({' '.join((head, *map(shape, tree.args)))})"
    return f"{tree.value}" if isinstance(tree, Literal) else tree.text


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b * c", "(+ a (* b c))"),
        ("a - b - c", "(- (- a b) c)"),
        ("a / b % c", "(% (/ a b) c)"),
        ("a ** b ** c", "(** a (** b c))"),
        ("-a ** b", "(neg (** a b))"),
        ("a ** -b", "(** a (neg b))"),
        ("--a", "(neg (neg a))"),
        ("a -- b", "(- a (neg b))"),
        ("a * -b", "(* a (neg b))"),
        ("(a + b) * c", "(* (+ a b) c)"),
        ("a < b + 1", "(< a (+ b 1.0))"),
        ("(a < b) < c", "(< (< a b) c)"),
        ("not a < b", "(not (< a b))"),
        ("not a and b", "(and (not a) b)"),
        ("a or b and not c", "(or a (and b (not c)))"),
        ("a or b or c", "(or (or a b) c)"),
        ("f(a, g(b), 1)", "(f a (g b) 1.0)"),
        ("f ()", "(f)"),
        ("if(a, b, c)", "(if a b c)"),
        ("train/loss", "(/ train loss)"),
        ("android + nancy", "(+ android nancy)"),
        ("config.lr.x_1", "config.lr.x_1"),
        ("\ta\r\n+b ", "(+ a b)"),
    ],
)
def test_trees(text: str, tree: str) -> None:
    """Precedence and associativity are Python's; the words of the language end where a name goes on."""
    assert shape(parse(text)) == tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0), ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e-3", 0.001), ("2E+2", 200.0), ("inf", float("inf")),
        ("true", True), ("false", False), ('"a"', "a"), ("'a'", "a"), ("'a\"b'", 'a"b'), (r"'\'\"\\\n\t'", "'\"\\\n\t"),
        (r"'\u00e9'", "é"), (r"'\ud83d\ude00'", "😀"), ("'a\nb'", "a\nb"), ("''", ""), ("'損'", "損"), ("(1)", 1.0),
    ],
)  # fmt: skip
def test_literals(text: str, value: object) -> None:
    """Numbers are 64-bit floats; text has five escapes and those of UTF-16."""
    tree = parse(text)
    assert isinstance(tree, Literal)
    assert (type(tree.value), tree.value) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "span", "inner"),
    [
        ("a + b", (0, 5), [(0, 1), (4, 5)]),
        (" (a + b) * c", (1, 12), [(1, 8), (11, 12)]),
        ("f( a , b ) ", (0, 10), [(3, 4), (7, 8)]),
        ("- a", (0, 3), [(2, 3)]),
        ("`損失` + b", (0, 8), [(0, 4), (7, 8)]),
    ],
)
def test_spans(text: str, span: tuple[int, int], inner: list[tuple[int, int]]) -> None:
    """A span is in characters, from the first to past the last one, parentheses around with it."""
    tree = parse(text)
    assert isinstance(tree, (Call, Operation))
    assert (tree.span, [one.span for one in tree.args]) == (span, inner)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("", "", "the expression is empty"),
        (" \n", " \n", "the expression is empty"),
        ("a +", "", "ends too early: expected a value"),
        ("(a", "", "the '(' at character 1 is not closed"),
        ("f(')', (a)", "", "the '(' at character 2 is not closed"),
        ("a)", ")", "this ')' closes nothing"),
        ("a b", "b", "expected an operator or the end after 'a', not 'b'"),
        ("a 'b'", "'b'", "expected an operator or the end"),
        ("a, b", ",", "a comma stands only between the arguments"),
        ("* a", "*", "expected a value"),
        ("f(a,)", ")", "expected a value"),
        ("()", ")", "expected a value"),
        ("and", "and", "a metric of that name stands in backticks"),
        ("a not b", "not", "'not' stands before a condition"),
        ("1 + not a", "not", "needs parentheses"),
        ("a // b", "/", "floor(a / b)"),
        ("a ? b : c", "?", "if(condition, a, b)"),
        ("a in b", "in", "x == a or x == b"),
        ("a @ b", "@", "the character '@' is not known here"),
        ("a\x00", "\x00", "the character U+0000 is not known here"),
        ("損失", "損", "a metric whose name has it stands in backticks"),
        ("'abc", "'abc", "the text in quotes has no end"),
        ("1 + `abc", "`abc", "the name in backticks has no end"),
        (r"'a\x'", r"\x", "unknown escape"),
        (r"'\ud800'", r"\ud800", "unknown escape"),
        ("1e999", "1e999", "too great"),
        ("a" * 4097, "", "has 4097 characters; the limit is 4096"),
    ],
)
def test_messages(text: str, place: str, said: str) -> None:
    """A message says what is wrong and what was expected, the span where."""
    with pytest.raises(ExpressionError, match=re.escape(said)) as caught:
        parse(text)
    assert caught.value.text[slice(*caught.value.span)] == place


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("a = 1", "a == 1"),
        ("a === 1", "a == 1"),
        ("a !== 1", "a != 1"),
        ("a <> 1", "a != 1"),
        ("a < > 1", "a != 1"),
        ("a => 1", "a >= 1"),
        ("a =< 1", "a <= 1"),
        ("a is 1", "a == 1"),
        ("a && b", "a and b"),
        ("a&&b", "a and b"),
        ("a & b", "a and b"),
        ("(a)||(b)", "(a)or(b)"),
        ("a | b", "a or b"),
        ("a AND b", "a and b"),
        ("!a", "not a"),
        ("a and !(b)", "a and not(b)"),
        ("~a", "not a"),
        ("a ^ 2", "a ** 2"),
        ("2a", "2 * a"),
        ("1.5(a)", "1.5 * (a)"),
        ("a < b < c", "a < b and b < c"),
        ("1 <= f(a) < 2 != c", "1 <= f(a) and f(a) < 2 and 2 != c"),
        ("not a < b < c", "not (a < b and b < c)"),
        ("(a", "(a)"),
        ("((f(a", "((f(a)))"),
        ("a \u2264 b", "a <= b"),
        ("a \u2212 b", "a - b"),
        ("a \u00d7 b", "a * b"),
        ("a\u00a0+ b", "a + b"),
    ],
)
def test_fixes(text: str, fixed: str) -> None:
    """A fix put in the span's place makes the expression right."""
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    begin, end = caught.value.span
    assert text[:begin] + caught.value.fix + text[end:] == fixed
    assert caught.value.text == text
    parse(fixed)


@pytest.mark.parametrize("name", NASTY_NAMES, ids=range(len(NASTY_NAMES)))
def test_any_name_is_kept_exactly(name: str) -> None:
    """Backticks take any name, the text in quotes too, character by character."""
    product = Operation("*", (Name(name, is_quoted=True), Literal(2.0)))
    assert parse(f"1 + {in_backticks(name)} * 2") == Operation("+", (Literal(1.0), product))
    assert parse(f"metric({quoted_text(name)})") == Call("metric", (Literal(name),))


@pytest.mark.parametrize("text", NASTY_TEXTS, ids=range(len(NASTY_TEXTS)))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Nothing but ExpressionError comes out; its place lies in its text, which can be sent as UTF-8."""
    assert_parses_or_is_refused(text)


def assert_parses_or_is_refused(text: str) -> None:
    """See above."""
    tree, error = result(text)
    if error is not None:
        assert 0 <= error.span[0] <= error.span[1] <= len(error.text)
        assert len(error.message) < 500
        f"{error.text}{error.message}{error.fix}".encode()
    assert tree is None or tree.depth <= 64


def result(text: str) -> tuple[Syntax | None, ExpressionError | None]:
    """The tree or why there is none."""
    try:
        return parse(text), None
    except ExpressionError as error:
        return None, error


@pytest.mark.parametrize(
    "deep", ["-" * 63 + "a", "(" * 63 + "a" + ")" * 63, "abs(" * 63 + "a" + ")" * 63, "a+" * 63 + "a"]
)
def test_depth(deep: str) -> None:
    """64 levels are taken, one more is not."""
    assert parse(deep).depth == 64
    with pytest.raises(ExpressionError, match="nested more than 64 levels deep"):
        parse(f"abs({deep})")


WORDS = "a b f( ( ) , + - * / % ** < <= == != and or not true nan 1 .5 1e3 'x' `z` ` ' \" \\ . = ! & status config.a"
TOKENS = st.sampled_from(WORDS.split())


@given(
    st.one_of(
        st.text(max_size=60), st.lists(TOKENS, max_size=25).map(" ".join), st.lists(TOKENS, max_size=25).map("".join)
    )
)
def test_random_text(text: str) -> None:
    """The same of text that nobody would write."""
    assert_parses_or_is_refused(text)


def _trees() -> st.SearchStrategy[Syntax]:
    words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}", fullmatch=True).filter(lambda one: one not in _RESERVED)
    leaves: st.SearchStrategy[Syntax] = st.one_of(
        st.floats(min_value=0, allow_nan=False).map(abs).map(Literal),
        st.text(max_size=8).map(Literal),
        st.booleans().map(Literal),
        words.map(Name),
        st.text(min_size=1, max_size=8).map(lambda one: Name(one, is_quoted=True)),
    )

    def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Syntax]:
        return st.one_of(
            st.tuples(st.sampled_from(["neg", "not"]), st.tuples(inner)).map(lambda one: Operation(*one)),
            st.tuples(st.sampled_from(sorted(set(_BINDING) - {"neg", "not"})), st.tuples(inner, inner)).map(
                lambda one: Operation(*one)
            ),
            st.tuples(words, st.lists(inner, max_size=3).map(tuple)).map(lambda one: Call(*one)),
        )

    return st.recursive(leaves, grown, max_leaves=12)


@given(_trees())
def test_what_is_written_is_what_is_read(tree: Syntax) -> None:
    """The text of a tree, with as few parentheses as may be, parses to that tree."""
    assert parse(unparsed(tree)) == tree
