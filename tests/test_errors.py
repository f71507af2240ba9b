"""Bad input: what is raised and what it says, word for word. Error texts are part of the interface.

Each row is a line of code, in which x is a constant and w a tensor that requires gradients, both of shape (2, 3), and
f(x) = x. Below the table: input made to do harm, which must raise and never crash, hang or leave anything behind.
"""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.exceptions import AxisError

import fastgrad as fg

TABLE = {
    "matrix products": [
        (
            "fg.zeros((32, 64)) @ fg.zeros((32, 10))",
            ValueError,
            "matmul: shapes (32, 64) and (32, 10) do not align: 64 (axis 1) is not 32 (axis 0). Did you mean a.T @ b?",
        ),
        (
            "fg.zeros((2, 3)) @ fg.zeros((4, 3))",
            ValueError,
            "matmul: shapes (2, 3) and (4, 3) do not align: 3 (axis 1) is not 4 (axis 0). Did you mean a @ b.T?",
        ),
        (
            "fg.zeros((2, 3)) @ fg.zeros((4, 2))",
            ValueError,
            "matmul: shapes (2, 3) and (4, 2) do not align: 3 (axis 1) is not 4 (axis 0). Did you mean b @ a?",
        ),
        (
            "fg.zeros((2, 3)) @ fg.zeros((4, 5))",
            ValueError,
            "matmul: shapes (2, 3) and (4, 5) do not align: 3 (axis 1) is not 4 (axis 0)",
        ),
        (
            "fg.zeros((2, 3)) @ fg.zeros(2)",
            ValueError,
            "matmul: shapes (2, 3) and (2,) do not align: 3 (axis 1) is not 2 (axis 0). Did you mean a.T @ b?",
        ),
        (
            "fg.zeros(3) @ fg.zeros((2, 3))",
            ValueError,
            "matmul: shapes (3,) and (2, 3) do not align: 3 (axis 0) is not 2 (axis 0). Did you mean a @ b.T?",
        ),
        (
            "np.zeros((2, 3)) @ fg.zeros((2, 3))",
            ValueError,
            "matmul: shapes (2, 3) and (2, 3) do not align: 3 (axis 1) is not 2 (axis 0). Did you mean a @ b.T?",
        ),
        (
            "fg.zeros((5, 2, 3)) @ fg.zeros((4, 3, 2))",
            ValueError,
            "matmul: shapes (5, 2, 3) and (4, 3, 2) do not align: the axes before the last two do not broadcast",
        ),
        (
            "x @ 3",
            ValueError,
            "matmul: expected operands with axes, got shapes (2, 3) and (); multiply by a number with *",
        ),
        ('x @ "a"', TypeError, "unsupported operand type(s) for @: 'fastgrad._core.Tensor' and 'str'"),
        ("y = x; y @= x", TypeError, "a @= b is not supported; write a = a @ b"),
        (
            "fg.dot(x, fg.zeros((2, 2, 3)))",
            ValueError,
            "dot: shapes (2, 3) and (2, 2, 3) do not align: 3 (axis 1) is not 2 (axis 1)",
        ),
    ],
    "shapes that do not fit": [
        (
            "x + fg.zeros((2, 4))",
            ValueError,
            "add: shapes (2, 3) and (2, 4) do not broadcast: axis -1 has lengths 3 and 4, which must be equal or one "
            "of them 1. Use reshape or expand_dims to line the axes up",
        ),
        (
            "np.zeros(4) * x",
            ValueError,
            "multiply: shapes (4,) and (2, 3) do not broadcast: axis -1 has lengths 4 and 3, which must be equal or "
            "one of them 1. Use reshape or expand_dims to line the axes up",
        ),
        (
            "y = x; y += fg.zeros((5, 2, 3))",
            ValueError,
            "add: an in-place change cannot stretch shape (2, 3) to take in shape (5, 2, 3)",
        ),
        (
            "y = fg.zeros(3); y += fg.zeros((2, 1))",
            ValueError,
            "add: an in-place change cannot stretch shape (3,) to take in shape (2, 1)",
        ),
        (
            "y = fg.tensor([1, 2]); y += [[1], [2]]",
            ValueError,
            "add: an in-place change cannot turn shape (2,) into (2, 2)",
        ),
        (
            "fg.concatenate([x, fg.zeros((3, 2))])",
            ValueError,
            "concatenate: input 0 has shape (2, 3), input 1 has (3, 2): all lengths but that of axis 0 must agree",
        ),
        (
            "fg.concatenate([x, fg.zeros(3)])",
            ValueError,
            "concatenate: input 0 has shape (2, 3), input 1 has (3,): all lengths but that of axis 0 must agree",
        ),
        ("fg.concatenate([])", ValueError, "concatenate: expected at least one array, got none"),
        ("fg.concatenate(3)", TypeError, "concatenate: expected a list of arrays, got 3"),
        (
            "fg.stack([x, fg.zeros((3, 2))])",
            ValueError,
            "stack: input 0 has shape (2, 3), input 1 has (3, 2); all must be the same",
        ),
        ("fg.stack([])", ValueError, "stack: expected at least one array, got none"),
        ("fg.stack(3)", TypeError, "stack: expected a list of arrays, got 3"),
        ("x.reshape(4, 2)", ValueError, "reshape: shape (2, 3) has 6 elements, (4, 2) would have 8"),
        ("x.reshape(4, -1)", ValueError, "reshape: 6 elements of shape (2, 3) do not fill the shape (4, -1) evenly"),
        (
            "x.reshape(-1, -1)",
            ValueError,
            "reshape: expected lengths that are 0 or more and at most one -1, got (-1, -1)",
        ),
        (
            "x.reshape(-2, 3)",
            ValueError,
            "reshape: expected lengths that are 0 or more and at most one -1, got (-2, 3)",
        ),
        ("x.reshape(2.0, 3)", TypeError, "reshape: expected a shape as an int or a tuple of ints, got (2.0, 3)"),
        (
            "fg.broadcast_to(x, (3, 2))",
            ValueError,
            "broadcast_to: shape (2, 3) does not stretch to (3, 2): aligned at the last axis, each length must be 1 "
            "or that of the target",
        ),
        (
            "fg.broadcast_to(x, 3)",
            ValueError,
            "broadcast_to: shape (2, 3) does not stretch to (3,): aligned at the last axis, each length must be 1 or "
            "that of the target",
        ),
        ("fg.broadcast_to(x, (-1, 3))", ValueError, "broadcast_to: expected lengths that are 0 or more, got (-1, 3)"),
        (
            'fg.broadcast_to(x, "ab")',
            TypeError,
            "broadcast_to: expected a shape as an int or a tuple of ints, got 'ab'",
        ),
        (
            "fg.where(x > 0, fg.zeros(4), x)",
            ValueError,
            "where: shapes (4,) and (2, 3) do not broadcast: axis -1 has lengths 4 and 3, which must be equal or one "
            "of them 1. Use reshape or expand_dims to line the axes up",
        ),
        (
            "fg.where(np.zeros(4, bool), x, x)",
            ValueError,
            "where: shapes (4,) and (2, 3) do not broadcast: axis -1 has lengths 4 and 3, which must be equal or one "
            "of them 1. Use reshape or expand_dims to line the axes up",
        ),
        ("x.squeeze(0)", ValueError, "squeeze: axis 0 of shape (2, 3) has length 2, not 1"),
        ("fg.glu(x)", ValueError, "glu: expected an even length along axis 1, got shape (2, 3)"),
        ("fg.zeros(3).mT", ValueError, "mT: expected at least 2 dimensions, got shape (3,)"),
        ("x.transpose(0, 0)", ValueError, "transpose: expected each axis of shape (2, 3) once, got the axes (0, 0)"),
        ("x.transpose(1)", ValueError, "transpose: expected each axis of shape (2, 3) once, got the axes 1"),
        ("fg.moveaxis(x, (0, 1), 0)", ValueError, "moveaxis: 2 source axes for 1 destinations"),
        ("fg.zeros((0, 2)).max(0)", ValueError, "max: axis 0 has length 0, but a maximum needs at least one element"),
        (
            "fg.losses.softmax_cross_entropy(fg.zeros((2, 0)), [0, 0])",
            ValueError,
            "cross_entropy: expected at least one element along the axis, got shape (2, 0)",
        ),
        ("fg.softmax(1.0)", ValueError, "softmax: expected a tensor with axes, got a single number"),
    ],
    "axes": [
        ("x.sum(2)", AxisError, "sum: axis 2 does not exist in a tensor of 2 dimensions"),
        ("x.sum(axis=-3)", AxisError, "sum: axis -3 does not exist in a tensor of 2 dimensions"),
        ("x.sum((0, -2))", ValueError, "sum: axis -2 is named twice in (0, -2)"),
        ('x.sum("a")', TypeError, "sum: expected an axis as an int, a tuple of ints or None, got 'a'"),
        ("x.sum(np.nan)", TypeError, "sum: expected an axis as an int, a tuple of ints or None, got nan"),
        ("x.sum(2**70)", AxisError, "sum: axis 1180591620717411303424 does not exist in a tensor of 2 dimensions"),
        ("fg.tensor(1.0).sum(0)", AxisError, "sum: axis 0 does not exist in a tensor of 0 dimensions"),
        ("fg.tensor([1, 2]).sum(1)", AxisError, "sum: axis 1 does not exist in a tensor of 1 dimension"),
        ("x.mean(2)", AxisError, "mean: axis 2 does not exist in a tensor of 2 dimensions"),
        ("fg.prod(x, 2)", AxisError, "prod: axis 2 does not exist in a tensor of 2 dimensions"),
        ("fg.var(x, (0, 5))", AxisError, "var: axis 5 does not exist in a tensor of 2 dimensions"),
        ("fg.norm(x, axis=2)", AxisError, "norm: axis 2 does not exist in a tensor of 2 dimensions"),
        ("fg.argmax(x, 2)", AxisError, "argmax: axis 2 does not exist in a tensor of 2 dimensions"),
        ("fg.any(x, 2)", AxisError, "any: axis 2 does not exist in a tensor of 2 dimensions"),
        ("fg.softmax(x, 2)", AxisError, "softmax: axis 2 does not exist in a tensor of 2 dimensions"),
        ("fg.softmax(x, None)", TypeError, "softmax: expected one axis as an int, got None"),
        ("fg.softmax(x, (0, 1))", TypeError, "softmax: expected one axis as an int, got (0, 1)"),
        ("fg.log_softmax(x, -3)", AxisError, "log_softmax: axis -3 does not exist in a tensor of 2 dimensions"),
        ("fg.logsumexp(x, 5)", AxisError, "logsumexp: axis 5 does not exist in a tensor of 2 dimensions"),
        ("x.squeeze(5)", AxisError, "squeeze: axis 5 does not exist in a tensor of 2 dimensions"),
        ("x.swapaxes(0, 2)", AxisError, "swapaxes: axis 2 does not exist in a tensor of 2 dimensions"),
        ("fg.transpose(x, (0, 5))", AxisError, "transpose: axis 5 does not exist in a tensor of 2 dimensions"),
        ("fg.moveaxis(x, 0, 2)", AxisError, "moveaxis: axis 2 does not exist in a tensor of 2 dimensions"),
        ('fg.moveaxis(x, "a", 0)', TypeError, "moveaxis: expected an axis as an int, a tuple of ints or None, got 'a'"),
        ("fg.expand_dims(x, 4)", AxisError, "expand_dims: axis 4 does not exist in a tensor of 3 dimensions"),
        ("fg.concatenate([x, x], 2)", AxisError, "concatenate: axis 2 does not exist in a tensor of 2 dimensions"),
        ("fg.stack([x, x], 4)", AxisError, "stack: axis 4 does not exist in a tensor of 3 dimensions"),
        ("fg.take(x, 0, axis=3)", AxisError, "take: axis 3 does not exist in a tensor of 2 dimensions"),
        ('fg.take(x, 0, axis="a")', TypeError, "take: expected an axis as an int, a tuple of ints or None, got 'a'"),
    ],
    "too much": [
        (
            "fg.broadcast_to(1.0, (2**31, 2**31))",
            ValueError,
            "shape (2147483648, 2147483648) has more elements than memory can hold",
        ),
        ("fg.broadcast_to(1.0, 2**50)", MemoryError, "no memory for a block of 9007199254741056 bytes"),
        (
            "fg.zeros((2**31, 0)) + fg.zeros((2**31, 1, 0))",
            ValueError,
            "shape (2147483648, 2147483648, 0) has more elements than memory can hold",
        ),
        ("x.reshape(2**70)", ValueError, "reshape: the length 1180591620717411303424 is more than memory can hold"),
        (
            "x.reshape(2**40, 2**40)",
            ValueError,
            "reshape: shape (2, 3) has 6 elements, (1099511627776, 1099511627776) would have more than memory can hold",
        ),
        ("x.reshape((1,) * 33)", ValueError, "reshape: a tensor has at most 32 axes, got a shape of 33"),
        (
            "fg.broadcast_to(x, (1,) * 31 + (2, 3))",
            ValueError,
            "broadcast_to: a tensor has at most 32 axes, got a shape of 33",
        ),
        (
            "fg.broadcast_to(1.0, (1,) * 32)[None]",
            ValueError,
            "indexing: a tensor has at most 32 axes, got an index that would make 33",
        ),
        ("fg.tensor(np.zeros((1,) * 33))", ValueError, "a tensor has at most 32 axes, got an array with 33"),
    ],
    "indices": [
        ("x[2]", IndexError, "indexing: index 2 is outside axis 0 of length 2"),
        ("x[-3]", IndexError, "indexing: index -3 is outside axis 0 of length 2"),
        ("x[0, 0, 0]", IndexError, "indexing: 3 indices for a tensor of 2 dimensions"),
        (
            "x[1.0]",
            IndexError,
            "indexing: expected integers, slices, None, ... or arrays of integers or booleans, got 1.0",
        ),
        (
            'x["a"]',
            IndexError,
            "indexing: expected integers, slices, None, ... or arrays of integers or booleans, got 'a'",
        ),
        ("x[[5]]", IndexError, "take: index 5 at position 0 is outside an axis of length 2"),
        (
            "x[[0.5]]",
            IndexError,
            "indexing: expected integers, slices, None, ... or arrays of integers or booleans, got 0.5",
        ),
        ("x[fg.tensor(1.5)]", IndexError, "indexing: expected integers or booleans, got an array of float64"),
        ("x[..., ...]", IndexError, "indexing: an index can hold only one ellipsis (...)"),
        ("fg.tensor(1.0)[0]", IndexError, "indexing: 1 indices for a tensor of 0 dimensions"),
        (
            "x[0] = 1",
            TypeError,
            "a tensor does not support assignment to elements; use fastgrad.where(mask, value, x), or "
            "fastgrad.concatenate to build it from parts",
        ),
        ("fg.take(x, 7)", IndexError, "take: index 7 at position 0 is outside an axis of length 6"),
        ("fg.take(x, 0.5)", TypeError, "take: expected integer indices, got float64"),
        (
            "fg.losses.softmax_cross_entropy(x, [0, 3])",
            IndexError,
            "cross_entropy: label 3 of row 1 is not a class: with 3 logits a row, labels run from 0 to 2",
        ),
    ],
    "what is no number": [
        ('fg.tensor("abc")', TypeError, "tensor: expected numbers, got the str 'abc'"),
        ('fg.tensor(b"abc")', TypeError, "tensor: expected numbers, got the bytes b'abc'"),
        (
            "fg.tensor(None)",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got NoneType of dtype object",
        ),
        (
            'fg.tensor(["a"])',
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got list of dtype <U1",
        ),
        (
            "fg.tensor({})",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got dict of dtype object",
        ),
        (
            "fg.tensor([[1.0], [1.0, 2.0]])",
            ValueError,
            "tensor: expected an array or nested lists of equal lengths, got ragged ones; pad them, or make a tensor "
            "of each",
        ),
        (
            "fg.tensor(np.float16(1))",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got float16 of dtype float16; convert it "
            "with .astype(np.float32)",
        ),
        (
            "fg.tensor(1j)",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got complex of dtype complex128; complex "
            "numbers are not supported: compute with real and imaginary parts, as cos(x) and sin(x) for exp(1j * x)",
        ),
        (
            "fg.tensor(np.ma.masked_array([1.0], [True]))",
            TypeError,
            "tensor: expected a plain array, got a masked one; fill it with .filled() first",
        ),
        (
            'fg.tensor(np.zeros(2, [("a", float)]))',
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got ndarray of dtype [('a', '<f8')]",
        ),
        (
            'fg.tensor(np.array(["2020-01-01"], "M8[D]"))',
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got ndarray of dtype datetime64[D]",
        ),
        (
            "fg.tensor(np.array([1, None]))",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got ndarray of dtype object",
        ),
        (
            "fg.tensor(2**80)",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got int of dtype object",
        ),
        (
            "fg.tensor(1.0, dtype=np.float16)",
            TypeError,
            "dtype float16 is none that tensors have: float32, float64, bool and the integer dtypes; use np.float32",
        ),
        (
            "fg.tensor(1.0, dtype=complex)",
            TypeError,
            "dtype complex128 is none that tensors have: float32, float64, bool and the integer dtypes",
        ),
        (
            "fg.zeros(2, dtype=np.float16)",
            TypeError,
            "zeros: expected float32, float64, integer or bool numbers, got ndarray of dtype float16; convert it with"
            " .astype(np.float32)",
        ),
        (
            "x.astype(np.float16)",
            TypeError,
            "dtype float16 is none that tensors have: float32, float64, bool and the integer dtypes; use np.float32",
        ),
        ('fg.add(x, "a")', TypeError, "add: expected numbers, got the str 'a'"),
        ('x + "a"', TypeError, "unsupported operand type(s) for +: 'fastgrad._core.Tensor' and 'str'"),
        ("x + None", TypeError, "unsupported operand type(s) for +: 'fastgrad._core.Tensor' and 'NoneType'"),
        (
            "fg.add(x, 1j)",
            TypeError,
            "add: expected float32, float64, integer or bool numbers, got complex of dtype complex128; complex "
            "numbers are not supported: compute with real and imaginary parts, as cos(x) and sin(x) for exp(1j * x)",
        ),
        (
            "fg.tensor([w, w])",
            TypeError,
            "tensor: this tensor requires gradients, which an ndarray would silently lose; join tensors with "
            "fastgrad.stack or fastgrad.asarray, use fastgrad.sparse.matmul for a matrix of SciPy's, or take the "
            "plain values with .detach()",
        ),
        (
            "fg.tensor(w)",
            TypeError,
            "tensor: this tensor requires gradients, which an ndarray would silently lose; join tensors with "
            "fastgrad.stack or fastgrad.asarray, use fastgrad.sparse.matmul for a matrix of SciPy's, or take the "
            "plain values with .detach()",
        ),
        ("fg.Tensor([1.0])", TypeError, "a Tensor is made by fastgrad.tensor(data) or fastgrad.asarray(data)"),
    ],
    "dtypes without gradients": [
        (
            "fg.tensor([1], requires_grad=True)",
            TypeError,
            "requires_grad: expected float32 or float64, got int64; gradients of integers do not exist, convert with "
            "dtype=float",
        ),
        (
            "fg.tensor(True, requires_grad=True)",
            TypeError,
            "requires_grad: expected float32 or float64, got bool; gradients of integers do not exist, convert with "
            "dtype=float",
        ),
        (
            "fg.zeros(2, dtype=int, requires_grad=True)",
            TypeError,
            "requires_grad: expected float32 or float64, got int64; gradients of integers do not exist, convert with "
            "dtype=float",
        ),
        (
            "fg.tensor([1]).requires_grad = True",
            TypeError,
            "requires_grad: expected float32 or float64, got int64; gradients of integers do not exist, convert with "
            "dtype=float",
        ),
        (
            "w.astype(int)",
            TypeError,
            "astype: a tensor that requires gradients cannot become int64, which has none; use .detach() first",
        ),
        (
            "y = fg.tensor([1]); y += 0.5",
            TypeError,
            "add: an in-place change cannot turn int64 into float64; assign the result to a new tensor, or use "
            ".astype() first",
        ),
        (
            "x & True",
            TypeError,
            "bitwise_and: expected booleans or integers, got floats; compare first, as in (x > 0) & (x < 1)",
        ),
        (
            "fg.where(w, 1.0, 0.0)",
            TypeError,
            "where: the condition is a tensor that requires gradients; compare it first, as in x > 0",
        ),
        ("fg.ldexp(x, 0.5)", TypeError, "ldexp: expected integer exponents, got float64"),
    ],
    "backward": [
        (
            "(w * 2).backward()",
            RuntimeError,
            "backward: a tensor of shape (2, 3) has no single gradient; reduce it to one number (y.sum().backward()) "
            "or pass gradient= of that shape",
        ),
        (
            "x.backward()",
            RuntimeError,
            "backward: nothing was recorded for this tensor; make an input with requires_grad=True, and compute "
            "outside of no_grad()",
        ),
        (
            "y = (w * w).sum(); y.backward(); y.backward()",
            RuntimeError,
            "backward: this graph was already used by an earlier backward pass and its values are freed; pass "
            "retain_graph=True to the earlier call, or compute the result anew",
        ),
        (
            "y = fg.exp(w); y += 1; y.sum().backward()",
            RuntimeError,
            "exp: its result of shape (2, 3) was changed in place after it was recorded, and its gradient needs the "
            "value it had; write y = y + x instead of y += x, or change a copy",
        ),
        ("(w * 2).backward([1.0])", ValueError, "backward: expected a gradient of shape (2, 3), got shape (1,)"),
        ('(w * 2).backward("a")', TypeError, "backward: expected numbers, got the str 'a'"),
        (
            "w += 1",
            RuntimeError,
            "add: a tensor made with requires_grad=True is changed in place while gradients are recorded; do it under"
            " fg.no_grad(), or make a new tensor",
        ),
        (
            "(w * 2).requires_grad = False",
            RuntimeError,
            "requires_grad can only be turned off on a tensor made by fastgrad.tensor; this one is the result of an "
            "operation: use .detach()",
        ),
        ("x.grad = 1.0", RuntimeError, "only a tensor made with requires_grad=True has a .grad to set"),
        ("w.grad = [1.0]", ValueError, "grad: expected a gradient of shape (2, 3), got shape (1,)"),
    ],
    "as a number, an array, a truth": [
        ("x.item()", ValueError, "item: expected a tensor of one element, got shape (2, 3)"),
        ("float(x)", ValueError, "item: expected a tensor of one element, got shape (2, 3)"),
        ("bool(x)", ValueError, "the truth value of a tensor of shape (2, 3) is ambiguous; use .any() or .all()"),
        (
            "if x > 0: pass",
            ValueError,
            "the truth value of a tensor of shape (2, 3) is ambiguous; use .any() or .all()",
        ),
        ("len(fg.tensor(1.0))", TypeError, "len() of a tensor without axes"),
        ("iter(fg.tensor(1.0))", TypeError, "iteration over a tensor without axes"),
        ("range(fg.tensor(1.0))", TypeError, "only a tensor of one integer can be an index, got float64 of shape ()"),
        (
            "[1, 2][fg.tensor([1, 2])]",
            TypeError,
            "only a tensor of one integer can be an index, got int64 of shape (2,)",
        ),
        (
            "np.asarray(w)",
            TypeError,
            "numpy.array or asarray: this tensor requires gradients, which an ndarray would silently lose; join "
            "tensors with fastgrad.stack or fastgrad.asarray, use fastgrad.sparse.matmul for a matrix of SciPy's, "
            "or take the plain values with .detach()",
        ),
        (
            "memoryview(w)",
            BufferError,
            "a tensor that requires gradients has no buffer to hand out; use .detach() or .numpy()",
        ),
        (
            "np.from_dlpack(w)",
            BufferError,
            "a tensor that requires gradients cannot be exported by DLPack; use .detach()",
        ),
        (
            "pickle.dumps(w * 2)",
            TypeError,
            "only a tensor that no recorded operation made can be copied or pickled; use .detach()",
        ),
    ],
    "NumPy's functions": [
        (
            "np.sort(w)",
            TypeError,
            "numpy.sort is not supported on tensors; give a function of ndarrays its rule with fastgrad.primitive, "
            "which cannot be compiled, or pass np.asarray(fastgrad.stop_gradient(t)) for values without gradients",
        ),
        (
            "np.linalg.inv(w)",
            TypeError,
            "numpy.linalg.inv is not supported on tensors; give a function of ndarrays its rule with "
            "fastgrad.primitive, which cannot be compiled, or pass np.asarray(fastgrad.stop_gradient(t)) for values "
            "without gradients",
        ),
        (
            "np.average(w)",
            TypeError,
            "numpy.average is not supported on tensors; write it as (w * x).sum() / w.sum(), or give a function of "
            "ndarrays its rule with fastgrad.primitive, which cannot be compiled, or pass "
            "np.asarray(fastgrad.stop_gradient(t)) for values without gradients",
        ),
        (
            "np.nextafter(w, 2)",
            TypeError,
            "numpy.nextafter is not supported on tensors; give a function of ndarrays its rule with "
            "fastgrad.primitive, which cannot be compiled, or pass np.asarray(fastgrad.stop_gradient(t)) for values "
            "without gradients",
        ),
        (
            "np.add.at(w, 0, 1)",
            TypeError,
            "numpy.add.at is not supported on tensors; give a function of ndarrays its rule with fastgrad.primitive, "
            "which cannot be compiled, or pass np.asarray(fastgrad.stop_gradient(t)) for values without gradients",
        ),
        ("np.sum(w, dtype=float)", TypeError, "numpy.sum: the argument dtype= is not supported on tensors"),
        (
            "np.add(w, x, out=np.zeros((2, 3)))",
            TypeError,
            "numpy.add: the result of an operation on a tensor cannot be stored in an ndarray, which would lose its "
            "gradient; write a = a + t instead of a += t or out=a",
        ),
        (
            "y = np.zeros((2, 3)); y += w",
            TypeError,
            "numpy.add: the result of an operation on a tensor cannot be stored in an ndarray, which would lose its "
            "gradient; write a = a + t instead of a += t or out=a",
        ),
        ("np.where(w)", TypeError, "numpy.where: with a tensor, expected where(condition, x, y)"),
    ],
    "arguments": [
        ("fg.sum(x, foo=1)", TypeError, "sum() got an unexpected keyword argument 'foo'"),
        ('fg.tensor([1.0], device="cpu")', TypeError, "tensor() got an unexpected keyword argument 'device'"),
        ("(w * 2).sum().backward(keep=True)", TypeError, "backward() got an unexpected keyword argument 'keep'"),
        ("fg.add(x)", TypeError, "add() takes 2 positional arguments but 1 were given"),
        ("pow(x, 2, 3)", TypeError, "pow: a third argument is not supported"),
        ('fg.gelu(x, "erf")', ValueError, "gelu: expected approximate='none' or 'tanh', got 'erf'"),
        (
            'fg.norm(x, ord="nuc")',
            NotImplementedError,
            "norm: ord='nuc' over 2 axes is a matrix norm; only the Frobenius norm is here",
        ),
        ("fg.isnan(x, x)", TypeError, "isnan() takes 1 arguments but 2 were given"),
    ],
    "grad": [
        ("fg.grad(3)", TypeError, "grad: expected a function, got 3"),
        ('fg.grad(f, argnums="a")', TypeError, "grad: expected argnums as an int or a tuple of ints, got 'a'"),
        (
            "fg.grad(f, argnums=1)(1.0)",
            TypeError,
            "grad: argnums names argument 1, but f was called with 1 positional argument",
        ),
        ("fg.grad(f)()", TypeError, "grad: argnums names argument 0, but f was called with 0 positional arguments"),
        (
            "fg.grad(f)(1)",
            TypeError,
            "grad: argument 0 is an int; only float32 and float64 have gradients, convert it with float(x) or "
            "x.astype(float), or leave it out of argnums",
        ),
        (
            'fg.grad(f)("a")',
            TypeError,
            "grad: argument 0 is a str; only float32 and float64 have gradients, convert it with float(x) or "
            "x.astype(float), or leave it out of argnums",
        ),
        (
            'fg.grad(f)({"a": [1.0, 2]})',
            TypeError,
            "grad: argument 0 at ['a'][1] is an int; only float32 and float64 have gradients, convert it with "
            "float(x) or x.astype(float), or leave it out of argnums",
        ),
        (
            "fg.grad(f)(np.float16(1))",
            TypeError,
            "grad: argument 0 is float16; only float32 and float64 have gradients, convert it with float(x) or "
            "x.astype(float), or leave it out of argnums",
        ),
        (
            "fg.grad(f)(np.ma.masked_array([1.0], [True]))",
            TypeError,
            "grad: argument 0 is a masked array, whose mask would be ignored; fill it with .filled() first",
        ),
        (
            "fg.grad(f)(np.zeros(3))",
            ValueError,
            "grad: f returned a tensor of shape (3,); a gradient is that of a single number, such as a sum or mean",
        ),
        (
            "fg.grad(f, has_aux=True)(1.0)",
            TypeError,
            "grad: with has_aux=True f must return (value, aux), got a Tensor",
        ),
        (
            "fg.grad(lambda x: '1.0')(1.0)",
            TypeError,
            "grad: <lambda> returned a str, expected a tensor: nothing in it was recorded. Compute with "
            "fastgrad's or NumPy's functions on the arguments, not with math or on copies of their values",
        ),
        (
            "fg.grad(lambda x: (x, 1))(1.0)",
            TypeError,
            "grad: <lambda> returned a tuple, expected a tensor; to return more beside the value, give "
            "has_aux=True and return (value, aux)",
        ),
        ("fg.grad(lambda x: fg.tensor(1))(1.0)", TypeError, "grad: <lambda> returned int64, which has no gradient"),
        (
            "fg.grad(lambda x: math.sin(x))(1.0)",
            TypeError,
            "float: a tensor that is being differentiated would silently become a constant; use fastgrad's or NumPy's"
            " functions instead of math's, fastgrad.asarray instead of a list or ndarray that is filled, or say that a "
            "constant is meant with fastgrad.stop_gradient(x)",
        ),
    ],
}


