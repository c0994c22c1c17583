"""Slips of the hand: what one wrong operator, operand, constant or name makes of a function's source."""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from textwrap import dedent
from typing import Any, NamedTuple, TypeGuard


class Slip(NamedTuple):
    """A function with one thing wrong."""

    name: str  # the expression as it was and as it is, unique within the function
    source: str


def slips(source: str, scalars: tuple[str, ...] = ()) -> list[Slip]:
    """Return every slip in a function that means something else than the function, each meaning once.

    Args:
        source: of the function.
        scalars: the names of which ``h`` has one each: any may be mistaken for another.

    """
    function = parsed(source)
    found, meanings, names = [], {_meaning(ast.unparse(function))}, Counter()
    for place in _places(function):
        for new in _replacements(place, scalars):
            before = place.text(new)
            place.container[place.key] = new
            changed, after = ast.unparse(function), place.text(place.node)
            place.container[place.key] = place.node
            if (meaning := _meaning(changed)) not in meanings:
                meanings.add(meaning)
                name = f"{before} -> {after}"
                names[name] += 1
                found.append(Slip(name if names[name] == 1 else f"{name} ({names[name]})", changed))
    return found + [slip for slip in _stale_results(function) if _meaning(slip.source) not in meanings]


def parsed(source: str) -> ast.FunctionDef:
    """Return the syntax tree of a function, without its docstring and its checks, which are for tests of errors."""
    (function,) = ast.parse(dedent(source)).body
    assert isinstance(function, ast.FunctionDef)
    start = 1 if ast.get_docstring(function) else 0
    function.body = [statement for statement in function.body[start:] if not _is_check(statement)]
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    function.body = [statement for statement in function.body if not _is_idle(statement, used)]
    return function


def _is_check(statement: ast.stmt) -> bool:
    """Return whether this raises or does nothing."""
    return isinstance(statement, ast.If) and not statement.orelse and isinstance(statement.body[0], ast.Raise)


def _is_idle(statement: ast.stmt, used: set[str]) -> bool:
    """Return whether this sets one name that nothing else uses."""
    if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
        return False
    return statement.targets[0].id not in used


class _Place(NamedTuple):
    """An expression of a function, where it hangs, and what to name it by."""

    container: Any  # a list or the attributes of a node
    key: Any
    node: ast.expr
    parent: ast.AST

    def text(self, other: ast.expr) -> str:
        """Return what stands here, with what it is in if that says more; of a record, what is not as in the other."""
        here = self.container[self.key]
        if _is_record(here) and _is_record(other):
            return ", ".join(ast.unparse(mine) for mine, its in zip(here.args, other.args) if mine is not its)
        small = isinstance(self.node, ast.Name | ast.Constant | ast.Attribute | ast.Subscript)
        named = small and isinstance(self.parent, ast.expr | ast.keyword) and not _is_record(self.parent)
        return ast.unparse(self.parent if named else here)


def _places(node: ast.AST) -> Iterator[_Place]:
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        container: Any = value if isinstance(value, list) else vars(node)
        for key, child in list(enumerate(value)) if isinstance(value, list) else [(field, value)]:
            if isinstance(child, ast.expr) and not isinstance(getattr(child, "ctx", None), ast.Store):
                yield _Place(container, key, child, node)
            if isinstance(child, ast.AST):
                yield from _places(child)


def _replacements(place: _Place, scalars: tuple[str, ...]) -> Iterator[ast.expr]:
    """Yield what may stand in this place instead."""
    node = place.node
    if operator := _OPERATORS.get(type(node)):
        yield from operator(node)
    if isinstance(place.parent, ast.If) and place.key == "test":
        yield from (ast.Constant(True), ast.Constant(False))
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "h":
        yield from (ast.Attribute(node.value, other, ast.Load()) for other in scalars if other != node.attr)
    counted = isinstance(place.parent, ast.BinOp) and isinstance(place.parent.right, ast.Constant)
    if ast.unparse(node) in ("t", "step", "host['step']") and not counted:
        yield from (ast.BinOp(node, sign, ast.Constant(1)) for sign in (ast.Add(), ast.Sub()))


_ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_NEUTRAL = {ast.Add: 0, ast.Sub: 0, ast.Mult: 1, ast.Div: 1}
_OPPOSITES = {"maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max"}


def _binary(node: ast.BinOp) -> Iterator[ast.expr]:
    yield ast.BinOp(node.left, _ARITHMETIC.get(type(node.op), ast.Sub)(), node.right)
    yield from (node.left, node.right)
    if isinstance(node.op, ast.Sub | ast.Div):
        yield ast.BinOp(node.right, node.op, node.left)


