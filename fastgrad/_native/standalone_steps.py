"""Steps that the interpreter's kernels carry out, as C that needs none: loops over the functions of plain.h."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from .description import PLAIN_PRODUCT, Buffer, Step
from .scope import Scope, StepWriter, Unwritten
from .standalone import BAD_INDEX, StandaloneScope
from .values import Value, broadcast_strides, c_type, contiguous, index_text

BAD_MATRIX = "return 2;"


def _tail(b: Buffer) -> str:
    """What the names of functions for this dtype end with."""
    return {"f": f"f{8 * b.dtype.itemsize}"}.get(b.dtype.kind, b.dtype.name)


@contextmanager
def _loops(scope: Scope, *counts: tuple[str, int]) -> Iterator[None]:
    """Loops: (variable, number of iterations). One of a single iteration is a block with a constant, if it is used."""
    constants = list[tuple[int, str]]()
    for name, n in counts:
        if n == 1:
            scope.text.open("{")
            constants.append((len(scope.text.lines), name))
            scope.text.line(f"const int64_t {name} = 0;")
        else:
            scope.text.open(f"for (int64_t {name} = 0; {name} < {n}; {name}++) {{")
    yield
    for at, name in reversed(constants):
        if not re.search(rf"\b{name}\b", "\n".join(scope.text.lines[at + 1 :])):
            del scope.text.lines[at]
    for _ in counts:
        scope.text.close()


def _floats(scope: Scope, step: Step) -> tuple[Buffer, Buffer]:
    """The first operand and the result, of a step that is written for floats only."""
    x, y = scope.description.buffer(step.operands[0]), scope.description.buffer(step.y)
    if x.dtype.kind != "f":
        raise Unwritten
    return x, y


def _in_memory(scope: Scope, value: Value, b: Buffer) -> Value:
    """An array with these elements, which may be one number."""
    if not value.single:
        return value
    if b.size == 1 and (value.text.endswith("]") or value.text.isidentifier()):
        return value
    assert isinstance(scope, StandaloneScope)
    scope.text.bodies += 1
    made = scope.memory(f"filled{scope.text.bodies}", b.dtype, b.shape)
    scope.text.line(f"for (int64_t i = 0; i < {b.size}; i++) {made.at('i')} = {value.text};")
    return made


def _from(value: Value, start: str) -> str:
    """The address of an element of an array; of a single one there is one address."""
    return f"&{value.text}" if value.single else value.text if start == "0" else f"{value.text} + {start}"


def _operand(scope: Scope, step: Step, k: int) -> Value:
    """An operand as an array."""
    return _in_memory(scope, scope.operand(step, k), scope.description.buffer(step.operands[k]))


# ---- reductions --------------------------------------------------------------------------------------------------
def _split(shape: tuple[int, ...], axes: int) -> tuple[list[int], list[int]]:
    return [i for i in range(len(shape)) if not axes >> i & 1], [i for i in range(len(shape)) if axes >> i & 1]


def _reduction(scope: Scope, k: int, step: Step) -> None:
    """A sum or an extreme over axes."""
    x, y = scope.description.buffer(step.operands[0]), scope.description.buffer(step.y)
    kept, gone = _split(x.shape, step.attr[0])
    value, result, strides = _operand(scope, step, 0), scope.result(step.y), contiguous(x.shape)
    n, axes = math.prod(x.shape[i] for i in gone), [x.shape[i] for i in gone]
    base = index_text("i", [x.shape[i] for i in kept], [strides[i] for i in kept])
    inner = index_text("j", axes, [strides[i] for i in gone])
    runs = [strides[i] for i in gone if x.shape[i] != 1]
    one_run = all(strides[a] == strides[b] * x.shape[b] for a, b in zip(_long(x, gone), _long(x, gone)[1:]))
    with _loops(scope, ("i", y.size)):
        if x.dtype.kind == "f" and one_run and n:
            step_by = runs[-1] if runs else 1
            call = f"{step.name}_of_{_tail(x)}({n}, {step_by}, {_from(value, base)})"
            scope.text.line(f"{result.at('i')} = {call};")
            return
        kind, wide = c_type(y.dtype), "uint64_t" if x.dtype.kind in "biu" else c_type(y.dtype)
        first = f"{value.at(base)}" if step.name != "sum" else "0"
        wide = wide if step.name == "sum" else kind
        scope.text.line(f"{wide} total = {first};")
        with _loops(scope, ("j", n)):
            element = value.at(f"{base} + {inner}")
            if step.name == "sum":
                scope.text.line(f"total += {f'({wide})' if wide != c_type(x.dtype) else ''}{element};")
            else:
                better = ">" if step.name == "max" else "<"
                also = f" || {element} != {element}" if x.dtype.kind == "f" else ""
                scope.text.line(f"if ({element} {better} total{also}) total = {element};")
        scope.text.line(f"{result.at('i')} = {f'({kind})' if wide != kind else ''}total;")


def _long(x: Buffer, axes: list[int]) -> list[int]:
    return [i for i in axes if x.shape[i] != 1]


def _around(x: Buffer, axis: int) -> tuple[int, int, int]:
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])


def _place(scope: Scope, k: int, step: Step) -> None:
    """argmax, argmin."""
    x, _ = _floats(scope, step)
    outer, n, inner = _around(x, step.attr[0])
    value, result = _operand(scope, step, 0), scope.result(step.y)
    with _loops(scope, ("o", outer), ("c", inner)):
        call = f"{step.name}_of_{_tail(x)}({n}, {inner}, {_from(value, f'o * {n * inner} + c')})"
        scope.text.line(f"{result.at(f'o * {inner} + c')} = {call};")


def _running(scope: Scope, k: int, step: Step) -> None:
    """Running sums, products and maxima, their adjoints, and recurrences, along an axis."""
    x, y = _floats(scope, step)
    outer, n, inner = _around(y, step.attr[0])
    values = [_operand(scope, step, j) for j in range(len(step.operands))]
    result = scope.result(step.y)
    if not y.size:
        return
    name, flags = step.name, []
    if name == "cummax_adjoint":
        name = "cummax_vjp"
    else:
        flags = [str(step.attr[1] if len(step.attr) > 1 else 0)]
    operands = ", ".join([*flags, *(value.address for value in [*values, result])])
    scope.text.line(f"{name}_{_tail(x)}({outer}, {n}, {inner}, {operands});")


def _extremum_adjoint(scope: Scope, k: int, step: Step) -> None:
    x, _ = _floats(scope, step)
    rows = scope.description.buffer(step.operands[1]).size
    values = [_operand(scope, step, 0), scope.operand(step, 1), scope.operand(step, 2)]
    result = scope.result(step.y)
    if not x.size:
        return
    n = x.size // rows
    with _loops(scope, ("r", rows)):
        given = f"{_from(values[0], f'r * {n}')}, {values[1].at('r')}, {values[2].at('r')}"
        scope.text.line(f"extremum_adjoint_of_{_tail(x)}({n}, {given}, {_from(result, f'r * {n}')});")


# How each function of rows takes its operands and gives its result: a whole row, or one element of it.
_OF_ROWS = {
    "softmax": ("rr"), "log_softmax": ("rr"), "logsumexp": ("re"), "softmax_adjoint": "rrr",
    "log_softmax_adjoint": "rrr", "logsumexp_adjoint": "rer", "cross_entropy": "rle", "cross_entropy_adjoint": "rler",
}  # fmt: skip


def _rows(scope: Scope, k: int, step: Step) -> None:
    """The softmax family."""
    x, _ = _floats(scope, step)
    name, kinds = step.name, _OF_ROWS[step.name]
    values = [scope.operand(step, j) if kind != "r" else _operand(scope, step, j) for j, kind in enumerate(kinds[:-1])]
    result = scope.result(step.y)
    if not x.size:
        return
    n, given = x.shape[-1], list[str]()
    with _loops(scope, ("r", x.size // n)):
        if name == "softmax" and step.attr:  # the gradient of logsumexp
            name, kinds = "logsumexp_adjoint", "rer"
            values.append(Value("1", x.dtype, (), True))
        for kind, value in zip(kinds, values):
            if kind == "l":
                scope.text.line(f"const int64_t label = {value.at('r')};")
                scope.text.line(f"if (label < 0 || label >= {n}) {BAD_INDEX}")
            given.append(_from(value, f"r * {n}") if kind == "r" else "label" if kind == "l" else value.at("r"))
        call = f"{name}_of_{_tail(x)}({', '.join([str(n), *given])}"
        if kinds[-1] == "r":
            scope.text.line(f"{call}, {_from(result, f'r * {n}')});")
        else:
            scope.text.line(f"{result.at('r')} = {call});")


# ---- indices -----------------------------------------------------------------------------------------------------
def _gather(
    scope: Scope, step: Step, whole: tuple[int, ...], b: Buffer, index: Value, write: Callable[[str, str], str]
) -> None:
    """Loops over the rows that an index of buffer b names: write(place in these rows, place in the whole)."""
    axis, shared = step.attr[:2]
    stack, outer = math.prod(whole[:shared]), math.prod(whole[shared:axis])
    length, inner, count = whole[axis], math.prod(whole[axis + 1 :]), math.prod(b.shape[shared:])
    with _loops(scope, ("s", stack), ("k", count)):
        scope.text.line(f"const int64_t at = position_in({length}, {index.at(f's * {count} + k')});")
        scope.text.line(f"if (at < 0) {BAD_INDEX}")
        with _loops(scope, ("o", outer), ("j", inner)):
            row, place = (f"((s * {outer} + o) * {n} + {at}) * {inner} + j" for n, at in ((count, "k"), (length, "at")))
            scope.text.line(write(row, place))


def _take(scope: Scope, k: int, step: Step) -> None:
    d = scope.description
    value, index, result = scope.operand(step, 0), scope.operand(step, 1), scope.result(step.y)
    x, i = d.buffer(step.operands[0]), d.buffer(step.operands[1])
    _gather(scope, step, x.shape, i, index, lambda row, place: f"{result.at(row)} = {value.at(place)};")


def _untake(scope: Scope, k: int, step: Step) -> None:
    d, y = scope.description, scope.description.buffer(step.y)
    value, index, result = scope.operand(step, 0), scope.operand(step, 1), scope.result(step.y)
    scope.text.line(f"for (int64_t i = 0; i < {y.size}; i++) {result.at('i')} = 0;")
    i = d.buffer(step.operands[1])
    _gather(scope, step, y.shape, i, index, lambda row, place: f"{result.at(place)} += {value.at(row)};")


def _last_writer(scope: Scope, k: int, step: Step) -> None:
    y, i = scope.description.buffer(step.y), scope.description.buffer(step.operands[0])
    index, result = scope.operand(step, 0), scope.result(step.y)
    if len(i.shape) != 1 or y.shape != (step.attr[0],):
        raise Unwritten
    scope.text.line(f"for (int64_t i = 0; i < {y.size}; i++) {result.at('i')} = -1;")
    with _loops(scope, ("i", i.size)):
        scope.text.line(f"const int64_t at = position_in({y.size}, {index.at('i')});")
        scope.text.line(f"if (at < 0) {BAD_INDEX}")
        scope.text.line(f"{result.at('at')} = i;")


def _argsort(scope: Scope, k: int, step: Step) -> None:
    x, y = _floats(scope, step)
    value, result = _operand(scope, step, 0), scope.result(step.y)
    if not y.size:
        return
    assert isinstance(scope, StandaloneScope)
    n, places = x.shape[-1], step.attr[1:]
    scope.text.bodies += 1
    scratch = scope.memory(f"order{scope.text.bodies}", np.dtype(np.int64), (2 * n,))
    with _loops(scope, ("r", x.size // n)):
        order = scratch.address if places else _from(result, f"r * {n}")
        given = f"{step.attr[0]}, {_from(value, f'r * {n}')}, {order}, {scratch.text} + {n}"
        scope.text.line(f"argsort_of_{_tail(x)}({n}, {given});")
        for j, place in enumerate(places):
            scope.text.line(f"{result.at(f'r * {len(places)} + {j}')} = {scratch.at(str(place))};")


# ---- matrices ----------------------------------------------------------------------------------------------------
def _stack(shape: tuple[int, ...], result: tuple[int, ...], size: int) -> str:
    """Where matrix s of the result's stack reads its operand, whose matrices have so many elements."""
    strides = broadcast_strides(shape[:-2], result[:-2])
    if strides is None:
        raise Unwritten
    return index_text("s", result[:-2], [size * stride for stride in strides])


