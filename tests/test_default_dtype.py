"""The default dtype of what is made from nothing, and the warning of a float32 model that computes in float64."""

import asyncio
import threading
import warnings

import numpy as np
import pytest

import fastgrad as fg

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


@pytest.fixture(autouse=True)
def restored():
    yield
    assert fg.get_default_dtype() is None, "the test left a default dtype behind"


def draws(seed=0):
    g = fg.random.default_rng(seed)
    return {
        "random": g.random(3), "uniform": g.uniform(1.0, 2.0, 3), "standard_normal": g.standard_normal(3),
        "normal": g.normal(1.0, 2, 3), "standard_exponential": g.standard_exponential(), "laplace": g.laplace(size=2),
        "exponential": g.exponential(2.0, 3), "gumbel": g.gumbel(size=2), "gamma": g.gamma(2.0, size=3),
        "standard_gamma": g.standard_gamma(2.0), "chisquare": g.chisquare(3.0), "standard_t": g.standard_t(3.0, 2),
        "beta": g.beta(1.0, 2.0, 3), "truncated_normal": g.truncated_normal(0.0, 1.0, 3),
        "dirichlet": g.dirichlet([1.0, 2.0]), "multivariate_normal": g.multivariate_normal([0.0], [[1.0]]),
    }  # fmt: skip


TAKE = {
    "zeros": lambda: fg.zeros((2, 3)), "ones": lambda: fg.ones(2, None, "C"), "empty": lambda: fg.empty(2),
    "full": lambda: fg.full(2, 1.5), "arange": lambda: fg.arange(0, 1, 0.25), "arange of one": lambda: fg.arange(3.0),
    "linspace": lambda: fg.linspace(0, 1, 5, endpoint=False), "logspace": lambda: fg.logspace(0, 1, 3),
    "geomspace": lambda: fg.geomspace(1, 2, num=3), "eye": lambda: fg.eye(2, 3, 1), "identity": lambda: fg.identity(2),
    "tri": lambda: fg.tri(2), "none": lambda: fg.zeros(2, dtype=None), "leaf": lambda: fg.ones(2, requires_grad=True),
    "a list": lambda: fg.asarray([1.0, 2]), "nested lists": lambda: fg.tensor([[1.0], (2.0,)], requires_grad=True),
    "a number": lambda: fg.asarray(1.5),
    "a copy": lambda: fg.asarray([1.0], copy=True), "tensor": lambda: fg.tensor(2.0),
    "an operand": lambda: fg.sin([1.0, 2.0]), "lists": lambda: fg.concatenate([[1.0], [2.0, 3.0]]),
    "a product": lambda: fg.tensor([1.0, 2.0]) @ [1.0, 2.0], "a diagonal": lambda: fg.diag([1.0, 2.0]),
    "numbers": lambda: fg.stack([1.0, 2.0]),
}  # fmt: skip
KEEP = {
    "integers": (lambda: fg.arange(3), np.int64), "full of integers": (lambda: fg.full(2, 1), np.int64),
    "full of a NumPy number": (lambda: fg.full(2, np.float64(1)), F64), "given": (lambda: fg.zeros(2, dtype="f8"), F64),
    "by position": (lambda: fg.eye(2, 2, 0, float), F64), "values": (lambda: fg.asarray([np.float64(1), 2.0]), F64),
    "arrays in a list": (lambda: fg.asarray([np.ones(2), [1.0, 2.0]]), F64),
    "like": (lambda: fg.zeros_like(np.zeros(2)), F64), "bounds": (lambda: fg.linspace(np.float64(0), 1, 3), F64),
    "arrays": (lambda: fg.linspace(np.zeros(2), 1.0, 3), F64),
    "tensors": (lambda: fg.linspace(fg.tensor(np.zeros(())), 1, 3), F64),
    "booleans": (lambda: fg.ones(2, dtype=bool), np.bool_), "fill": (lambda: fg.full(2, fg.tensor(np.ones(()))), F64),
    "parameters": (lambda: fg.random.default_rng(0).normal(np.zeros(2)), F64),
    "a dtype": (lambda: fg.random.default_rng(0).random(2, np.float64), F64),
    "bits": (lambda: fg.random.default_rng(0).bernoulli(0.5, 2), np.bool_),
    "counts": (lambda: fg.random.default_rng(0).poisson(2.0, 2), np.int64),
    "integers in lists": (lambda: fg.asarray([1, 2]), np.int64), "large": (lambda: fg.asarray([2**63, -1]), F64),
    "a list of a given dtype": (lambda: fg.asarray([1.0], dtype=float), F64), "ints": (lambda: fg.sin([1, 2]), F64),
}  # fmt: skip


