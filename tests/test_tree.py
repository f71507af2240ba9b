"""Flattening and rebuilding nested structures."""

import dataclasses
import enum
import pprint
import subprocess
import sys
from collections import OrderedDict
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
from _errors import raises_text
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg


class Layer(NamedTuple):
    weights: object
    bias: object = None


@dataclasses.dataclass
class Net:
    weights: object
    name: str = dataclasses.field(default="net", metadata={"static": True})
    bias: object = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    weights: object
    bias: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    weights: object


class Pair:
    """A class of the user's that is registered."""

    def __init__(self, first, second, unit="m"):
        self.first, self.second, self.unit = first, second, unit

    def __eq__(self, other):
        return (self.first, self.second, self.unit) == (other.first, other.second, other.unit)

    __hash__ = None


fg.tree.register(
    Pair, lambda pair: ([pair.first, pair.second], pair.unit), lambda unit, children: Pair(*children, unit)
)

TREES = [
    (1.0, [1.0], "*"),
    (None, [], "None"),
    ({}, [], "{}"),
    ([], [], "[]"),
    ((), [], "()"),
    ((1.0,), [1.0], "(*,)"),
    ({"b": 1.0, "a": 2.0}, [2.0, 1.0], "{'a': *, 'b': *}"),
    (OrderedDict(b=1.0, a=2.0), [1.0, 2.0], "{'b': *, 'a': *}"),
    ([1.0, (2.0, None), {"k": [3.0]}], [1.0, 2.0, 3.0], "[*, (*, None), {'k': [*]}]"),
    (Layer(1.0, [2.0]), [1.0, 2.0], "Layer(weights=*, bias=[*])"),
    (Layer(1.0), [1.0], "Layer(weights=*, bias=None)"),
    ({2: 1.0, "x": 2.0}, [1.0, 2.0], "{2: *, 'x': *}"),
    (Net(1.0), [1.0], "Net(weights=*, bias=None, constants=('net',))"),
    (Net([1.0], "x", (2.0,)), [1.0, 2.0], "Net(weights=[*], bias=(*,), constants=('x',))"),
    (Frozen(1.0, {"k": 2.0}), [1.0, 2.0], "Frozen(weights=*, bias={'k': *})"),
    (Slots(Frozen(1.0)), [1.0], "Slots(weights=Frozen(weights=*, bias=None))"),
    (Pair(1.0, [2.0]), [1.0, 2.0], "Pair(*, [*], constants='m')"),
]


@pytest.mark.parametrize(("tree", "leaves", "text"), TREES)
def test_flatten_gives_leaves_in_order_and_unflatten_the_tree(tree, leaves, text):
    found, structure = fg.tree.flatten(tree)
    assert found == leaves == fg.tree.leaves(tree)
    assert repr(structure) == text
    assert structure.num_leaves == len(leaves)
    rebuilt = fg.tree.unflatten(structure, found)
    assert rebuilt == tree
    assert type(rebuilt) is type(tree)
    assert structure == fg.tree.structure(tree)
    assert hash(structure) == hash(fg.tree.structure(rebuilt))


nested = st.recursive(
    st.floats(allow_nan=False) | st.integers() | st.none(),
    lambda child: (
        st.lists(child, max_size=4)
        | st.tuples(child, child)
        | st.dictionaries(st.text(max_size=3), child, max_size=4)
        | st.builds(Layer, child, child)
        | st.builds(Net, child, st.text(max_size=3), child)
        | st.builds(Frozen, child, child)
    ),
    max_leaves=20,
)


@given(nested)
def test_round_trip_of_any_tree(tree):
    leaves, structure = fg.tree.flatten(tree)
    assert repr(fg.tree.unflatten(structure, leaves)) == repr(tree)
    assert structure.flatten_up_to(tree) == leaves
    assert fg.tree.map(lambda leaf: leaf, tree) == tree
    paths = structure.paths("tree")
    assert [eval(path, {"tree": tree}) for path in paths] == leaves
    assert fg.tree.flatten_with_path(tree, "tree") == (list(zip(paths, leaves)), structure)