def _matmul(scope: Scope, k: int, step: Step) -> None:
    """Products of matrices: y = a b, or y = a b + c."""
    d = scope.description
    a, b, y = (d.buffer(v) for v in (*step.operands[:2], step.y))
    if min(len(a.shape), len(b.shape)) < 2 or y.dtype.kind != "f":
        raise Unwritten
    if len(step.attr) > PLAIN_PRODUCT:
        _matmul_within(scope, step, y.dtype)
        return
    ta, tb = step.attr[:2]
    m, n, depth = y.shape[-2], y.shape[-1], a.shape[-2 if ta else -1]
    va, vb = scope.operand(step, 0), scope.operand(step, 1)
    added = scope.operand(step, 2) if len(step.operands) == 3 else None
    result = scope.result(step.y)
    from_a, from_b = _stack(a.shape, y.shape, m * depth), _stack(b.shape, y.shape, depth * n)
    with _loops(scope, ("s", math.prod(y.shape[:-2])), ("i", m), ("j", n)):
        scope.text.line(f"{c_type(y.dtype)} total = 0;")
        left = va.at(f"{from_a} + {f'p * {m} + i' if ta else f'i * {depth} + p'}")
        right = vb.at(f"{from_b} + {f'j * {depth} + p' if tb else f'p * {n} + j'}")
        scope.text.line(f"for (int64_t p = 0; p < {depth}; p++) total += {left} * {right};")
        at = f"(s * {m} + i) * {n} + j"
        scope.text.line(f"{result.at(at)} = total{f' + {added.at(at)}' if added is not None else ''};")