def test_what_takes_it():
    as_ever = {name: make().detach().numpy() for name, make in TAKE.items()}
    for name, a in as_ever.items():
        assert a.dtype == F64, name
    with fg.default_dtype(np.float32):
        for name, make in TAKE.items():
            made = make()
            assert made.dtype == F32, name
            if name != "empty":
                np.testing.assert_array_equal(made.detach().numpy(), as_ever[name].astype(np.float32), err_msg=name)
        for name, x in draws().items():
            assert x.dtype == F32, name
        for name, (make, dtype) in KEEP.items():
            assert make().dtype == dtype, name
        assert fg.__array_namespace_info__().default_dtypes()["real floating"] == F32
    for name, x in draws().items():
        assert x.dtype == F64, name


def test_draws_are_those_of_the_dtype():
    with fg.default_dtype("float32"):
        found = fg.random.default_rng(3).standard_normal(4)
    np.testing.assert_array_equal(found.numpy(), fg.random.default_rng(3).standard_normal(4, np.float32).numpy())


def test_contexts_and_the_process():
    assert fg.get_default_dtype() is None
    with fg.default_dtype(np.float32):
        with fg.default_dtype(None):
            assert fg.get_default_dtype() is None and fg.zeros(1).dtype == F64
            with pytest.raises(KeyError), fg.default_dtype(np.float32):
                raise KeyError
            assert fg.get_default_dtype() is None
        assert fg.get_default_dtype() == F32
        fg.set_default_dtype("float64")
        assert fg.get_default_dtype() == F32, "the context holds"
    assert fg.get_default_dtype() == F64
    fg.set_default_dtype(None)
    context = fg.default_dtype(np.float32)
    with context, pytest.raises(RuntimeError, match="default_dtype: this context is entered already"), context:
        pass
    with context:
        assert fg.zeros(1).dtype == F32


@pytest.mark.parametrize("bad", [np.int32, "float16", complex, np.longdouble, "nonsense", 32, [np.float32]], ids=str)
def test_other_dtypes(bad):
    for f, name in ((fg.set_default_dtype, "set_default_dtype"), (fg.default_dtype, "default_dtype")):
        with pytest.raises(TypeError, match=f"{name}: expected float32, float64 or None, got "):
            f(bad)


def test_threads_and_tasks():
    found = {}

    def look(name):
        found[name] = fg.zeros(1).dtype

    with fg.default_dtype(np.float32):
        thread = threading.Thread(target=look, args=("thread",))
        thread.start()
        thread.join()
    fg.set_default_dtype(np.float32)
    try:
        thread = threading.Thread(target=look, args=("after it was set",))
        thread.start()
        thread.join()
    finally:
        fg.set_default_dtype(None)

    async def task(name, dtype):
        with fg.default_dtype(dtype):
            await asyncio.sleep(0)
            look(name)
            await asyncio.sleep(0)

    async def both():
        await asyncio.gather(task("task of float32", np.float32), task("task of float64", np.float64))

    asyncio.run(both())
    assert found == {
        "thread": F64, "after it was set": F32, "task of float32": F32, "task of float64": F64
    }  # fmt: skip