def _unary(node: ast.UnaryOp) -> Iterator[ast.expr]:
    yield node.operand


def _comparison(node: ast.Compare) -> Iterator[ast.expr]:
    for other in _COMPARISONS.get(type(node.ops[0]), ()):
        yield ast.Compare(node.left, [other()], node.comparators)


def _choice(node: ast.IfExp) -> Iterator[ast.expr]:
    yield from (node.body, node.orelse)
    yield ast.IfExp(node.test, node.orelse, node.body)


def _logic(node: ast.BoolOp) -> Iterator[ast.expr]:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    yield from node.values


def _constant(node: ast.Constant) -> Iterator[ast.expr]:
    if isinstance(node.value, int | float) and not isinstance(node.value, bool):
        yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))


def _call(node: ast.Call) -> Iterator[ast.expr]:
    name, arguments = ast.unparse(node.func), node.args
    if name == "fma":
        yield from _fma(node, *arguments)
    elif name == "by_sign":
        yield from arguments[1:]
        yield from _exchanged(node, combinations(range(4), 2))
    elif name == "limited":
        yield from arguments
        yield from _exchanged(node, ((0, 2), (1, 2)))  # the first two are a maximum
    elif _is_record(node):
        yield from _exchanged(node, zip(range(len(arguments)), range(1, len(arguments))))
    elif name in _OPPOSITES:
        yield from (ast.Call(ast.Name(_OPPOSITES[name]), arguments, node.keywords), *arguments)
    elif len(arguments) == 1 and not node.keywords:
        yield arguments[0]  # a root, an absolute value


def _is_record(node: ast.AST) -> TypeGuard[ast.Call]:
    """Return whether this makes the record of the scalars: it is long, and its order matters."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".Scalars")


def _fma(node: ast.Call, a: ast.expr, b: ast.expr, c: ast.expr) -> Iterator[ast.expr]:
    yield from (ast.BinOp(a, ast.Mult(), b), ast.BinOp(a, ast.Add(), c), ast.BinOp(b, ast.Add(), c), a, b, c)
    yield ast.Call(node.func, [ast.UnaryOp(ast.USub(), a), b, c], [])
    yield ast.Call(node.func, [a, b, ast.UnaryOp(ast.USub(), c)], [])
    yield from _exchanged(node, [(0, 2), (1, 2)])


def _exchanged(node: ast.Call, pairs: Any) -> Iterator[ast.expr]:
    for i, j in pairs:
        arguments = list(node.args)
        arguments[i], arguments[j] = arguments[j], arguments[i]
        yield ast.Call(node.func, arguments, node.keywords)


_OPERATORS: dict[type, Callable[[Any], Iterator[ast.expr]]] = {
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _comparison,
    ast.IfExp: _choice,
    ast.BoolOp: _logic,
    ast.Constant: _constant,
    ast.Call: _call,
}


def _stale_results(rule: ast.FunctionDef) -> Iterator[Slip]:
    """Yield a rule that forgets one of its results and returns what it was given in its place."""
    names = [argument.arg for argument in rule.args.args]
    if names[-1] != "h":
        return
    for index, name in enumerate([names[0], *names[2:-1]]):
        function = parsed(ast.unparse(rule))
        function.body.insert(0, ast.parse(f"old = {name}").body[0])
        last = function.body[-1]
        assert isinstance(last, ast.Return)
        if isinstance(last.value, ast.Tuple):
            last.value.elts[index] = ast.Name("old")
        else:
            last.value = ast.Name("old")
        yield Slip(f"{name} stays as it was", ast.unparse(function))


class _Normal(ast.NodeTransformer):
    """Writes what means the same, to the last bit, in the same way."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        inner = node.operand
        twice = isinstance(node.op, ast.USub) and isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.USub)
        return inner.operand if twice and isinstance(inner, ast.UnaryOp) else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.right, ast.Constant) and node.right.value == _NEUTRAL.get(type(node.op)):
            return node.left
        if isinstance(node.op, ast.Add | ast.Mult):
            node.left, node.right = sorted((node.left, node.right), key=ast.dump)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if ast.unparse(node.func) in ("fma", *_OPPOSITES):
            node.args[:2] = sorted(node.args[:2], key=ast.dump)
        return node


def _meaning(source: str) -> str:
    return ast.dump(_Normal().visit(ast.parse(source)))
