"""What can be done with a formula of csrc/ops.def other than compiling it: evaluate it and typeset it.

The texts are valid Python, so `ast` is the parser. Evaluation takes every name from the caller: given NumPy's
functions a text works on arrays, given mpmath's on numbers of any precision, and in neither case does one
of our kernels take part, which makes it an oracle for them.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from functools import cache
from types import CodeType
from typing import Any

__all__ = ["evaluate", "latex", "names", "rename"]


@cache
def _parse(text: str) -> ast.expr:
    return ast.parse(" ".join(text.split()), mode="eval").body


def names(text: str) -> frozenset[str]:
    """Every name a formula reads: variables, constants and functions."""
    return frozenset(node.id for node in ast.walk(_parse(text)) if isinstance(node, ast.Name))


class _Rename(ast.NodeTransformer):
    def __init__(self, new: Mapping[str, str]) -> None:
        self.new = new

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.new.get(node.id, node.id), node.ctx)


def rename(text: str, new: Mapping[str, str]) -> str:
    """The formula with other names: rename("a * b", {"a": "x"}) is "x * b"."""
    if new.keys().isdisjoint(names(text)):
        return text
    return ast.unparse(_Rename(new).visit(ast.parse(text, mode="eval")))


class _Branch(ast.NodeTransformer):
    """where(c, a, b) becomes a if c else b, so that of numbers only the branch taken is computed."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if _name(node.func) == "where":
            return ast.IfExp(*node.args)
        return node


@cache
def _compile(text: str, scalar: bool) -> CodeType:
    tree = ast.parse(" ".join(text.split()), mode="eval")
    if scalar:
        tree = ast.fix_missing_locations(_Branch().visit(tree))
    return compile(tree, "<formula>", "eval")


def evaluate(text: str, namespace: Mapping[str, Any], scalar: bool = False) -> Any:
    """The value of a formula, each of its names looked up in `namespace` alone.

    With scalar=True the variables are numbers, `where` is not needed, and the branch of a `where` that is
    not taken is not computed, so that it may divide by zero.
    """
    return eval(_compile(text, scalar), {"__builtins__": {}, **namespace})


# LaTeX ------------------------------------------------------------------------------------------------------

_SUM, _SIGN, _PRODUCT, _POWER, _ATOM = range(5)  # how tightly a piece of LaTeX binds

_GREEK = {"delta": r"\delta", "sigma": r"\sigma", "alpha": r"\alpha", "lambd": r"\lambda"}
_RELATIONS = {ast.Lt: "<", ast.LtE: r"\le", ast.Gt: ">", ast.GtE: r"\ge", ast.Eq: "=", ast.NotEq: r"\ne"}
_KNOWN = {  # functions that LaTeX has a name or we have a letter for; any other is set upright
    "sigmoid": r"\sigma", "log": r"\ln", "log2": r"\log_2", "log10": r"\log_{10}",
    "sin": r"\sin", "cos": r"\cos", "tan": r"\tan", "arcsin": r"\arcsin", "arccos": r"\arccos",
    "arctan": r"\arctan", "sinh": r"\sinh", "cosh": r"\cosh", "tanh": r"\tanh",
    "minimum": r"\min", "maximum": r"\max",
}  # fmt: skip
_SHAPES = {  # functions written as a shape around their arguments
    "sqrt": r"\sqrt{{{}}}", "cbrt": r"\sqrt[3]{{{}}}", "absolute": r"\left|{}\right|",
    "floor": r"\left\lfloor {} \right\rfloor", "ceil": r"\left\lceil {} \right\rceil",
    "floor_divide": r"\left\lfloor \frac{{{}}}{{{}}} \right\rfloor",
    "hypot": r"\sqrt{{{}^{{2}} + {}^{{2}}}}",
}  # fmt: skip


def latex(text: str, constants: Mapping[str, str] | None = None) -> str:
    """A formula as LaTeX: quotients as fractions, `where` as cases, equal factors as powers.

    `constants` gives the LaTeX of named constants. A name with an underscore has a subscript.
    """
    return _Latex(constants or {}).set(_parse(text))[0]


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _parenthesised(tex: str) -> str:
    return rf"\left({tex}\right)"