@given(nested, nested)
def test_structures_are_equal_only_if_the_trees_are_built_alike(a, b):
    blank = lambda tree: pprint.pformat(fg.tree.map(lambda leaf: 0, tree))  # with sorted keys, unlike repr
    same_order = fg.tree.structure(a) == fg.tree.structure(b)
    assert same_order == (blank(a) == blank(b))


def test_arrays_are_leaves_and_are_not_copied():
    w, b = np.zeros((2, 3)), np.zeros(3)
    leaves = fg.tree.leaves({"w": w, "b": b})
    assert leaves[0] is b and leaves[1] is w
    assert fg.tree.leaves(w)[0] is w


def test_dicts_with_equal_keys_have_one_structure_however_they_were_filled():
    assert fg.tree.structure({"a": 1.0, "b": 2.0}) == fg.tree.structure({"b": 1.0, "a": 2.0})


class Key(enum.Enum):
    ONE = 2
    TWO = 1


ONE = np.float64(1)  # which == compares with each item of a tuple


@pytest.mark.parametrize(
    "keys",
    [
        ("b", "a"), (2, 1), ("x", 2), (Key.TWO, Key.ONE), (Key.TWO, "x", 3, 1, Key.ONE), ((3, 4), ONE), (ONE, (1,)),
        ((3, 4), (2,), ONE), ("x", (1, 2), ONE, 1.5), (np.int64(3), (3,), (4,)),
    ],
)  # fmt: skip
def test_keys_of_any_types_are_one_structure_in_any_order(keys):
    first, second = dict.fromkeys(keys, 1.0), dict.fromkeys(reversed(keys), 1.0)
    assert fg.tree.structure(first) == fg.tree.structure(second)
    assert hash(fg.tree.structure(first)) == hash(fg.tree.structure(second))
    assert list(fg.tree.structure(first).paths("x")) == list(fg.tree.structure(second).paths("x"))
    assert list(fg.tree.map(lambda x: x, first)) == list(keys)


def test_keys_that_cannot_be_sorted_keep_their_order_and_match_by_key():
    first, second = {1j: 1.0, 2j: 2.0}, {2j: 20.0, 1j: 10.0}
    assert fg.tree.leaves(first) == [1.0, 2.0]
    assert fg.tree.map(lambda a, b: a + b, first, second) == {1j: 11.0, 2j: 22.0}


# A function that walks a dictionary: its value and what it returns depend on the order of insertion.
def _walk(d):
    first, second = d.values()
    return first * first * 10 + second


def _first_key_last(d):
    return {key: d[key] * 2 for key in reversed(list(d))}


UNSORTED, SORTED = {"b": np.array(1.0), "a": np.array(5.0)}, {"a": np.array(5.0), "b": np.array(1.0)}


@pytest.mark.parametrize("wrap", [lambda f: f, fg.compile, lambda f: fg.compile(f, verify=True)])
@pytest.mark.parametrize(
    ("d", "value", "gradient"), [(UNSORTED, 15, {"b": 20, "a": 1}), (SORTED, 251, {"a": 100, "b": 1})]
)
def test_functions_see_dictionaries_in_the_order_of_insertion(wrap, d, value, gradient):
    nested = {"z": [d], "y": d}
    f, g = wrap(_walk), wrap(fg.value_and_grad(_walk))
    for _ in range(3):
        assert float(f(d)) == value
        assert g(d) == (value, gradient) and list(g(d)[1]) == list(d)
        found = wrap(fg.grad(lambda t: _walk(t["z"][0]) + 3 * _walk(t["y"])))(nested)
        assert found == {"z": [gradient], "y": {k: 3 * v for k, v in gradient.items()}}
        assert list(found) == ["z", "y"] and list(found["y"]) == list(found["z"][0]) == list(d)
        assert list(wrap(_first_key_last)(d)) == list(reversed(d))
    assert float(wrap(lambda **named: _walk(named))(**d)) == value


def test_a_compiled_function_tells_the_orders_of_a_dictionary_apart():
    f = fg.compile(lambda d: (_walk(d), d))
    for _ in range(3):
        for d, value in ((UNSORTED, 15), (SORTED, 251), ({"a": np.array(1.0), "b": np.array(5.0)}, 15)):
            found, back = f(d)
            assert found == value and list(back) == list(d)
    assert f.cache_info().currsize == 2
    assert fg.compile(lambda *args, **named: _walk(named))(b=1.0, a=5.0) == 15


