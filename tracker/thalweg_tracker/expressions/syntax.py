"""Text -> a small frozen syntax tree. Knows the grammar only: no function, metric or kind. Pure; safe in threads."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final, TypeAlias

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken

from thalweg_tracker.errors import ExpressionError
from thalweg_tracker.expressions import mistakes
from thalweg_tracker.model.limits import EXPRESSION_MAX_CHARS, EXPRESSION_MAX_DEPTH

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, text or true / false."""

    value: float | str | bool
    span: Span = field(default=(0, 0), compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    """A word or, `is_quoted`, any text in backticks."""

    text: str
    is_quoted: bool = False
    span: Span = field(default=(0, 0), compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function's name, its arguments."""

    function: str
    args: tuple[Syntax, ...]
    span: Span = field(default=(0, 0), compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator as written, "neg" for the unary minus, and its one or two operands."""

    op: str
    args: tuple[Syntax, ...]
    span: Span = field(default=(0, 0), compare=False)
    depth: int = field(default=1, compare=False)


Syntax: TypeAlias = Literal | Name | Call | Operation

_ESCAPE: Final = re.compile(
    r"\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
_FIX_MAX_CHARS: Final = 500
_HALF: Final = re.compile("[\ud800-\udfff]")
"""Half of a pair of UTF-16, which no UTF-8 has: it could not be sent back."""
_ESCAPED: Final = {'"': '"', "'": "'", "\\": "\\", "n": "\n", "t": "\t"}


@lru_cache(maxsize=256)
def parse(text: str) -> Syntax:
    """The tree of an expression. Raises ExpressionError, whatever the text is."""
    _check_text(text)
    try:
        tree: Any = _lark().parse(text)
    except UnexpectedCharacters as error:
        raise mistakes.unknown_character(text, error.pos_in_stream or 0) from None
    except UnexpectedToken as error:
        begin = len(text) if error.token.type == "$END" else error.token.start_pos or 0
        raise mistakes.unexpected(text, str(error.token), error.token.type, begin, error.expected) from None
    except UnexpectedEOF as error:
        raise mistakes.unexpected(text, "", "$END", len(text), set(error.expected)) from None
    except _Refused as refused:
        raise ExpressionError(refused.message, refused.span, refused.fix_in(text), text) from None
    assert isinstance(tree, (Literal, Name, Call, Operation)), tree
    return tree


def _check_text(text: str) -> None:
    if len(text) > EXPRESSION_MAX_CHARS:
        message = f"the expression has {len(text)} characters; the limit is {EXPRESSION_MAX_CHARS}"
        begin = text[:EXPRESSION_MAX_CHARS]
        raise ExpressionError(message, (len(begin), len(begin)), text=_HALF.sub("?", begin))
    half = None if text.isascii() else _HALF.search(text)
    if half:
        message = f"half a character (U+{ord(half[0]):04X}) cannot be taken"
        raise ExpressionError(message, half.span(), text=_HALF.sub("?", text))
    if not text.strip(" \t\r\n"):
        raise ExpressionError("the expression is empty", (0, len(text)), text=text)


class _Refused(Exception):
    """The grammar takes it, the language does not. Where it is raised, the text is not known."""

    def __init__(self, message: str, span: Span, chain: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.span = span
        self.chain = chain

    def fix_in(self, text: str) -> str:
        """Of a chain `a < b < c`: `a < b and b < c`; of a long one, nothing."""
        if not self.chain or self.span[1] - self.span[0] > _FIX_MAX_CHARS:
            return ""
        shown = [str(one) if isinstance(one, Token) else text[slice(*one.span)] for one in self.chain]
        fix = " and ".join(" ".join(shown[place : place + 3]) for place in range(0, len(shown) - 2, 2))
        return f"({fix})" if text[: self.span[0]].rstrip().endswith("not") else fix


def _deeper(span: Span, args: tuple[Syntax, ...]) -> int:
    depth = 1 + max((one.depth for one in args), default=0)
    if depth > EXPRESSION_MAX_DEPTH:
        each = "each parenthesis, call and operator, also of a + b + c, is a level"
        raise _Refused(f"the expression is nested more than {EXPRESSION_MAX_DEPTH} levels deep: {each}", span)
    return depth


def _span(token: Token) -> Span:
    assert token.start_pos is not None
    assert token.end_pos is not None
    return token.start_pos, token.end_pos


@v_args(inline=True)
class _Builder(Transformer[Token, Syntax]):
    """Called by the parser for each rule, inner ones first."""

    def number(self, token: Token) -> Syntax:
        value = float(token)
        if token.type == "NUMBER" and value == math.inf:
            raise _Refused(f"the number {token[:40]} is too great for a 64-bit float", _span(token))
        return Literal(value, _span(token))

    def boolean(self, token: Token) -> Syntax:
        return Literal(token == "true", _span(token))  # noqa: S105 - no password

    def text(self, token: Token) -> Syntax:
        begin, end = _span(token)

        def plain(found: re.Match[str]) -> str:
            escape = found[1]
            if len(escape) > 1:
                units = bytes.fromhex(escape.replace("\\u", "")[1:])
                try:
                    return units.decode("utf-16-be")
                except UnicodeDecodeError:
                    pass  # half of a pair
            elif escape in _ESCAPED:
                return _ESCAPED[escape]
            message = f"unknown escape \\{escape} in text; there are \\\" \\' \\\\ \\n \\t and \\uXXXX"
            raise _Refused(message, (begin + 1 + found.start(), begin + 1 + found.end()))

        return Literal(_ESCAPE.sub(plain, token[1:-1]), (begin, end))

    def name(self, token: Token) -> Syntax:
        return Name(str(token), span=_span(token))

    def quoted(self, token: Token) -> Syntax:
        return Name(token[1:-1].replace("``", "`"), is_quoted=True, span=_span(token))

    def arguments(self, *args: Syntax) -> tuple[Syntax, ...]:
        return args

    def call(self, name: Token, _left: Token, args: tuple[Syntax, ...] | None, right: Token) -> Syntax:
        span = _span(name)[0], _span(right)[1]
        return Call(str(name), args or (), span, _deeper(span, args or ()))

    def group(self, left: Token, inner: Syntax, right: Token) -> Syntax:
        span = _span(left)[0], _span(right)[1]
        return replace(inner, span=span, depth=_deeper(span, (inner,)))

    def unary(self, op: Token, inner: Syntax) -> Syntax:
        span = _span(op)[0], inner.span[1]
        return Operation("neg" if op == "-" else str(op), (inner,), span, _deeper(span, (inner,)))

    def binary(self, left: Syntax, op: Token, right: Syntax) -> Syntax:
        span = left.span[0], right.span[1]
        return Operation(str(op), (left, right), span, _deeper(span, (left, right)))

    def chain(self, *parts: Any) -> Syntax:
        raise _Refused("comparisons do not chain", (parts[0].span[0], parts[-1].span[1]), parts)


@cache
def _lark() -> Lark:
    grammar = resources.files(__package__).joinpath("grammar.lark").read_text()
    # The basic lexer, not the contextual one: words such as `and` are words of the language in every place.
    return Lark(grammar, parser="lalr", lexer="basic", transformer=_Builder(), maybe_placeholders=True)