class _Latex:
    """Each method returns the LaTeX of a node and how tightly it binds."""

    def __init__(self, constants: Mapping[str, str]) -> None:
        self.constants = constants

    def set(self, node: ast.expr) -> tuple[str, int]:
        match node:
            case ast.Constant(value):
                return str(value), _ATOM
            case ast.Name(name):
                return self.symbol(name), _ATOM
            case ast.Call(ast.Name(name), arguments):
                return self.call(name, arguments)
            case ast.Tuple(items):
                return r", \quad ".join(self.set(item)[0] for item in items), _SUM
            case ast.Compare(left, [relation], [right]):
                if ast.dump(left) == ast.dump(right):  # only nan is not equal to itself
                    return self.set(left)[0] + r" \text{ is nan}", _SUM
                return f"{self.set(left)[0]} {_RELATIONS[type(relation)]} {self.set(right)[0]}", _SUM
            case ast.BinOp(left, ast.BitAnd() | ast.BitOr() as joint, right):
                word = r" \text{ and } " if isinstance(joint, ast.BitAnd) else r" \text{ or } "
                return self.set(left)[0] + word + self.set(right)[0], _SUM
            case ast.BinOp(left, ast.Add() | ast.Sub() as sign, right):
                mark = " + " if isinstance(sign, ast.Add) else " - "
                return self.within(left, _SUM) + mark + self.within(right, _PRODUCT), _SUM
            case ast.BinOp(_, ast.Mult() | ast.Div(), _) | ast.UnaryOp(ast.USub(), _):
                return self.product(node)
        raise ValueError(f"cannot typeset {ast.unparse(node)!r}: no rule for {type(node).__name__}")

    def within(self, node: ast.expr, least: int) -> str:
        """The LaTeX of a node, in parentheses unless it binds at least so tightly."""
        tex, binds = self.set(node)
        return tex if binds >= least else _parenthesised(tex)

    def symbol(self, name: str) -> str:
        if name in self.constants:
            return self.constants[name]
        base, _, index = name.partition("_")
        if index and len(index) > 2:
            return rf"\mathrm{{{name}}}".replace("_", r"\_")
        base = _GREEK.get(base) or (base if len(base) == 1 else rf"\mathrm{{{base}}}")
        return f"{base}_{{{index}}}" if index else base

    def call(self, name: str, arguments: list[ast.expr]) -> tuple[str, int]:
        if name == "where":
            return self.cases(arguments), _SUM
        if name == "exp":
            return f"e^{{{self.set(arguments[0])[0]}}}", _POWER
        if name == "exp2":
            return f"2^{{{self.set(arguments[0])[0]}}}", _POWER
        if name == "power":
            base, exponent = arguments
            return f"{self.within(base, _ATOM)}^{{{self.set(exponent)[0]}}}", _POWER
        if name in _SHAPES:
            inner = _ATOM if name == "hypot" else _SUM
            return _SHAPES[name].format(*(self.within(a, inner) for a in arguments)), _ATOM
        if name.startswith("sum_"):
            return rf"\sum_{{{name[4:]}}} {self.within(arguments[0], _PRODUCT)}", _SUM
        head = _KNOWN.get(name) or rf"\operatorname{{{name}}}".replace("_", r"\_")
        return head + _parenthesised(", ".join(self.set(a)[0] for a in arguments)), _ATOM

    def cases(self, arguments: list[ast.expr]) -> str:
        """where(c, a, where(d, b, e)) as one brace of three lines."""
        lines = []
        while True:
            condition, value, rest = arguments
            lines.append(rf"{self.set(value)[0]} & {self.set(condition)[0]}")
            if not (isinstance(rest, ast.Call) and _name(rest.func) == "where"):
                break
            arguments = rest.args
        lines.append(rf"{self.set(rest)[0]} & \text{{otherwise}}")
        return r"\begin{cases}" + r" \\ ".join(lines) + r"\end{cases}"

    def product(self, node: ast.expr) -> tuple[str, int]:
        above: list[ast.expr] = []
        below: list[ast.expr] = []
        sign = "-" if _collect(node, above, below) else ""
        if not below:
            tex = self.factors(above)
            return sign + tex, _SIGN if sign else _PRODUCT
        return rf"{sign}\frac{{{self.factors(above)}}}{{{self.factors(below)}}}", _SIGN if sign else _PRODUCT

    def factors(self, nodes: list[ast.expr]) -> str:
        """A product; factors that are the same text become a power, numbers stand first."""
        if not nodes:
            return "1"
        if len(nodes) == 1:
            return self.set(nodes[0])[0]
        powers: dict[str, tuple[ast.expr, int]] = {}
        for node in nodes:
            key = ast.dump(node)
            powers[key] = node, powers.get(key, (node, 0))[1] + 1
        pieces = []
        for node, count in powers.values():
            if count == 1:
                pieces.append(self.within(node, _PRODUCT))
            else:
                pieces.append(f"{self.within(node, _ATOM)}^{{{count}}}")
        text = pieces[0]
        for left, right in itertools.pairwise(pieces):
            text += (r" \cdot " if left[-1].isdigit() and right[0].isdigit() else r" \, ") + right
        return text


def _collect(node: ast.expr, above: list[ast.expr], below: list[ast.expr]) -> bool:
    """Take a product apart into its factors above and below the line; True if its sign is minus."""
    match node:
        case ast.UnaryOp(ast.USub(), operand):
            return not _collect(operand, above, below)
        case ast.BinOp(left, ast.Mult(), right):
            return _collect(left, above, below) ^ _collect(right, above, below)
        case ast.BinOp(left, ast.Div(), right):
            return _collect(left, above, below) ^ _collect(right, below, above)
        case ast.Constant(0.5):
            below.append(ast.Constant(2))
        case ast.Constant(1):
            pass
        case _:
            above.append(node)
    return False
