"""Linear algebra of single small matrices: the functions of csrc/kernels/matrices.h, with sizes that are constants.

Larger matrices, and stacks of them, which the kernels compute side by side, are left to the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable

from .. import _core
from .description import Step
from .scope import Scope, Unwritten
from .steps import address
from .values import c_type, suffix

_MOST = 8  # rows of a matrix, and columns of the right-hand side of equations
_UNIT, _BY_CHOLESKY, _BY_LU = 4, 8, 16  # as in csrc/kernels.h
_NAMES = {number: name for name, number in _core.CALLERS.items()}


def _call(scope: Scope, step: Step, function: str, sizes: tuple[int, ...], operands: range) -> str:
    """A call of a function of matrices.h. One for these sizes is a function of its own, shared by all that call it."""
    d = scope.description
    y = d.buffer(step.y)
    shapes = [d.buffer(step.operands[j]).shape for j in operands]
    if y.dtype.kind != "f" or not y.size or any(len(shape) != 2 for shape in shapes):
        raise Unwritten
    if any(rows > _MOST + 1 or columns > _MOST for rows, columns in shapes):  # an LU factor has a row of pivots
        raise Unwritten
    values = [scope.operand(step, j) for j in operands]
    if any(value.single and value.size > 1 for value in values):
        raise Unwritten
    kind, name = c_type(y.dtype), "_".join([function, suffix(y.dtype), *map(str, sizes)]).replace("-", "m")
    letters = "abg"[: len(values)]
    parameters = ", ".join([*(f"const {kind} *{letter}" for letter in letters), f"{kind} *y"])
    result, returns = ("int", "return ") if function in _RETURNS_A_STATUS else ("void", "")
    scope.text.include("kernels/matrices.h")
    scope.text.define(
        f"static {result} {name}({parameters})\n"
        f"{{\n    {returns}{function}_of_{suffix(y.dtype)}({', '.join([*map(str, sizes), *letters, 'y'])});\n}}\n\n"
    )
    return f"{name}({', '.join([*map(address, values), scope.result(step.y).address])})"


_RETURNS_A_STATUS = {"cholesky"}


def _caller(step: Step, k: int, own: str) -> str:
    """The function of the user's for which a step is made, which errors name."""
    return _NAMES.get(step.attr[k], own) if len(step.attr) > k else own


def _refuse(scope: Scope, message: str) -> str:
    """The statement that ends the replay for a matrix, with the interpreter's error."""
    scope.text.declare("int status = 0;")
    return f'{{ status = s->bad_matrix("{message}"); return {scope.failure()}; }}'


def _cholesky(scope: Scope, k: int, step: Step) -> None:
    n = scope.description.buffer(step.operands[0]).shape[-1]
    if step.name == "cholesky_adjoint":
        scope.text.line(f"{_call(scope, step, 'cholesky_adjoint', (n,), range(2))};")
    elif step.name == "factor" and step.attr[0] == _BY_LU:
        scope.text.line(f"{_call(scope, step, 'lu', (n,), range(1))};")
    else:
        name = "solve" if step.name == "factor" else _caller(step, 0, "cholesky")
        call = _call(scope, step, "cholesky", (n,), range(1))
        scope.text.line(f"if ({call}) {_refuse(scope, f'{name}: matrix is not positive definite')}")


def _solve(scope: Scope, k: int, step: Step) -> None:
    """Equations by a triangle, or by a factor that is the second operand."""
    first, how = int(step.name == "solve"), step.attr[0]
    n, columns = scope.description.buffer(step.y).shape[-2:]
    name = _caller(step, 1, "" if first else "solve_triangular")
    call = _call(scope, step, "solve", (n, columns, how), range(first, first + 2))
    if name and not how & (_UNIT | _BY_CHOLESKY):
        factor = address(scope.operand(step, first))
        regular = f"is_regular_{suffix(scope.description.buffer(step.y).dtype)}({n}, {factor})"
        scope.text.line(f"if (!{regular}) {_refuse(scope, f'{name}: matrix is singular')}")
    scope.text.line(f"{call};")


def _slogdet(scope: Scope, k: int, step: Step) -> None:
    n = scope.description.buffer(step.operands[0]).shape[-1]
    scope.text.line(f"{_call(scope, step, 'slogdet', (n,), range(1, 2))};")


def _triangle(scope: Scope, k: int, step: Step) -> None:
    x = scope.description.buffer(step.operands[0])
    scope.text.line(f"{_call(scope, step, 'triangle', (*x.shape[-2:], *step.attr), range(1))};")


MATRICES: dict[str, Callable[[Scope, int, Step], None]] = {
    "cholesky": _cholesky, "cholesky_adjoint": _cholesky, "factor": _cholesky, "solve": _solve,
    "solve_triangular": _solve, "slogdet": _slogdet, "triangle": _triangle,
}  # fmt: skip