def test_compiled_functions_are_not_stale():
    calls = []

    def f(x):
        calls.append(x)
        return x + fg.full(2, 0.1)

    compiled = fg.compile(f)
    x = np.ones(2, np.float32)
    for _ in range(3):
        assert compiled(x).dtype == F64
        with fg.default_dtype(np.float32):
            assert compiled(x).dtype == F32
            assert compiled(x).dtype == F32
        with fg.default_dtype(np.float64):
            assert compiled(x).dtype == F64
    assert len(calls) <= 6 and compiled.cache_info().currsize == 3
    fg.set_default_dtype(np.float32)
    try:
        assert compiled(x).dtype == F32
    finally:
        fg.set_default_dtype(None)
    assert compiled(x).dtype == F64

    def within(x):
        with fg.default_dtype(np.float32):
            return x + fg.ones(2)

    within = fg.compile(within)
    assert [within(x).dtype for _ in range(3)] == [F32] * 3

    def sets(x):
        fg.set_default_dtype(np.float32)
        return x

    with pytest.raises(fg.TraceError, match="the default dtype was set while the function is traced"):
        fg.compile(sets)(x)


@pytest.mark.parametrize("rows", [False, True])
def test_training_steps_are_not_stale(rows):
    """A step on all data, and on rows, which has a fast path of its own. The loss tells how a third is rounded."""

    def loss(w, x):
        return fg.sum((x @ w) * 0) + fg.astype(fg.full((), 1 / 3), np.float64)

    def change(info):
        fg.set_default_dtype([None, np.float32][(info.step + 1) // 4 % 2])

    more = {"batch_size": 4, "epochs": 8, "seed": 0} if rows else {"steps": 16}
    try:
        found = fg.descend(
            loss, np.ones(3, np.float32), np.ones((8, 3), np.float32), optimizer="sgd", callback=change, **more
        )
    finally:
        fg.set_default_dtype(None)
    assert found.history.tolist() == 2 * ([1 / 3] * 4 + [float(np.float32(1 / 3))] * 4)


def test_gradients_and_maps_take_it():
    with fg.default_dtype(np.float32):
        gradient = fg.grad(lambda x: fg.sum(x * fg.full(3, 2.0)))(np.ones(3, np.float32))
        mapped = fg.vmap(lambda x: x + fg.eye(2))(np.ones((3, 2, 2), np.float32))
    assert gradient.dtype == F32 and mapped.dtype == F32


# float32 that becomes float64 -------------------------------------------------------------------------------

W = np.linspace(-1, 1, 3).astype(np.float32)
X = np.ones((4, 3), np.float32)
RNG = fg.random.default_rng(0)
NARROW = np.float32(0.5)
BAD = {
    "NumPy number": lambda w, x: fg.sum((w * np.float64(0.5)) ** 2),
    "array": lambda w, x: fg.mean((x @ w - np.ones(4)) ** 2),
    "arange": lambda w, x: fg.mean(x @ (w + np.arange(3))),
    "linspace": lambda w, x: fg.mean(x @ w * fg.linspace(0, 1, 4)),
    "draw": lambda w, x: fg.mean((x @ w + RNG.standard_normal(4)) ** 2),
    "product": lambda w, x: fg.mean(x @ np.eye(3) @ w),
    "where": lambda w, x: fg.sum(fg.where(w > 0, w, np.zeros(3))),
    "concatenate": lambda w, x: fg.sum(fg.concatenate([w, np.zeros(1)])),
    "einsum": lambda w, x: fg.sum(fg.einsum("ij,j->i", np.ones((4, 3)), w)),
    "maximum": lambda w, x: fg.sum(fg.maximum(w, np.zeros(3))),
    "through NumPy": lambda w, x: np.sum(np.exp(w) * np.float64(2)),
}
GOOD = {
    "Python numbers": lambda w, x: fg.mean((2 * (x @ w) + 0.5) ** 2),
    "float32": lambda w, x: fg.mean((x @ w * NARROW + np.ones(4, np.float32)) ** 2),
    "a number at the end": lambda w, x: fg.mean(x @ w) + np.float64(0.1) * fg.sum(w**2),
    "asked for": lambda w, x: fg.mean(fg.astype(x @ w, np.float64)),
    "asked for with float64": lambda w, x: fg.sum(fg.astype(w, np.float64) * np.ones(3)),
    "and back": lambda w, x: fg.astype(fg.mean(x @ w * np.ones(4)), np.float32),
    "integers alone": lambda w, x: fg.sum(w[fg.arange(3) // 2]),
    "bool": lambda w, x: fg.sum(fg.where(fg.asarray([True, False, True]), w, 0.0)),
    "losses": lambda w, x: fg.losses.softmax_cross_entropy(x * w, np.array([0, 1, 2, 0]), label_smoothing=0.1),
    "dropout": lambda w, x: fg.losses.huber(fg.dropout(x, 0.5, RNG) @ w, np.zeros(4, np.float32)),
    "a draw that is cast": lambda w, x: fg.mean(x @ w * fg.astype(RNG.gamma(2.0, size=4), np.float32)),
    "gamma": lambda w, x: fg.mean(RNG.gamma(fg.exp(w))),
    "statistics": lambda w, x: fg.mean(fg.stats.norm.logpdf(x @ w)),
    "activations": lambda w, x: fg.var(fg.activations.gelu(x * w)) + fg.special.logsumexp(w),
}


def told(f, compile, w=W, **more):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        step = fg.training_step(f, w.copy(), fg.optim.SGD(0.01), compile=compile, **more)
        for _ in range(4):
            step(X)
    return found


@pytest.mark.parametrize("compile", [True, False])
def test_a_float32_model_that_computes_in_float64_says_so_once(compile):
    for name, f in BAD.items():
        found = told(f, compile)
        assert [w.category for w in found] == [fg.TypePromotionWarning], (name, [str(w.message) for w in found])
        assert (found[0].filename, found[0].lineno) == (__file__, f.__code__.co_firstlineno), name
        text = str(found[0].message)
        assert "all parameters are float32, but the loss computes in float64, because here float32 of shape" in text


@pytest.mark.parametrize("compile", [True, False])
def test_there_is_no_false_warning(compile):
    for name, f in GOOD.items():
        assert not told(f, compile), name
    for name, f in BAD.items():
        assert not told(f, compile, w=W.astype(np.float64)), name
    with fg.default_dtype(np.float32):
        assert not told(BAD["linspace"], compile) and not told(BAD["draw"], compile)


def test_descend_says_so_and_data_may_be_the_reason():
    def loss(w, x):
        product = x @ w
        return fg.mean(product**2)

    with pytest.warns(fg.TypePromotionWarning, match=r"descend: .* float32 of shape \(3,\) meets float64 of shape "
                                                     r"\(4, 3\)") as found:  # fmt: skip
        fg.descend(loss, W, X.astype(np.float64), optimizer="sgd", steps=5)
    assert found[0].lineno == loss.__code__.co_firstlineno + 1


def test_as_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step = fg.training_step(BAD["array"], W.copy(), "sgd")
        with pytest.raises(fg.TypePromotionWarning):
            step(X)
        assert step(X) > 0


def test_nothing_is_noted_outside():
    from fastgrad import _core

    with _core.Promotions() as outer:
        with _core.Promotions() as inner:
            fg.ones(2, dtype="f4") + np.ones(2)
        found = []
        thread = threading.Thread(target=lambda: found.append(fg.ones(2, dtype="f4") + np.ones(2)))
        thread.start()
        thread.join()
        assert outer.first is None and inner.first[2] == "float32 of shape (2,) meets float64 of shape (2,)"
        fg.ones(3, dtype="f4") @ np.ones(3)
    assert outer.first[2] == "float32 of shape (3,) meets float64 of shape (3,)"
    fg.ones(2, dtype="f4") + np.ones(2)
