"""One expression of x for fastgrad and for NumPy: ``m.sort(x)`` with m either module.

What is checked of each: value, shape and dtype are NumPy's, in every layout of x; a compiled call gives the eager bits;
vmap gives what a loop gives.
"""

import warnings

import numpy as np
from _oracles import layouts

import fastgrad as fg


def function(text, m):
    """The expression as a function of x."""
    return eval(f"lambda x: {text}", {"m": m, "np": np})


def parts(y):
    """The results as ndarrays."""
    return [
        np.asarray(r.detach() if isinstance(r, fg.Tensor) else r) for r in (y if isinstance(y, (tuple, list)) else (y,))
    ]


def same(got, expected, what, rtol=0.0, atol=0.0):
    got, expected = parts(got), parts(expected)
    assert len(got) == len(expected), f"{what}: {len(got)} results, expected {len(expected)}"
    for a, b in zip(got, expected):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"{what}: {a.dtype}{a.shape}, expected {b.dtype}{b.shape}"
        np.testing.assert_allclose(a, b, rtol, atol, err_msg=what)


def quietly(f, x):
    """NumPy warns of slices without elements; its result is what counts here."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return f(x)


def as_numpy(text, x, ulps=0.0):
    """Value, shape and dtype are NumPy's, whatever the layout of x."""
    rtol = ulps * np.finfo(x.dtype).eps if x.dtype.kind == "f" else 0
    expected = quietly(function(text, np), x)
    same(function(text, fg)(fg.tensor(x)), expected, text, rtol, rtol)
    for name, layout in layouts(x).items():
        if name != "broadcast" and "m." in text:
            same(function(text, fg)(layout), expected, f"{text} of x with {name}", rtol, rtol)


def in_every_mode(text, x, traced=True):
    """Compiled as eager, mapped as a loop; so are gradients, if there are any."""
    f = function(text, fg)
    eager = f(fg.tensor(x))
    if not traced:
        return
    same(fg.compile(f)(x), eager, f"compiled {text}")
    batch = np.stack([x, x[::-1], 1 - x]) if x.dtype.kind == "f" else np.stack([x, x[::-1]])
    rows = [parts(f(fg.tensor(row))) for row in batch]
    rtol = 8 * np.finfo(x.dtype).eps if x.dtype.kind == "f" else 0
    same(fg.vmap(f)(batch), [np.stack(ys) for ys in zip(*rows)], f"mapped {text}", rtol, rtol)
    if x.dtype.kind == "f" and all(y.dtype.kind == "f" for y in parts(eager)):
        loss = lambda x: sum((y * np.cos(np.arange(y.size) + 1.0).reshape(y.shape)).sum() for y in _tuple(f(x)))
        same(fg.compile(fg.grad(loss))(x), fg.grad(loss)(x), f"gradient of compiled {text}", 1e-6, 1e-6)
        got = fg.vmap(fg.grad(loss))(batch)
        same(got, np.stack([fg.grad(loss)(row) for row in batch]), f"gradient of mapped {text}", 1e-5, 1e-5)


def _tuple(y):
    return y if isinstance(y, (tuple, list)) else (y,)
