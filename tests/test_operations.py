"""The tables of operations against each other: csrc/structural.def, the rules in Python, and the rows of the tests."""

import ast
import inspect
import runpy
from pathlib import Path

import numpy as np
import pytest
from _operations import OPERATIONS
from _oracles import ROWS

import fastgrad as fg
from fastgrad import _core
from fastgrad._rules import table
from fastgrad._rules.table import RULES

ROOT = Path(__file__).parent.parent
STRUCTURAL = _core.STRUCTURAL
# What _transforms/evaluate.py evaluates itself: operations with bodies, and `part`, which takes out one of their
# results.
NOT_CALLED = {name for name, row in STRUCTURAL.items() if row["bodies"]} | {"part"}


def rules(name):
    return RULES[_core.OP_NUMBERS[name]]


def test_the_table_of_rules_has_the_rows_of_structural_def_in_their_order():
    assert list(table._STRUCTURAL) == [*STRUCTURAL, "leaf", "custom"] == _core.OP_NAMES[len(ROWS) :]
    assert len(RULES) == len(_core.OP_NAMES) + 2 * len(ROWS)
    assert _core.OP_NAMES[: len(ROWS)] == list(ROWS)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_a_row_of_rules_is_complete(name):
    row, own = STRUCTURAL[name], rules(name)
    assert (own.vjp is not None) == ("RULE_IN_PYTHON" in row["flags"]), "vjp: for those with FG_RULE_IN_PYTHON"
    assert (own.jvp is not None) == row["differentiable"], "jvp: for those with a vjp"
    assert (own.batching is not None) == (name not in NOT_CALLED), "batching: for all but loops, branches and part"
    unknown = name in NOT_CALLED or name == "numpy" or "DRAWS" in row["flags"]
    assert (own.sparsity is None) == bool(unknown), "sparsity: for what apply_op evaluates, at least of_everything"


@pytest.mark.parametrize("name", ROWS)
def test_elementwise_rows_have_all_rules_but_that_of_diagonals(name):
    own = rules(name)
    assert None not in own._replace(diagonal=0)
    for i in range(2):
        derivative = RULES[_core.vjp_number(_core.OP_NUMBERS[name], i)]
        assert derivative.batching is not None and derivative.diagonal is not None and derivative.sparsity is not None


def test_every_operation_has_a_row_in_the_tests():
    # random has tests of its own (test_random.py), and so have loops and branches (test_flow.py).
    names = [name for name in STRUCTURAL if name not in {*NOT_CALLED, "random"}]
    missing = [name for name in names if name not in OPERATIONS]
    assert not missing, f"tests/_operations.py has no row for {', '.join(missing)}"
    assert list(OPERATIONS) == names, "the rows of tests/_operations.py stand in the order of csrc/structural.def"
    assert [name for name, row in OPERATIONS.items() if row.functions] == [
        name for name, row in STRUCTURAL.items() if row["differentiable"]
    ]


def operands_of(make, seed=0):
    return make(np.random.default_rng(seed), np.float64)


CALLS = [(name, k) for name, row in OPERATIONS.items() for k in range(len(row.calls))]


@pytest.mark.parametrize(("name", "k"), CALLS)
def test_the_number_of_inputs_is_that_of_the_row(name, k):
    make, _ = OPERATIONS[name].calls[k]
    assert STRUCTURAL[name]["inputs"] in (-1, len(operands_of(make)))


@pytest.mark.parametrize(("name", "k"), CALLS)
def test_a_view_is_flagged_as_one(name, k):
    make, attr = OPERATIONS[name].calls[k]
    xs = [fg.tensor(x) for x in operands_of(make)]
    y = _core.apply_op(_core.OP_NUMBERS[name], xs, attr)
    shared = y.size > 0 and any(np.shares_memory(y.detach().numpy(), x.detach().numpy()) for x in xs)
    assert shared == ("IS_VIEW" in STRUCTURAL[name]["flags"] and y.size > 0)


@pytest.mark.parametrize(("name", "k"), CALLS)
def test_a_program_that_runs_without_the_lock_takes_nothing_from_the_pool(name, k):
    """The pool belongs to who holds the GIL. A row that lacks FG_ALLOCATES would let threads corrupt it."""
    make, attr = OPERATIONS[name].calls[k]
    xs = [np.asarray(x) for x in operands_of(make)]
    program = traced(name, xs, attr)
    _core.empty_pool()
    program.run(xs)
    allocated = _core.live()["cached_bytes"] > 0
    assert not allocated or program.allocates


def traced(name, xs, attr):
    """The operation on inputs like xs as a program."""
    op = _core.OP_NUMBERS[name]
    with _core.Trace():
        inputs = [_core.trace_input(x) for x in xs]
        return _core.trace_end([_core.apply_op(op, inputs, attr)])


