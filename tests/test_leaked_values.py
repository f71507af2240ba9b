"""Values that a traced function leaks beside its result: each use of them is an error, and never a silent constant."""

import copy
import pickle

import numpy as np
import pytest

import fastgrad as fg
from fastgrad import _core

X = np.array([1.0, 2.0, 3.0])


def refused():
    return pytest.raises(RuntimeError, match=r"float64 and shape .* outside of the function .* return what is needed")


def leaked(transform, work=lambda x: x * 2):
    """What a function that is transformed keeps beside its result."""
    box = []
    transform(lambda x: (box.append(work(x)), x)[1])
    return box[0]


TRANSFORMS = {
    "vmap": lambda f: fg.vmap(f)(X),
    "compile": lambda f: fg.compile(f)(X),
    "vmap of vmap": lambda f: fg.vmap(fg.vmap(f))(np.ones((2, 3))),
    "vmap of grad": lambda f: fg.vmap(fg.grad(lambda x: fg.sum(f(x) ** 2)))(X),
    "compile of grad": lambda f: fg.compile(fg.grad(lambda x: fg.sum(f(x) ** 2)))(X),
    "compile of scan": lambda f: fg.compile(lambda x: fg.scan(lambda c, r: (c, f(r)), 0.0, x))(X),
    "one that fails": lambda f: pytest.raises(fg.TraceError, fg.compile(lambda x: float(f(x)[0])), X),  # noqa: RUF061
}
USES = {
    "operator": lambda t: t + 1.0,
    "on the right": lambda t: np.ones(3) * t,
    "in place": lambda t: t.__iadd__(1.0),
    "in place of another": lambda t: fg.zeros(3).__iadd__(t),
    "comparison": lambda t: t > 0,
    "reduction": fg.sum,
    "view": lambda t: t.reshape(-1) * 1.0,
    "detached": lambda t: t.detach() * 2,
    "numpy": lambda t: t.numpy(),
    "asarray": np.asarray,
    "number": lambda t: float(t.sum()),
    "pickle": pickle.dumps,
    "copy": copy.deepcopy,
    "tensor": fg.tensor,
    "grad": lambda t: fg.grad(lambda x: fg.sum(x * t))(X),
    "argument of grad": fg.grad(lambda x: fg.sum(x * x)),
    "vmap": lambda t: fg.vmap(lambda x: x + t)(X),
    "result of vmap": lambda t: fg.vmap(lambda x: t)(X),
    "compile": lambda t: fg.compile(lambda x: x + t)(X),
    "result of compile": lambda t: fg.compile(lambda x: t)(X),
    "argument of compile": lambda t: fg.compile(lambda x: x * 2)(t),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_leaked_value_cannot_be_used(transform, use):
    value = leaked(TRANSFORMS[transform])
    assert "of an ended trace" in repr(value)
    with refused():
        USES[use](value.detach())


@pytest.mark.parametrize("work", [lambda x: x, lambda x: x * 2, fg.sin])
def test_values_of_an_inner_trace_cannot_be_used_in_an_outer_one(work):
    def f(x):
        return leaked(lambda g: fg.vmap(lambda y: g(x * y))(np.array([10.0, 20.0])), work)

    for g in (f, lambda x: f(x) * 1.0, lambda x: leaked(lambda g: fg.vmap(g)(x * X)) + 1.0):
        with refused():
            fg.vmap(g)(X)
        with refused():
            fg.compile(g)(1.0)
    assert not _core.tracing()


def test_what_is_computed_in_an_inner_trace_from_outer_values_alone_belongs_to_the_outer_one():
    """It is the same for all elements of the inner batch, and known to the outer trace."""

    def f(x):
        return leaked(lambda g: fg.vmap(lambda y: (g(x), y)[1])(np.ones(2)))

    np.testing.assert_array_equal(fg.vmap(f)(X), 2 * X)
    np.testing.assert_array_equal(fg.compile(f)(X), 2 * X)


def test_a_leaked_pullback_and_a_leaked_linear_function():
    for make in (fg.vjp, fg.linearize):
        box = []
        fg.vmap(lambda x: (box.append(make(lambda z: z * z, x)[1]), x)[1])(X)
        with refused():
            box[0](1.0)


def test_constants_may_leave():
    """What depends on no argument is the same at each call and for each element."""
    for transform in ("vmap", "compile"):
        value = leaked(TRANSFORMS[transform], lambda x: fg.tensor(X) * 2)
        np.testing.assert_array_equal((value + 1).numpy(), 2 * X + 1)