def test_transforms_keep_the_order_of_insertion():
    for d, value, slopes in ((UNSORTED, 15, [20, 1]), (SORTED, 251, [100, 1])):
        value_of = lambda found: [x.item() for x in found.values()]
        assert float(fg.jvp(_walk, (d,), ({"a": np.array(0.0), "b": np.array(0.0)},))[0]) == value
        jacobian = fg.jacobian(lambda d: np.stack([_walk(d)]))(d)
        assert list(jacobian) == list(d) and value_of(jacobian) == slopes
        assert list(fg.hessian(_walk)(d)) == list(d)
        pulled = fg.vjp(_walk, d)[1](np.array(1.0))
        pulled = pulled[0] if isinstance(pulled, tuple) else pulled
        assert list(pulled) == list(d) and value_of(pulled) == slopes
        batch = {k: np.stack([v, v]) for k, v in d.items()}
        assert fg.vmap(_walk)(batch).tolist() == [value] * 2
        assert list(fg.vmap(_first_key_last)(batch)) == list(reversed(d))
        assert float(fg.checkpoint(_walk)(d)) == value
        ravelled, unravel = fg.tree.ravel(d)
        assert ravelled.tolist() == [5, 1] and list(unravel(ravelled)) == list(d)
        carry, _ = fg.scan(lambda c, _: ({k: v + 1 for k, v in sorted(c.items())}, _walk(c)), d, None, length=2)
        assert list(carry) == list(d)
        assert fg.scan(lambda c, _: (c, _walk(c)), d, None, length=2)[1].tolist() == [value] * 2
        assert (
            fg.compile(lambda d: fg.scan(lambda c, _: (c, _walk(c)), d, None, length=2)[1])(d).tolist() == [value] * 2
        )
        assert float(fg.compile(lambda d: fg.cond(d["a"] > 0, _walk, _walk, d))(d)) == value

        @fg.custom_vjp
        def twice(d):
            return 2 * _walk(d)

        twice.defvjp(lambda d: (2 * _walk(d), d), lambda d, g: ({k: g * i for i, k in enumerate(d)},))
        assert fg.value_and_grad(twice)(d) == (2 * value, dict(zip(d, [0, 1])))


@pytest.mark.parametrize("compile", [True, False])
def test_a_net_that_walks_its_parameters_is_trained_as_it_infers(compile):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 3)), rng.standard_normal((8, 3))

    def predict(params, x):
        for w in params.values():
            x = np.tanh(x @ w)
        return x

    def loss(params, x, y):
        return np.mean((predict(params, x) - y) ** 2)

    params = {f"layer{i}": rng.standard_normal((3, 3)) for i in (9, 10, 11)}
    expected = float(np.mean((predict(params, x) - y) ** 2))
    step = fg.training_step(loss, params, "sgd", compile=compile)
    assert step(x, y) == pytest.approx(expected, rel=1e-12)
    assert step(x, y) == pytest.approx(float(np.mean((predict(step.params, x) - y) ** 2)), abs=1.0)
    found = fg.minimize(lambda p: loss(p, x, y), params, options={"maxiter": 3})
    assert list(found.x) == list(params)
    assert float(found.fun) == pytest.approx(float(loss(found.x, x, y)), rel=1e-12)


def test_subclasses_of_containers_are_leaves():
    class Special(list):
        pass

    leaf = Special([1.0])
    assert fg.tree.leaves([leaf, 2.0]) == [leaf, 2.0]


def test_map_takes_what_stands_at_the_leaves_of_the_first_tree():
    assert fg.tree.map(lambda a, b: (a, b), {"k": 1.0}, {"k": [2.0, 3.0]}) == {"k": (1.0, [2.0, 3.0])}


