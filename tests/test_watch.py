"""``compile``: what a function reads from outside its arguments is watched, and a change is traced anew."""

import collections
import dataclasses
import enum
import functools
import sys
import threading
import tracemalloc
import types
import warnings
import weakref
from typing import NamedTuple

import numpy as np
import pytest
from _replay import same

import fastgrad as fg
from fastgrad._compile.outside import _names_of, _Search, watch

X = np.array([1.0, 2.0, 3.0])
WEIGHT = 2.0
SETTINGS = types.SimpleNamespace(weight=2.0)
MODULE = types.ModuleType("settings_of_a_test")
MODULE.weight = 2.0
sys.modules[MODULE.__name__] = MODULE


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


class Key(enum.Enum):
    WEIGHT = 1


class Pair(NamedTuple):
    model: Model

    @property
    def half(self):
        return self.model.weight / 2


class Table(dict):
    def loss(self, x):
        return x * self["weight"] * self.scale


class Layers(list):
    def loss(self, x):
        return x * self[0]


class Descriptor:
    def __get__(self, instance, owner):
        return instance.weight


class Meta(type):
    @property
    def weight(cls):
        return WEIGHT


class Made(metaclass=Meta):
    described = Descriptor()

    def __init__(self):
        self.weight = WEIGHT

    scaled = functools.partialmethod(lambda self, factor, x: x * self.weight * factor, 1.0)


@functools.singledispatch
def dispatched(x):
    raise TypeError


@dispatched.register
def _(x: fg.Tensor):
    return x * WEIGHT


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


def hidden_cases():
    """The same where what is read is found by a detour."""

    def set_global():
        globals()["WEIGHT"] = 5.0

    def of_import(x):
        from settings_of_a_test import weight

        return x * weight

    def of_local_class(x):
        class Local:
            weight = WEIGHT

        return x * Local.weight

    yield "import in a function", of_import, lambda: setattr(MODULE, "weight", 5.0)
    yield "body of a local class", of_local_class, set_global
    yield "__init__ of a class that code names", lambda x: x * Made().weight, set_global
    yield "property of a metaclass", lambda x: x * Made.weight, set_global
    yield "one of several implementations", lambda x: dispatched(x), set_global
    inner = fg.compile(scaled)
    yield "compiled function", lambda x: inner(x), set_global

    Base = type("Base", (), {"act": lambda self, x: x * 2, "weight": 2.0, "loss": lambda self, x: self.act(x)})
    Sub = type("Sub", (Base,), {})
    a, b, c, d = Base(), Sub(), Sub(), Base()
    five = lambda self, x: x * 5
    yield "instance's method over a class's", a.loss, lambda: setattr(a, "act", functools.partial(five, a))
    yield "attribute of a class over a base's", lambda x: x * b.weight, lambda: setattr(Sub, "weight", 5.0)
    yield "method of a class over a base's", c.loss, lambda: setattr(Sub, "act", five)
    yield "method replaced", d.loss, lambda: setattr(Base, "act", five)
    reloaded = types.FunctionType(scaled.__code__, {"WEIGHT": 2.0}, "reloaded")
    yield "code replaced", lambda x: reloaded(x), lambda: setattr(reloaded, "__code__", (lambda x: x * 5).__code__)

    made, pair, reference = Made(), Pair(Model()), weakref.ref(MODELS[0])
    yield "descriptor", lambda x: x * made.described, lambda: setattr(made, "weight", 5.0)
    other = Made()
    yield "partial method", lambda x: other.scaled(x), lambda: setattr(other, "weight", 5.0)
    yield "property of a named tuple", lambda x: x * pair.half * 2, lambda: setattr(pair.model, "weight", 5.0)
    yield "weak reference", lambda x: x * reference().weight, lambda: setattr(MODELS[0], "weight", 5.0)
    yield "getattr", lambda x: x * getattr(MODELS[1], "weight"), lambda: setattr(MODELS[1], "weight", 5.0)  # noqa: B009

    keyed, table, scale, layers = {Key.WEIGHT: 2.0, (0, 1): 1.0}, Table(weight=2.0), Table(weight=1.0), Layers([2.0])
    table.scale, scale.scale = 1.0, 2.0
    queue, names, view = collections.deque([2.0]), {2.0}, types.MappingProxyType(data := {"weight": 2.0})
    yield "dict of other keys", lambda x: x * keyed[Key.WEIGHT], lambda: keyed.update({Key.WEIGHT: 5.0})
    yield "item of a dict of a class", table.loss, lambda: table.update(weight=5.0)
    yield "attribute of a dict of a class", scale.loss, lambda: setattr(scale, "scale", 5.0)
    yield "item of a list of a class", layers.loss, lambda: layers.__setitem__(0, 5.0)
    long = [1.0] * 99 + [2.0]
    longer = dict(enumerate(long))
    yield "long list", lambda x: x * long[99], lambda: long.__setitem__(99, 5.0)
    yield "long dict", lambda x: x * longer[99], lambda: longer.__setitem__(99, 5.0)
    yield "deque", lambda x: x * queue[0], lambda: queue.__setitem__(0, 5.0)
    yield "set", lambda x: x * sum(names), lambda: (names.clear(), names.add(5.0))
    yield "view of a dict", lambda x: x * view["weight"], lambda: data.update(weight=5.0)

    rows, large = np.full((3, 2), 2.0), np.full((3, 500), 2.0)
    column, columns, end = rows[:, 1], large[:, ::2], np.full(1000, 2.0)
    yield "array with gaps", lambda x: x * column, lambda: rows.fill(5.0)
    yield "large array with gaps", lambda x: x * columns[:, 0], lambda: large.fill(5.0)
    structured, complexes = np.full(3, 2.0).view([("weight", "f8")]), np.full(3, 2.0 + 0j)
    objects = np.array([2.0, "", None], object)
    yield "structured array", lambda x: x * structured["weight"], lambda: structured["weight"].fill(5.0)
    yield "complex array", lambda x: x * np.abs(complexes), lambda: complexes.fill(5.0)
    yield "array of objects", lambda x: x * objects[0], lambda: objects.__setitem__(0, 5.0)
    yield "end of a large array", lambda x: x * end[-3:], lambda: end.fill(5.0)

    space = {}
    exec("class Model:\n    weight = 2.0\n    def loss(self, x): return x * self.weight", space)
    yield "class of no module", space["Model"]().loss, lambda: setattr(space["Model"], "weight", 5.0)


