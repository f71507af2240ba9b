"""A program of a user, checked by mypy in strict mode and run: what the public names promise to a type checker.

`assert_type` states a promise. Each `type: ignore[code]` is a wrong use that must be refused with that code: strict
mode reports one that is not needed. tests/test_typing.py checks this file, and calls its functions but `wrong`.
"""

from typing import Any, assert_type

import numpy as np

import fastgrad as fg
from fastgrad import activations, losses, optim, random, tree


def loss(w: Any, x: Any, y: Any) -> Any:
    return losses.mse(fg.tanh(x @ w), y)


X, Y, W = np.ones((4, 3)), np.zeros(4), np.full(3, 0.5)


def tensors() -> None:
    t = fg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    assert_type(t, fg.Tensor)
    assert_type(t * 2 + 1, fg.Tensor)
    assert_type(2 / t - np.ones(3), fg.Tensor)
    assert_type(t[0], fg.Tensor)
    assert_type(t[1:] @ [1.0, 2.0], fg.Tensor)
    assert_type(t > 1, fg.Tensor)
    assert_type(t.shape, tuple[int, ...])
    assert_type(t.ndim, int)
    assert_type(t.requires_grad, bool)
    assert_type(float(t.detach().sum()), float)
    assert_type([row * 2 for row in t], list[fg.Tensor])
    t.sum().backward()
    with fg.no_grad():
        assert_type(fg.exp(t), fg.Tensor)
    t.zero_grad()


def operations() -> None:
    t = fg.asarray(X)
    assert_type(fg.sum(t, axis=0, keepdims=True), fg.Tensor)
    assert_type(fg.mean(t.T), fg.Tensor)
    assert_type(fg.where(t > 0, t, 0.0), fg.Tensor)
    assert_type(fg.concatenate([t, X], axis=1), fg.Tensor)
    assert_type(fg.matmul(t, W), fg.Tensor)
    assert_type(fg.softmax(t), fg.Tensor)
    assert_type(fg.take(t, [0, 1], axis=0), fg.Tensor)


def gradients() -> None:
    value, gradient = fg.value_and_grad(loss)(W, X, Y)
    assert np.isfinite(value)
    assert gradient.shape == W.shape
    assert fg.grad(loss, argnums=(0, 1))(W, X, Y)[1].shape == X.shape
    assert fg.jacobian(lambda w: fg.tanh(X @ w))(W).shape == (4, 3)
    assert fg.jacrev(fg.sin)(W).shape == fg.jacfwd(fg.sin)(W).shape
    assert fg.hessian(loss)(W, X, Y).shape == (3, 3)
    assert fg.hvp(lambda w: fg.sum(w**3), (W,), (W,)).shape == (3,)
    assert fg.elementwise_grad(np.sin)(W).shape == (3,)
    _, pull = fg.vjp(fg.tanh, W)
    _, tangent = fg.jvp(fg.tanh, (W,), (W,))
    assert pull(tangent)[0].shape == (3,)
    each = fg.vmap(fg.grad(loss), in_axes=(None, 0, 0))
    assert each(W, X, Y).shape == (4, 3)
    assert fg.grad(fg.checkpoint(loss))(W, X, Y).shape == (3,)
    fg.check_grads(loss, (W, X, Y), order=2, modes=("fwd", "rev"))


def replays() -> None:
    fast = fg.compile(fg.grad(loss))
    assert_type(fast, fg.Compiled)
    fast(W, X, Y)
    assert_type(fast.cache_info(), fg.CacheInfo)
    assert_type(fast.program(W, X, Y), fg.Program)
    fast.cache_clear()


def loops_and_branches() -> None:
    carry, ys = fg.scan(lambda c, x: (c + x, c * x), 0.0, W)
    assert float(carry) == 1.5
    assert ys.shape == (3,)
    assert float(fg.fori_loop(0, 3, lambda i, x: x * 2, 1.0)) == 8
    assert float(fg.while_loop(lambda x: x < 5, lambda x: x * 2, 1.0)) == 8
    assert float(fg.cond(True, lambda x: x, lambda x: -x, 1.0)) == 1


@fg.custom_vjp
def clipped(x: Any) -> Any:
    return x