def test_paths():
    tree = {"layer1": [1.0, Layer(2.0, {"x": 3.0})]}
    paths = [path for path, _ in fg.tree.flatten_with_path(tree, "params")[0]]
    assert paths == [
        "params['layer1'][0]",
        "params['layer1'][1].weights",
        "params['layer1'][1].bias['x']",
    ]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": [1.0, 2.0]}, "tree 2 lacks 'b'"),
        ({"a": [1.0, 2.0], "c": 3.0}, "tree 2 lacks 'b' and has the unexpected 'c'"),
        ({"a": [1.0, 2.0], "b": 1.0, "c": 3.0}, "tree 2 has the unexpected 'c'"),
        ({"a": [1.0], "b": 3.0}, "tree 2['a'] has 1 elements where 2 were expected"),
        ({"a": (1.0, 2.0), "b": 3.0}, "tree 2['a'] is of type tuple where list was expected: [*, *]"),
        ({"a": None, "b": 3.0}, "tree 2['a'] is of type NoneType where list was expected: [*, *]"),
        ({"a": [1.0, 2.0], 5: 3.0}, "tree 2 lacks 'b' and has the unexpected 5"),
        ([1.0], "tree 2 is of type list where dict was expected: {'a': [*, *], 'b': *}"),
    ],
)
def test_map_names_the_place_where_structures_differ(other, message):
    with raises_text(ValueError, message):
        fg.tree.map(lambda a, b: a, {"a": [1.0, 2.0], "b": 3.0}, other)


@pytest.mark.parametrize("leaves", [[], [1.0], [1.0, 2.0, 3.0]])
def test_unflatten_wants_the_right_number_of_leaves(leaves):
    structure = fg.tree.structure({"a": 1.0, "b": 2.0})
    with pytest.raises(ValueError) as error:
        fg.tree.unflatten(structure, leaves)
    assert str(error.value) == f"tree.unflatten: {len(leaves)} leaves for a structure of 2: {{'a': *, 'b': *}}"


def test_structures_of_another_kind_are_not_equal():
    trees = [1.0], (1.0,), {0: 1.0}, 1.0, None, [], {}, Layer(1.0), Frozen(1.0), Slots(1.0), Net(1.0), Net(1.0, "x")
    structures = [fg.tree.structure(tree) for tree in trees]
    for i, a in enumerate(structures):
        for j, b in enumerate(structures):
            assert (a == b) == (i == j)
    assert structures[0] != "[*]"


# ---- dataclasses ------------------------------------------------------------------------------------------
def test_a_dataclass_is_rebuilt_without_running_its_code():
    @dataclasses.dataclass
    class Careful:
        values: object
        doubled: object = dataclasses.field(init=False)

        def __post_init__(self):
            self.doubled = 2 * self.values

    tree = fg.tree.map(lambda leaf: leaf + 1, Careful(np.array([1.0])))
    assert (tree.values, tree.doubled) == (2.0, 3.0)


def test_class_variables_and_initial_values_of_a_dataclass_are_no_children():
    @dataclasses.dataclass
    class Model:
        shared: ClassVar[float] = 7.0
        seed: dataclasses.InitVar[int] = 3
        w: float = 1.0

    assert fg.tree.leaves(Model()) == [1.0]


def test_constants_of_a_dataclass_belong_to_its_structure():
    with pytest.raises(ValueError) as error:
        fg.tree.map(lambda a, b: a, {"net": Net(1.0)}, {"net": Net(1.0, "other")})
    assert str(error.value) == "tree 2['net'] has the constants ('other',) where ('net',) were expected"
    same = [fg.tree.structure(Net(1.0, name)) for name in (1, 1.0, True, 0.0, -0.0)]
    assert [a == b for a in same for b in same] == [i == j for i in range(5) for j in range(5)]
    with pytest.raises(TypeError, match=r"constants \(\['a'\],\) of Net must be hashable"):
        hash(fg.tree.structure(Net(1.0, ["a"])))


def test_a_dataclass_itself_is_a_leaf():
    assert fg.tree.leaves([Net]) == [Net]


# ---- register ---------------------------------------------------------------------------------------------
def test_a_registered_class_is_known_to_every_transform():
    x = Pair(np.array([1.0, 2.0]), {"k": 3.0}, "s")
    for f in (fg.grad(squares), fg.compile(fg.grad(squares))):
        gradient = f(x)
        assert type(gradient) is Pair and gradient.unit == "s"
        np.testing.assert_array_equal(gradient.first, [2.0, 4.0])
        assert gradient.second == {"k": 6.0}


