"""Walks a syntax tree once: resolves names, fits kinds, counts what limits hold. Has no state after a call. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from thalweg.wire.limits import METRIC_NAME_MAX_BYTES
from thalweg_tracker.errors import ExpressionError
from thalweg_tracker.expressions import kinds
from thalweg_tracker.expressions.functions import FUNCTIONS, SPELLINGS, Function, FunctionClass, Gives, Parameter, Takes
from thalweg_tracker.expressions.mistakes import shown
from thalweg_tracker.expressions.names import RUN_FIELDS, WORDS_OF_OTHERS, attribute_path, attribute_problem
from thalweg_tracker.expressions.syntax import Call, Literal, Name, Operation, Span, Syntax, parse
from thalweg_tracker.expressions.tree import MEAN, SERIES_KINDS, Kind, Node, Source, sources
from thalweg_tracker.model.limits import (
    EXPRESSION_MAX_DEPTH,
    EXPRESSION_MAX_INPUTS,
    EXPRESSION_MAX_NODES,
    REGEX_MAX_CHARS,
)

_OVER_RANKS: Final = "_over_ranks"
_WANTED: Final[Mapping[Takes, frozenset[Kind]]] = {
    Takes.SERIES: frozenset({Kind.SERIES}),
    Takes.POINTS: SERIES_KINDS,
    Takes.CONDITIONS: frozenset({Kind.BOOL_SERIES}),
    Takes.VALUE: kinds.NUMERIC,
    Takes.CONDITION: kinds.LOGICAL,
    Takes.BRANCH: frozenset(Kind),
    Takes.NUMBER: frozenset({Kind.NUMBER}),
    Takes.STRING: frozenset({Kind.STRING}),
    Takes.SCALAR: kinds.SCALAR,
}


@dataclass(frozen=True, slots=True)
class _Place:
    """What the calls around say of the metrics inside."""

    run: str | None = None
    ranks: int | None = None
    over_ranks: str = ""  # the function whose one metric this is


@dataclass(slots=True)
class _Spent:
    """What an expression has used up, its custom metrics with it."""

    nodes: int = 0
    depth: int = 0
    inputs: set[Source] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Checker:
    """One text: the one that was asked, or a custom metric's in it. Raises ExpressionError and nothing else."""

    text: str
    custom: Mapping[str, str]
    stack: tuple[str, ...] = ()  # the custom metrics around, this text's own last
    spent: _Spent = field(default_factory=_Spent)

    def run(self, place: _Place | None = None) -> Node:
        """The checked tree."""
        return self._node(parse(self.text), place or _Place())

    def _node(self, tree: Syntax, place: _Place) -> Node:
        self.spent.depth += 1  # not counted back after an error: that ends the whole check
        if self.spent.depth > EXPRESSION_MAX_DEPTH:
            limit = f"{EXPRESSION_MAX_DEPTH} levels deep, custom metrics in it counted"
            raise self._error(f"the expression is nested more than {limit}", tree.span)
        if isinstance(tree, Name):
            node = self._name(tree, place)
        elif isinstance(tree, Operation):
            node = self._operation(tree, place)
        elif isinstance(tree, Call):
            node = self._call(tree, place)
        else:
            node = self._literal(tree)
        self.spent.depth -= 1
        return node

    def _made(
        self,
        op: str,
        kind: Kind,
        span: Span,
        args: tuple[Node, ...] = (),
        value: float | str | bool | Source | None = None,
    ) -> Node:
        self.spent.nodes += 1
        if self.spent.nodes > EXPRESSION_MAX_NODES:
            message = f"the expression has more than {EXPRESSION_MAX_NODES} parts, those of custom metrics counted"
            raise self._error(message, span)
        return Node(op, kind, args, value, span)

    def _error(self, message: str, span: Span, fix: str = "") -> ExpressionError:
        return ExpressionError(message, span, fix, self.text)

    def _source(self, tree: Syntax | Node) -> str:
        return self.text[slice(*tree.span)]

    # Leaves

    def _literal(self, tree: Literal) -> Node:
        if isinstance(tree.value, bool):
            return self._made("boolean", Kind.BOOL, tree.span, value=tree.value)
        if isinstance(tree.value, str):
            return self._made("text", Kind.STRING, tree.span, value=tree.value)
        return self._made("number", Kind.NUMBER, tree.span, value=tree.value)

    def _name(self, tree: Name, place: _Place) -> Node:
        if tree.is_quoted:
            return self._metric(tree.text, tree.span, place)
        path = attribute_path(tree.text)
        if path:
            return self._attribute(path, tree.span, place)
        if tree.text in WORDS_OF_OTHERS and tree.text not in self.custom:
            ours = WORDS_OF_OTHERS[tree.text]
            what = f"write {ours!r}" if ours else "whether there is a value: exists(x)"
            message = f"{tree.text!r} is not known here: {what}; a metric of that name stands in backticks"
            raise self._error(message, tree.span, ours)
        return self._metric(tree.text, tree.span, place)

    def _attribute(self, path: str, span: Span, place: _Place) -> Node:
        if place.run is not None:
            message = f"run(...) is about metrics: {shown(path)} is always that of the run that is asked about"
            raise self._error(message, span)
        problem, near = attribute_problem(path)
        if problem:
            raise self._error(problem, span, near)
        kind = RUN_FIELDS.get(path, Kind.ANY)
        return self._made("attribute", kind, span, value=path)

    def _metric(self, name: str, span: Span, place: _Place) -> Node:
        if not name or len(name.encode()) > METRIC_NAME_MAX_BYTES:
            message = f"a metric's name has 1 to {METRIC_NAME_MAX_BYTES} bytes, not {len(name.encode())}"
            raise self._error(message, span)
        if name in self.custom and self.stack[-1:] != (name,):
            return self._custom_metric(name, span, place)
        ranks: str | int = MEAN if place.ranks is None else place.ranks
        if place.over_ranks:
            ranks = place.over_ranks.removesuffix(_OVER_RANKS)
        source = Source(name, place.run, ranks)
        self.spent.inputs.add(source)
        if len(self.spent.inputs) > EXPRESSION_MAX_INPUTS:
            raise self._error(f"the expression reads more than {EXPRESSION_MAX_INPUTS} metrics", span)
        return self._made("metric", Kind.SERIES, span, value=source)

    def _custom_metric(self, name: str, span: Span, place: _Place) -> Node:
        if name in self.stack:
            way = " -> ".join(shown(one, 30) for one in (*self.stack[self.stack.index(name) :], name))
            raise self._error(f"custom metrics go in a circle: {way}", span)
        inner = Checker(self.custom[name], self.custom, (*self.stack, name), self.spent)
        try:
            node = inner.run(place)
        except ExpressionError as error:
            message = error.message
            if not message.startswith("in the custom metric "):
                message = f"in the custom metric {kinds.quoted(shown(name))}: {message}"
                message += f"; write {shown(error.fix)!r} there" if error.fix else ""
            raise self._error(message, span) from None
        return _moved(node, span)

    # Operators

    def _operation(self, tree: Operation, place: _Place) -> Node:
        args = tuple(self._node(one, place) for one in tree.args)
        if tree.op in ("==", "!=", "<", "<=", ">", ">="):
            args = self._alike(args, f"cannot compare with {tree.op!r}")
            if tree.op not in ("==", "!="):
                args = tuple(kinds.adapt(one, Kind.NUMBER) for one in args)
                allowed = kinds.NUMERIC | kinds.TEXTUAL
                args = self._fitted(args, allowed, f"{tree.op!r} compares numbers or text")
            return self._made(tree.op, _spread(args, Kind.BOOL), tree.span, args)
        if tree.op in ("and", "or", "not"):
            args = self._fitted(args, kinds.LOGICAL, f"{tree.op!r} takes conditions")
            return self._made(tree.op, _spread(args, Kind.BOOL), tree.span, args)
        shown_op = "-" if tree.op == "neg" else tree.op
        args = self._fitted(args, kinds.NUMERIC, f"{shown_op!r} takes numbers and series")
        return self._made(tree.op, _spread(args, Kind.NUMBER), tree.span, args)

    def _fitted(self, args: Sequence[Node], wanted: frozenset[Kind], place: str) -> tuple[Node, ...]:
        return tuple(kinds.fit(one, wanted, place, self.text, is_operand=True) for one in args)

    def _alike(self, args: Sequence[Node], place: str) -> tuple[Node, ...]:
        """Two values of one family; an attribute takes that of the other one."""
        left, right = args
        one, other = kinds.family(left.kind), kinds.family(right.kind)
        if not one or not other:
            plain = next((kind for kind in kinds.PLAIN if kind in one | other), None)
            return (left, right) if plain is None else (kinds.adapt(left, plain), kinds.adapt(right, plain))
        if one != other:
            wrong, wanted, than = (left, other, right) if left.op == "text" else (right, one, left)
            place = f"{place}: {shown(self._source(than))} is {kinds.NAMES[than.kind]}"
            kinds.fit(wrong, wanted, place, self.text, is_operand=True)
        return left, right

    # Calls

    def _call(self, tree: Call, place: _Place) -> Node:
        function = FUNCTIONS.get(tree.function)
        if function is None:
            raise self._unknown(tree)
        self._check_count(tree, function)
        if function.function_class in (FunctionClass.NAME, FunctionClass.RANK):
            return self._resolved(tree, function, place)
        args = tuple(self._argument(tree, function, at, place) for at in range(len(tree.args)))
        args += tuple(
            self._made("number", Kind.NUMBER, tree.span, value=float(one.default))
            for one in function.parameters[len(args) :]
            if one.default is not None
        )
        if function.name == "has_tag" and place.run is not None:
            raise self._error("run(...) is about metrics: has_tag(...) is of the run that is asked about", tree.span)
        if function.gives is Gives.ARGUMENT:
            args, kind = self._branches(function, args, tree)
        else:
            kind = _result(function.gives, args)
        return self._made(function.name, kind, tree.span, args)

    def _unknown(self, tree: Call) -> ExpressionError:
        name = tree.function
        head = tree.span[0], tree.span[0] + len(name)
        if name == "pow" and len(tree.args) == 2:
            left, right = (self._source(one) for one in tree.args)
            return self._error(
                "unknown function 'pow'; powers are written with '**'", tree.span, f"({left}) ** ({right})"
            )
        if name in self.custom:
            return self._error(
                f"{shown(name)!r} is a custom metric, not a function: it takes no arguments", tree.span, name
            )
        near = next(iter(difflib.get_close_matches(name.lower(), (*FUNCTIONS, *SPELLINGS), 1)), "")
        near = SPELLINGS.get(near, near)
        guess = f"; did you mean {near!r}?" if near else ""
        return self._error(f"unknown function {shown(name)!r}{guess}", head, near)

    def _check_count(self, tree: Call, function: Function) -> None:
        given, most, least = len(tree.args), len(function.parameters), function.arguments_min
        if least <= given <= most:
            return
        wanted = f"{most}" if least == most else f"{least} or {most}"
        message = f"{function.signature} takes {wanted} argument{'' if most == 1 else 's'}, not {given}"
        fix = ""
        if function.name in ("min", "max") and given == 2:
            other = "minimum" if function.name == "min" else "maximum"
            fix = f"{other}({', '.join(self._source(one) for one in tree.args)})"
            message += f"; the {function.name} of two values is {other}(a, b)"
        raise self._error(message, tree.span, fix)

    def _argument(self, tree: Call, function: Function, at: int, place: _Place) -> Node:
        parameter = function.parameters[at]
        given = tree.args[at]
        if parameter.takes is Takes.QUOTED:
            text = self._quoted(given, function, parameter)
            return self._made("text", Kind.STRING, given.span, value=text)
        node = self._node(given, place)
        what = f"{function.name}'s {parameter.name} takes {parameter.takes}"
        if parameter.takes is Takes.CONSTANT:
            return self._constant(node, function, parameter)
        if parameter.takes is Takes.PRESENCE:
            if node.op == "attribute" or node.is_series:
                return node
            raise self._error(f"{what}, and {shown(self._source(given))} is neither", given.span)
        wanted = _WANTED[parameter.takes]
        if _is_reduced(node, function, parameter):
            message = f"{what}, and {shown(self._source(given))} is {kinds.NAMES[node.kind]}: it is one value already"
            raise self._error(message, tree.span, self._source(given))
        if parameter.takes in (Takes.SCALAR, Takes.NUMBER) and node.is_series:
            raise self._error(
                f"{what}, and {shown(self._source(given))} is {kinds.NAMES[node.kind]}",
                node.span,
                kinds.of_one_value(node, self.text),
            )
        return kinds.fit(node, wanted, what, self.text)

    def _branches(self, function: Function, args: tuple[Node, ...], tree: Call) -> tuple[tuple[Node, ...], Kind]:
        """if(cond, a, b) and default(a, b): a and b are of one family."""
        head, pair = args[:-2], self._alike(args[-2:], f"{function.name}(...) gives one kind of value")
        if any(one.is_series for one in head):
            pair = tuple(kinds.adapt(one, Kind.NUMBER) for one in pair)
        if pair[0].kind is Kind.STRING and any(one.is_series for one in head):
            raise self._error(
                "text has no series: if(...) of a condition on a series gives numbers or bools", tree.span
            )
        plain = next((kind for kind in kinds.PLAIN if kind in kinds.family(pair[0].kind)), Kind.ANY)
        return (*head, *pair), _spread((*head, *pair), plain)

    def _constant(self, node: Node, function: Function, parameter: Parameter) -> Node:
        value = node.value
        if node.op == "neg" and node.args[0].op == "number":
            value = -float(node.args[0].value)  # type: ignore[arg-type]  # a number's value is a float
        elif node.op != "number":
            value = None
        if (
            isinstance(value, float)
            and parameter.low <= value <= parameter.high
            and not (parameter.is_whole and value % 1)
        ):
            return Node("number", Kind.NUMBER, (), value, node.span)
        given = shown(self._source(node))
        message = f"{function.name}'s {parameter.name} is {parameter.range_text}, written out; not {given}"
        raise self._error(message, node.span)

    def _quoted(self, tree: Syntax, function: Function, parameter: Parameter) -> str:
        if not isinstance(tree, Literal) or not isinstance(tree.value, str):
            fix = (
                f'"{tree.text}"' if isinstance(tree, Name) and tree.text.isprintable() and '"' not in tree.text else ""
            )
            message = f"{function.name}'s {parameter.name} is text in quotes, not {shown(self._source(tree))}"
            raise self._error(message, tree.span, fix.replace("\\", "\\\\"))
        if parameter.name == "regex" and len(tree.value) > REGEX_MAX_CHARS:
            raise self._error(f"the regular expression has more than {REGEX_MAX_CHARS} characters", tree.span)
        return tree.value

    def _resolved(self, tree: Call, function: Function, place: _Place) -> Node:
        """What says only where a value comes from is gone afterwards."""
        name = function.name
        if name in ("metric", "config", "env"):
            text = self._quoted(tree.args[0], function, function.parameters[0])
            if name == "metric":
                return self._metric(text, tree.span, place)
            return self._attribute(f"{name}.{text.replace('/', '.')}", tree.span, place)
        if name == "run":
            run = self._quoted(tree.args[0], function, function.parameters[0])
            node = self._node(tree.args[1], replace(place, run=run))
            if not any(one.run == run for one in sources(node)):
                raise self._error("run(...) takes an expression with metrics; there is none in it", tree.span)
            return replace(node, span=tree.span)
        if place.over_ranks:
            raise self._error(f"{place.over_ranks}(m) takes one logged metric, without {name}(...)", tree.span)
        if name == "rank":
            number = self._constant(self._node(tree.args[1], place), function, function.parameters[1]).value
            assert isinstance(number, float)
            node = self._node(tree.args[0], replace(place, ranks=int(number)))
            if not any(one.ranks == int(number) for one in sources(node)):
                raise self._error(
                    "rank(...) takes an expression with metrics; there is none that it chooses", tree.span
                )
            return replace(node, span=tree.span)
        node = self._node(tree.args[0], replace(place, ranks=None, over_ranks=name))
        if node.op != "metric":
            given = tree.args[0]
            what = "a custom metric" if isinstance(given, Name) and given.text in self.custom else "another expression"
            message = f"{name}(m) takes one logged metric, and {shown(self._source(given))} is {what}"
            raise self._error(message, given.span)
        return replace(node, span=tree.span)


def _moved(node: Node, span: Span) -> Node:
    return replace(node, args=tuple(_moved(one, span) for one in node.args), span=span)


def _is_reduced(node: Node, function: Function, parameter: Parameter) -> bool:
    """Whether a reducer gets what it would give."""
    if parameter.takes is Takes.POINTS:
        return node.kind in kinds.SCALAR and node.op != "text"
    return function.gives is Gives.BOOL and parameter.takes is Takes.CONDITIONS and node.kind in (Kind.BOOL, Kind.ANY)


def _spread(args: Sequence[Node], plain: Kind) -> Kind:
    """The kind of a point-wise result whose kind without series is `plain`."""
    if any(one.is_series for one in args):
        return Kind.BOOL_SERIES if plain is Kind.BOOL else Kind.SERIES
    return plain


def _result(gives: Gives, args: Sequence[Node]) -> Kind:
    if gives is Gives.VALUE:
        return _spread(args, Kind.NUMBER)
    if gives is Gives.CONDITION:
        return _spread(args, Kind.BOOL)
    return Kind(gives.name.lower())
