"""What tests of functions composed under NumPy's names share: a call of each, with np or fg as m, against NumPy and
under every transform."""

import numpy as np

import fastgrad as fg


def parts(y):
    return [part for one in y for part in parts(one)] if isinstance(y, (tuple, list)) else [y]


def same_as_numpy(call, *arrays, message="", rtol=1e-13):
    """Values, shapes and dtypes of call(fg, ...) are those of call(np, ...); a failure of one is one of the other."""
    try:
        expected = call(np, *arrays)
    except Exception as error:
        kind = AxisOrValue if isinstance(error, (np.exceptions.AxisError, ValueError)) else type(error)
        try:
            got = call(fg, *arrays)
        except kind:
            return
        raise AssertionError(f"{message}: NumPy raises {error!r}, fastgrad returned {got!r}") from None
    got = call(fg, *arrays)
    assert len(parts(got)) == len(parts(expected)), message
    for a, b in zip(parts(got), parts(expected)):
        b = np.asarray(b)
        assert isinstance(a, fg.Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape), (
            f"{message}: got {a.dtype} of shape {a.shape}, NumPy has {b.dtype} of shape {b.shape}"
        )
        np.testing.assert_allclose(a.numpy(), b, rtol=rtol, atol=rtol, err_msg=str(message))


AxisOrValue = (np.exceptions.AxisError, ValueError, IndexError)


def total(call):
    """A smooth function of arrays that every element of call's results has a part in."""

    def f(*arrays):
        found = parts(call(fg, *arrays))
        return sum(fg.sum(fg.sin(y * (1 + np.arange(y.size).reshape(y.shape) / 7))) for y in found if y.size)

    return f


def check_transforms(call, *arrays, order=2):
    """Gradients by differences; forward mode; compiled and mapped as one by one."""
    f = total(call)
    n = tuple(range(len(arrays)))
    fg.check_grads(f, arrays, order=order)
    both = fg.value_and_grad(f, argnums=n)
    value, grads = both(*arrays)
    tangents = tuple(np.cos(np.arange(x.size)).reshape(x.shape) for x in arrays)
    along = fg.jvp(f, arrays, tangents)[1]
    np.testing.assert_allclose(along, sum(np.sum(g * t) for g, t in zip(grads, tangents)), rtol=1e-10, atol=1e-12)
    fast, fast_grads = fg.compile(both)(*arrays)
    batch = tuple(np.stack([x, x * 0.75, x + 0.125]) for x in arrays)
    np.testing.assert_allclose(fast, value, rtol=1e-12)
    for a, b in zip(fast_grads, grads):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    values, mapped = fg.vmap(both)(*batch)
    for k in range(3):
        value, grads = both(*[x[k] for x in batch])
        np.testing.assert_allclose(values[k], value, rtol=1e-11)
        for a, b in zip(mapped, grads):
            np.testing.assert_allclose(a[k], b, rtol=1e-10, atol=1e-12)