def test_places_in_a_registered_container():
    assert fg.tree.structure([Pair(1.0, [2.0])]).paths("p") == ["p[0][<child 0>]", "p[0][<child 1>][0]"]
    with pytest.raises(ValueError, match=r"^tree 2 has the constants 's' where 'm' were expected$"):
        fg.tree.map(max, Pair(1.0, 2.0), Pair(1.0, 2.0, "s"))


def test_a_registered_named_tuple_or_dataclass_is_split_as_it_says():
    class Tagged(NamedTuple):
        tag: str
        x: object

    @dataclasses.dataclass
    class Only:
        x: object
        y: object

    fg.tree.register(Tagged, lambda t: ((t.x,), t.tag), lambda tag, children: Tagged(tag, *children))
    fg.tree.register(Only, lambda t: ((t.y,), None), lambda aux, children: Only(None, *children))
    assert fg.tree.leaves(Tagged("a", 1.0)) == [1.0]
    assert fg.tree.map(lambda x: 2 * x, Tagged("a", 1.0)) == Tagged("a", 2.0)
    assert fg.tree.map(lambda x: 2 * x, Only(1.0, 2.0)) == Only(None, 4.0)
    step = fg.compile(fg.grad(lambda t: t.x * t.x))
    for x in (1.0, 2.0):
        gradient = step(Tagged("a", np.array(x)))
        assert gradient.tag == "a" and gradient.x == 2 * x


def test_register_takes_functions_only():
    class Later:
        pass

    for functions in ((1, 2), (lambda obj: ((), None), None)):
        with pytest.raises(TypeError, match="tree.register: expected functions flatten and unflatten, got (1|None)"):
            fg.tree.register(Later, *functions)
    fg.tree.register(Later, lambda obj: ((), None), lambda aux, children: Later())


def test_constants_that_are_not_hashable_or_comparable_are_named_once():
    tree = ({"p": Pair(1.0, 2.0, [1])}, 3.0)
    with pytest.raises(TypeError) as error:
        fg.compile(lambda tree: tree[1])(tree)
    assert str(error.value) == "tree: the constants [1] of Pair must be hashable: unhashable type: 'list'"
    arrays = [Pair(1.0, 2.0, np.ones(2)) for _ in range(2)]
    for compare in (lambda a, b: fg.tree.map(max, a, b), lambda a, b: fg.tree.structure(a) == fg.tree.structure(b)):
        with pytest.raises(TypeError, match=r"tree: the constants array\(\[1., 1.\]\) of Pair must be comparable"):
            compare(*arrays)


@pytest.mark.parametrize(
    ("cls", "error", "message"),
    [
        (3, TypeError, "tree.register: expected a class, got 3"),
        (np.ndarray, TypeError, "tree.register: ndarray is a type of leaves and cannot be a container"),
        (fg.Tensor, TypeError, "tree.register: Tensor is a type of leaves and cannot be a container"),
        (np.float64, TypeError, "tree.register: float64 is a type of leaves and cannot be a container"),
        (dict, ValueError, "tree.register: dict is a container already"),
        (type(None), ValueError, "tree.register: NoneType is a container already"),
        (Pair, ValueError, "tree.register: Pair is a container already"),
    ],
)
def test_register_refuses(cls, error, message):
    with raises_text(error, message):
        fg.tree.register(cls, lambda obj: ((), None), lambda aux, children: None)


def test_register_says_what_flatten_must_return():
    class Bad:
        pass

    fg.tree.register(Bad, lambda bad: [1.0], lambda aux, children: Bad())
    with pytest.raises(TypeError, match=r"flatten of Bad must return \(children, aux\), got \[1.0\]"):
        fg.tree.flatten(Bad())


# ---- every container in every function --------------------------------------------------------------------
def squares(tree):
    return sum([np.sum(leaf * leaf) for leaf in fg.tree.leaves(tree)], start=fg.tensor(0.0))


