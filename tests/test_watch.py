"""``compile``: what a function reads from outside its arguments is watched, and a change is traced anew."""

import dataclasses
import functools
import threading
import types
import warnings

import numpy as np
import pytest
from _replay import same

import fastgrad as fg
from fastgrad._compile.outside import _names_of, watch

X = np.array([1.0, 2.0, 3.0])
WEIGHT = 2.0
SETTINGS = types.SimpleNamespace(weight=2.0)
MODULE = types.ModuleType("settings_of_a_test")
MODULE.weight = 2.0


def scaled(x):
    return x * WEIGHT


class Slotted:
    __slots__ = ("weight",)

    def __init__(self):
        self.weight = 2.0

    def loss(self, x):
        return x * self.weight


class Model:
    of_class = 2.0

    def __init__(self):
        self.weight, self.settings, self.layers = 2.0, {"inner": {"weight": 2.0}}, [2.0, 3.0]
        self.unread = 0

    @property
    def half(self):
        return self.weight / 2

    def by_attribute(self, x):
        return x * self.weight

    def by_property(self, x):
        return x * self.half * 2

    def by_class(self, x):
        return x * self.of_class

    def by_dict(self, x):
        return x * self.settings["inner"]["weight"]

    def by_list(self, x):
        return x * self.layers[0]

    def __call__(self, x):
        return self.by_attribute(x)


@dataclasses.dataclass(frozen=True)
class Frozen:
    part: Model

    def loss(self, x):
        return self.part.by_attribute(x)


def cases():
    """Functions of x that return 2 * x, and for each what makes them return 5 * x."""

    def rebound():
        def change():
            nonlocal weight
            weight = 5.0

        weight = 2.0
        return lambda x: x * weight, change

    def set_global(x=None):
        globals()["WEIGHT"] = 5.0

    model, array, big, w = Model(), np.full(3, 2.0), np.full(30_000, 2.0), fg.tensor([2.0])
    slotted, strided = Slotted(), np.full((3, 2), 2.0)
    other = {name: Model() for name in ("class", "property", "dict", "list", "call", "frozen", "partial", "grad")}
    Own = type("Own", (Model,), {"of_class": 2.0})
    own = Own()

    def with_default(x, settings={"weight": 2.0}):  # noqa: B006
        return x * settings["weight"]

    def counted(x):
        return x * counted.weight

    counted.weight = 2.0

    @functools.wraps(scaled)
    def decorated(x):
        return scaled(x)

    yield "closure", *rebound()
    yield "global of a callee", decorated, set_global
    yield "attribute", model.by_attribute, lambda: setattr(model, "weight", 5.0)
    yield "property", other["property"].by_property, lambda: setattr(other["property"], "weight", 5.0)
    yield "class attribute", own.by_class, lambda: setattr(Own, "of_class", 5.0)
    yield "instance attribute over a class's", other["class"].by_class, lambda: setattr(other["class"], "of_class", 5.0)
    yield "dict", other["dict"].by_dict, lambda: other["dict"].settings["inner"].update(weight=5.0)
    yield "list", other["list"].by_list, lambda: other["list"].layers.__setitem__(0, 5.0)
    yield "callable object", other["call"], lambda: setattr(other["call"], "weight", 5.0)
    yield "object in an object", Frozen(other["frozen"]).loss, lambda: setattr(other["frozen"], "weight", 5.0)
    yield "slot", slotted.loss, lambda: setattr(slotted, "weight", 5.0)
    yield "namespace", lambda x: x * SETTINGS.weight, lambda: setattr(SETTINGS, "weight", 5.0)
    yield "module", lambda x: x * MODULE.weight, lambda: setattr(MODULE, "weight", 5.0)
    yield "function's attribute", counted, lambda: setattr(counted, "weight", 5.0)
    yield "default", with_default, lambda: with_default.__defaults__[0].update(weight=5.0)
    yield "array", lambda x: x * array, lambda: array.fill(5.0)
    yield "large array", lambda x: x * big[:3], lambda: big.fill(5.0)
    yield "tensor", lambda x: x * w, lambda: w.__iadd__(3.0)
    yield "strided array", lambda x: x * strided[:, 1], lambda: strided.fill(5.0)
    yield (
        "partial",
        functools.partial(Model.by_attribute, other["partial"]),
        lambda: setattr(other["partial"], "weight", 5.0),
    )


