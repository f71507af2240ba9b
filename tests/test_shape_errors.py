"""Shapes, axes and indices that do not fit: what is raised and what it says, word for word."""

from _errors import check_error, error_rows
from numpy.exceptions import AxisError

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
        (
            "y = x; y @= fg.ones((3, 2))",
            ValueError,
            "matmul: an in-place change cannot turn shape (2, 3) into (2, 2)",
        ),
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
    ],
    "axes": [
        ("fg.softmax(1.0, 1)", AxisError, "softmax: axis 1 does not exist in a tensor of 0 dimensions"),
        ("x.sum(2)", AxisError, "sum: axis 2 does not exist in a tensor of 2 dimensions"),
        ("x.sum(axis=-3)", AxisError, "sum: axis -3 does not exist in a tensor of 2 dimensions"),
        ("x.sum((0, -2))", ValueError, "sum: axis -2 is named twice in (0, -2)"),
        ('x.sum("a")', TypeError, "sum: expected an axis as an int, a tuple of ints or None, got 'a'"),
        ("x.sum(np.nan)", TypeError, "sum: expected an axis as an int, a tuple of ints or None, got nan"),
        ("x.sum(2**70)", AxisError, "sum: axis 1180591620717411303424 does not exist in a tensor of 2 dimensions"),
        ("fg.tensor(1.0).sum(1)", AxisError, "sum: axis 1 does not exist in a tensor of 0 dimensions"),
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
        (
            "fg.transpose(x, (1.5, 0))",
            TypeError,
            "transpose: expected an axis as an int, a tuple of ints or None, got 1.5",
        ),
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
            "y = []; y.append(y); fg.block(y)",
            ValueError,
            "block: a tensor has at most 32 axes, got lists within each other at more levels",
        ),
        (
            "del x[0]",
            TypeError,
            "the elements of a tensor cannot be deleted; use x = fastgrad.delete(x, index)",
        ),
        ("fg.take(x, 7)", IndexError, "take: index 7 at position 0 is outside an axis of length 6"),
        ("fg.take(x, 0.5)", TypeError, "take: expected integer indices, got float64"),
        (
            "fg.losses.softmax_cross_entropy(x, [0, 3])",
            IndexError,
            "cross_entropy: label 3 of row 1 is not a class: with 3 logits a row, labels run from 0 to 2",
        ),
    ],
}


@error_rows(TABLE)
def test_error_text(code, error, text):
    check_error(code, error, text)


def test_every_text_says_something():
    assert all(len(text) > 20 for rows in TABLE.values() for _, _, text in rows)