CONTAINERS = {
    "NamedTuple": Layer(np.array([1.0, 2.0]), np.array(3.0)),
    "dataclass": Net(np.array([1.0, 2.0]), "tanh", {"b": np.array(3.0)}),
    "frozen dataclass": Frozen(np.array([1.0, 2.0]), (np.array([3.0]),)),
    "registered": Pair(np.array([1.0, 2.0]), [np.array(3.0)]),
    "None and empty containers": {"none": None, "x": [np.array([1.0]), {}, (), None]},
    "all of them": [Layer(Net(Frozen(np.ones(2))), Pair(np.ones(1), None)), {"w": Slots(np.ones(3))}],
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_gradients_keep_the_container(name):
    tree = CONTAINERS[name]
    expected = [2 * leaf for leaf in fg.tree.leaves(tree)]
    compiled = fg.compile(fg.value_and_grad(squares))
    for f in (fg.value_and_grad(squares), compiled, compiled, compiled):
        value, gradient = f(tree)
        leaves, structure = fg.tree.flatten(gradient)
        assert structure == fg.tree.structure(tree)
        assert value == sum(np.sum(leaf**2) for leaf in fg.tree.leaves(tree))
        for got, leaf in zip(leaves, expected):
            np.testing.assert_array_equal(got, leaf)
    assert compiled.cache_info()[:2] == (2, 1)


@pytest.mark.parametrize("name", CONTAINERS)
def test_training_updates_the_containers(name):
    tree = fg.tree.map(np.copy, CONTAINERS[name])
    before = fg.tree.leaves(fg.tree.map(np.copy, tree))
    step = fg.training_step(squares, tree, fg.optim.SGD(0.25))
    for _ in range(3):
        step()
    for got, x in zip(fg.tree.leaves(tree), before):
        np.testing.assert_array_equal(got, x / 8)
    result = fg.descend(squares, CONTAINERS[name], steps=3, optimizer=fg.optim.SGD(0.25))
    assert fg.tree.structure(result.params) == fg.tree.structure(tree)
    for got, x in zip(fg.tree.leaves(result.params), before):
        np.testing.assert_array_equal(got, x / 8)


def test_compile_traces_anew_for_other_constants_and_other_types():
    f = fg.compile(lambda net: net.weights * len(net.name) if isinstance(net, Net) else net.weights)
    w = np.array([1.0])
    assert [f(tree)[0] for tree in (Net(w, "ab"), Net(w, "abc"), Net(w, "ab"), Frozen(w), Layer(w))] == [2, 3, 2, 1, 1]
    assert f.cache_info()[:2] == (1, 4)


def test_a_named_tuple_of_another_type_is_not_taken_for_the_traced_one():
    class Twin(NamedTuple):
        weights: object
        bias: object = None

    f = fg.compile(lambda tree: tree.weights * (2.0 if type(tree) is Twin else 1.0))
    w = np.array([1.0])
    assert [f(kind(w))[0] for kind in (Layer, Twin, Layer, Twin, Twin)] == [1, 2, 1, 2, 2]
    with pytest.raises(AttributeError):
        f((w, None))


def test_compile_returns_containers():
    f = fg.compile(lambda x: Net(x * 2, "out", Frozen(x + 1, None)))
    for x in (np.array([1.0]), np.array([2.0]), np.array([3.0])):
        result = f(x)
        assert type(result) is Net and type(result.bias) is Frozen and result.name == "out"
        assert (result.weights[0], result.bias.weights[0]) == (2 * x[0], x[0] + 1)


def test_errors_of_grad_name_the_place():
    with pytest.raises(TypeError, match=r"argument 0 at \['layer1'\]\[0\]\.bias is int"):
        fg.grad(squares)({"layer1": [Frozen(1.0, np.array([1]))]})


# ---- ravel ------------------------------------------------------------------------------------------------
@given(nested)
def test_ravel_round_trip_of_any_tree(tree):
    tree = fg.tree.map(float, tree)
    flat, unravel = fg.tree.ravel(tree)
    assert flat.dtype == np.float64 and flat.tolist() == fg.tree.leaves(tree)
    assert unravel(flat) == tree


def test_ravel_promotes_and_leaves_regain_their_dtypes():
    tree = {"a": np.float32([[1, 2], [3, 4]]), "b": np.int8(5), "c": [True, np.array(6.0, np.float32)], "d": None}
    flat, unravel = fg.tree.ravel(tree)
    assert flat.dtype == np.float32 and flat.tolist() == [1, 2, 3, 4, 5, 1, 6]
    assert fg.tree.ravel([tree, 1.0])[0].dtype == np.float64
    again = unravel(flat.astype(np.float64) + 1)
    assert again["a"].dtype == np.float32 and again["a"].tolist() == [[2, 3], [4, 5]]
    assert type(again["b"]) is np.int8 and again["b"] == 6
    assert type(again["c"][0]) is np.bool_ and again["c"][1].dtype == np.float32 and again["c"][1].shape == ()
    assert again["d"] is None


def test_ravel_of_unusual_arrays():
    tree = [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(4.0)[::-2], np.zeros((0, 3)), np.array(7.0)]
    flat, unravel = fg.tree.ravel(tree)
    assert flat.tolist() == [0, 1, 2, 3, 4, 5, 3, 1, 7]
    for got, leaf in zip(unravel(flat), tree):
        np.testing.assert_array_equal(got, leaf, strict=True)


@pytest.mark.parametrize("tree", [{}, None, [], [(), {"a": None}]])
def test_ravel_of_nothing(tree):
    flat, unravel = fg.tree.ravel(tree)
    assert flat.shape == (0,) and flat.dtype == np.float64
    assert unravel(flat) == tree


def test_unraveled_leaves_are_views_but_the_vector_is_not():
    w = np.ones(2)
    flat, unravel = fg.tree.ravel([w, 1.0])
    flat[:] = 5
    assert w.tolist() == [1, 1]
    leaf = unravel(flat)[0]
    flat[0] = 7
    assert leaf.tolist() == [7, 5]


def test_ravel_inside_of_transforms_is_differentiable():
    tree = {"w": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([5.0], np.float32), "s": 6.0}
    weights = np.arange(1.0, 7.0)

    def through_ravel(tree):
        return np.sum(fg.tree.ravel(tree)[0] ** 2 * weights)

    flat, unravel = fg.tree.ravel(tree)
    assert flat.tolist() == [5, 6, 1, 2, 3, 4]
    expected = unravel(2 * flat * weights)
    for f in (fg.grad(through_ravel), fg.compile(fg.grad(through_ravel))):
        fg.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), f(tree), expected)

    def through_unravel(flat):
        tree = unravel(flat)
        assert [leaf.dtype for leaf in fg.tree.leaves(tree)] == [np.float32, np.float64, np.float64]
        return np.sum(tree["w"] @ tree["w"]) + tree["b"][0] * 3 + tree["s"] ** 2

    of_w = np.add.outer(tree["w"].sum(0), tree["w"].sum(1))
    for f in (fg.grad(through_unravel), fg.compile(fg.grad(through_unravel))):
        np.testing.assert_allclose(f(flat), [3, 12, *of_w.ravel()], rtol=1e-6)