CASES = {name: (f, change) for name, f, change in cases()}


@pytest.fixture(autouse=True)
def _restored():
    yield
    globals()["WEIGHT"], SETTINGS.weight, MODULE.weight = 2.0, 2.0, 2.0


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_seen_by_the_next_call(name):
    f, change = CASES[name]
    compiled, gradient = fg.compile(f), fg.compile(fg.grad(lambda x: fg.sum(f(x))))
    for _ in range(2):
        same(compiled(X), 2 * X)
        same(gradient(X), np.full(3, 2.0))
    assert compiled.cache_info()[:2] == (1, 1)
    change()
    for _ in range(2):
        same(compiled(X), 5 * X)
        same(gradient(X), np.full(3, 5.0))
    assert compiled.cache_info()[:2] == (2, 2)


def test_training_steps_see_a_change():
    """Between two steps, after the program has been confirmed; by ``step`` and by ``descend``."""
    model = Model()
    loss = lambda p, x: fg.sum(p * x * model.weight)
    step = fg.training_step(loss, np.ones(3), fg.optim.SGD(0.0))
    seen = []
    for weight in (2.0, 2.0, 2.0, 5.0, 5.0, 5.0, 2.0):
        model.weight = weight
        seen.append(step(X) / X.sum())
    assert seen == [2, 2, 2, 5, 5, 5, 2]
    assert step._compiled.cache_info().misses == 2

    def callback(state):
        model.weight = 2.0 if state.step < 6 else 5.0

    result = fg.descend(
        loss, np.ones(3), np.tile(X, (4, 1)), optimizer=fg.optim.SGD(0.0), epochs=12, batch_size=4, callback=callback,
        progress=False,
    )  # fmt: skip
    assert result.history[-1] == 5 * 4 * X.sum()


def test_a_flag_that_is_switched_has_a_program_for_each_value():
    class Net:
        training = True

        def __call__(self, x):
            return x * 2 if self.training else x

    net = Net()
    compiled = fg.compile(net)
    for k in range(20):
        net.training = k % 2 == 0
        same(compiled(X), net(X))
    assert compiled.cache_info() == (18, 2, 64, 2)


def test_what_nothing_reads_is_not_watched():
    """Names of NumPy's functions and of local variables are no names of globals or attributes."""
    model = Model()
    model.mean, model.sum = 0, 0

    def f(x):
        unread = np.mean(x) + fg.sum(x)
        return unread + model.weight

    compiled = fg.compile(f)
    for k in range(5):
        model.unread = model.mean = model.sum = k
        globals()["unread"] = globals()["mean"] = k
        compiled(X)
    assert compiled.cache_info() == (4, 1, 64, 1)
    assert watch(lambda x: np.linalg.norm(fg.exp(x))) is None


def test_equal_numbers_are_the_same():
    model = Model()
    compiled = fg.compile(model.by_attribute)
    for value in (2.0, float("2"), np.float64(2), np.float64("2"), 2.0):
        model.weight = value
        same(compiled(X), 2 * X)
    assert compiled.cache_info().misses == 2  # np.float64 is another type
    model.weight = 0.0
    assert not np.signbit(compiled(X)).any()
    model.weight = -0.0
    assert np.signbit(compiled(X)).all()
    model.weight = np.nan
    compiled(X)
    misses = compiled.cache_info().misses
    model.weight = float("nan")
    compiled(X)
    assert compiled.cache_info().misses == misses


def test_what_changes_at_every_call_is_told_once_and_runs_eagerly():
    model = Model()
    compiled = fg.compile(model.by_attribute)
    with pytest.warns(RuntimeWarning, match=r"reads self\.weight from outside .*pass it as an argument") as caught:
        for k in range(60):
            model.weight = float(k)
            same(compiled(X), k * X)
    assert len(caught) == 1
    assert compiled.cache_info().misses < 12


