"""The one table of rules: a row for each operation of csrc/ops.def and csrc/structural.def.

`RULES` has the rows by the numbers of the operations, those of the derivatives' kernels (``_core.vjp_number``) among
them. To add an operation, add a row; docs/adding-an-operation.md shows how. What each kind of rule is given and returns
stands at the head of its module.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import _core
from .._core import Tensor
from . import batching, decompositions, diagonal, host, jvp, sparsity, vjp
from .diagonal import Diagonal

__all__ = ["RULES", "OpRules", "gradient", "rule_of_diagonals"]


class OpRules(NamedTuple):
    """The rules of an operation. No member has a default, so that none is forgotten; None: there is no such rule."""

    vjp: vjp.Rule | None  # of recorded passes; None where the rule in C is made of operations already
    jvp: jvp.Rule | None  # None: no derivative
    batching: batching.Rule | None  # None: evaluated by ``_transforms/evaluate.py`` itself
    diagonal: diagonal.Rule | None  # None: needs the whole batch
    sparsity: sparsity.Rule | None  # None: ``apply_op`` cannot evaluate it, so no pattern is found


# ---- the rows of ops.def --------------------------------------------------------------------------------------------
_ELEMENTWISE = OpRules(vjp.of_elementwise, jvp.of_elementwise, batching.of_elementwise, None, sparsity.of_elementwise)
_UNARY_DERIVATIVE = OpRules(None, None, batching.of_unary_derivative, diagonal.of_derivative, sparsity.of_elementwise)
_BINARY_DERIVATIVE = _UNARY_DERIVATIVE._replace(batching=batching.of_binary_derivative)
_LINEAR = {
    "negative": diagonal.of_linear, "positive": diagonal.of_linear, "multiply": diagonal.of_linear,
    "divide": diagonal.of_divide, "add": diagonal.of_sum_of_two, "subtract": diagonal.of_sum_of_two,
}  # fmt: skip

# ---- the rows of structural.def -------------------------------------------------------------------------------------
_COMPARISON = OpRules(None, None, batching.of_elementwise, None, sparsity.of_everything)
_SELECTION = OpRules(None, jvp.of_linear, batching.of_slice, None, sparsity.of_selection)
_EXTREMUM = OpRules(vjp.of_extremum, jvp.of_vjp, batching.of_reduction, None, sparsity.of_reduction)
_CONTROL_FLOW = OpRules(None, None, None, None, None)
_STRUCTURAL = {
    "cast": OpRules(None, jvp.of_linear, batching.of_elementwise, diagonal.of_linear, sparsity.of_elementwise),
    "reshape": OpRules(None, jvp.of_linear, batching.of_reshape, diagonal.of_reshape, sparsity.of_selection),
    "barrier": OpRules(None, jvp.of_linear, batching.of_elementwise, diagonal.of_linear, sparsity.of_elementwise),
    "transpose": _SELECTION._replace(batching=batching.of_transpose),
    "broadcast_to": _SELECTION._replace(batching=batching.of_broadcast_to),
    "slice": _SELECTION,
    "unslice": _SELECTION,
    "concatenate": OpRules(None, jvp.of_concatenate, batching.of_concatenate, None, sparsity.of_concatenate),
    "take": _SELECTION._replace(batching=batching.of_take),
    "untake": OpRules(None, jvp.of_linear, batching.of_untake, None, sparsity.of_untake),
    "where": OpRules(None, jvp.of_where, batching.of_elementwise, None, sparsity.of_elementwise),
    "polygamma": OpRules(None, jvp.of_polygamma, batching.of_elementwise, None, sparsity.of_elementwise),
    "sum": OpRules(None, jvp.of_linear, batching.of_reduction, diagonal.of_sum, sparsity.of_reduction),
    "cumsum": OpRules(None, jvp.of_linear, batching.of_along_an_axis, None, sparsity.of_running),
    "cumprod": OpRules(None, jvp.of_cumprod, batching.of_along_an_axis, None, sparsity.of_running),
    "cummax": OpRules(vjp.of_cummax, jvp.of_cummax, batching.of_along_an_axis, None, sparsity.of_running),
    "recurrence": OpRules(None, jvp.of_recurrence, batching.of_along_an_axis, None, sparsity.of_running),
    "max": _EXTREMUM,
    "min": _EXTREMUM,
    "matmul": OpRules(None, jvp.of_matmul, batching.of_matmul, diagonal.of_matmul, sparsity.of_matmul),
    "softmax": OpRules(vjp.of_softmax, jvp.of_softmax, batching.of_rows, None, sparsity.of_rows),
    "log_softmax": OpRules(vjp.of_log_softmax, jvp.of_log_softmax, batching.of_rows, None, sparsity.of_rows),
    "logsumexp": OpRules(vjp.of_logsumexp, jvp.of_vjp, batching.of_rows, None, sparsity.of_everything),
    "cross_entropy": OpRules(vjp.of_cross_entropy, jvp.of_vjp, batching.of_rows, None, sparsity.of_everything),
    "triangle": OpRules(None, jvp.of_linear, batching.of_rows, None, sparsity.of_elementwise),
    "cholesky": OpRules(vjp.of_cholesky, jvp.of_cholesky, batching.of_rows, None, sparsity.of_matrices),
    "solve_triangular": OpRules(None, jvp.of_solve_triangular, batching.of_equations, None, sparsity.of_everything),
    "solve": OpRules(None, jvp.of_solve, batching.of_equations, None, sparsity.of_everything),
    "slogdet": OpRules(None, jvp.of_slogdet, batching.of_rows, None, sparsity.of_matrices),
    "eigh": OpRules(
        decompositions.of_eigh_vjp, decompositions.of_eigh_jvp, batching.of_rows, None, sparsity.of_matrices
    ),
    "svd": OpRules(decompositions.of_svd_vjp, decompositions.of_svd_jvp, batching.of_rows, None, sparsity.of_matrices),
    "qr": OpRules(decompositions.of_qr_vjp, decompositions.of_qr_jvp, batching.of_rows, None, sparsity.of_matrices),
    "eig": OpRules(decompositions.of_eig_vjp, decompositions.of_eig_jvp, batching.of_rows, None, sparsity.of_matrices),
    "expm": OpRules(
        decompositions.of_expm_vjp, decompositions.of_expm_jvp, batching.of_rows, None, sparsity.of_matrices
    ),
    "pinv": OpRules(
        decompositions.of_pinv_vjp, decompositions.of_pinv_jvp, batching.of_rows, None, sparsity.of_matrices
    ),
    "host_elementwise": OpRules(
        host.of_host_elementwise_vjp,
        host.of_host_elementwise_jvp,
        batching.of_elementwise,
        None,
        sparsity.of_elementwise,
    ),
    "less": _COMPARISON,
    "less_equal": _COMPARISON,
    "greater": _COMPARISON,
    "greater_equal": _COMPARISON,
    "equal": _COMPARISON,
    "not_equal": _COMPARISON,
    "invert": _COMPARISON,
    "bitwise_and": _COMPARISON,
    "bitwise_or": _COMPARISON,
    "bitwise_xor": _COMPARISON,
    "left_shift": _COMPARISON,
    "right_shift": _COMPARISON,
    "position": _COMPARISON,
    "last_writer": OpRules(None, None, batching.of_rows, None, sparsity.of_everything),
    "argmax": OpRules(None, None, batching.of_along_an_axis, None, sparsity.of_everything),
    "argmin": OpRules(None, None, batching.of_along_an_axis, None, sparsity.of_everything),
    "argsort": OpRules(None, None, batching.of_rows, None, sparsity.of_everything),
    "cummax_adjoint": OpRules(None, None, batching.of_along_an_axis, None, sparsity.of_everything),
    "extremum_adjoint": OpRules(None, None, batching.of_rows, None, sparsity.of_one_for_each_row),
    "softmax_adjoint": OpRules(None, None, batching.of_rows, None, sparsity.of_rows),
    "log_softmax_adjoint": OpRules(None, None, batching.of_rows, None, sparsity.of_rows),
    "logsumexp_adjoint": OpRules(None, None, batching.of_rows, None, sparsity.of_one_for_each_row),
    "cross_entropy_adjoint": OpRules(None, None, batching.of_rows, None, sparsity.of_one_for_each_row),
    "cholesky_adjoint": OpRules(None, None, batching.of_rows, None, sparsity.of_matrices),
    "factor": OpRules(None, None, batching.of_rows, None, sparsity.of_matrices),
    "scan": _CONTROL_FLOW,
    "while_loop": _CONTROL_FLOW,
    "cond": _CONTROL_FLOW,
    "part": _CONTROL_FLOW,
    "numpy": OpRules(None, None, batching.of_numpy, None, None),
    "random": OpRules(None, None, batching.of_random, None, None),
    # The nodes that are no operations: of a tensor made with requires_grad, and of a function with a rule of its own.
    "leaf": OpRules(None, None, None, None, None),
    "custom": OpRules(None, jvp.of_custom, None, None, None),
}


def _table() -> list[OpRules]:
    rows = {name: _ELEMENTWISE._replace(diagonal=_LINEAR.get(name)) for name in _core.ROWS} | _STRUCTURAL
    if missing := [name for name in _core.OP_NAMES if name not in rows]:
        raise NotImplementedError(f"fastgrad/_rules/table.py has no row for {', '.join(missing)}: add an OpRules")
    derivatives = [
        _UNARY_DERIVATIVE if row["arity"] == 1 else _BINARY_DERIVATIVE for row in _core.ROWS.values() for _ in range(2)
    ]
    return [rows[name] for name in _core.OP_NAMES] + derivatives


RULES = _table()


def gradient(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor | None, *inputs: Tensor | None) -> Tensor:
    """The cotangent g times the derivative of an operation by its input i, by differentiable operations. A recorded
    backward pass calls this (``apply_rule`` in _binding/backward.pxi)."""
    return RULES[op].vjp(op, i, attr, g, y, *inputs)  # type: ignore[misc]


def rule_of_diagonals(op: int, xs: list[Any], batched: list[bool], attr: tuple[int, ...]) -> Diagonal | Tensor | None:
    """The result of an operation on operands among which are diagonals: a diagonal again, or the whole batch; None if
    the batching rule has to tell, from the whole operands."""
    rule = RULES[op].diagonal
    if rule is None or (rule is not diagonal.of_sum_of_two and batched.count(True) > 1):
        return None
    return rule(op, xs, batched.index(True), attr)