def test_a_reduction_over_axes_apart_allocates():
    """So that the test above can fail."""
    program = traced("sum", [np.ones((2, 3, 4))], (0b101, 0))
    _core.empty_pool()
    program.run([np.ones((2, 3, 4))])
    assert _core.live()["cached_bytes"] > 0 and program.allocates
    assert not traced("sum", [np.ones((2, 3, 4))], (0b110, 0)).allocates


# ---- names and stubs -------------------------------------------------------------------------------------------------
def test_generated_files_are_up_to_date():
    generated = runpy.run_path(str(ROOT / "tools" / "generate.py"))["generated"]()
    stale = [path.name for path, text in generated.items() if path.read_text() != text]
    assert not stale, "run python tools/generate.py"


def stub():
    """The definitions of the stub of the core by name."""
    tree = ast.parse((ROOT / "fastgrad" / "_core.pyi").read_text())
    return {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def test_the_stub_has_every_public_name_with_its_parameters():
    known = stub()
    assert sorted(set(_core.PUBLIC) - known.keys()) == []
    for name in _core.PUBLIC:
        if name == "Tensor":
            continue
        parameters = inspect.signature(getattr(_core, name)).parameters.values()
        own = known[name].args
        assert [p.name for p in parameters] == [a.arg for a in own.posonlyargs + own.args + own.kwonlyargs], name
        defaults = [p.default for p in parameters if p.default is not p.empty]
        assert defaults == [ast.literal_eval(d) for d in own.defaults + own.kw_defaults], name


def test_the_stub_has_nothing_that_the_core_lacks():
    lacking = [name for name in stub() if not hasattr(_core, name)]
    assert lacking == []


def test_public_names():
    assert sorted(_core.PUBLIC) == _core.PUBLIC and len(set(_core.PUBLIC)) == len(_core.PUBLIC)
    from fastgrad._numpy import functions

    # gelu_tanh is what gelu(x, approximate="tanh") calls
    assert _core.WITH_DEFAULTS - {"gelu_tanh"} == ROWS.keys() & set(functions.__all__)


def test_numpy_hands_each_function_of_ours_to_its_namesake():
    from fastgrad._numpy.protocol import _functions

    expected = {
        name for name in [*_core.PUBLIC, *fg._numpy.functions.__all__, "take"]
        if callable(getattr(np, name, None)) and not isinstance(getattr(np, name), (np.ufunc, type))
    }  # fmt: skip
    found = {function.__name__ for function in _functions()}
    # NumPy's functions that the table must have; what it lacks of ours computes nothing from tensors, or works in place
    assert expected - found <= {
        "geomspace", "logspace", "concat", "around", "amax", "amin", "permute_dims", "put_along_axis", "fill_diagonal",
        "place", "putmask",
    }  # fmt: skip


# ---- optimizers ------------------------------------------------------------------------------------------------------
def optimizers():
    """An object of each optimizer, with and without momentum where it has such an argument."""
    for name in fg.optim._rules._KNOWN:
        optimizer = fg.optim.get(name)
        if not optimizer._row:  # one that searches, by a rule of its own
            continue
        yield optimizer
        if hasattr(optimizer, "momentum"):
            yield fg.optim.get(name, momentum=0.9)


def test_every_row_of_optim_def_has_a_class_that_gives_its_numbers():
    assert {optimizer._row for optimizer in optimizers()} | {
        "average"  # of EMA and SWA
    } == set(_core.OPTIMIZERS)
    for optimizer in optimizers():
        number, names, least, most = _core.OPTIMIZERS[optimizer._row]
        assert least <= len(optimizer._slots) <= most, optimizer
        left_out = {"nesterov"} if getattr(optimizer, "momentum", 1) else {"nesterov", "momentum"}
        left_out |= {"centered", "step", "ns_steps"}  # which decides what state there is; a method; an integer
        attributes = [name for name in names if hasattr(optimizer, name) and name not in left_out]
        for i, name in enumerate(attributes):
            setattr(optimizer, name, 0.125 + i / 64)  # no two alike, so that their order is seen
        numbers = optimizer._numbers(optimizer.learning_rate)
        assert len(numbers) == len(names), optimizer
        assert {name: numbers[names.index(name)] for name in attributes} == {
            name: getattr(optimizer, name) for name in attributes
        }


def test_every_optimizer_is_public():
    assert {cls.__name__ for cls in fg.optim._rules._KNOWN.values()} <= set(fg.optim.__all__)


def test_an_update_rule_refuses_what_its_kernel_would_misread():
    numbers = (0.5,) * len(_core.OPTIMIZERS["adam"][1])
    with pytest.raises(ValueError, match="adam: expected 2 to 3 state arrays a parameter, got 1"):
        _core.UpdateRule("adam", ([np.zeros(2)],), numbers)
    with pytest.raises(ValueError, match="adam: expected the numbers learning_rate, .*, got 1$"):
        _core.UpdateRule("adam", ([np.zeros(2)],) * 2, (1.0,))