def test_a_change_of_a_few_elements_of_a_large_array_is_an_error_that_names_it():
    table = np.ones(10_000)
    compiled = fg.compile(lambda x: x + table[0])
    same(compiled(X), X + 1)
    table[7] = 3.0
    with pytest.raises(fg.TraceError, match="elements of table, a large array .*pass the array as an argument"):
        for _ in range(table.nbytes // 256 + 2):
            compiled(X)
    table[0] = 2.0
    same(compiled(X), X + 2)  # traced anew


@pytest.mark.parametrize("n", [129, 161, 200, 1001])
def test_every_element_of_a_large_array_is_watched(n):
    """The pieces that calls compare cover the whole array, whatever its length: also its last bytes."""
    table = np.ones(n, np.float32) if n == 1001 else np.ones(n)
    compiled = fg.compile(lambda x: x + table[0])
    for k in (*range(0, n, 17), n - 2, n - 1):
        compiled(X)
        table[k] = -table[k]  # of which only the sign bit changes
        with pytest.raises(fg.TraceError, match="elements of table"):
            for _ in range(table.nbytes // 256 + 1):
                compiled(X)


def test_state_that_the_function_changes_itself_is_not_watched():
    calls, model = [], Model()

    def f(x):
        calls.append(None)
        model.unread += 1
        return x * model.weight

    compiled = fg.compile(f)
    for _ in range(3):
        compiled(X)
        f(X)
    assert len(calls) == 4 and compiled.cache_info() == (2, 1, 64, 1)


def test_a_counter_in_a_loss_is_told():
    """From the second trace on, since the first may compute what is computed but once."""
    model = Model()
    model.cache = None

    def loss(p, x, counts):
        if model.cache is None:
            model.cache = 2.0
        model.unread += counts
        return fg.sum(p * x) * model.cache

    for counts in (0, 1):
        step = fg.training_step(lambda p, x, n=counts: loss(p, x, n), np.ones(3), "sgd")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(4):
                step(X)
        assert len(caught) == counts
    assert "the function changes model.unread each time it runs" in str(caught[0].message)
    assert f"({__file__}, line " in str(caught[0].message)


def test_changes_of_containers():
    layers, table = [2.0], {"a": 2.0}

    def f(x):
        for w in layers:
            x = x * w
        for w in table.values():
            x = x * w
        return x

    compiled = fg.compile(f)
    for _ in range(2):
        same(compiled(X), f(X))
    layers.append(3.0)
    same(compiled(X), f(X))
    table["b"] = 4.0
    same(compiled(X), f(X))
    del table["a"], layers[:]
    same(compiled(X), f(X))
    table.clear()
    table["c"] = 1.0
    same(compiled(X), f(X))


def test_a_helper_that_is_defined_anew():
    space = {"fg": fg, "__name__": "__main__"}
    exec(compile("def helper(x): return x * 2\ndef f(x): return helper(x)", "cell.py", "exec"), space)
    compiled = fg.compile(space["f"])
    same(compiled(X), 2 * X)
    exec(compile("def helper(x): return x * 5", "cell.py", "exec"), space)
    same(compiled(X), 5 * X)


def test_static_arguments_are_watched():
    model = Model()
    compiled = fg.compile(lambda model, x: model.by_attribute(x), static_argnums=0)
    same(compiled(model, X), 2 * X)
    model.weight = 5.0
    same(compiled(model, X), 5 * X)


def test_what_is_removed_and_what_is_large():
    model = Model()
    compiled = fg.compile(lambda x: x * getattr(model, "weight", 1.0) + len(many) + model.unread)
    many = list(range(1000))  # is not watched
    same(compiled(X), 2 * X + 1000)
    del model.unread
    with pytest.raises(AttributeError):
        compiled(X)
    slotted = Slotted()
    compiled = fg.compile(slotted.loss)
    same(compiled(X), 2 * X)
    del slotted.weight
    with pytest.raises(AttributeError):
        compiled(X)


def test_names_that_code_reads():
    def f(x):
        return [np.linalg.norm(x) + SETTINGS.weight.real, (lambda: x.T + WEIGHT)()]

    names = _names_of(f.__code__)
    assert names.globals == {"np", "SETTINGS", "WEIGHT"}
    assert names.attributes == {"T"}
    assert names.chains == {("np", "linalg"), ("np", "norm"), ("SETTINGS", "weight"), ("SETTINGS", "real")}


def test_threads_that_see_changes():
    """Two threads call and a third changes: each result is that of one of the values."""
    model, wrong = Model(), []
    compiled = fg.compile(model.by_attribute)

    def call():
        for _ in range(300):
            found = compiled(X)
            if not (np.array_equal(found, 2 * X) or np.array_equal(found, 5 * X)):
                wrong.append(found)

    threads = [threading.Thread(target=call) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            model.weight = 7.0 - model.weight
        for thread in threads:
            thread.join()
    assert not wrong, wrong[0]