def _matmul_within(scope: Scope, step: Step, dtype: np.dtype) -> None:
    """Products of matrices that lie within arrays of another order of axes (gemm_dispatch.h)."""
    ta, tb, m, n, depth, stack, *rest = step.attr
    axes = [(f"s{i}", length) for i, length in enumerate(rest[:stack])]
    places = [rest[stack + i * (2 + stack) : stack + (i + 1) * (2 + stack)] for i in range(3)]
    row_a, row_b, row_y = (place[1] for place in places)
    from_a, from_b, from_y = (
        " + ".join([str(first), *(f"{name} * {stride}" for (name, _), stride in zip(axes, along, strict=True))])
        for first, _, *along in places
    )
    va, vb, result = scope.operand(step, 0), scope.operand(step, 1), scope.result(step.y)
    with _loops(scope, *axes, ("i", m), ("j", n)):
        scope.text.line(f"{c_type(dtype)} total = 0;")
        left = va.at(f"{from_a} + {f'p * {row_a} + i' if ta else f'i * {row_a} + p'}")
        right = vb.at(f"{from_b} + {f'j * {row_b} + p' if tb else f'p * {row_b} + j'}")
        scope.text.line(f"for (int64_t p = 0; p < {depth}; p++) total += {left} * {right};")
        scope.text.line(f"{result.at(f'{from_y} + i * {row_y} + j')} = total;")