MODELS = Model(), Model()
CASES = {name: (f, change) for name, f, change in [*cases(), *hidden_cases()]}


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
    assert [place[0] for place in _Search(lambda x: np.linalg.norm(fg.exp(x)), ()).places] == ["code"]


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
    compiled = fg.compile(lambda x: x * getattr(model, "weight", 1.0) + len(many) + model.unread + 0 * len(table))
    many, table = list(range(1000)), dict.fromkeys(range(1000))  # are not watched
    same(compiled(X), 2 * X + 1000)
    table[0] = many[0] = 1
    same(compiled(X), 2 * X + 1000)
    assert compiled.cache_info()[:2] == (1, 1)
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


def test_what_the_function_makes_at_its_first_use_is_watched():
    made = {}

    def f(x):
        model = made.get("model")
        if model is None:
            model = made["model"] = Model()
        return x * model.weight

    compiled = fg.compile(f)
    for _ in range(2):
        same(compiled(X), 2 * X)
    assert compiled.cache_info()[:2] == (1, 1)
    made["model"].weight = 5.0
    same(compiled(X), 5 * X)
    made["model"] = Model()
    same(compiled(X), 2 * X)


def test_each_element_of_a_large_array_is_compared():
    """The pieces cover arrays of any size up to a megabyte, to the last byte."""
    for size in (129, 130, 1000, 1001, 4096):
        for at in (0, size // 3, size - 1):
            table = np.ones(size)
            compiled = fg.compile(lambda x, table=table: x + table[0])
            compiled(X)
            table[at] = 3.0
            with pytest.raises(fg.TraceError, match="elements of table"):
                for _ in range(table.nbytes // 256 + 1):
                    compiled(X)


def test_a_watch_over_large_arrays_is_small():
    """As each program has one: hashes of pieces, not copies."""
    tables = [np.ones(1 << 17) for _ in range(8)]
    watch(lambda x: x + tables[0])
    tracemalloc.start()
    try:
        found = watch(lambda x: x + tables[0])
        assert tracemalloc.get_traced_memory()[0] < 9 * 4096 * 8
    finally:
        tracemalloc.stop()
    assert found.changes() == []


def test_no_code_of_the_users_runs():
    """Neither to find what is read, nor to compare it; and odd modules and classes do no harm."""

    def refuse(*_):
        raise RuntimeError("was called")

    refused = dict.fromkeys(("__eq__", "__hash__", "__getattr__", "__len__", "__iter__", "__contains__"), refuse)
    meta = type("Meta", (type,), dict.fromkeys(("__eq__", "__hash__", "__getattr__"), refuse))
    one = meta("One", (), {**refused, "weight": 2.0, "__dict__": property(refuse), "__class__": property(refuse)})()
    table, items = type("D", (dict,), refused)(a=2.0), type("L", (list,), refused)([2.0])
    odd, lazy = types.ModuleType("odd"), type("Lazy", (types.ModuleType,), {"__getattr__": refuse})("lazy")
    odd.__name__, odd.__file__, odd.weight, lazy.weight = [], 5, 2.0, 2.0
    of_odd_module = type("Odd", (), {"__module__": "module_of_a_test", "weight": 2.0})
    sys.modules["module_of_a_test"] = one
    f = lambda x: x * one.weight * odd.weight * lazy.weight * dict.get(table, "a") * items[0] * of_odd_module.weight
    try:
        compiled = fg.compile(f)
        for _ in range(2):
            same(compiled(X), 64 * X)
    finally:
        del sys.modules["module_of_a_test"]


def test_what_is_watched_lives_no_longer_than_the_compiled_function():
    model, array = Model(), np.ones(300)
    compiled = fg.compile(lambda x: x * model.weight * array[0])
    for _ in range(2):
        compiled(X)
    references = weakref.ref(model), weakref.ref(array)
    model.weight = array[:] = 5.0
    compiled(X)
    compiled = model = array = None
    assert [reference() for reference in references] == [None, None]


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