def test_unravel_of_a_tensor_refuses_to_lose_a_gradient():
    flat, unravel = fg.tree.ravel([np.array([1, 2]), 1.0])
    with pytest.raises(TypeError, match="^tree.ravel: part of a vector that requires gradients cannot become int64"):
        fg.grad(lambda x: np.sum(unravel(x)[1]))(flat)


@pytest.mark.parametrize("vector", [np.zeros(2), np.zeros((3, 1)), 1.0, np.zeros(4)])
def test_unravel_wants_a_vector_of_the_right_length(vector):
    unravel = fg.tree.ravel([1.0, np.zeros(2)])[1]
    with pytest.raises(ValueError) as error:
        unravel(vector)
    assert str(error.value) == f"tree.ravel: unravel takes a vector of shape (3,), got shape {np.shape(vector)}"


@pytest.mark.parametrize("leaf", ["text", 1j, object(), np.array([None]), np.ma.masked_array([1.0], [True])])
def test_ravel_refuses_what_is_no_real_array(leaf):
    with pytest.raises(
        TypeError, match=r"tree.ravel: tree\['a'\]\[1\] is of type \w+ and dtype .*, expected real arrays"
    ):
        fg.tree.ravel({"a": [1.0, leaf]})


def test_a_structure_that_holds_itself_is_refused():
    loop = {"w": np.ones(2)}
    loop["self"] = [loop]
    for use in (
        fg.tree.leaves,
        fg.grad(lambda p: p["w"].sum()),
        fg.compile(lambda p: p["w"]),
        lambda p: fg.training_step(lambda p: p["w"].sum(), p, "sgd"),
        lambda p: fg.descend(len, p, optimizer="sgd", steps=1),
    ):
        with pytest.raises(ValueError, match="^(tree: a structure|(training_step|descend): params) holds itself"):
            use(loop)


