"""What to say of text that the grammar does not take: the place, what was expected, a fix where one is clear. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from thalweg_tracker.errors import ExpressionError

_HABITS: Final = (
    # What other languages write, and what this one writes. The longer one first.
    ("===", "=="), ("!==", "!="), ("=>", ">="), ("=<", "<="), ("=", "=="), ("&&", "and"), ("&", "and"), ("||", "or"),
    ("|", "or"), ("!", "not"), ("~", "not"), ("^", "**"), ("\u2264", "<="), ("\u2265", ">="), ("\u2260", "!="),
    # Multiplication and division signs, dashes, curly quotes, the blank of text processors.
    ("\u00d7", "*"), ("\u00b7", "*"), ("\u00f7", "/"), ("\u2212", "-"), ("\u2013", "-"), ("\u201c", '"'),
    ("\u201d", '"'), ("\u2018", "'"), ("\u2019", "'"), ("\u00a0", " "),
)  # fmt: skip
_VALUE: Final = "a value (a number, text, a metric, a function or '(')"
_WORDS: Final = frozenset({"AND", "OR", "NOT", "TRUE", "FALSE", "NAN", "INF"})
_LEXEME: Final = re.compile(r"`(?:[^`]|``)*`|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[()]", re.DOTALL)


def shown(text: str, limit: int = 60) -> str:
    """A piece of an expression in a message, without line breaks and control characters."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in cut)


def unknown_character(text: str, place: int) -> ExpressionError:
    """No token of the language begins at that place."""
    character = text[place]
    if character in "`\"'":
        what = "the name in backticks" if character == "`" else "the text in quotes"
        return ExpressionError(f"{what} has no end: {shown(text[place:], 30)}", (place, len(text)), text=text)
    for habit, ours in _HABITS:
        begin = place - 2 if habit in ("===", "!==") else place
        if begin >= 0 and text.startswith(habit, begin):
            span = begin, begin + len(habit)
            fix = _apart(text, span, ours)
            return ExpressionError(f"{habit!r} is not known here; write {ours!r}", span, fix, text)
    if character == "?":
        return ExpressionError(
            "'?' is not known here; write if(condition, a, b) for `condition ? a : b`", (place, place + 1), text=text
        )
    name = f"U+{ord(character):04X}" if not character.isprintable() else repr(character)
    message = f"the character {name} is not known here; a metric whose name has it stands in backticks"
    return ExpressionError(message, (place, place + 1), text=text)


def unexpected(text: str, word: str, kind: str, begin: int, expected: Collection[str]) -> ExpressionError:
    """The word cannot stand there; `expected` are the kinds of those that could."""
    wants_value = "NUMBER" in expected
    span = begin, begin + len(word)
    if kind == "$END":
        return _ends_early(text, wants_value)
    if wants_value:
        return _no_value(text, word, kind, span)
    before = text[:begin].rstrip()
    if kind == "RPAR":
        return ExpressionError("this ')' closes nothing", span, text=text)
    if kind == "NAME" and word == "is":
        return ExpressionError("'is' is not known here; write '=='", span, "==", text)
    if kind == "NAME" and word == "in":
        return ExpressionError("'in' is not known here; write x == a or x == b", span, text=text)
    if kind == "NAME" and word.lower() in ("and", "or", "not"):
        return ExpressionError(f"unknown operator {word!r}: operators are in small letters", span, word.lower(), text)
    if kind == "COMPARE":
        return ExpressionError("comparisons do not chain", span, text=text)
    if kind in ("NAME", "LPAR") and (number := re.search(r"(?<![\w.`])[0-9][0-9.]*$", text[:begin])):
        message = f"an operator is missing between {number[0]} and {shown(word)!r}"
        return ExpressionError(message, (number.start(), span[1]), f"{number[0]} * {word}", text)
    if kind == "_COMMA":
        return ExpressionError("a comma stands only between the arguments of a function", span, text=text)
    message = f"expected an operator or the end after {shown(before[-30:])!r}, not {shown(word)!r}"
    if kind == "NOT":
        message = "'not' stands before a condition, not after a value"
    return ExpressionError(message, span, text=text)


def _ends_early(text: str, wants_value: bool) -> ExpressionError:
    end = len(text)
    if wants_value:
        return ExpressionError(f"the expression ends too early: expected {_VALUE}", (end, end), text=text)
    open_places = _open_parentheses(text)
    place = open_places[-1] if open_places else 0
    message = f"a ')' is missing: the '(' at character {place + 1} is not closed"
    return ExpressionError(message, (end, end), ")" * len(open_places), text)


def _no_value(text: str, word: str, kind: str, span: tuple[int, int]) -> ExpressionError:
    if kind == "NOT":
        return ExpressionError("'not' here needs parentheses: (not ...)", span, text=text)
    if kind in _WORDS:
        message = f"expected {_VALUE}, not {word!r}; a metric of that name stands in backticks"
        return ExpressionError(message, span, text=text)
    before = text[: span[0]].rstrip()
    if kind == "SLASH" and before.endswith("/"):
        return ExpressionError("'//' is not known here; write floor(a / b)", span, text=text)
    if word == ">" and before.endswith("<"):
        begin = before.rindex("<")
        return ExpressionError("'<>' is not known here; write '!='", (begin, span[1]), "!=", text)
    return ExpressionError(f"expected {_VALUE}, not {shown(word)!r}", span, text=text)


def _open_parentheses(text: str) -> list[int]:
    places: list[int] = []
    for found in _LEXEME.finditer(text):
        if found[0] == "(":
            places.append(found.start())
        elif found[0] == ")" and places:
            places.pop()
    return places


def bare(source: str) -> str:
    """A piece that is right by itself, without the parentheses around it."""
    is_group = source.startswith("(") and source.endswith(")") and _open_parentheses(source[:-1])[:1] == [0]
    return source[1:-1] if is_group else source


def _apart(text: str, span: tuple[int, int], word: str) -> str:
    """The word with blanks where it would grow together with its neighbours."""
    if not word.isalpha():
        return word
    before = " " if text[: span[0]][-1:].isalnum() or text[: span[0]][-1:] in ("_", ".") else ""
    after = " " if text[span[1] :][:1].isalnum() or text[span[1] :][:1] in ("_", ".") else ""
    return f"{before}{word}{after}"
