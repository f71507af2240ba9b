"""What the tests of compiled functions share: comparing replays with eager runs, and reading programs."""

import re

import numpy as np

import fastgrad as fg


def same(a, b):
    """Equal to the last bit, nan as nan, in dtype and shape."""
    a, b = (np.asarray(x.numpy() if isinstance(x, fg.Tensor) else x) for x in (a, b))
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    np.testing.assert_array_equal(a, b)
    if a.dtype.kind == "f":
        number = ~np.isnan(a)
        np.testing.assert_array_equal(np.signbit(a[number]), np.signbit(b[number]))


def same_tree(a, b):
    (found, structure), (expected, other) = fg.tree.flatten(a), fg.tree.flatten(b)
    assert structure == other
    for x, y in zip(found, expected):
        same(x, y)


def eagerly(f, *args):
    """f on tensors of copies."""
    return f(*fg.tree.map(lambda x: fg.tensor(x), args))


def eager_arrays(f, *args):
    """The results of f on tensors of copies, as arrays."""
    return fg.tree.map(lambda x: x.numpy(), eagerly(f, *args))


def instructions(program):
    """The names of a program's instructions in order."""
    return re.findall(r"%\d+ = (\S+)", str(program))


def check(f, *args):
    """The program of f on these arguments, which gives what the eager run gives, twice."""
    compiled, expected = fg.compile(f), eagerly(f, *args)
    for _ in range(2):
        same_tree(compiled(*args), expected)
    return compiled.program(*args)


def square(x):
    return fg.sum(x * x)


def random_graph(steps, refused, window, most):
    """A function of arrays that does steps (operation, k, i, j): operation(k, x, y), where x is one of the last
    ``window`` values and y any value so far. Left out are steps that raise an error which is ``refused(error)``, and
    results of more than ``most`` elements."""

    def f(*inputs):
        values = list(inputs)
        for operation, k, i, j in steps:
            x, y = values[-1 - i % min(window, len(values))], values[j % len(values)]
            try:
                made = operation(k, x, y)
            except (TypeError, ValueError, OverflowError) as error:
                if not refused(error):
                    raise
                continue
            if made.size <= most:
                values.append(made)
        return values

    return f