def clipped_forward(x: Any) -> tuple[Any, None]:
    return x, None


def clipped_backward(_: None, g: Any) -> tuple[Any]:
    return (fg.clip(g, -1, 1),)


clipped.defvjp(clipped_forward, clipped_backward)


@fg.custom_jvp
def cube(x: Any) -> Any:
    return x**3


@cube.defjvp
def cube_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    return cube(primals[0]), 3 * primals[0] ** 2 * tangents[0]


def own_rules() -> None:
    assert fg.grad(lambda x: 5 * clipped(x))(1.0) == 1
    assert fg.grad(cube)(2.0) == 12


def training() -> None:
    adam = optim.Adam(learning_rate=1e-2, betas=(0.9, 0.99))
    assert_type(adam.state_dict(), dict[str, Any])
    step = fg.training_step(loss, W.copy(), adam)
    assert_type(step, fg.TrainingStep)
    assert_type(step(X, Y), float)
    result = fg.descend(loss, W.copy(), (X, Y), optimizer=optim.SGD(0.1, momentum=0.9), steps=3, progress=False)
    assert_type(result, fg.DescentResult)
    assert_type(result.loss, float)
    assert_type(result.message, str)
    assert isinstance(optim.get("adamw", learning_rate=0.1), optim.AdamW)


def with_scipy() -> None:
    result = fg.minimize(lambda w: fg.sum((w - 1) ** 2), np.zeros(3), method="bfgs")
    assert np.allclose(result.x, 1)
    assert np.allclose(fg.least_squares(lambda w: w - 1, np.zeros(3)).x, 1)
    assert np.allclose(fg.root(lambda w: w - 1, np.zeros(3)).x, 1)
    assert fg.sparse.jacobian(np.sin)(W).shape == (3, 3)


def random_numbers() -> None:
    rng = random.default_rng(0)
    assert_type(rng, random.Generator)
    assert_type(rng.normal(size=(2, 3)), fg.Tensor)
    assert_type(rng.integers(0, 10, size=3), fg.Tensor)
    assert_type(rng.spawn(2), list[random.Generator])
    assert_type(fg.dropout(X, 0.5, rng), fg.Tensor)


def structures() -> None:
    params = {"w": W, "b": (0.0, np.zeros(2))}
    assert_type(tree.leaves(params), list[Any])
    leaves, structure = tree.flatten(params)
    assert_type(structure, tree.Structure)
    assert len(leaves) == 3
    assert tree.unflatten(structure, leaves).keys() == params.keys()
    assert tree.map(lambda x: 2 * x, params)["b"][0] == 0
    vector, back = tree.ravel(params)
    assert back(vector).keys() == params.keys()


def functions_of_nets() -> None:
    assert_type(losses.softmax_cross_entropy(X, np.zeros(4, int)), fg.Tensor)
    assert_type(losses.huber(Y, Y, delta=0.5, reduction="sum"), fg.Tensor)
    assert_type(activations.table("markdown"), str)
    assert activations.tanh.derivative(0.0) == 1


def wrong() -> None:
    fg.tensor([1.0], requires_gradient=True)  # type: ignore[call-arg]
    fg.sum(X, axis="rows")  # type: ignore[arg-type]
    fg.asarray(X).nothing  # type: ignore[attr-defined]
    fg.grad(3)  # type: ignore[arg-type]
    fg.grad(loss, argnum=1)  # type: ignore[call-arg]
    fg.compile(loss, True)  # type: ignore[call-arg]
    fg.scan(lambda c: c, 0.0, W)  # type: ignore[misc, arg-type]
    losses.mse(X, Y, reduction="average")  # type: ignore[arg-type]
    optim.Adam(lr=0.1)  # type: ignore[call-arg]
    fg.training_step(loss, W)  # type: ignore[call-overload]
    fg.descend(loss, W, (X, Y), "adam")  # type: ignore[call-arg]
    activations.table("html")  # type: ignore[arg-type]
    random.default_rng(0).normal(shape=3)  # type: ignore[call-arg]
    fg.tensor(1.0).backward(retain=True)  # type: ignore[call-arg]
    fg.tanh(x=W)  # type: ignore[call-arg]