DEEP = """
import sys
import numpy as np
import fastgrad as fg
sys.setrecursionlimit(10**6)
deep = np.ones(2)
for _ in range(20000):
    deep = [deep]
step = fg.training_step(lambda p, x: (p * p).sum(), np.zeros(2), "sgd")
compiled = fg.compile(lambda x: x[0] * 2)
compiled([np.ones(2)]), compiled([np.ones(2)])
for f in (compiled, fg.compile(lambda x: 1.0), fg.grad(lambda x: 1.0), fg.vmap(lambda x: 1.0), step, fg.tree.flatten,
          lambda x: fg.training_step(lambda p: 1.0, x, "sgd"), fg.compile(lambda x: [deep, x])):
    try:
        f(deep if f is not step else [deep])
    except ValueError as error:
        what = str(error).removesuffix(" holds itself, or is nested too deeply")
        assert what in ("tree: a structure", "training_step: params"), error
    else:
        raise AssertionError(f)
fine = 1.0
for _ in range(fg.tree._DEPTH_LIMIT - 100):
    fine = (fine,)
assert hash(fg.tree.structure(fine)) == hash(fg.tree.structure(fine))
assert fg.compile(lambda x: fg.tree.leaves(x)[0] * 2)(fine) == 2
"""


def test_nesting_has_a_limit_that_the_recursion_limit_does_not_move():
    subprocess.run([sys.executable, "-c", DEEP], check=True)


def test_unflatten_takes_the_structure_first():
    with pytest.raises(
        TypeError, match="^tree.unflatten: expected a structure, as flatten returns, and then .* ndarray$"
    ):
        fg.tree.unflatten(np.ones(2), fg.tree.structure([1.0, 2.0]))


def test_objects_of_subclasses_of_containers_lead_to_register():
    class Params(dict):
        pass

    class Layers(list):
        pass

    for x, name in ((Params(w=1.0), "dict"), (Layers([1.0]), "list")):
        with pytest.raises(TypeError, match=f"an object of a subclass of {name}, .*fastgrad.tree.register"):
            fg.grad(lambda p: 0.0)(x)


KEYS = [1, 1.0, True, 0.0, -0.0, (1, "a"), (True, "a"), "1", np.float64(1), (1,), (1, 2), (np.float64(1),), ((1, 2),)]


def test_structures_tell_apart_keys_that_python_compares_equal():
    structures = [fg.tree.structure([{key: 1.0, "b": 2.0}]) for key in KEYS]
    for i, a in enumerate(structures):
        for k, b in enumerate(structures):
            assert (a == b) == (i == k), f"{KEYS[i]!r} and {KEYS[k]!r}"
    assert fg.tree.structure({-0.0: 1.0}) == fg.tree.structure({-0.0: 2.0})
    assert fg.tree.map(lambda x, y: x + y, {1: 1.0}, {True: 2.0}) == {1: 3.0}  # dicts are matched by key


def test_keys_of_other_types_are_named_where_trees_differ():
    for expected, found in ((ONE, (1,)), (ONE, (1, 2)), ((1,), ONE), ((ONE, 2), ((1, 2), 2))):
        text = f"tree 2 lacks {expected!r} and has the unexpected {found!r}"
        with raises_text(ValueError, text):
            fg.tree.map(lambda x, y: x, {expected: 1.0}, {found: 1.0})
        with raises_text(
            ValueError, f"vmap: in_axes has the entries [{expected!r}] for args[0], which has [{found!r}]"
        ):
            fg.vmap(lambda d: 1.0, in_axes=({expected: 0},))({found: np.ones(2)})


def test_a_program_is_of_the_keys_that_it_was_traced_with():
    compiled = fg.compile(lambda d: {repr(k): v * 2 for k, v in d.items()})
    for _ in range(3):
        for key in KEYS:
            assert compiled({key: 1.5}) == {repr(key): 3.0}
    assert compiled.cache_info().misses == len(KEYS)
