"""Flattening and rebuilding nested structures."""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg


class Layer(NamedTuple):
    weights: object
    bias: object = None


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
    ),
    max_leaves=20,
)


@given(nested)
def test_round_trip_of_any_tree(tree):
    leaves, structure = fg.tree.flatten(tree)
    assert fg.tree.unflatten(structure, leaves) == tree
    assert structure.flatten_up_to(tree) == leaves
    assert fg.tree.map(lambda leaf: leaf, tree) == tree
    paths = structure.paths("tree")
    assert [eval(path, {"tree": tree}) for path in paths] == leaves
    assert fg.tree.flatten_with_path(tree, "tree") == (list(zip(paths, leaves)), structure)


@given(nested, nested)
def test_structures_are_equal_only_if_the_trees_are_built_alike(a, b):
    blank = lambda tree: repr(fg.tree.map(lambda leaf: 0, tree))
    same_order = fg.tree.structure(a) == fg.tree.structure(b)
    assert same_order == (blank(a) == blank(b))


def test_arrays_are_leaves_and_are_not_copied():
    w, b = np.zeros((2, 3)), np.zeros(3)
    leaves = fg.tree.leaves({"w": w, "b": b})
    assert leaves[0] is b and leaves[1] is w
    assert fg.tree.leaves(w)[0] is w


def test_dicts_with_equal_keys_have_one_structure_however_they_were_filled():
    assert fg.tree.structure({"a": 1.0, "b": 2.0}) == fg.tree.structure({"b": 1.0, "a": 2.0})


def test_keys_that_cannot_be_sorted_keep_their_order_and_match_by_key():
    first, second = {2: 1.0, "x": 2.0}, {"x": 20.0, 2: 10.0}
    assert fg.tree.leaves(first) == [1.0, 2.0]
    assert fg.tree.map(lambda a, b: a + b, first, second) == {2: 11.0, "x": 22.0}


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
        ([1.0], "tree 2 is of type list where dict was expected: {'a': [*, *], 'b': *}"),
    ],
)
def test_map_names_the_place_where_structures_differ(other, message):
    with pytest.raises(ValueError) as error:
        fg.tree.map(lambda a, b: a, {"a": [1.0, 2.0], "b": 3.0}, other)
    assert str(error.value) == message


@pytest.mark.parametrize("leaves", [[], [1.0], [1.0, 2.0, 3.0]])
def test_unflatten_wants_the_right_number_of_leaves(leaves):
    structure = fg.tree.structure({"a": 1.0, "b": 2.0})
    with pytest.raises(ValueError) as error:
        fg.tree.unflatten(structure, leaves)
    assert str(error.value) == f"tree.unflatten: {len(leaves)} leaves for a structure of 2: {{'a': *, 'b': *}}"


def test_structures_of_another_kind_are_not_equal():
    structures = [fg.tree.structure(tree) for tree in ([1.0], (1.0,), {0: 1.0}, 1.0, None, [], Layer(1.0))]
    for i, a in enumerate(structures):
        for j, b in enumerate(structures):
            assert (a == b) == (i == j)
    assert structures[0] != "[*]"
