"""grad and value_and_grad: structures in and out, argnums, aux, SciPy, errors, and what they leave behind."""

import asyncio
import copy
import dataclasses
import functools
import inspect
import math
import multiprocessing
import pickle
import re
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import scipy.optimize

import fastgrad as fg
from fastgrad import _core

Point = namedtuple("Point", "x y")


def same(got, expected):
    """Equal in structure, type, dtype, shape and value."""
    assert type(got) is type(expected), (got, expected)
    if isinstance(expected, dict):
        assert list(got) == list(expected) or sorted(got) == sorted(expected)
        for key in expected:
            same(got[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(got) == len(expected)
        for g, e in zip(got, expected):
            same(g, e)
    elif isinstance(expected, (np.ndarray, np.generic, float)):
        assert np.asarray(got).dtype == np.asarray(expected).dtype
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        assert np.shape(got) == np.shape(expected)


def total(tree):
    """A scalar in which every leaf counts differently."""
    leaves = fg.tree.leaves(tree)
    return fg.tensor(0.0) + sum((i + 1) * np.sum(x * x) for i, x in enumerate(leaves))


def expected_total(tree):
    count = iter(range(1, 100))
    return fg.tree.map(
        lambda x: np.multiply(2 * next(count), x, out=np.empty_like(x))[() if np.isscalar(x) else ...], tree
    )


STRUCTURES = {
    "array": np.array([1.0, 2.0]),
    "large array": np.arange(1000.0),
    "float32": np.array([1.0, 2.0], np.float32),
    "matrix in Fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "negative strides": np.arange(6.0)[::-2],
    "0-d": np.array(3.0),
    "empty": np.zeros((0, 3)),
    "np.float32": np.float32(3),
    "np.float64": np.float64(3),
    "list": [np.array([1.0]), np.array([[2.0, 3.0]])],
    "tuple": (np.array([1.0]), np.float64(2.0)),
    "dict": {"w": np.ones((2, 2)), "b": np.zeros(2, np.float32)},
    "OrderedDict": OrderedDict(z=np.ones(2), a=np.ones(3)),
    "NamedTuple": Point(np.ones(2), np.float64(2.0)),
    "nested": {"layers": [{"w": np.ones((2, 3)), "b": np.zeros(3)}, {"w": np.ones((3, 1)), "b": None}],
        "scale": (np.float64(1),)},
    "nothing": {},
    "None": None,
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_gradient_has_the_structure_of_the_argument(name):
    tree = STRUCTURES[name]
    value, gradient = fg.value_and_grad(total)(tree)
    assert type(value) is float
    same(gradient, expected_total(tree))


def test_python_floats_and_scalars():
    for x in (3.0, np.float64(3), np.float32(3), np.array(3.0)):
        seen = []
        square = lambda x, seen=seen: (seen.append((type(x), x.shape, x.dtype)), x * x)[1]
        value, gradient = fg.value_and_grad(square)(x)
        assert type(value) is float and value == 9
        assert gradient == 6 and type(gradient) is (
            np.ndarray if isinstance(x, np.ndarray) else type(np.asarray(x)[()])
        )
        assert seen == [(fg.Tensor, (), np.asarray(x).dtype)]


@pytest.mark.parametrize("argnums, expected", [
    (0, 2 * 5), (1, 3 * 5), (-1, 3 * 2), (-3, 2 * 5), ((0,), (10,)), ((2, 0), (6, 10)), ([0, 1], (10, 15)),
    ((0, 0), (10, 10)),
    ((0, -3), (10, 10)), (np.int64(1), 15),
])  # fmt: skip
def test_argnums(argnums, expected):
    gradient = fg.grad(lambda a, b, c: a * b * c, argnums)(3.0, 2.0, 5.0)
    assert gradient == expected and type(gradient) is (tuple if isinstance(expected, tuple) else np.float64)


def test_the_other_arguments_pass_through_unchanged():
    sentinel, got = object(), []

    def f(x, *args, **kwargs):
        got.append((args, kwargs))
        return x * 2

    assert fg.grad(f)(1.0, sentinel, [1, "a"], key=sentinel, n=3) == 2
    assert got == [((sentinel, [1, "a"]), {"key": sentinel, "n": 3})]


def test_aux_comes_back_as_arrays():
    def f(x):
        y = np.exp(x)
        return y.sum(), {"y": y, "text": "a", "list": [y * 2, 1, None], "constant": fg.tensor([1, 2])}

    x = np.array([0.0, 1.0])
    gradient, aux = fg.grad(f, has_aux=True)(x)
    (value, again), same_gradient = fg.value_and_grad(f, has_aux=True)(x)
    assert type(value) is float and value == pytest.approx(np.exp(x).sum(), rel=1e-15)
    np.testing.assert_array_equal(gradient, same_gradient)
    for a in (aux, again):
        same(a, {"y": np.exp(x), "text": "a", "list": [2 * np.exp(x), 1, None], "constant": np.array([1, 2])})
        assert (a["text"], a["list"][1:]) == ("a", [1, None])


def test_it_looks_like_the_function():
    def f(x):
        """What f is."""
        return x

    for g in (fg.grad(f), fg.value_and_grad(f)):
        assert (g.__name__, g.__doc__) == ("f", "What f is.")
    assert fg.grad(fg.tanh)(0.0) == 1


def test_every_shape_of_a_single_number_is_a_value():
    for shape in ((), (1,), (1, 1, 1)):
        value, gradient = fg.value_and_grad(lambda x: (x * x).sum().reshape(shape))(np.array([3.0]))
        assert (value, gradient.tolist()) == (9, [6])


def test_numpy_and_python_inside():
    def f(x):
        y = np.tanh(x) @ np.arange(3.0) + sum(x) + np.float64(2) * x[0] + np.ones(3) @ (x * [1, 2, 3])
        return y + (x[x > 0.5]).sum() if x[1] > 0 else y

    x = np.array([0.25, 0.75, 2.0])
    expected = np.arange(3) / np.cosh(x) ** 2 + 1 + [2, 0, 0] + [1, 2, 3] + (x > 0.5)
    np.testing.assert_allclose(fg.grad(f)(x), expected, rtol=1e-13)


# ---- SciPy ----------------------------------------------------------------------------------------------------------
def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "CG", "TNC", "SLSQP"])
def test_scipy_finds_the_optimum_of_rosenbrocks_function(method):
    x0 = np.array([1.3, 0.7, 0.8, 1.9, 1.2])
    result = scipy.optimize.minimize(fg.value_and_grad(rosenbrock), x0, jac=True, method=method)
    np.testing.assert_allclose(result.x, 1, atol=1e-3)
    np.testing.assert_allclose(fg.grad(rosenbrock)(x0), scipy.optimize.rosen_der(x0), rtol=1e-13)


def test_scipy_passes_arguments():
    result = scipy.optimize.minimize(
        fg.value_and_grad(lambda x, a, b: np.sum((x - a) ** 2) * b), np.zeros(3), args=(np.arange(3.0), 2.0), jac=True
    )
    np.testing.assert_allclose(result.x, np.arange(3.0), atol=1e-6)


# ---- what goes in and what stays -------------------------------------------------------------------------------------
def test_a_constant_has_gradient_zero():
    for f in (
        lambda x: fg.tensor(3.0),
        lambda x: x.detach().sum(),
        lambda x: fg.stop_gradient(x).sum(),
        lambda x: fg.sign(x).sum(),
    ):
        value, gradient = fg.value_and_grad(f)(np.array([1.0, 2.0]))
        assert value == 3 or f(fg.tensor([1.0, 2.0])).item() == value
        assert gradient.tolist() == [0, 0]


def test_grad_records_within_no_grad_and_no_grad_within_grad_does_not():
    with fg.no_grad():
        assert fg.grad(lambda x: x * x)(3.0) == 6
        assert not _core.grad_enabled()

    def f(x):
        with fg.no_grad():
            y = x * x
        return x * y

    assert fg.grad(f)(3.0) == 9


@pytest.mark.parametrize("enabled", [True, False])
def test_an_exception_within_f_leaves_everything_as_it_was(enabled):
    def f(x):
        _core.set_grad_enabled(not enabled)
        raise KeyError("mine")

    was = _core.set_grad_enabled(enabled)
    try:
        for g in (fg.grad(f), fg.value_and_grad(f), lambda x: fg.grad(lambda y: fg.grad(f)(2.0))(x)):
            with pytest.raises(KeyError, match="mine"):
                g(1.0)
            assert _core.grad_enabled() == enabled
            float(fg.tensor(1.0, requires_grad=True) * 2)  # allowed again: no transform is running
    finally:
        _core.set_grad_enabled(was)


@pytest.mark.parametrize("convert", [
    float, int, complex, math.sin, math.floor, lambda x: f"{float(x)}", np.asarray, lambda x: np.array([x, x]),
    memoryview,
    lambda x: fg.tensor(x), lambda x: fg.tensor([x, 1.0]), np.from_dlpack, lambda x: np.fft.fft(x[None]),
    lambda x: x.item(), lambda x: x.tolist(), lambda x: x.numpy(), lambda x: pickle.loads(pickle.dumps(x)),
])  # fmt: skip
def test_nothing_silently_becomes_a_constant(convert):
    with pytest.raises((TypeError, BufferError)):
        fg.grad(lambda x: x * convert(x))(1.0)


def test_explicit_ways_to_a_constant():
    for convert in (float, fg.Tensor.item, fg.Tensor.numpy, fg.Tensor.tolist, lambda x: x, fg.stop_gradient):
        assert fg.grad(lambda x: x * convert(x.detach()))(3.0) == 3


def test_a_copy_is_differentiated_too():
    for duplicate in (copy.copy, copy.deepcopy, np.copy, fg.Tensor.copy, lambda x: copy.deepcopy([x])[0]):
        assert fg.grad(lambda x: x * duplicate(x))(3.0) == 6
        assert fg.grad(fg.grad(lambda x: x * duplicate(x * x)))(3.0) == 18
        assert fg.compile(lambda x: x * duplicate(x))(3.0) == 9


def test_fields_of_a_dataclass_as_a_dict():
    @dataclasses.dataclass
    class Point:
        a: np.ndarray
        b: float

    def f(p):
        fields = dataclasses.asdict(p)
        return np.sum(fields["a"] ** 2) + fields["b"] ** 3

    gradient = fg.grad(f)(Point(np.array([1.0, 2.0]), 2.0))
    np.testing.assert_array_equal(gradient.a, [2, 4])
    assert gradient.b == 12


def test_outer_tensors_are_constants_and_keep_their_grad():
    w = fg.tensor([1.0, 2.0], requires_grad=True)
    outer = (w * w).sum()
    w.grad = [7.0, 7.0]
    functions = {
        "closes over a leaf": (lambda x: (x * w).sum(), [1, 2]),
        "closes over a result": (lambda x: (x * outer).sum(), [5, 5]),
        "makes something of it": (lambda x: (x * fg.exp(w * 0)).sum(), [1, 1]),
        "returns a leaf": (lambda x: w[0] * 1, [0, 0]),
        "returns the outer result itself": (lambda x: outer, [0, 0]),
    }
    for name, (f, expected) in functions.items():
        assert fg.grad(f)(np.array([3.0, 4.0])).tolist() == expected, name
    scalar = fg.tensor(2.0, requires_grad=True)
    assert fg.grad(lambda x: scalar)(1.0) == 0 and scalar.grad is None
    assert w.grad.tolist() == [7, 7]
    outer.backward()
    assert w.grad.tolist() == [9, 11], "and the outer graph was not used up"


def test_leaves_made_inside_have_their_own_gradients():
    def f(x):
        z = fg.tensor([1.0, 2.0], requires_grad=True)
        (z * z).sum().backward()
        assert z.grad.tolist() == [2, 4]
        return (x * z.grad).sum()

    assert fg.grad(f)(np.ones(2)).tolist() == [2, 4]


def test_a_tensor_as_argument():
    w = fg.tensor([1.0, 2.0])
    gradient = fg.grad(lambda x: (x * x).sum())(w)
    assert type(gradient) is np.ndarray and gradient.tolist() == [2, 4] and w.grad is None

    def f(x):
        y = (x * x).sum()
        w.__iadd__(100)
        return y

    assert fg.grad(f)(w).tolist() == [2, 4]


def test_a_subclass_is_taken_as_an_array():
    class Mine(np.ndarray):
        pass

    gradient = fg.grad(lambda x: (x * x).sum())(np.arange(3.0).view(Mine))
    assert type(gradient) is np.ndarray and gradient.tolist() == [0, 2, 4]


def test_f_may_change_its_structure():
    def f(p):
        p["extra"] = p.pop("w") * 2
        return p["extra"].sum()

    params = {"w": np.ones(2)}
    assert fg.grad(f)(params)["w"].tolist() == [2, 2] and list(params) == ["w"]


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f4", "<f8"])
def test_gradients_of_arrays_in_any_byte_order(dtype):
    x = np.array([0.5, 2.0], dtype)
    gradient = fg.grad(lambda p: fg.sum(p["x"] ** 3))({"x": x})["x"]
    assert gradient.dtype == x.dtype.newbyteorder("=") and gradient.dtype.isnative
    np.testing.assert_array_equal(gradient, 3 * x**2)
    np.testing.assert_array_equal(fg.compile(fg.grad(lambda x: fg.sum(x**3)))(x), gradient)


@pytest.mark.parametrize("call, name", [
    (lambda f, x: fg.grad(f)(x), "grad"),
    (lambda f, x: fg.value_and_grad(f)(x), "value_and_grad"),
    (lambda f, x: fg.elementwise_grad(f)(x), "elementwise_grad"),
])  # fmt: skip
def test_errors_name_the_transform_that_was_called(call, name):
    with pytest.raises(TypeError, match=f"^{name}: argument 0 is int64; "):
        call(fg.sum, np.ones(2, int))
    with pytest.raises(TypeError, match=f"^{name}: .*returned a str, expected a tensor"):
        call(lambda x: "1.0", np.ones(2))


def test_the_names_of_other_libraries_lead_to_ours():
    for name, ours in fg._CALLED_OTHERWISE.items():
        with pytest.raises(AttributeError, match=re.escape(f"has no attribute '{name}'; use fastgrad.{ours}") + "$"):
            getattr(fg, name)
        assert not hasattr(fg, name)
        for words in re.findall(r"[a-z_][\w.]*", ours.replace("fastgrad.", "").replace("()", ""), re.IGNORECASE):
            if words not in ("and", "or", "beside", "f"):
                found = fg
                for word in words.split("."):
                    found = getattr(fg.random.Generator if found is fg.random.default_rng else found, word)
    with pytest.raises(AttributeError, match="has no attribute 'put'; write it as a = fastgrad.asarray"):
        fg.put
    with pytest.raises(AttributeError, match="has no attribute 'nothing'$"):
        fg.nothing


@pytest.mark.parametrize(
    "module, name, places",
    [
        (fg, "polygamma", "special.polygamma"),
        (fg, "beta", "special.beta or stats.beta or random.default_rng(seed).beta"),
        (fg, "normal", "random.default_rng(seed).normal"),
        (fg, "solve", "linalg.solve"),
        (fg.special, "trigamma", "trigamma"),
        (fg.special, "logcumsumexp", "logcumsumexp"),
        (fg.special, "norm", "norm or linalg.norm or stats.norm"),
        (fg.linalg, "einsum", "einsum"),
        (fg.stats, "expm", "linalg.expm"),
        (fg.random, "betainc", "special.betainc"),
        (fg.special, "nothing", ""),
        (fg.linalg, "nothing", ""),
        (fg.stats, "_nothing", ""),
        (fg.linalg, "__nothing__", ""),
    ],
)
def test_a_name_asked_of_the_wrong_module_is_told_where_it_is(module, name, places):
    with pytest.raises(AttributeError) as raised:
        getattr(module, name)
    paths = " or ".join(f"fastgrad.{place}" for place in places.split(" or "))
    expected = f"module '{module.__name__}' has no attribute '{name}'"
    assert str(raised.value) == (f"{expected}; use {paths}" if places else expected)
    assert raised.value.name == name and raised.value.obj is module
    for place in filter(None, places.split(" or ")):
        assert callable(eval(f"fg.{place}", {"fg": fg, "seed": 0}))


def test_completion_shows_what_is_public():
    for module in (fg, fg.activations, fg.losses, fg.optim, fg.random, fg.sparse, fg.testing, fg.tree):
        assert dir(module) == sorted(module.__all__)
        assert all(hasattr(module, name) for name in dir(module))


# ---- no_grad of generators and coroutines ---------------------------------------------------------------------------
def test_no_grad_decorates_generators():
    x = fg.tensor(1.0, requires_grad=True)
    seen = []

    @fg.no_grad()
    def steps(n):
        """Doc."""
        total = 0
        try:
            for i in range(n):
                seen.append((2 * x).requires_grad)
                try:
                    total += yield i
                except KeyError:
                    seen.append("thrown")
            return total
        finally:
            seen.append((2 * x).requires_grad)

    generator = steps(3)
    assert next(generator) == 0 and (2 * x).requires_grad
    assert generator.send(5) == 1 and generator.throw(KeyError()) == 2 and (2 * x).requires_grad
    with pytest.raises(StopIteration) as stop:
        generator.send(7)
    assert stop.value.value == 12
    assert seen == [False, False, "thrown", False, False] and (2 * x).requires_grad
    assert steps.__name__ == "steps" and steps.__doc__ == "Doc." and inspect.isgeneratorfunction(steps)
    seen.clear()
    generator = steps(3)
    next(generator)
    generator.close()
    assert seen == [False, False] and list(steps(0)) == []
    with fg.no_grad():
        other = steps(2)
        next(other)
    assert (2 * x).requires_grad
    other.close()


def test_no_grad_decorates_coroutines_and_asynchronous_generators():
    x = fg.tensor(1.0, requires_grad=True)
    seen = []

    @fg.no_grad()
    async def work(n):
        seen.append((2 * x).requires_grad)
        await asyncio.sleep(0)
        seen.append((2 * x).requires_grad)
        return n

    @fg.no_grad()
    async def numbers(n):
        for i in range(n):
            await asyncio.sleep(0)
            seen.append((2 * x).requires_grad)
            yield i

    async def outside():
        for _ in range(5):
            seen.append(not (2 * x).requires_grad)  # other tasks run between, with gradients
            await asyncio.sleep(0)

    async def main():
        results = await asyncio.gather(work(1), outside(), work(2), outside())
        assert results == [1, None, 2, None]
        assert [i async for i in numbers(3)] == [0, 1, 2]
        first = numbers(3)
        assert await first.asend(None) == 0
        await first.aclose()
        with pytest.raises(StopAsyncIteration):
            await first.asend(None)
        with pytest.raises(KeyError):
            failing = numbers(2)
            await failing.asend(None)
            await failing.athrow(KeyError())
        assert (2 * x).requires_grad

    asyncio.run(main())
    assert not any(seen) and len(seen) == 19 and (2 * x).requires_grad
    assert inspect.iscoroutinefunction(work)


# ---- pickles --------------------------------------------------------------------------------------------------------
def cube(x):
    return fg.sum(x**3)


@fg.compile
def compiled_cube(x):
    return fg.sum(x**3)


@fg.grad
def slope(x):
    return fg.sum(x**3)


@fg.compile
@fg.value_and_grad
def both(x):
    return fg.sum(x**3)


@fg.custom_vjp
def with_rule(x):
    return x * 2


with_rule.defvjp(lambda x: (x * 2, None), lambda _, g: (g * 3,))
made = {
    "grad": fg.grad(cube), "value_and_grad": fg.value_and_grad(cube), "jacrev": fg.jacobian(cube),
    "jacfwd": fg.jacfwd(cube), "hessian": fg.hessian(cube), "vmap": fg.vmap(fg.grad(cube)),
    "compile": fg.compile(fg.grad(cube)), "elementwise_grad": fg.elementwise_grad(np.square),
    "checkpoint": fg.checkpoint(cube), "of decorated": fg.grad(compiled_cube), "with_rule": fg.grad(with_rule),
    "decorated": slope, "compiled": compiled_cube, "both": both,
}  # fmt: skip


@pytest.mark.parametrize("name", made)
def test_what_transforms_return_is_pickled_by_reference(name):
    f, x = made[name], np.array([[1.0, 2.0], [3.0, 4.0]]) if name == "vmap" else np.array(2.0)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        g = pickle.loads(pickle.dumps(f, protocol))
        assert fg.tree.structure(g(x)) == fg.tree.structure(f(x))
        for a, b in zip(fg.tree.leaves(g(x)), fg.tree.leaves(f(x))):
            np.testing.assert_array_equal(a, b)
        if name in ("decorated", "compiled", "both"):
            assert g is f
    for compiled in (made["compile"], compiled_cube, both):
        compiled.cache_clear()
    assert callable(copy.copy(f)) and callable(copy.deepcopy(f)) and "fastgrad" in repr(f)
    if name != "elementwise_grad" or hasattr(np.square, "__signature__"):  # ufuncs of older NumPys have none
        assert inspect.signature(f) is not None
    assert f.__name__


def test_a_transform_in_a_class_is_a_method():
    class Model:
        scale = 3.0

        @fg.grad
        def unused(self):
            return self

        @functools.partial(fg.grad, argnums=1)
        def slope(self, x):
            return self.scale * x

    assert Model().slope(1.0) == 3


def test_worker_processes_take_transforms():
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.map(slope, [1.0, 2.0]) == [3, 12]
        assert pool.map(made["grad"], [1.0, 2.0]) == [3, 12]
        assert pool.map(compiled_cube, [1.0, 2.0]) == [1, 8]


def test_aux_has_the_same_types_eagerly_and_compiled():
    f = lambda x: (
        fg.sum(x),
        {"number": fg.sum(x * x), "array": x * 2, "whole": fg.sum(x) > 0, "none": None, "text": "t"},
    )
    x = np.array([1.0, 2.0])
    kinds = lambda aux: {key: (type(value), getattr(value, "dtype", None)) for key, value in aux.items()}
    eager = fg.value_and_grad(f, has_aux=True)(x)[0][1]
    assert (
        type(eager["number"]) is np.float64 and type(eager["whole"]) is np.bool_ and type(eager["array"]) is np.ndarray
    )
    assert eager["array"].flags.owndata
    for transform in (
        lambda f: fg.value_and_grad(f, has_aux=True)(x)[0][1], lambda f: fg.grad(f, has_aux=True)(x)[1],
        lambda f: fg.jacobian(f, has_aux=True)(x)[1], lambda f: fg.jvp(f, (x,), (x,), has_aux=True)[2],
        lambda f: fg.vjp(f, x, has_aux=True)[2], lambda f: fg.hessian(f, has_aux=True)(x)[1],
        lambda f: fg.compile(fg.grad(f, has_aux=True))(x)[1],
        lambda f: fg.compile(fg.value_and_grad(f, has_aux=True))(x)[0][1],
        lambda f: fg.compile(fg.jacfwd(f, has_aux=True))(x)[1], lambda f: fg.linearize(f, x, has_aux=True)[2],
    ):  # fmt: skip
        assert kinds(transform(f)) == kinds(eager)
