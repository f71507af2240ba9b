"""checkpoint: derivatives to the bit, memory, what the function reads from outside and draws."""

import numpy as np
import pytest

import fastgrad as fg
from fastgrad import _core

X = np.array([0.3, -1.2, 2.0])


def spread(shape):
    return np.cos(np.arange(1.0, 1 + np.prod(shape))).reshape(shape)


def block(x):
    for _ in range(10):
        x = np.tanh(x) * 1.1
    return x


def chain(segment, n=10):
    def f(x):
        for _ in range(n):
            x = segment(x)
        return np.sum(x)

    return f


def test_checkpoint_has_the_same_derivatives_to_the_bit():
    plain, saving = chain(block, 3), chain(fg.checkpoint(block), 3)
    np.testing.assert_array_equal(fg.grad(saving)(X), fg.grad(plain)(X))
    fg.check_grads(lambda x: fg.sum(fg.checkpoint(lambda z: np.sin(z) * z)(x)), (X,), order=3)
    fg.check_grads(lambda x: fg.sum(fg.checkpoint(np.sin)(x * x) ** 3), (X,), order=3)  # the cotangent depends on x
    nested = fg.checkpoint(chain(fg.checkpoint(block), 3))
    np.testing.assert_array_equal(fg.grad(nested)(X), fg.grad(plain)(X))


def test_checkpoint_of_structures_keywords_and_several_results():
    f = fg.checkpoint(lambda p, *, scale: (p["w"] * scale, p["w"].sum() * p["b"], "tag"))

    def loss(p):
        a, b, tag = f(p, scale=X)
        return a.sum() * b if tag == "tag" else None

    found = fg.grad(loss)({"w": X, "b": 2.0})
    np.testing.assert_allclose(found["w"], X * X.sum() * 2 + (X * X).sum() * 2, rtol=1e-14)
    np.testing.assert_allclose(found["b"], (X * X).sum() * X.sum(), rtol=1e-14)


def test_checkpoint_keeps_less_alive():
    x = fg.tensor(np.full(1000, 0.5), requires_grad=True)

    def kept(f):
        before = _core.live()["bytes"]
        y = f(x)
        return _core.live()["bytes"] - before, y

    plain, _ = kept(chain(block))
    saved, y = kept(chain(fg.checkpoint(block)))
    assert plain > 100 * 8000 and saved < 14 * 8000  # an array for each segment instead of each tanh
    y.backward()


def test_checkpoint_lowers_the_peak_of_a_program():
    x, w = spread((50, 50)), spread((50, 50)) / 5

    def layers(x, w):
        for _ in range(10):
            x = np.tanh(x @ w)
        return x

    def loss(layers):
        return lambda x: np.sum(layers(layers(layers(layers(layers(layers(x, w), w), w), w), w), w))

    plain, saving = (fg.compile(fg.grad(loss(f))) for f in (layers, fg.checkpoint(layers)))
    np.testing.assert_array_equal(saving(x), plain(x))
    peaks = [f.program(x).facts["peak_bytes"] for f in (plain, saving)]
    assert peaks[0] > 60 * x.nbytes and peaks[1] < 25 * x.nbytes
    counts = [str(f.program(x)).count("= tanh ") for f in (plain, saving)]
    assert counts == [60, 110]  # all but the last ten, whose result a gradient does not need, are computed twice


def test_checkpoint_reads_parameters_from_outside():
    w, b = fg.tensor(X, requires_grad=True), fg.tensor(0.5, requires_grad=True)
    scaled = w * 2  # no leaf

    def layer(x):
        return np.tanh(scaled * x + b) * w, w

    def loss(f, x):
        y, same = f(f(x)[0])
        return (y * y * b).sum() + (same * x).sum()

    def gradients(f):
        x = fg.tensor(X + 1, requires_grad=True)
        loss(f, x).backward(retain_graph=True)
        found = [t.grad.numpy().copy() for t in (x, w, b)]
        w.grad = b.grad = None
        return found

    for a, c in zip(gradients(fg.checkpoint(layer)), gradients(layer)):
        np.testing.assert_allclose(a, c, rtol=1e-13)
    nested = fg.checkpoint(lambda x: fg.checkpoint(layer)(x))
    for a, c in zip(gradients(nested), gradients(layer)):
        np.testing.assert_allclose(a, c, rtol=1e-13)