def _matrices(scope: Scope, step: Step, function: str, numbers: str, out: int, check: str = "") -> None:
    """A function of each matrix of a stack, whose result has so many elements."""
    x, _ = _floats(scope, step)
    values = [_operand(scope, step, j) for j in range(len(step.operands))]
    result = scope.result(step.y)
    size = x.shape[-2] * x.shape[-1]
    with _loops(scope, ("s", x.size // size if size else 0)):
        operands = ", ".join([*(_from(value, f"s * {size}") for value in values), _from(result, f"s * {out}")])
        call = f"{function}_{_tail(x)}({numbers}, {operands})"
        scope.text.line(f"if ({call}) {check}" if check else f"{call};")


def _triangle(scope: Scope, k: int, step: Step) -> None:
    m, n = scope.description.buffer(step.y).shape[-2:]
    upper, diagonal, halves = step.attr
    _matrices(scope, step, "triangle_of", f"{m}, {n}, {upper}, {diagonal}, {halves}", m * n)


def _cholesky(scope: Scope, k: int, step: Step) -> None:
    n = scope.description.buffer(step.operands[0]).shape[-1]
    if step.name == "cholesky_adjoint":
        _matrices(scope, step, "cholesky_adjoint_of", str(n), n * n)
    elif step.name == "factor" and step.attr[0] != 8:  # FG_BY_CHOLESKY
        _matrices(scope, step, "lu_of", str(n), (n + 1) * n)
    else:
        _matrices(scope, step, "cholesky_of", str(n), n * n, BAD_MATRIX)


def _slogdet(scope: Scope, k: int, step: Step) -> None:
    f = scope.description.buffer(step.operands[1])
    value, result = _operand(scope, step, 1), scope.result(step.y)
    n = f.shape[-1]
    count = f.size // ((n + 1) * n) if n else 0
    scope.text.line(f"slogdet_all_lanes_{_tail(f)}({count}, {n}, {value.address}, {result.address});")


def _solve(scope: Scope, k: int, step: Step) -> None:
    """Equations by a triangle, or by a factor that is the second operand."""
    d = scope.description
    first = 0 if step.name == "solve_triangular" else 1
    a, b, y = (d.buffer(v) for v in (step.operands[first], step.operands[first + 1], step.y))
    how, (n, columns) = step.attr[0], y.shape[-2:]
    checks = not how & (4 | 8) and (first == 0 or (len(step.attr) > 1 and step.attr[1] != 0))
    rows = n + 1 if how & 16 else n
    va, vb, result = _operand(scope, step, first), _operand(scope, step, first + 1), scope.result(step.y)
    if not y.size:
        return
    from_a, from_b = _stack(a.shape, y.shape, rows * n), _stack(b.shape, y.shape, n * columns)
    with _loops(scope, ("s", math.prod(y.shape[:-2]))):
        if checks:
            scope.text.line(f"if (!is_regular_{_tail(y)}({n}, {_from(va, from_a)})) {BAD_MATRIX}")
        operands = f"{_from(va, from_a)}, {_from(vb, from_b)}, {_from(result, f's * {n * columns}')}"
        scope.text.line(f"solve_of_{_tail(y)}({n}, {columns}, {how}, {operands});")


# ---- others ------------------------------------------------------------------------------------------------------
def _random(scope: Scope, k: int, step: Step) -> None:
    assert isinstance(scope, StandaloneScope)
    y, (low, count) = scope.description.buffer(step.y), step.attr[1:3]
    state, result = scope.state(step.operands[0]), scope.result(step.y)
    if y.dtype.kind == "f":
        scope.text.line(f"uniform_{_tail(y)}({y.size}, {state}, {result.address});")
    elif y.dtype == np.int64:
        scope.text.line(f"uniform_integers({y.size}, {low}, INT64_C({count}), {state}, {result.address});")
    else:
        raise Unwritten


def _polygamma(scope: Scope, k: int, step: Step) -> None:
    x, y = _floats(scope, step)
    value, result = scope.operand(step, 0), scope.result(step.y)
    with _loops(scope, ("i", y.size)):
        scope.text.line(f"{result.at('i')} = ({c_type(y.dtype)})vm_polygamma({step.attr[0]}, {value.at('i')});")


def _copied(scope: Scope, k: int, step: Step) -> None:
    """The result is the last operand: pinv is b, which is computed before."""
    y, value = scope.description.buffer(step.y), scope.operand(step, len(step.operands) - 1)
    result = scope.result(step.y)
    scope.text.line(f"for (int64_t i = 0; i < {y.size}; i++) {result.at('i')} = {value.at('i')};")


STEPS: dict[str, StepWriter] = {
    "sum": _reduction, "max": _reduction, "min": _reduction, "argmax": _place, "argmin": _place,
    "cumsum": _running, "cumprod": _running, "cummax": _running, "recurrence": _running, "cummax_adjoint": _running,
    "extremum_adjoint": _extremum_adjoint, "take": _take, "untake": _untake, "last_writer": _last_writer,
    "argsort": _argsort, "matmul": _matmul, "triangle": _triangle, "cholesky": _cholesky,
    "cholesky_adjoint": _cholesky, "factor": _cholesky, "slogdet": _slogdet, "solve": _solve,
    "solve_triangular": _solve, "random": _random, "polygamma": _polygamma, "pinv": _copied, "barrier": _copied,
    **dict.fromkeys(_OF_ROWS, _rows),
}  # fmt: skip