ROWS = [row for rows in TABLE.values() for row in rows]


def identity(x):
    return x


identity.__name__ = "f"


@pytest.mark.parametrize("code, error, text", ROWS, ids=[code for code, _, _ in ROWS])
def test_error_text(code, error, text):
    names = {"fg": fg, "np": np, "math": math, "pickle": pickle, "f": identity}
    names |= {"x": fg.zeros((2, 3)), "w": fg.ones((2, 3), requires_grad=True)}
    with pytest.raises(error) as raised:
        exec(code, names)
    assert str(raised.value) == text


def test_every_text_says_something():
    assert all(len(text) > 20 for _, _, text in ROWS)


# ---- harm --------------------------------------------------------------------------------------------------------
def limit_memory():
    """For a child that asks for absurd amounts. The address sanitizer reserves terabytes and has a limit of its own."""
    import resource

    if "asan" not in os.environ.get("LD_PRELOAD", ""):
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))


def run(*arguments, timeout=120):
    """A child Python that imports the fastgrad under test. Its last line of output says what it was doing."""
    home = str(Path(fg.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    child = subprocess.run(
        [sys.executable, *map(str, arguments)], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=timeout, preexec_fn=limit_memory,
    )  # fmt: skip
    doing = child.stdout.strip().splitlines()[-1:]
    assert child.returncode == 0, f"exit code {child.returncode} in {doing}\n{child.stderr[-2000:]}"


# Each of these once crashed, hung, or read outside of its array.
HARM = """
fg.Tensor.__new__(fg.Tensor).shape
fg.Tensor().shape
object.__new__(fg.Tensor)
copy.copy(fg.Tensor)([1.0]).shape
fg.Tensor.tolist(3)
fg.Tensor.__add__(3, 4)
fg.Tensor.shape.__get__(3)
fg.tensor(endless)
fg.tensor([endless, w])
fg.concatenate(endless)
w + endless
fg.zeros((2, 3000)).transpose((Answers(1, 0), Answers(0, 0)))[0] * 1
fg.zeros((5, 7))[Answers(0)] * 1
fg.zeros((5, 7))[Answers(0), Answers(9)] * 1
fg.zeros((5, 7)).reshape([Answers(5, 70), 7]) * 1
fg.sum(x, axis=Answers(0, 40))
fg.broadcast_to(1.0, (Answers(3, 2**40),)) * 1
fg.take(x, [Answers(0, 99)])
x[::2**70], x[2**70:], x[:-(2**70)], x[::-(2**63)]
fg.zeros((2**31, 2**31))
fg.ones(2**62)
fg.broadcast_to(w, (2**50, 2, 3))
fg.broadcast_to(1.0, (2**62,))
w.sum().backward(retain_graph=2**70)
w.sum().backward(1.0, Answers("a"))
fg.softmax(fg.zeros((0, 3))).sum() + fg.logsumexp(fg.zeros((3, 0)), axis=1).sum()
sys.setrecursionlimit(10**6) or fg.tensor(deep)
format(w, 3)
""".strip().splitlines()
PROGRAM = f"""
import copy, os, sys
import numpy as np, fastgrad as fg

class Answers:
    def __init__(self, *answers):
        self.answers = list(answers)
    def __index__(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
    def __eq__(self, other):
        return True
    def __bool__(self):
        raise ValueError

endless = []
endless.append(endless)
deep = []
for _ in range(100_000):
    deep = [deep]
for code in {HARM!r}:
    os.write(1, code.encode() + b"\\n")
    x, w = fg.zeros((2, 3)), fg.ones((2, 3), requires_grad=True)
    try:
        eval(code)
    except (TypeError, ValueError, IndexError, RuntimeError, OverflowError, MemoryError):
        pass
"""
unix = pytest.mark.skipif(sys.platform == "win32", reason="limits the child's memory")


@unix
def test_harm_is_refused():
    run("-c", PROGRAM)


@unix
@pytest.mark.parametrize("seed", [1, 2, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 60))])
def test_random_wrong_calls(seed):
    run(Path(__file__).parent / "_fuzz.py", seed, 4000)