def test_checkpoint_reads_what_outer_transforms_differentiate():
    def f(segment):
        return lambda v: fg.sum(segment(lambda z: np.sin(z * v) * v)(v * v) * v)

    for v in (X, X[0]):
        fg.check_grads(f(fg.checkpoint), (v,), order=3)
    np.testing.assert_allclose(fg.hessian(f(fg.checkpoint))(X), fg.hessian(f(lambda g: g))(X), rtol=1e-13)
    np.testing.assert_allclose(fg.compile(fg.grad(f(fg.checkpoint)))(X), fg.grad(f(lambda g: g))(X), rtol=1e-13)
    mixed = lambda segment: lambda v: fg.grad(lambda x: segment(lambda z: z * z * v)(x))(3.0)
    assert fg.grad(mixed(fg.checkpoint))(2.0) == fg.grad(mixed(lambda g: g))(2.0) == 6
    only = fg.checkpoint(lambda z, v: fg.sum(z) * 0 + v[0] * 2)  # the result is that of what is read alone
    assert fg.grad(lambda v: only(v * 1.0, [v]))(2.0) == 2


def test_checkpoint_that_reads_other_tensors_again():
    read = iter([fg.tensor(2.0, requires_grad=True), fg.tensor(3.0, requires_grad=True)])
    with pytest.raises(RuntimeError, match="reads other tensors that require gradients than before"):
        fg.checkpoint(lambda x: x * next(read))(fg.tensor(1.0, requires_grad=True)).backward()


def test_checkpoint_repeats_its_draws():
    def noisy(rng):
        return lambda x: x * rng.random(3) + fg.dropout(x * x, 0.5, rng)

    rng, same = fg.random.default_rng(1), fg.random.default_rng(1)
    for _ in range(2):
        found = fg.grad(lambda x: fg.checkpoint(fg.checkpoint(noisy(rng)))(x).sum())(X)
        np.testing.assert_array_equal(found, fg.grad(lambda x: noisy(same)(x).sum())(X))
    assert rng.state == same.state
    rng, same = fg.random.default_rng(1), fg.random.default_rng(1)
    compiled = fg.compile(fg.grad(lambda x: fg.checkpoint(noisy(rng))(x).sum()))
    for _ in range(3):
        np.testing.assert_allclose(compiled(X), fg.grad(lambda x: noisy(same)(x).sum())(X), rtol=1e-15)


DRAWING = {
    "fori_loop": lambda rng: lambda x: fg.fori_loop(0, 2, lambda i, c: c + x * rng.random(), x),
    "scan": lambda rng: lambda x: fg.scan(lambda c, _: (c * rng.random(), np.sin(c)), x, None, length=3)[1].sum(),
    "cond": lambda rng: lambda x: fg.cond(x > 2, lambda c: c * c * rng.random(), lambda c: c * 2, x),
    "scan and after it": lambda rng: (
        lambda x: rng.random() * fg.scan(lambda c, _: (c * rng.random(), None), x, None, length=3)[0] * rng.random()
    ),
    "vmap": lambda rng: lambda x: fg.vmap(lambda v: v * rng.random())(x * np.ones(3)).sum(),
    "checkpoint": lambda rng: fg.checkpoint(
        lambda x: x * rng.random() * fg.fori_loop(0, 2, lambda i, c: c * rng.random(), x)
    ),
}
MODES = {
    "grad": lambda f: fg.value_and_grad(f)(3.0),
    "compiled": lambda f: fg.compile(fg.value_and_grad(f))(3.0),
    "mapped": lambda f: fg.vmap(fg.value_and_grad(f))(np.array([1.0, 3.0])),
    "compiled and mapped": lambda f: fg.compile(fg.vmap(fg.value_and_grad(f)))(np.array([1.0, 3.0])),
    "jvp": lambda f: fg.jvp(f, (3.0,), (1.0,)),
    "compiled hessian": lambda f: fg.compile(fg.hessian(f))(3.0),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f", DRAWING)
def test_checkpoint_of_loops_branches_and_mapped_functions_that_draw(f, mode):
    rng, same = fg.random.default_rng(5), fg.random.default_rng(5)
    for _ in range(2):
        found = MODES[mode](fg.checkpoint(DRAWING[f](rng)))
        expected = MODES[mode](DRAWING[f](same))
        for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)
    assert rng.state == same.state


def test_checkpoint_of_what_is_not_the_same_again():
    rng, counts = fg.random.default_rng(0), iter(range(10))
    with pytest.raises(RuntimeError, match="draws other random numbers than before"):
        fg.grad(fg.checkpoint(lambda x: (x * rng.random(next(counts))).sum()))(1.0)
    with pytest.raises(RuntimeError, match="run again, the function returned other shapes"):
        fg.grad(lambda x: fg.checkpoint(lambda x: x * np.ones(next(counts)))(x).sum())(1.0)
